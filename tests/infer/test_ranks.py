"""Two processes on gloo give what one process gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, TensorDataset

import pyrosparse as ps
from pyrosparse import priors
from pyrosparse.data import TensorLoader
from pyrosparse.errors import PyrosparseError, PyrosparseWarning
from pyrosparse.infer import FitState
from pyrosparse.infer.ranks import Ranks, processes
from pyrosparse.poutine.share import drawn_rows, noise_like, shared
from tests.infer.cases import CLASSES, batches, convolutional, kill_units, labelled, pair, pictures
from tests.processes import in_two

CASES = ("sparse-vd", "conv", "group", "l0-batch", "soft")


def made(case: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Model, guide, loader and options of a case; the same in every process."""
    x, y = labelled()
    if case == "conv":  # a last batch of 12, and one unit that dies at once
        x, y = pictures()
        model, guide = pair(network=convolutional)
        kill_units(guide, "conv1.weight", [1, 4])
        return model, guide, TensorLoader(x, y, 16, shift=1), {}
    if case == "group":  # scales for each example, 7 of 60 in the last batch: shares of 3 and 4
        horseshoe = pair(prior=priors.GroupHorseshoe(), log_var=-4.0, num_data=59)
        return (*horseshoe, TensorLoader(x[:59], y[:59], 13), {"clip": 1.0})
    if case == "l0-batch":
        torch.manual_seed(Ranks().index)  # gates start at random: those of the first process are taken
        return (*pair(prior=priors.L0(per_example=False)), batches(), {})
    if case == "soft":
        data = DataLoader(TensorDataset(x, y), 20, shuffle=True)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            teacher = nn.Linear(x.shape[1], CLASSES)
        return (*pair(), data, {"teacher": teacher, "freeze_at": 0.5})
    model, guide = pair()
    kill_units(guide, "fc1.weight", [0, 3])
    return model, guide, batches(), {}


def fitted(case: str, **settings: Any) -> dict[str, Any]:
    """Everything that a fit leaves, by name."""
    model, guide, loader, options = made(case)
    x, y = labelled(1)
    val = None if case == "conv" else TensorLoader(x, y, 30)
    fit = ps.fit(model, guide, loader, **{"epochs": 4, "lr": 3e-3, "seed": 2, "val_loader": val} | options | settings)
    return {
        "state": {**model.state_dict(), **guide.state_dict()},
        "loss": [record["loss"] for record in fit.history],
        "kl": [record["kl"] for record in fit.history],
        "val": [record.get("val_error") for record in fit.history],
        "units": [record["units"] for record in fit.history],
    }


def _all_cases(folder: Path) -> dict[str, Any]:
    return {case: fitted(case) for case in CASES}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    return in_two(tmp_path_factory.mktemp("ranks"), _all_cases)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_what_one_gives(case: str, both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = (found[case] for found in both)
    alone = fitted(case)
    assert first["units"] == second["units"] == alone["units"]
    assert first["val"] == second["val"] == alone["val"]
    for name, value in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    for key in ("loss", "kl"):
        assert first[key] == second[key]
        assert first[key] == pytest.approx(alone[key], rel=1e-4)


def test_units_are_cut_in_both(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert both[0]["sparse-vd"]["units"][-1]["fc1"] == 10
    assert both[1]["conv"]["units"][-1]["conv1"] == 4


def _resumed(folder: Path) -> dict[str, Any]:
    at = folder.parent / "checkpoint"  # one for both: the first process alone writes

    def stop(state: FitState) -> None:
        state.stop = state.epoch == 2 and not Ranks().first

    fitted("conv", checkpoint=at, callbacks=stop)
    return fitted("conv", checkpoint=at, resume=True)


def _refused(folder: Path) -> list[str]:
    """Messages of what must not go on, in every process."""
    said = []
    model, guide, _, _ = made("sparse-vd")
    x, y = labelled(Ranks().index)
    attempts: list[Callable[[], Any]] = [
        lambda: ps.fit(model, guide, TensorLoader(x, y, 20), epochs=1),
        lambda: fitted("sparse-vd", epochs=1, lr=1e30),
    ]
    for attempt in attempts:
        try:
            attempt()
        except PyrosparseError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said


def _resume_and_refuse(folder: Path) -> tuple[dict[str, Any], list[str]]:
    return _resumed(folder), _refused(folder)


@pytest.mark.slow
def test_checkpoints_and_errors_are_agreed_on(tmp_path: Path) -> None:
    (first, said), (second, said_too) = in_two(tmp_path, _resume_and_refuse)
    alone = fitted("conv")
    assert len(first["loss"]) == 4  # a callback of the second process stopped both after two epochs
    for name, value in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert said == said_too
    assert "settings or data differ between processes: those of 1" in said[0]
    assert "NaN or infinite" in said[1]


def test_shares_are_all_of_a_batch() -> None:
    ranks = Ranks()
    for count in (1, 2, 3, 7):
        for examples in (1, 2, 5, 20):
            shares = []
            for index in range(count):
                ranks.index, ranks.count = index, count
                shares.append(ranks.share(examples))
            assert sum(share.weight for share in shares) == pytest.approx(1.0)
            rows = [i for share in shares if share.weight for i in range(examples)[share.rows]]
            assert rows == list(range(examples))
            assert all(share.rows.stop > share.rows.start for share in shares)  # nobody has nothing to do


def test_noise_of_shares_is_that_of_the_batch() -> None:
    def of(rows: slice, like: Tensor) -> Tensor:
        torch.manual_seed(0)
        with shared(rows, 7):
            return noise_like(like)

    for form in (torch.zeros(7, 4), torch.zeros(7, 3, 2, 5).to(memory_format=torch.channels_last), torch.zeros(14, 2)):
        torch.manual_seed(0)
        whole = noise_like(form)
        after = torch.rand(())
        each = len(form) // 7
        for rows in (slice(0, 3), slice(3, 7)):
            mine = of(rows, form[each * rows.start : each * rows.stop])
            assert torch.equal(mine, whole[each * rows.start : each * rows.stop])
            assert torch.rand(()) == after  # the generators stay in step
    # no axis of examples: the same everywhere
    assert torch.equal(of(slice(0, 3), torch.zeros(4, 2)), of(slice(3, 6), torch.zeros(4, 2)))
    with shared(slice(0, 3), 7):
        assert drawn_rows(torch.zeros, 3).shape == (3,)


def test_normalisation_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks()
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranks.warn_of(network)
    ranks.count = 2
    with pytest.warns(PyrosparseWarning, match=r"^1: with 2 processes each normalises"):
        ranks.warn_of(network)


def test_alone_there_is_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes() as ranks:
        assert ranks.alone and ranks.first and not distributed.is_initialized()
