# Everything a fresh machine needs is Python (3.11 or later) and make. `make help` lists the targets.
#
#   PYTHON       the Python that makes the virtual environments          (python3)
#   VENV         where the development environment is                    (.venv)
#   PIP_ARGS     more arguments for pip, such as an index of CPU builds  ()
#   PYTEST_ARGS  more arguments for pytest                               (-n 2)

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2
DEMO_OUT ?= runs/demo

BIN := $(VENV)/bin
WHEEL_VENV := $(VENV)-wheel
WHEEL_BIN := $(CURDIR)/$(WHEEL_VENV)/bin
PIP_INSTALL = -m pip install -qq --disable-pip-version-check $(PIP_ARGS) --constraint constraints.txt
SOURCES := $(shell find pyrosparse models guides -type f -not -name '*.pyc')

# One thread of OpenMP for each test process: the processes already share the cores.
export OMP_NUM_THREADS ?= 1
export NO_MKDOCS_2_WARNING := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format wheel wheel-check typecheck docs serve-docs clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.onnx ## Install, then compress a network on the digits that ship with scikit-learn
	$(BIN)/pyrosparse demo --out $(DEMO_OUT)

test: $(VENV)/.test ## Install, then run the tests that are quick
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.test ## Run every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.lint ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.lint ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/.wheel ## Build the wheel into dist/

# The wheel in an environment that has nothing of this folder, seen from another folder.
wheel-check: $(WHEEL_VENV)/.wheel ## Install the wheel in a clean environment and import it from another folder
	cd / && $(WHEEL_BIN)/python -W error -c "import pyrosparse, pyrosparse.models, pyrosparse.guides; print(pyrosparse.__file__)"
	cd / && $(WHEEL_BIN)/python -c "import pyrosparse as ps; print(*[name for name in ps.__all__ if getattr(ps, name) is not None])"
	cd / && $(WHEEL_BIN)/pyrosparse --help

# Type checkers do not follow the mapping of models/ and guides/ in an editable install: check the wheel.
typecheck: $(WHEEL_VENV)/.types ## mypy on the installed wheel
	cd / && $(WHEEL_BIN)/mypy --config-file "$(CURDIR)/pyproject.toml" --cache-dir "$(CURDIR)/.mypy_cache" -p pyrosparse

docs: $(WHEEL_VENV)/.docs ## Build the documentation into site/
	$(WHEEL_BIN)/mkdocs build --strict --quiet

serve-docs: $(WHEEL_VENV)/.docs ## Show the documentation on a local port while it is written
	$(WHEEL_BIN)/mkdocs serve

clean: ## Remove what was built, keep the environments
	rm -rf build dist site runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## Remove the environments too
	rm -rf $(VENV) $(WHEEL_VENV)

# Stamp files: an environment is made once, and again only when pyproject.toml or constraints.txt changes.
# torch comes first and at its tested version: whatever is installed afterwards then finds it there.
%/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"pyrosparse needs Python 3.11 or later, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11 ...")'
	@echo "installing torch into $* ..."
	@$(PYTHON) -m venv $*
	@$*/bin/python $(PIP_INSTALL) torch
	@touch $@

$(VENV)/.onnx: $(VENV)/.torch pyproject.toml
	@echo "installing pyrosparse into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --editable '.[onnx]'
	@touch $@

$(VENV)/.test: $(VENV)/.onnx
	@echo "installing what the tests need into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --editable '.[onnx,test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.torch
	@$(BIN)/python $(PIP_INSTALL) ruff
	@touch $@

$(VENV)/.wheel: $(VENV)/.torch pyproject.toml README.md LICENSE $(SOURCES)
	@echo "building the wheel ..."
	@$(BIN)/python $(PIP_INSTALL) build
	@rm -rf dist build
	@$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	@touch $@

$(WHEEL_VENV)/.wheel: $(WHEEL_VENV)/.torch $(VENV)/.wheel
	@echo "installing the wheel into $(WHEEL_VENV) ..."
	@$(WHEEL_BIN)/python $(PIP_INSTALL) dist/*.whl
	@$(WHEEL_BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
	@touch $@

$(WHEEL_VENV)/.types: $(WHEEL_VENV)/.wheel
	@$(WHEEL_BIN)/python $(PIP_INSTALL) mypy
	@touch $@

$(WHEEL_VENV)/.docs: $(WHEEL_VENV)/.wheel
	@$(WHEEL_BIN)/python $(PIP_INSTALL) "$$(echo dist/*.whl)[docs]"
	@touch $@
