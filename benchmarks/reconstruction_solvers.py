"""The group lasso on moments of real activations: Newton against FISTA, scikit-learn's MultiTaskLasso and celer.

Problems come from two layers of a network trained on MNIST, 300 inputs by 100 outputs and 800 by 500, at several
λ/λ_max. All solvers stop at a relative duality gap of 1e-6, which is checked from outside by the same certificate:
other libraries get the loosest tolerance that reaches it, and what they warn of is written down. Solvers run in turn,
each time in a process of its own with one thread, that of BLAS as well; times are CPU seconds, medians over rounds. A
solver that has not reached the gap after ``--limit`` CPU seconds is ended: its time is the limit, its ratio is a lower
bound, and the row says so. scikit-learn and celer get √d·R^½ and its targets, d rows with the moments of all samples,
so that they do not pay for the number of samples either. The bound of FISTA, L(M_k) − L* ≤ 2L‖M_0 − M*‖²/(k+1)², is
checked at every step of one run. The result is written anew after each row, and rows that are there already, under
the same settings and versions, are not measured again; ``complete`` says whether all are there.

    python benchmarks/reconstruction_solvers.py [--rounds 3] [--limit 900] [--problems …] [--ratios …] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from common import RESULTS, environment, write
from mnist import load_data
from sklearn.linear_model import MultiTaskLasso
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import models
from pyrosparse.data import TensorLoader
from pyrosparse.reconstruction.fista import fista
from pyrosparse.reconstruction.moments import input_moments
from pyrosparse.reconstruction.newton import newton
from pyrosparse.reconstruction.problem import Matrices, Problem

GAP = 1e-6
# times slower than Newton that was asked of each
ASKED = {"scikit-learn": 10.0, "celer": 5.0, "FISTA with restart": 5.0}
RATIOS = (0.3, 0.1, 0.03, 0.01)
PROBLEMS = {"300 x 100": ("lenet_300_100", "fc2"), "800 x 500": ("lenet_5_caffe", "fc1")}


def problem_named(title: str, images: int) -> Problem:
    """Layer fc2 of LeNet-300-100 or fc1 of LeNet-5-Caffe behind their trained activations."""
    data = load_data(0)
    name, layer = PROBLEMS[title]
    torch.manual_seed(0)
    network = ps.train(models.build(name), data.train, epochs=1, lr=1e-3, progress=False)
    return problem_of(network, layer, TensorLoader(data.train.x[:images], data.train.y[:images], 500))


def problem_of(network: nn.Module, layer: str, loader: TensorLoader) -> Problem:
    """Each column a group of its own."""
    (moments,) = input_moments(network, [layer], loader)[layer]
    joint = moments.through(network.get_submodule(layer))
    alive = joint.R.diagonal() > 0  # inputs that are always 0 are dropped for all solvers
    return Problem.of(joint.R[alive][:, alive], joint.S[:, alive], joint.c)


def design(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """X and Y with the moments of a problem: X = √d·R^½ and Y with YᵀX/d = S."""
    (block,) = problem.blocks
    values, vectors = torch.linalg.eigh(block.R)
    root = values.clamp(min=1e-12 * float(values[-1])).sqrt()
    size = len(values) ** 0.5
    X = size * (vectors * root) @ vectors.T
    Y = size * ((block.S @ vectors) / root @ vectors.T).T
    return np.asfortranarray(X.numpy()), np.asfortranarray(Y.numpy())


def by_sklearn(X: np.ndarray, Y: np.ndarray, lam: float, tol: float) -> Tensor:
    """Coefficients of scikit-learn's coordinate descent."""
    fitted = MultiTaskLasso(alpha=lam, fit_intercept=False, tol=tol, max_iter=100_000).fit(X, Y)
    return torch.from_numpy(np.ascontiguousarray(fitted.coef_))


def by_celer(X: np.ndarray, Y: np.ndarray, lam: float, tol: float) -> Tensor:
    """Coefficients of celer's working sets; its estimator class does not know scikit-learn 1.9, its solver does."""
    from celer.homotopy import mtl_path

    found = mtl_path(X, Y, alphas=[lam], tol=tol, max_iter=10_000)[1][:, :, 0]
    return torch.from_numpy(np.ascontiguousarray(found))


@dataclass(frozen=True)
class Attempt:
    """One run of a solver: CPU seconds, its solution (None where it was ended), what it warned of, a line each."""

    seconds: float
    M: Tensor | None
    warned: list[str]


def attempt(solve: Callable[[], Tensor], limit: int) -> Attempt:
    """Run a solver in a process of its own, which may take ``limit`` CPU seconds."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_solved, args=(solve, limit, there))
    child.start()
    there.close()
    try:
        seconds, found, warned = here.recv()
    except EOFError:  # the limit on its CPU time has ended it
        seconds, found, warned = float(limit), None, []
    child.join()
    return Attempt(seconds, None if found is None else torch.from_numpy(found), warned)


def _solved(solve: Callable[[], Tensor], limit: int, there: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        found = solve()
        seconds = time.process_time() - start
    warned = sorted({f"{w.category.__name__}: {str(w.message).splitlines()[0]}" for w in caught})
    there.send((seconds, found.numpy(), warned))


def calibrated(
    solve: Callable[..., Tensor], problem: Problem, lam: float, data: tuple[np.ndarray, np.ndarray], limit: int
) -> float | None:
    """Loosest tolerance, of powers of two, at which another library reaches the gap; None where it runs too long."""
    tol = 2 * GAP
    while True:
        made = attempt(partial(solve, *data, lam, tol), limit)
        if made.M is None:
            return None
        if problem.certify((made.M,), lam).relative <= GAP or tol < 1e-12:
            return tol
        tol /= 2


def measure(problem: Problem, ratio: float, rounds: int, limit: int, *, celer: bool) -> dict[str, Any]:
    """CPU seconds of each solver at one λ, in turn."""
    lam = ratio * problem.lam_max
    data = design(problem)
    others = {"scikit-learn": by_sklearn} | ({"celer": by_celer} if celer else {})
    tols = {name: calibrated(solve, problem, lam, data, limit) for name, solve in others.items()}
    runs: dict[str, Callable[[], Tensor]] = {
        "Newton": lambda: newton(problem, lam, tol=GAP).M[0],
        "FISTA with restart": lambda: fista(problem, lam, tol=GAP).M[0],
    }
    for name, tol in tols.items():
        if tol is not None:
            runs[name] = partial(others[name], *data, lam, tol)
    seconds: dict[str, list[float]] = {name: [float(limit)] for name, tol in tols.items() if tol is None}
    gaps: dict[str, float | None] = dict.fromkeys(seconds)
    warned: dict[str, list[str]] = {}
    _ = problem.curvature, problem.spread, problem.lam_max  # what is kept with the problem is no solver's work
    for _ in range(rounds):
        for name, run in list(runs.items()):
            made = attempt(run, limit)
            seconds.setdefault(name, []).append(made.seconds)
            warned[name] = made.warned
            gaps[name] = None if made.M is None else problem.certify((made.M,), lam).relative
            if made.M is None:
                del runs[name]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    solution = newton(problem, lam, tol=GAP)
    order = ["Newton", "FISTA with restart", *others]
    return {
        "ratio": ratio,
        "kept": solution.units,
        "steps": solution.steps,
        "cpu_seconds": {name: medians[name] for name in order},
        "times_newton": {name: medians[name] / medians["Newton"] for name in order},
        "relative_gap": {name: gaps[name] for name in order},
        "reached": {name: (gap := gaps[name]) is not None and gap <= GAP for name in order},
        "lower_bound": [name for name in order if gaps[name] is None],
        "tolerance": {"Newton": GAP, "FISTA with restart": GAP} | tols,
        "warned": {name: lines for name, lines in warned.items() if lines},
    }


def bound(problem: Problem, ratio: float = 0.03, steps: int = 300) -> dict[str, Any]:
    """Whether plain FISTA stays within its bound at every step, and how near it comes."""
    lam = ratio * problem.lam_max
    best = newton(problem, lam, tol=1e-13).M
    lowest, distance = float(problem.objective(best, lam)), float(best[0].square().sum())
    shares: list[float] = []

    def watch(k: int, M: Matrices) -> None:
        above = float(problem.objective(M, lam)) - lowest - 1e-12 * lowest
        shares.append(above * (k + 1) ** 2 / (2 * problem.curvature * distance))

    fista(problem, lam, tol=0.0, max_steps=steps, restart=False, watch=watch)
    held = len(shares) == steps and max(shares) <= 1.0
    return {"ratio": ratio, "steps": len(shares), "largest_share": max(shares), "holds": held}


def has_celer() -> bool:
    """Whether celer is installed: ``pip install celer``."""
    try:
        import celer  # noqa: F401
    except ImportError:
        print("celer is not installed (pip install celer): it is left out")
        return False
    return True


def verdict_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked, in the worst of the rows; a solver that stopped short of the gap is not compared."""
    found = []
    for name, asked in ASKED.items():
        compared = [row for row in rows if row["reached"].get(name) or name in row["lower_bound"]]
        if compared:
            worst = min(compared, key=lambda row: row["times_newton"][name])
            times = worst["times_newton"][name]
            found.append(
                {
                    "claim": f"times faster than {name}",
                    "asked": asked,
                    "measured": times,
                    "met": times >= asked,
                    "at_least": name in worst["lower_bound"],
                    "rows": len(compared),
                }
            )
    return found


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What a row depends on beside its problem and λ."""
    return {"gap": GAP, "rounds": options.rounds, "images": options.images, "limit_cpu_seconds": options.limit}


def earlier(options: argparse.Namespace, made_with: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and bounds that an earlier run has left, under the same settings and versions."""
    path = RESULTS / options.out
    found = json.loads(path.read_text()) if path.exists() else {}
    if found.get("settings") != settings(options) or found.get("versions") != made_with["versions"]:
        return [], {}
    return found["rows"], found["fista_bound"]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=900, help="CPU seconds that a solver may take")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", default="reconstruction_solvers.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    celer = has_celer()
    made_with = environment("threadpoolctl", *(["celer"] if celer else []))
    rows, bounds = earlier(options, made_with)
    asked = [(title, ratio) for title in PROBLEMS for ratio in RATIOS]

    def save() -> None:
        done = {(row["problem"], row["ratio"]) for row in rows}
        rows.sort(key=lambda row: (list(PROBLEMS).index(row["problem"]), -row["ratio"]))
        head = {
            "claim": "group lasso",
            "complete": done >= set(asked) and set(bounds) >= set(PROBLEMS),
            "rows_done": len(done & set(asked)),
            "rows_asked": len(asked),
            "settings": settings(options),
        }
        write(options.out, head | {"rows": rows, "verdict": verdict_of(rows), "fista_bound": bounds} | made_with)

    with threadpool_limits(1):
        for title in options.problems:
            missing = [r for r in options.ratios if all((row["problem"], row["ratio"]) != (title, r) for row in rows)]
            if not missing and title in bounds:
                continue
            problem = problem_named(title, options.images)
            if title not in bounds:
                bounds[title] = bound(problem)
                print(f"{title}: FISTA within its bound: {bounds[title]}", flush=True)
            for ratio in missing:
                rows.append({"problem": title} | measure(problem, ratio, options.rounds, options.limit, celer=celer))
                print(rows[-1], flush=True)
                save()
    for claim in verdict_of(rows):
        print(claim)


if __name__ == "__main__":
    main()
