"""A run that was killed and resumed ends exactly where a straight run ends, on the CPU, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import pyrosparse as ps
from pyrosparse import SparseModel
from pyrosparse.data import TensorLoader
from pyrosparse.errors import CheckpointError, PyrosparseWarning
from pyrosparse.guides import AutoSparse
from pyrosparse.infer import FitState
from pyrosparse.infer.checkpoint import load_checkpoint
from pyrosparse.infer.schedules import cosine, warm_up
from pyrosparse.models import mlp
from pyrosparse.priors import ARD, LogUniform
from tests.infer.cases import (
    CLASSES,
    FEATURES,
    Interrupted,
    batches,
    convolutional,
    kill_units,
    labelled,
    pair,
    pictures,
)

EPOCHS = 6

Pair = tuple[SparseModel, AutoSparse]


def dead_from_the_start(**options: Any) -> Pair:
    """Half of the units of fc1, some of fc2 and one input feature are dead: cut after the second epoch."""
    model, guide = pair(**options)
    kill_units(guide, "fc1.weight", range(6))
    kill_units(guide, "fc1.weight", [0], axis=1)
    kill_units(guide, "fc3.weight", [1, 2], axis=1)
    return model, guide


def dead_filters() -> Pair:
    model, guide = pair(network=convolutional)
    kill_units(guide, "conv1.weight", [1, 4])
    kill_units(guide, "fc2.weight", [0, 7], axis=1)
    return model, guide


def kill_one_more(state: FitState) -> None:
    """After the second epoch another unit dies: the check after the third sees it, that after the fourth cuts it."""
    if state.epoch == 2:
        kill_units(state.guide, "fc2.weight", [0])


def images(**options: Any) -> TensorLoader:
    return TensorLoader(*pictures(), 20, **options)


def own_generator() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(11)
    return DataLoader(TensorDataset(*labelled()), batch_size=20, shuffle=True, generator=generator)


def own_batch_sampler() -> DataLoader[Any]:
    data = TensorDataset(*labelled())
    order = RandomSampler(data, generator=torch.Generator().manual_seed(11))
    return DataLoader(data, batch_sampler=BatchSampler(order, 20, drop_last=False))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, CLASSES))


CASES: dict[str, dict[str, Any]] = {
    "plain": {"shrink_every": 0},
    "shuffled by torch": {"loader": lambda: DataLoader(TensorDataset(*labelled()), batch_size=20, shuffle=True)},
    "loader with a generator of its own": {"loader": own_generator},
    "batches of a sampler with a generator of its own": {"loader": own_batch_sampler},
    "schedules": {"kl_schedule": warm_up(), "lr_schedule": cosine(), "site_schedules": {"fc1.*": warm_up(until=0.9)}},
    "clipped": {"clip": 0.1},
    "learned precision": {"pair": lambda: pair(prior=ARD(learn=True))},
    "batch normalisation and dropout": {"pair": lambda: pair(network=with_dropout)},
    "shrinking": {"pair": dead_from_the_start},
    "shrinking later": {"pair": dead_from_the_start, "callbacks": (kill_one_more,)},
    "shrinking every other epoch": {"pair": dead_from_the_start, "shrink_every": 2},
    "shrinking and freezing": {"pair": dead_from_the_start, "freeze_at": 0.4},
    "freezing after the interrupt": {"pair": dead_from_the_start, "freeze_at": 0.8},
    "convolutions, shrinking and shifts": {"pair": dead_filters, "loader": lambda: images(shift=1)},
    "taught, with shifts": {
        "pair": lambda: pair(network=convolutional),
        "loader": lambda: images(shift=1),
        "teacher": nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES)),
    },
    "taught by torch": {
        "loader": lambda: DataLoader(TensorDataset(*labelled()), batch_size=20, shuffle=True),
        "teacher": mlp((FEATURES, CLASSES)),
    },
    "taught by torch with a generator of its own": {"loader": own_generator, "teacher": mlp((FEATURES, CLASSES))},
    "weights drawn": {"local_reparam": False},
}


def run(folder: Path, *, wrap: Callable[[Any], Any] = lambda loader: loader, **options: Any) -> tuple[Pair, ps.Fit]:
    both = options.pop("pair", pair)()
    loader = wrap(options.pop("loader", batches)())
    settings = {"epochs": EPOCHS, "lr": 1e-3, "device": "cpu", "progress": False, "checkpoint": folder} | options
    return both, ps.fit(*both, loader, **settings)


def straight(folder: Path, **options: Any) -> tuple[Pair, ps.Fit]:
    pyro.set_rng_seed(42)
    return run(folder, **options)


def killed_then_resumed(folder: Path, after: int, **options: Any) -> tuple[Pair, ps.Fit]:
    """Kill a run after some batches; go on with new objects, as a new process would, and other random states."""
    pyro.set_rng_seed(42)
    with pytest.raises(KeyboardInterrupt):
        run(folder, wrap=lambda loader: _keeping_its_kind(loader, after), **options)
    pyro.set_rng_seed(4711)
    torch.rand(17)
    return run(folder, resume=True, **options)


def _keeping_its_kind(loader: Any, after: int) -> Any:
    """Interrupt a loader, which stays of its class: a TensorLoader is treated apart from others."""
    kind = type(loader)

    class Killed(kind):  # type: ignore[misc,valid-type]
        def __iter__(self) -> Any:
            nonlocal after
            for batch in super().__iter__():
                if after < 0:  # the check before the run takes the first
                    raise KeyboardInterrupt
                after -= 1
                yield batch

        def soften(self, *args: Any, **kwargs: Any) -> Any:
            return _keeping_its_kind(super().soften(*args, **kwargs), after - 1)

    loader.__class__ = Killed
    return loader


def everything(both: Pair, folder: Path) -> dict[str, Tensor]:
    """Every tensor that a run leaves: parameters, buffers, optimiser, masks, kept units, random states."""
    model, guide = both
    found = {f"model.{k}": v for k, v in model.state_dict().items()}
    found |= {f"guide.{k}": v for k, v in guide.state_dict().items()}
    found |= {f"kept.{layer}.{i}": v for layer, kept in model.kept.items() for i, v in enumerate(kept)}
    saved = load_checkpoint(folder)
    assert saved is not None
    for index, state in saved["optimizer"]["state"].items():
        found |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    found |= {f"dead.{k}": v for k, v in saved["dead"].items()}
    return found | {"random": saved["random"]["torch"]}


@pytest.mark.parametrize("case", CASES)
def test_resumed_is_straight_bit_for_bit(tmp_path: Path, case: str) -> None:
    options = CASES[case]
    one, whole = straight(tmp_path / "straight", **options)
    # 3 batches an epoch: killed in the fourth epoch
    two, resumed = killed_then_resumed(tmp_path / "killed", 10, **options)
    a, b = everything(one, tmp_path / "straight"), everything(two, tmp_path / "killed")
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]
    clock = {"seconds", "step_ms", "replayed"}
    assert [{k: v for k, v in r.items() if k not in clock} for r in whole.history] == [
        {k: v for k, v in r.items() if k not in clock} for r in resumed.history
    ]
    seconds = [record["seconds"] for record in resumed.history]
    assert seconds == sorted(seconds)
    if "shrinking" in case:
        assert sum(one[0].shape_of(site).numel() for site in one[0].sites) < resumed.history[0]["total"]
    if case == "shrinking later":
        assert [record["units"]["fc2"] for record in whole.history] == [8, 6, 6, 5, 5, 5]


def test_killed_in_any_epoch(tmp_path: Path) -> None:
    one, _ = straight(tmp_path / "straight", pair=dead_from_the_start)
    a = everything(one, tmp_path / "straight")
    for batch in (3, 8, 17):  # at the start, within and at the end of an epoch
        folder = tmp_path / str(batch)
        two, _ = killed_then_resumed(folder, batch, pair=dead_from_the_start)
        b = everything(two, folder)
        assert not [name for name in a if not torch.equal(a[name], b[name])], batch


def test_killed_twice(tmp_path: Path) -> None:
    one, _ = straight(tmp_path / "straight", pair=dead_from_the_start)
    pyro.set_rng_seed(42)
    for batch in (4, 8):
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path / "killed",
                wrap=lambda loader, batch=batch: _keeping_its_kind(loader, batch),
                pair=dead_from_the_start,
                resume=True,
            )
    two, resumed = run(tmp_path / "killed", pair=dead_from_the_start, resume=True)
    a, b = everything(one, tmp_path / "straight"), everything(two, tmp_path / "killed")
    assert not [name for name in a if not torch.equal(a[name], b[name])]
    assert [record["epoch"] for record in resumed.history] == [1, 2, 3, 4, 5, 6]


def test_resuming_where_nothing_is_starts_anew(tmp_path: Path) -> None:
    _, result = run(tmp_path, resume=True, epochs=2)
    assert len(result.history) == 2


def test_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    one, whole = straight(tmp_path)
    two, again = run(tmp_path, resume=True)
    assert [r["epoch"] for r in again.history] == [r["epoch"] for r in whole.history]
    assert again.checkpoint == tmp_path / "last.pt"
    a, b = one[1].state_dict(), two[1].state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_going_on_in_the_same_process(tmp_path: Path) -> None:
    """After Ctrl-C in a notebook: the same model and guide, which have already lost units."""
    one, _ = straight(tmp_path / "straight", pair=dead_from_the_start)
    both = dead_from_the_start()
    pyro.set_rng_seed(42)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", wrap=lambda loader: _keeping_its_kind(loader, 13), pair=lambda: both)
    assert both[0].shape_of("fc1.weight") != both[0].sites["fc1.weight"].shape
    run(tmp_path / "killed", pair=lambda: both, resume=True)
    a, b = everything(one, tmp_path / "straight"), everything(both, tmp_path / "killed")
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def test_going_on_with_some_units_gone(tmp_path: Path) -> None:
    """A checkpoint with fewer units than the model in memory, which has fewer than the original."""
    straight(tmp_path, pair=dead_from_the_start, callbacks=(kill_one_more,))
    both = dead_from_the_start()
    pyro.set_rng_seed(42)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "other", wrap=lambda loader: _keeping_its_kind(loader, 7), pair=lambda: both)
    assert len(both[0].kept["fc2"][0]) == 6
    run(tmp_path, pair=lambda: both, resume=True)
    assert len(both[0].kept["fc2"][0]) == 5
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert torch.equal(both[0].kept["fc2"][0], saved["kept"]["fc2"][0])
    assert all(torch.equal(v, saved["model"][k]) for k, v in both[0].state_dict().items())


def test_units_that_are_gone_cannot_come_back(tmp_path: Path) -> None:
    both = dead_from_the_start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, wrap=lambda loader: _keeping_its_kind(loader, 4), pair=lambda: both)
    assert len(both[0].kept["fc1"][0]) == 12
    run(tmp_path / "other", pair=lambda: both)
    with pytest.raises(CheckpointError, match="make model and guide anew"):
        run(tmp_path, pair=lambda: both, resume=True)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "other layers": ({"pair": lambda: pair(network=lambda: mlp((FEATURES, CLASSES)))}, "another model"),
    "other sizes": ({"pair": lambda: pair(network=lambda: mlp((FEATURES, 13, 8, CLASSES)))}, "another model"),
    "other prior": (
        {"pair": lambda: pair(prior=ARD(learn=True))},
        r"prior of fc1.weight was LogUniform\(kl='exact'\) and is ARD\(.*'learned'\)",
    ),
    "other form of the prior": ({"pair": lambda: pair(prior=LogUniform(kl="sigmoid"))}, r"and is LogUniform\(kl='sigm"),
    "other number of data": ({"pair": lambda: pair(num_data=61)}, "num_data=60.* and is .*num_data=61"),
    "other rate": ({"lr": 2e-3}, "lr was 0.001 and is 0.002; lr_log_var was 0.01 and is 0.02"),
    "other threshold": ({"threshold": 2.0}, "threshold was 3.0 and is 2.0"),
    "other schedule": ({"kl_schedule": warm_up()}, r"KL schedule of fc1.weight was \[1, 1,.* and is \[0, 0.333"),
    "other schedule of a site": ({"site_schedules": {"fc2": warm_up()}}, r"settings: KL schedule of fc2.weight was"),
    "other schedule of the rate": ({"lr_schedule": cosine()}, r"lr_schedule was None and is \[1,"),
    "other batches": ({"loader": lambda: batches(batch_size=30)}, "steps an epoch was 3 and is 2"),
    "a teacher": ({"teacher": mlp((FEATURES, CLASSES))}, "teacher was None and is Sequential with weights"),
    "other epochs": ({"epochs": EPOCHS + 1}, "6 epochs, and 7 are asked for"),
}


@pytest.mark.filterwarnings("ignore:the loader has 60 examples:pyrosparse.errors.PyrosparseWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_checkpoints_of_other_runs_are_refused(tmp_path: Path, case: str) -> None:
    straight(tmp_path)
    options, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path, resume=True, **options)


def test_a_fixed_precision_is_part_of_the_prior(tmp_path: Path) -> None:
    straight(tmp_path, pair=lambda: pair(prior=ARD(2.0)))
    with pytest.raises(CheckpointError, match=r"prior of fc1.weight was ARD\(log_precision=0.69"):
        run(tmp_path, resume=True, pair=lambda: pair(prior=ARD(3.0)))


def test_what_only_looks_on_may_change(tmp_path: Path) -> None:
    straight(tmp_path)
    run(tmp_path, resume=True, callbacks=[print], checkpoint_every=2, progress=True, device="auto")


def test_a_finished_run_needs_its_teacher_no_more(tmp_path: Path) -> None:
    teacher = mlp((FEATURES, CLASSES))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, wrap=lambda loader: _keeping_its_kind(loader, 10), teacher=teacher, temperature=3.0)
    with pytest.raises(CheckpointError, match="teacher was Sequential with weights .* and is None"):
        run(tmp_path, resume=True)
    run(tmp_path, resume=True, teacher=teacher, temperature=3.0)
    assert len(run(tmp_path, resume=True)[1].history) == EPOCHS
    with pytest.raises(CheckpointError, match="teacher was .* and is"):
        run(tmp_path, resume=True, teacher=mlp((FEATURES, CLASSES)), temperature=3.0)


def test_a_checkpoint_that_does_not_tell_its_settings(tmp_path: Path) -> None:
    straight(tmp_path)
    path = tmp_path / "last.pt"
    saved = torch.load(path)
    del saved["settings"]
    torch.save(saved, path)
    with pytest.warns(PyrosparseWarning, match="does not tell its settings"):
        run(tmp_path, resume=True, lr=1.0)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    straight(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        run(tmp_path, resume=True)


def test_the_interrupting_loader_of_the_cases(tmp_path: Path) -> None:
    loader = Interrupted(batches(), after=2)
    assert len(loader) == 3
    with pytest.raises(KeyboardInterrupt):
        list(loader)
