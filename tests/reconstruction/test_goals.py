"""Goals are met, whatever the path looks like, or it is said by how much they are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.errors import PruneError, PyrosparseWarning
from pyrosparse.reconstruction import Solver, reconstruct, solve
from pyrosparse.reconstruction.goals import Aim, Goal, meet
from pyrosparse.reconstruction.problem import Problem, Solution
from pyrosparse.reconstruction.sizes import network_bytes
from tests.reconstruction.networks import NETWORKS, Residual, loader, mlp
from tests.reconstruction.problems import a_stand_in, activations


def bytes_of(kept: Tensor) -> float:
    return 100.0 + 64.0 * int(kept.sum())


def met(problem: Problem, aim: Aim, value: float, *, debias: bool = True) -> Solution:
    return meet(problem, Goal(aim, value), size=bytes_of, debias=debias, solver=Solver.FISTA, tol=1e-6)[0]


def test_the_path_of_the_stand_in_is_not_monotone() -> None:
    problem = a_stand_in()
    counts = [solve(problem, ratio * problem.lam_max, tol=1e-12).units for ratio in (0.3, 0.1, 0.0316, 0.01)]
    assert counts == [2, 3, 2, 3]


@pytest.mark.parametrize(("aim", "value"), [(Aim.UNITS, 2), (Aim.KIB, 0.25)])
def test_units_and_sizes_on_a_path_that_is_not_monotone(aim: Aim, value: float) -> None:
    """The second stretch of two units has a seventh of the error of the first, where a bisection ends."""
    problem = a_stand_in()
    found = met(problem, aim, value)
    assert found.units == 2
    assert 0.015 < found.lam / problem.lam_max < 0.06
    first = solve(problem, 0.3 * problem.lam_max).kept
    assert problem.error(found.M) < 0.2 * problem.error(problem.least_squares(first))


@pytest.mark.parametrize("debias", [True, False])
def test_every_goal_is_met_at_the_edge(debias: bool) -> None:
    """What is handed back is what was measured: the same λ from another start may keep another unit."""
    problem = activations(d=24, m=6, factors=8)
    for count in (1, 7):
        assert met(problem, Aim.UNITS, count, debias=debias).units <= count
        found = met(problem, Aim.KIB, (100 + 64 * count) / 1024, debias=debias)
        assert 1 <= found.units <= count
    for share in (0.5, 0.01):
        found = met(problem, Aim.ERROR, share, debias=debias)
        assert problem.error(found.M) <= share


def test_a_size_counts_the_unit_that_always_stays() -> None:
    problem = activations(d=24, m=6, factors=8)
    with pytest.raises(PruneError, match=r"with one input it is 0\.16 KiB"):
        met(problem, Aim.KIB, 120 / 1024)  # would do for none
    assert met(problem, Aim.LAM_RATIO, 1.0).units == 1


def test_each_reader_of_shared_units_is_within_the_error() -> None:
    network, data = Residual(), loader(2, 6, 6)
    _, report = reconstruct(network, data, error=0.03)
    assert all(row.error <= 0.03 for row in report.rows)
    assert any(row.kept < row.inputs for row in report.rows)


def test_an_error_that_is_out_of_reach_is_said() -> None:
    """fc2 cannot have from the few units of fc1 what it gave, however many of them it reads."""
    network, data = mlp(), loader(20)
    with pytest.warns(PyrosparseWarning, match=r"fc2: its relative error is 0\.\d+, and 1e-05 was asked for"):
        small, report = reconstruct(network, data, error={"fc1": 0.3, "fc2": 1e-5}, chaining="top-down")
    assert report["fc1"].error <= 0.3
    assert report["fc2"].kept == 16
    assert any("fc2: its relative error" in note for note in report.notes)
    assert isinstance(small, nn.Module)


def test_an_error_that_a_later_step_raises_is_said() -> None:
    network, data = mlp(), loader(20)
    with pytest.warns(PyrosparseWarning, match="fc3: its relative error is"):
        reconstruct(network, data, error={"fc2": 0.3, "fc3": 0.001}, refit=True)
    with pytest.warns(PyrosparseWarning, match="fc1: its relative error is"):
        reconstruct(network, data, error={"fc1": 0.01}, low_rank=0.2)


@pytest.mark.parametrize(("name", "chaining"), [("linear", "top-down"), ("residual", "parallel")])
def test_the_network_is_within_its_size(name: str, chaining: str) -> None:
    make, shape = NETWORKS[name]
    network, data = make(), loader(*shape)
    kib = 0.6 * network_bytes(network) / 1024
    small, report = reconstruct(network, data, kib=kib, chaining=chaining, debias=False, refit=True)
    assert report.kib == pytest.approx(network_bytes(small) / 1024)
    assert report.kib <= kib


def test_a_size_of_each_layer_is_that_of_each_reader() -> None:
    """block1.conv1, block2.conv1 and head read the same units: the largest of them counts, not their sum."""
    network, data = Residual(), loader(2, 6, 6)
    kib = 4 * (6 * 4 * 9 + 6) / 1024  # of block1.conv1 with four of its eight inputs
    _, report = reconstruct(network, data, kib={"block1.conv1": kib, "head": kib})
    assert report["block1.conv1"].kept == report["head"].kept == 4


def test_a_size_bottom_up_knows_which_outputs_are_read() -> None:
    network, data = mlp(), loader(20)
    kib = 4 * (6 * 10 + 6) / 1024  # of fc2 with ten inputs and six outputs
    goal = {"fc2": kib, "fc3": 4 * (3 * 6 + 3) / 1024}
    _, report = reconstruct(network, data, kib=goal, chaining="bottom-up")
    assert (report["fc3"].kept, report["fc2"].kept_outputs) == (6, 6)
    assert report["fc2"].kept == 10
    assert report["fc2"].kib <= kib


def test_no_error_at_all_is_met_by_rounding() -> None:
    _, report = reconstruct(mlp(), loader(20), error=0.0)
    assert report.error < 1e-9
    assert report.notes == []


def test_what_no_unit_belongs_to_counts_as_well() -> None:
    class Scaled(nn.Module):
        """A part of its own that has parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            self.unused = nn.Parameter(torch.ones(300))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    kib = 300 * 4 / 1024 + 1.0
    _, report = reconstruct(Scaled(), loader(20), kib=kib)
    assert kib - 0.3 < report.kib <= kib
