"""Steps from a tape: the same numbers, and never from a tape that is not true."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import SparseModel
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, PyrosparseWarning
from pyrosparse.guides import AutoSparse
from pyrosparse.infer.replay import _digest, own_code
from pyrosparse.infer.schedules import constant, linear_decay, warm_up
from pyrosparse.likelihoods import Categorical, Gaussian
from pyrosparse.models import mlp
from pyrosparse.priors import (
    ARD,
    L0,
    ComplexARD,
    ComplexLogUniform,
    GroupHorseshoe,
    GroupLogUniform,
    LogUniform,
    Prior,
)
from tests.complex_networks import convnet
from tests.infer.cases import CLASSES, FEATURES, convolutional, kill_units, labelled

pytestmark = pytest.mark.filterwarnings("ignore:the loader has:pyrosparse.errors.PyrosparseWarning")


def normed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, CLASSES)
    )


def fitted(
    replay: bool | None,
    network: Callable[[], nn.Module] = lambda: mlp((FEATURES, 12, 8, CLASSES)),
    prior: Callable[[], Prior] = LogUniform,
    shape: tuple[int, ...] = (FEATURES,),
    prepare: Callable[[AutoSparse], None] | None = None,
    likelihood: Callable[[], ps.likelihoods.Likelihood] = lambda: Categorical(num_data=90),
    y: Tensor | None = None,
    **options: Any,
) -> ps.Fit:
    torch.manual_seed(0)
    model = SparseModel(network(), prior(), likelihood())
    guide = AutoSparse(model)
    if prepare is not None:
        prepare(guide)
    x = torch.randn(90, *shape)
    if options.pop("complex_input", False):
        x = torch.complex(x, torch.randn(90, *shape))
    labels = labelled(examples=90)[1] if y is None else y
    loader = TensorLoader(x, labels, 20)  # the last batch has 10
    settings = {"epochs": 3, "device": "cpu", "progress": False, "seed": 0, "replay": replay} | options
    return ps.fit(model, guide, loader, **settings)


def tensors(fit: ps.Fit) -> dict[str, Tensor]:
    return {f"model.{k}": v for k, v in fit.model.state_dict().items()} | {
        f"guide.{k}": v for k, v in fit.guide.state_dict().items()
    }


def numbers(fit: ps.Fit) -> list[dict[str, Any]]:
    clock = {"seconds", "step_ms", "replayed"}
    return [{k: v for k, v in record.items() if k not in clock} for record in fit.history]


def assert_same(a: ps.Fit, b: ps.Fit) -> None:
    one, other = tensors(a), tensors(b)
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]
    assert numbers(a) == numbers(b)


def wide_schedule(t: float) -> Tensor:
    return torch.linspace(0.0, 1.0 + t, 12 * FEATURES).reshape(12, FEATURES)


CASES: dict[str, dict[str, Any]] = {
    "Sparse VD": {},
    "Sparse VD, approximate": {"prior": lambda: LogUniform(kl="sigmoid")},
    "ARD": {"prior": ARD},
    "group Normal-Jeffreys": {"prior": GroupLogUniform},
    "group horseshoe": {"prior": GroupHorseshoe},
    "L0": {"prior": L0},
    "L0, gates once a batch": {"prior": lambda: L0(per_example=False)},
    "convolutions": {"network": convolutional, "shape": (1, 4, 4)},
    "convolutions, groups": {"network": convolutional, "shape": (1, 4, 4), "prior": GroupLogUniform},
    "batch norm and dropout": {"network": normed, "shape": (1, 4, 4)},
    "complex": {
        "network": lambda: convnet(norm=True),
        "prior": ComplexLogUniform,
        "shape": (1, 8, 8),
        "complex_input": True,
    },
    "complex, modReLU": {"network": lambda: convnet(psnn.ModReLU), "prior": ComplexARD, "shape": (1, 8, 8)},
    "schedules": {"kl_schedule": warm_up(until=0.7), "lr_schedule": linear_decay()},
    "a weight for each element": {"site_schedules": {"fc1": wide_schedule, "fc2": constant(0.3)}},
    "clipped": {"clip": 0.1},
    "drawn weights": {"local_reparam": False},
    "half precision": {"network": convolutional, "shape": (1, 4, 4), "autocast": "bfloat16"},
    "frozen": {"freeze_at": 0.4, "threshold": -3.0, "epochs": 4, "shrink_every": 0},
    "shrinking": {"prepare": lambda guide: kill_units(guide, "fc1.weight", [1, 5, 7]), "epochs": 5},
    "regression": {
        "network": lambda: mlp((FEATURES, 12, 2)),
        "likelihood": lambda: Gaussian(num_data=90),
        "y": torch.randn(90, 2, generator=torch.Generator().manual_seed(1)),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_steps_from_a_tape_give_the_same_numbers(case: str) -> None:
    played, taken = (fitted(replay, **CASES[case]) for replay in (None, False))
    assert_same(played, taken)
    # of five steps the last is too small; the first two are taken, and the third, or the first, in both ways
    assert played.history[0]["replayed"] == pytest.approx(0.2)
    assert played.history[-1]["replayed"] == pytest.approx(0.6)
    assert [record["replayed"] for record in taken.history] == [0.0] * len(taken.history)


@pytest.mark.parametrize("case", ["schedules", "batch norm and dropout", "shrinking", "group horseshoe", "clipped"])
def test_the_way_of_a_graph(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything about a CUDA graph but CUDA: it reads and writes at fixed places, and Python does not run again."""

    def captured(work: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        outputs = tuple(torch.full_like(output, torch.nan) for output in work())

        def replay() -> None:
            for output, value in zip(outputs, work(), strict=True):
                output.copy_(value)

        return replay, outputs

    monkeypatch.setattr("pyrosparse.infer.replay._graphed", lambda device: True)
    monkeypatch.setattr("pyrosparse.infer.replay._captured", captured)
    played, taken = (fitted(replay, **CASES[case]) for replay in (True, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(0.6)


def test_a_cut_network_gets_a_new_tape() -> None:
    fit = fitted(None, **CASES["shrinking"])
    assert fit.model.shape_of("fc1.weight")[0] < 12
    shares = [record["replayed"] for record in fit.history]
    assert min(shares) == pytest.approx(0.2)
    assert shares[-1] == pytest.approx(0.6)


def test_a_callback_may_change_what_a_step_computes() -> None:
    def slower(state: Any) -> None:
        if state.epoch == 2:
            for module in state.model.network.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.7

    options = {"network": normed, "shape": (1, 4, 4), "epochs": 4, "callbacks": slower}
    played, taken = (fitted(replay, **options) for replay in (None, False))
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == pytest.approx([0.2, 0.6, 0.2, 0.6])


class Own(nn.Module):
    """What a network of one's own looks like."""

    def __init__(self, change: Callable[[Own, Tensor], Tensor] = lambda module, x: x) -> None:
        super().__init__()
        self.body = mlp((FEATURES, 12, CLASSES))
        self.change = change
        self.count = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self, self.body(x))


def counting(module: Own, x: Tensor) -> Tensor:
    module.count += 1
    return x * (1 + module.count)


def replacing(module: Own, x: Tensor) -> Tensor:
    module.seen = module.seen + 1
    return x * module.seen


def of_numbers(module: Own, x: Tensor) -> Tensor:
    return x * x.detach().abs().max().item()


def test_modules_of_ones_own_are_played_only_where_it_is_asked_for() -> None:
    assert own_code(Own()) == ["Own"]
    assert [record["replayed"] for record in fitted(None, Own).history] == [0.0] * 3
    played, taken = (fitted(replay, Own) for replay in (True, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(counting, "not the same operations"), (replacing, "not the same operations"), (of_numbers, "local_scalar")],
    ids=["a number of Python's", "a buffer in the place of another", "a number of a tensor's"],
)
def test_a_step_that_is_never_the_same_is_taken_and_said(change: Callable[[Own, Tensor], Tensor], reason: str) -> None:
    with pytest.warns(PyrosparseWarning, match=rf"replay: .*{reason}"):
        played = fitted(True, lambda: Own(change))
    # each look at a step runs the network once more: counters of Python's would count it
    if change is not counting:
        assert_same(played, fitted(False, lambda: Own(change)))
    assert [record["replayed"] for record in played.history] == [0.0] * 3


def test_hooks_and_replaced_forwards_count_as_ones_own_code() -> None:
    plain = mlp((FEATURES, 4, CLASSES))
    assert own_code(plain) == []
    hooked = mlp((FEATURES, 4, CLASSES))
    hooked.fc1.register_forward_hook(lambda module, args, output: output)
    assert own_code(plain, hooked) == ["Linear"]
    of_gradient = mlp((FEATURES, 4, CLASSES))
    of_gradient.fc1.weight.register_hook(lambda grad: grad)
    assert own_code(of_gradient) == ["Linear"]
    replaced = mlp((FEATURES, 4, CLASSES))
    replaced.fc2.forward = lambda x: x * random.random()  # type: ignore[method-assign]
    assert own_code(replaced) == ["Linear"]
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        assert own_code(plain) == ["a hook for all modules"]
    finally:
        handle.remove()


def test_targets_may_be_the_inputs() -> None:
    def both(replay: bool | None) -> ps.Fit:
        torch.manual_seed(0)
        model = SparseModel(mlp((FEATURES, 8, FEATURES)), LogUniform(), Gaussian(num_data=60))
        x = torch.randn(20, FEATURES)
        loader = [(x, x)] * 4  # one tensor in two roles
        return ps.fit(model, AutoSparse(model), loader, epochs=2, device="cpu", progress=False, seed=0, replay=replay)

    played = both(None)
    assert_same(played, both(False))
    assert played.history[-1]["replayed"] == pytest.approx(0.75)


def test_a_teacher_and_a_torch_loader_are_played_too() -> None:
    teacher = mlp((FEATURES, 6, CLASSES))
    played, taken = (fitted(replay, teacher=teacher) for replay in (None, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(0.6)


def test_nothing_is_said_where_nothing_was_asked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="the loader has")
        fitted(None)
        fitted(None, Own)


@pytest.mark.parametrize("value", ["yes", 2, 0.5])
def test_replay_is_true_false_or_left_out(value: Any) -> None:
    with pytest.raises(ConfigError, match="replay"):
        fitted(value)


def test_digests_tell_bits() -> None:
    x = torch.randn(3, 4)
    assert _digest(x) == _digest(x.clone()) == _digest(x.t())
    y = x.clone()
    y[1, 2] = torch.nextafter(y[1, 2], torch.tensor(9.0))
    assert _digest(x) != _digest(y)
    assert _digest(torch.zeros(2)) != _digest(-torch.zeros(2))
    for dtype in (torch.float64, torch.bfloat16, torch.complex64, torch.int64):
        assert _digest(torch.ones(3).to(dtype)) != _digest(torch.zeros(3).to(dtype))


def test_complex_modules_of_this_library_are_known() -> None:
    assert own_code(nn.Sequential(psnn.ToComplex(), psnn.ComplexLinear(3, 2), psnn.RealPart())) == []
