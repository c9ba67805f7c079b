"""Settings of files that are of no use: said before any work, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse import coding
from pyrosparse.arguments import budget_bytes, check_numbers
from pyrosparse.errors import ConfigError, PruneError, PyrosparseError
from tests.coding.networks import equal, lenet


@pytest.mark.parametrize("name", ["c", "rate_weight", "tolerance", "bias_bits", "codebook"])
@pytest.mark.parametrize("value", ["a", "0.5", [1.0], True, 1j, torch.ones(2), {}], ids=repr)
def test_what_is_no_number_is_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"save: {name} is .*give a number"):
        coding.save(tmp_path / "net.psz", lenet(nonzero=(10, 10, 10)), **{name: value})
    if name != "tolerance":
        for function in (coding.encoded_size, lambda p, **o: coding.quantise(p, **({"c": 1.0} | o))):
            with pytest.raises(ConfigError, match=name):
                function(lenet(nonzero=(10, 10, 10)), **{name: value})
    assert not list(tmp_path.iterdir())


def test_numbers_of_other_libraries_are_numbers() -> None:
    check_numbers("save", c=np.float32(0.5), d=torch.tensor(0.5), e=3, f=None)


def test_other_doors(tmp_path: Path) -> None:
    small = lenet(nonzero=(10, 10, 10))
    with pytest.raises(ConfigError, match="quantise_aware: c is 'a'"):
        coding.quantise_aware(small, [], c="a", epochs=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="coarsest_ending: c is 'a'"):
        coding.coarsest_ending(small, [], grid=("a",), epochs=1, val_loader=[])  # type: ignore[arg-type]


@pytest.mark.parametrize(("budget", "count"), [("2kB", 2000), ("1.5 KiB", 1536), (700, 700), (np.int64(9), 9)])
def test_budgets_as_people_write_them(budget: int | str, count: int) -> None:
    assert budget_bytes(budget) == count


def test_a_budget_of_words_is_met_by_save_and_prune(tmp_path: Path) -> None:
    info = coding.save(tmp_path / "net.psz", lenet(), budget="1.6kB")
    assert info.bytes <= 1600
    with pytest.raises(PruneError, match="the budget is 20"):
        coding.save(tmp_path / "net.psz", lenet(), budget="20B")
    model = ps.SparseModel(nn.Linear(40, 10), ps.priors.LogUniform(), ps.likelihoods.Categorical(10))
    guide = ps.guides.AutoSparse(model)
    small = ps.prune(model, guide, budget="1kB", example=torch.zeros(2, 40))
    assert coding.encoded_size(small) <= 1000


@pytest.mark.parametrize("budget", ["twenty", "20XB", "0", 2.5, True, [], 1e400])
def test_other_budgets_are_refused(tmp_path: Path, budget: Any) -> None:
    with pytest.raises(ConfigError, match="budget|size"):
        coding.save(tmp_path / "net.psz", lenet(nonzero=(10, 10, 10)), budget=budget)
    model = ps.SparseModel(nn.Linear(4, 3), ps.priors.LogUniform(), ps.likelihoods.Categorical(10))
    with pytest.raises(ConfigError, match="budget|size"):
        ps.prune(model, ps.guides.AutoSparse(model), budget=budget)


@pytest.mark.parametrize("options", [{"c": "a"}, {"tolerance": "b"}])
def test_prune_wants_numbers(options: Any) -> None:
    model = ps.SparseModel(nn.Linear(4, 3), ps.priors.LogUniform(), ps.likelihoods.Categorical(10))
    with pytest.raises(PyrosparseError, match="prune: .*give a number"):
        ps.prune(model, ps.guides.AutoSparse(model), **options)


def test_deviations_of_nothing_name_what_is_missing(tmp_path: Path) -> None:
    small = lenet(nonzero=(10, 10, 10))
    for network in (small, small.network):
        with pytest.raises(ConfigError, match=r"sigma is empty.* fc1\.weight, fc2\.weight, fc3\.weight; or leave"):
            coding.save(tmp_path / "net.psz", network, sigma={})
    with pytest.raises(ConfigError, match="sigma is empty"):
        coding.encoded_size(small.network, sigma={})
    assert not list(tmp_path.iterdir())


def test_a_pruned_network_without_posterior_is_stored_exactly(tmp_path: Path) -> None:
    small = lenet(nonzero=(10, 10, 10))
    small.sigma = {}
    info = coding.save(tmp_path / "net.psz", small)
    assert info.c is None
    assert {layer.codec for layer in info.layers} == {"i", "x"}
    assert equal(coding.load(tmp_path / "net.psz"), small.network)
    assert equal(coding.quantise(small, 0.5).network, small.network)
    assert info.bytes == coding.encoded_size(small)
