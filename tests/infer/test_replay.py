"""Steps from a tape: the same numbers, and never from a tape that is not true."""

from __future__ import annotations

import math
import random
import warnings
import weakref
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
from pyrosparse.infer.replay import own_code
from pyrosparse.infer.schedules import constant, linear_decay, warm_up
from pyrosparse.infer.snapshot import digest
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
from tests.infer.cases import CLASSES, FEATURES, batches, convolutional, kill_units, labelled

pytestmark = pytest.mark.filterwarnings("ignore:the loader has:pyrosparse.errors.PyrosparseWarning")


# of 17 steps the last is too small; the first is Pyro's to validate, the second is recorded, the third proves it
FIRST = 13 / 17
# the first step is looked at
LATER = 15 / 17
# the first step is other than the tape, the second proves it
CHANGED = 14 / 17


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
    likelihood: Callable[[], ps.likelihoods.Likelihood] = lambda: Categorical(num_data=83),
    y: Tensor | None = None,
    **options: Any,
) -> ps.Fit:
    torch.manual_seed(0)
    model = SparseModel(network(), prior(), likelihood())
    guide = AutoSparse(model)
    if prepare is not None:
        prepare(guide)
    x = torch.randn(83, *shape)
    if options.pop("complex_input", False):
        x = torch.complex(x, torch.randn(83, *shape))
    x = x.to(options.pop("dtype", x.dtype))
    labels = labelled(examples=83)[1] if y is None else y
    loader = TensorLoader(x, labels, 5)  # 16 whole batches, and one of 3
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
    "frozen": {"freeze_at": 0.4, "threshold": -2.0, "epochs": 4, "shrink_every": 0},
    "shrinking": {"prepare": lambda guide: kill_units(guide, "fc1.weight", [1, 5, 7]), "epochs": 5},
    "regression": {
        "network": lambda: mlp((FEATURES, 12, 2)),
        "likelihood": lambda: Gaussian(num_data=83),
        "y": torch.randn(83, 2, generator=torch.Generator().manual_seed(1)),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_steps_from_a_tape_give_the_same_numbers(case: str) -> None:
    played, taken = (fitted(replay, **CASES[case]) for replay in (None, False))
    assert_same(played, taken)
    assert played.history[0]["replayed"] == pytest.approx(FIRST)
    assert played.history[-1]["replayed"] == pytest.approx(LATER)
    assert [record["replayed"] for record in taken.history] == [0.0] * len(taken.history)


@pytest.mark.parametrize("case", ["schedules", "batch norm and dropout", "shrinking", "group horseshoe", "clipped"])
def test_the_way_of_a_graph(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything about a CUDA graph but CUDA: it reads and writes at fixed places, and Python does not run again."""

    def captured(
        work: Callable[[], tuple[Tensor, ...]], device: torch.device
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        outputs = tuple(torch.full_like(output, torch.nan) for output in work())

        def replay() -> None:
            for output, value in zip(outputs, work(), strict=True):
                output.copy_(value)

        return replay, outputs

    monkeypatch.setattr("pyrosparse.infer.recording._graphed", lambda device: True)
    monkeypatch.setattr("pyrosparse.infer.recording._captured", captured)
    played, taken = (fitted(replay, **CASES[case]) for replay in (True, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(LATER)


def test_a_cut_network_gets_a_new_tape() -> None:
    fit = fitted(None, **CASES["shrinking"])
    assert fit.model.shape_of("fc1.weight")[0] < 12
    shares = [record["replayed"] for record in fit.history]
    assert shares[0] == pytest.approx(FIRST)
    assert CHANGED == pytest.approx(min(shares[1:]))
    assert shares[-1] == pytest.approx(LATER)


def test_a_callback_may_change_what_a_step_computes() -> None:
    def slower(state: Any) -> None:
        if state.epoch == 2:
            for module in state.model.network.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.7

    options = {"network": normed, "shape": (1, 4, 4), "epochs": 4, "callbacks": slower}
    played, taken = (fitted(replay, **options) for replay in (None, False))
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == pytest.approx([FIRST, LATER, CHANGED, LATER])


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


def of_lists(module: Own, x: Tensor) -> Tensor:
    return x if x.detach().abs().max().tolist() < 1.0 else 2 * x


def writing(module: Own, x: Tensor) -> Tensor:
    with torch.no_grad():
        module.body.fc1.bias.mul_(0.9)
    return x


def turning(module: Own, x: Tensor) -> Tensor:
    return x * module.seen.detach().unsqueeze_(0).exp()


def keeping(module: Own, x: Tensor) -> Tensor:
    module.seen = 0.9 * module.seen + 0.1 * x.detach().mean()
    return x


def test_modules_of_ones_own_are_played_only_where_it_is_asked_for() -> None:
    assert own_code(Own()) == ["Own"]
    assert [record["replayed"] for record in fitted(None, Own).history] == [0.0] * 3
    played, taken = (fitted(replay, Own) for replay in (True, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(LATER)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (counting, "not the same operations"),
        (replacing, "in the place of a buffer"),
        (of_numbers, "local_scalar"),
        (of_lists, "tolist"),
        (writing, "writes on its batch or on a parameter"),
        (turning, "changes its form in place"),
        (keeping, "in the place of a buffer"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_step_that_is_never_the_same_is_taken_and_said(change: Callable[[Own, Tensor], Tensor], reason: str) -> None:
    with pytest.warns(PyrosparseWarning, match=rf"replay: .*{reason}"):
        played = fitted(True, lambda: Own(change), shrink_every=0)
    assert_same(played, fitted(False, lambda: Own(change), shrink_every=0))
    assert [record["replayed"] for record in played.history] == [0.0] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda network: setattr(network[1], "momentum", 0.9),
        lambda network: setattr(network[1], "track_running_stats", False),
        lambda network: setattr(network[2], "max_val", 0.5),
        lambda network: network.__setitem__(2, nn.ReLU6()),
    ],
    ids=["momentum", "no statistics", "a bound", "a module"],
)
def test_a_change_is_seen_whatever_the_first_batch_says(change: Callable[[nn.Sequential], None]) -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Hardtanh(-100.0, 100.0), nn.Linear(8, CLASSES)
        )

    def callback(state: Any) -> None:
        if state.epoch == 2:
            change(state.model.network)

    options = {"epochs": 4, "callbacks": callback, "shrink_every": 0}
    played, taken = (fitted(replay, network, **options) for replay in (None, False))
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == pytest.approx([FIRST, LATER, CHANGED, LATER])


def test_a_hook_of_a_callback_is_called_at_every_step() -> None:
    def counted(replay: bool | None) -> tuple[ps.Fit, int]:
        calls = []

        def callback(state: Any) -> None:
            if state.epoch == 2:
                state.model.network.fc1.register_forward_hook(lambda *args: calls.append(1))

        return fitted(replay, epochs=4, callbacks=callback, shrink_every=0), len(calls)

    (played, calls), (taken, wanted) = counted(None), counted(False)
    assert calls == wanted
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == pytest.approx([FIRST, LATER, 0.0, 0.0])


def test_a_network_that_writes_on_its_batch_is_never_played() -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(FEATURES, CLASSES))

    played, taken = (fitted(replay, network) for replay in (None, False))
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == [0.0] * 3


@pytest.mark.parametrize("weight", [-1.0, math.nan])
def test_weights_are_checked_where_steps_are_played(weight: float) -> None:
    with pytest.raises(ConfigError, match="site_scale"):
        fitted(None, kl_schedule=lambda t: weight if 0.4 < t < 0.5 else 1.0)


def test_half_precision_networks_are_taken_in_the_ordinary_way() -> None:
    def network() -> nn.Module:
        return mlp((FEATURES, 12, CLASSES)).bfloat16()

    options = {"kl_schedule": lambda t: 0.3, "lr": 1e-3, "shrink_every": 0, "dtype": torch.bfloat16}
    played, taken = (fitted(replay, network, **options) for replay in (None, False))
    assert_same(played, taken)
    assert [record["replayed"] for record in played.history] == [0.0] * 3


def test_larger_batches_than_the_first_ones_are_played() -> None:
    torch.manual_seed(0)
    model = SparseModel(mlp((FEATURES, 8, CLASSES)), LogUniform(), Categorical(num_data=80))
    loader = [(torch.randn(n, FEATURES), torch.randint(CLASSES, (n,))) for n in (5, 5, 5, *[10] * 17)]
    fit = ps.fit(model, AutoSparse(model), loader, epochs=2, device="cpu", progress=False, seed=0)
    assert [record["replayed"] for record in fit.history] == pytest.approx([15 / 20, 16 / 20])


def test_short_epochs_are_played_only_where_it_is_asked_for() -> None:
    def fit(replay: bool | None) -> ps.Fit:
        torch.manual_seed(0)
        model = SparseModel(mlp((FEATURES, 8, CLASSES)), LogUniform(), Categorical(num_data=60))
        options = {"epochs": 4, "device": "cpu", "progress": False, "seed": 0, "replay": replay}
        return ps.fit(model, AutoSparse(model), batches(), **options)

    assert [record["replayed"] for record in fit(None).history] == [0.0] * 4
    assert [record["replayed"] for record in fit(True).history] == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3])
    assert_same(fit(None), fit(True))


def test_nothing_of_a_batch_is_kept_after_the_step() -> None:
    kept = []

    def loader() -> Any:
        for _ in range(20):
            x = torch.randn(5, FEATURES)
            kept.append(weakref.ref(x.untyped_storage()))
            yield x, torch.zeros(5, dtype=torch.long)

    class Loader:
        def __iter__(self) -> Any:
            return loader()

        def __len__(self) -> int:
            return 20

    seen = []

    def callback(state: Any) -> None:
        seen.append(sum(ref() is not None for ref in kept))

    model = SparseModel(mlp((FEATURES, 8, CLASSES)), LogUniform(), Categorical(num_data=100))
    options = {"epochs": 2, "device": "cpu", "progress": False, "seed": 0, "callbacks": callback}
    played = ps.fit(model, AutoSparse(model), Loader(), **options)
    assert played.history[-1]["replayed"] > 0.9
    assert seen == [0, 0] or max(seen) <= 1  # the loop's own last batch


def test_functions_that_torch_modules_hold_count_as_ones_own_code() -> None:
    def own(t: Tensor) -> Tensor:
        return torch.relu(t)

    def layer(activation: Any) -> nn.Module:
        return nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation=activation)

    assert own_code(layer("gelu")) == own_code(layer(torch.nn.functional.relu)) == []
    assert own_code(layer(own)) == ["TransformerEncoderLayer"]


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
        loader = [(x, x)] * 20  # one tensor in two roles
        return ps.fit(model, AutoSparse(model), loader, epochs=2, device="cpu", progress=False, seed=0, replay=replay)

    played = both(None)
    assert_same(played, both(False))
    assert played.history[-1]["replayed"] == pytest.approx(0.95)


def test_a_teacher_and_a_torch_loader_are_played_too() -> None:
    teacher = mlp((FEATURES, 6, CLASSES))
    played, taken = (fitted(replay, teacher=teacher) for replay in (None, False))
    assert_same(played, taken)
    assert played.history[-1]["replayed"] == pytest.approx(LATER)


def test_nothing_is_said_where_nothing_was_asked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="the loader has")
        fitted(None)
        fitted(None, Own)


@pytest.mark.parametrize("value", ["yes", 2, 0.5, [True]])
def test_replay_is_true_false_or_left_out(value: Any) -> None:
    with pytest.raises(ConfigError, match="replay"):
        fitted(value)


def test_digests_tell_bits() -> None:
    x = torch.randn(3, 4)
    assert digest(x) == digest(x.clone()) == digest(x.t().contiguous().t())
    y = x.clone()
    y[1, 2] = torch.nextafter(y[1, 2], torch.tensor(9.0))
    assert digest(x) != digest(y)
    assert digest(torch.zeros(2)) != digest(-torch.zeros(2))
    assert digest(torch.tensor([1, 2])) != digest(torch.tensor([2, 1]))
    assert digest(torch.zeros(3)) != digest(torch.zeros(3, dtype=torch.float64)) != digest(torch.zeros(1, 3).double())
    for dtype in (torch.float64, torch.bfloat16, torch.complex64, torch.int64):
        assert digest(torch.ones(3).to(dtype)) != digest(torch.zeros(3).to(dtype))


def test_complex_modules_of_this_library_are_known() -> None:
    assert own_code(nn.Sequential(psnn.ToComplex(), psnn.ComplexLinear(3, 2), psnn.RealPart())) == []
