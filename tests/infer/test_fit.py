"""Fitting: what it does to the pair, what it records, and what it refuses before any work."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import pyrosparse as ps
from pyrosparse import SparseModel
from pyrosparse.data import TensorLoader
from pyrosparse.errors import CheckpointError, ConfigError, DataError, FitError, NetworkError, PyrosparseWarning
from pyrosparse.guides import AutoSparse
from pyrosparse.infer import FitState
from pyrosparse.infer.checkpoint import load_checkpoint
from pyrosparse.infer.run import _range
from pyrosparse.infer.schedules import constant, linear_decay, warm_up
from pyrosparse.infer.settings import FitSettings
from pyrosparse.infer.step import Step
from pyrosparse.likelihoods import Categorical, Gaussian, MultiLabel
from pyrosparse.models import mlp
from pyrosparse.priors import ARD, LogUniform
from tests.infer.cases import (
    CLASSES,
    EXAMPLES,
    FEATURES,
    Interrupted,
    batches,
    convolutional,
    kill_units,
    labelled,
    pair,
    pictures,
)

# a few examples stand for thousands in some tests: the KL alone would win against them
FEW = pytest.mark.filterwarnings("ignore:the loader has 60 examples:pyrosparse.errors.PyrosparseWarning")


def fitted(**options: Any) -> ps.Fit:
    model, guide = options.pop("pair", None) or pair()
    loader = options.pop("loader", None)
    settings = {"epochs": 3, "lr": 0.01, "device": "cpu", "progress": False, "seed": 0} | options
    return ps.fit(model, guide, batches() if loader is None else loader, **settings)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@FEW
def test_loss_falls_and_the_network_learns() -> None:
    x, y = labelled(seed=1)
    val_loader = TensorLoader(x, y, 30, shuffle=False)
    result = fitted(pair=pair(num_data=6000), epochs=20, lr=0.02, lr_log_var=0.02, val_loader=val_loader)
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert result.history[-1]["val_accuracy"] > 0.8
    assert result.checkpoint is None


def test_history_has_its_keys_once_an_epoch() -> None:
    x, y = labelled(seed=1)
    schedules = {"kl_schedule": warm_up(until=1.0), "site_schedules": {"fc2": constant(0.5)}}
    result = fitted(epochs=3, val_loader=TensorLoader(x, y, 30), **schedules)
    assert [record["epoch"] for record in result.history] == [1, 2, 3]
    wanted = {
        "epoch", "loss", "log_likelihood", "kl", "kl_sites", "beta", "beta_sites", "kept", "total", "val_error",
        "val_accuracy", "val_log_likelihood", "seconds", "lr", "units", "step_ms", "replayed", "progress", "dense_rate",
        "expected_weights", "expected_flops", "total_flops",
    }  # fmt: skip
    for record in result.history:
        assert set(record) == wanted
        assert record["total"] == 12 * 5 + 8 * 12 + 3 * 8
        assert 0 < record["kept"] <= record["total"]
        assert record["expected_weights"] == record["kept"]  # no gates: a weight is there or not
        assert 0 < record["expected_flops"] <= record["total_flops"] == 2 * record["total"]
        assert record["units"] == {"fc1": 12, "fc2": 8, "fc3": 3}
        assert record["val_accuracy"] == pytest.approx(1 - record["val_error"])
        assert record["beta"] == pytest.approx(record["epoch"] / 3)
        assert record["beta_sites"] == {"fc1.weight": record["beta"], "fc2.weight": 0.5, "fc3.weight": record["beta"]}
        assert record["lr"] == 0.01
        assert set(record["kl_sites"]) == {"fc1.weight", "fc2.weight", "fc3.weight"}
    seconds = [record["seconds"] for record in result.history]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_recorded_loss_is_the_weighted_sum_of_its_parts() -> None:
    result = fitted(epochs=2, kl_schedule=constant(0.25))
    for record in result.history:
        expected = (0.25 * record["kl"] - record["log_likelihood"]) / EXAMPLES
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second, other = fitted(), fitted(), fitted(seed=1)
    assert same(first.guide.state_dict(), second.guide.state_dict())
    assert not same(first.guide.state_dict(), other.guide.state_dict())


def test_the_users_network_is_left_as_it_was() -> None:
    network = mlp((FEATURES, 4, CLASSES))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    model = SparseModel(network, LogUniform(), Categorical(num_data=EXAMPLES))
    fitted(pair=(model, AutoSparse(model)))
    assert same(network.state_dict(), before)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert network.training
    assert not list(pyro.get_param_store().keys())


def test_the_loader_keeps_its_hard_labels() -> None:
    loader = batches()
    fitted(loader=loader, teacher=mlp((FEATURES, CLASSES)))
    assert loader._targets is None and not loader.y.is_floating_point()


def test_log_variances_have_a_rate_of_their_own() -> None:
    """With Adam's first step every parameter moves by its learning rate."""
    model, guide = pair()
    before = {name: p.detach().clone() for name, p in guide.named_parameters()}
    bias = model.network.get_parameter("fc1.bias").detach().clone()
    fitted(pair=(model, guide), loader=batches(batch_size=EXAMPLES), epochs=1, lr=1e-3, lr_log_var=5e-3)
    for name, p in guide.named_parameters():
        moved = float((p.detach() - before[name]).abs().median())
        assert moved == pytest.approx(5e-3 if name.endswith("log_var") else 1e-3, rel=0.01), name
    moved = (model.network.get_parameter("fc1.bias").detach() - bias).abs()
    assert float(moved.max()) == pytest.approx(1e-3, rel=0.01)


def test_learning_rates_follow_their_schedule() -> None:
    seen: list[list[float]] = []

    def look(state: FitState) -> None:
        seen.append([group["lr"] for group in state.optimizer.param_groups])

    fitted(epochs=4, lr=0.1, lr_log_var=0.4, lr_schedule=linear_decay(hold=0.0), callbacks=(look,))
    # 3 steps an epoch: the last step of epoch e has progress (3e − 1)/12
    factors = [1 - (3 * e - 1) / 12 for e in range(1, 5)]
    assert [s[0] for s in seen] == pytest.approx([0.1 * f for f in factors])
    assert [s[1] for s in seen] == pytest.approx([0.4 * f for f in factors])


def test_clipping_bounds_the_gradient() -> None:
    model, guide = pair()
    norms: list[float] = []

    def look(state: FitState) -> None:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()))

    fitted(pair=(model, guide), clip=1e-3, callbacks=(look,), shrink_every=0)
    assert norms == pytest.approx([1e-3] * 3, rel=1e-3)
    norms.clear()
    fitted(callbacks=(look,), shrink_every=0)
    assert min(norms) > 2e-3


def test_schedules_by_site_and_pattern() -> None:
    """A site whose KL weighs nothing keeps its log variances down; the others let them rise."""
    model, guide = pair(log_var=-4.0)
    result = fitted(pair=(model, guide), epochs=15, site_schedules={"fc1.*": constant(0.0)}, shrink_every=0)
    rise = {site: float((f.log_var.detach() + 4.0).mean()) for site, f in result.guide.families.items()}
    assert rise["fc1.weight"] < 0 < min(rise["fc2.weight"], rise["fc3.weight"])
    with pytest.raises(ConfigError, match="fc9.*fits no site"):
        fitted(site_schedules={"fc9.weight": constant()})


def test_the_kl_schedule_reaches_every_step() -> None:
    seen: list[float] = []

    def schedule(t: float) -> float:
        seen.append(t)
        return 1.0

    fitted(epochs=2, kl_schedule=schedule)
    steps = sorted({round(t * 6, 9) for t in seen})
    assert steps == [0, 1, 2, 3, 4, 5, 6]  # 3 steps an epoch; 6/6 is the end of the run, for the record


def test_callbacks_may_be_one_function_or_a_list() -> None:
    seen: list[int] = []
    fitted(epochs=2, callbacks=lambda state: seen.append(state.epoch))
    fitted(epochs=1, callbacks=[lambda state: seen.append(10), lambda state: seen.append(20)])
    assert seen == [1, 2, 10, 20]


def test_callbacks_see_the_state_once_an_epoch_and_can_stop() -> None:
    seen: list[tuple[int, int, int]] = []

    def callback(state: FitState) -> None:
        seen.append((state.epoch, state.epochs, len(state.history)))
        state.history[-1]["mine"] = state.epoch**2
        state.stop = state.epoch == 2

    model, guide = pair()
    result = fitted(pair=(model, guide), epochs=5, callbacks=(callback,))
    assert seen == [(1, 5, 1), (2, 5, 2)]
    assert [record["mine"] for record in result.history] == [1, 4]
    assert result.model is model and result.guide is guide


def test_what_callbacks_record_survives_a_checkpoint(tmp_path: Path) -> None:
    def callback(state: FitState) -> None:
        state.history[-1] |= {"numpy": np.float64(0.5), "list": (1, 2)}

    fitted(callbacks=(callback,), checkpoint=tmp_path)
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert saved["history"][-1]["numpy"] == 0.5 and saved["history"][-1]["list"] == [1, 2]


def test_what_a_checkpoint_cannot_hold_is_said_at_once(tmp_path: Path) -> None:
    def callback(state: FitState) -> None:
        state.history[-1]["model"] = state.model

    with pytest.raises(CheckpointError, match="SparseModel"):
        fitted(callbacks=(callback,), checkpoint=tmp_path)


@FEW
def test_freezing_keeps_zeros_for_good() -> None:
    model, guide = pair(num_data=6000)
    kill_units(guide, "fc2.weight", [0, 1, 2], axis=0)
    masks: list[Tensor] = []

    def look(state: FitState) -> None:
        frozen = state.guide.families["fc2.weight"].frozen
        masks.append(torch.ones(8, 12, dtype=torch.bool) if frozen is None else frozen.clone())

    result = fitted(
        pair=(model, guide), epochs=8, freeze_at=0.5, lr=1e-3, lr_log_var=0.05, callbacks=(look,), shrink_every=0
    )
    assert ["frozen" in record for record in result.history] == [False] * 3 + [True] * 5
    family = guide.families["fc2.weight"]
    dead = ~masks[-1]
    assert bool(dead[:3].all()) and not bool(dead.all())
    assert all(torch.equal(mask, masks[-1]) for mask in masks[3:])
    assert bool((family.mean()[dead] == 0).all()) and bool((family.std()[dead] == 0).all())
    assert bool((family.relevance()[dead] == -torch.inf).all())
    assert bool((family.distribution().rsample()[dead] == 0).all())
    kept = [record["kept"] for record in result.history]
    assert kept[-1] <= kept[3]
    # weights that are kept are trained on
    assert family.loc.grad is not None and bool((family.loc.grad[masks[-1]] != 0).any())
    assert bool((family.loc.grad[dead] == 0).all()) and bool((family.log_var.grad[dead] == 0).all())


def test_freezing_leaves_no_layer_empty() -> None:
    model, guide = pair()
    kill_units(guide, "fc2.weight", range(8))
    with torch.no_grad():
        guide.families["fc2.weight"].loc[3, 5] = 2e-3
    with pytest.warns(PyrosparseWarning, match=r"fc2\.weight: no weight has log α"):
        fitted(pair=(model, guide), epochs=1, lr=1e-6, freeze_at=0.0, shrink_every=0)
    frozen = guide.families["fc2.weight"].frozen
    assert frozen is not None
    assert frozen.nonzero().tolist() == [[3, 5]]


def test_dead_units_are_cut_while_fitting() -> None:
    model, guide = pair()
    kill_units(guide, "fc1.weight", range(6))
    kill_units(guide, "fc1.weight", [0], axis=1)
    kill_units(guide, "fc3.weight", [1, 2], axis=1)
    before = {site: tuple(model.shape_of(site)) for site in model.sites}
    result = fitted(pair=(model, guide), epochs=4, lr=1e-4)
    assert before["fc1.weight"] == (12, 5)
    assert [record["units"]["fc1"] for record in result.history] == [12, 6, 6, 6]
    assert [record["units"]["fc2"] for record in result.history] == [8, 6, 6, 6]
    assert tuple(model.shape_of("fc1.weight")) == (6, 4)
    assert tuple(model.shape_of("fc2.weight")) == (6, 6)
    assert model.kept["fc1"][0].tolist() == list(range(6, 12))
    assert model.kept["fc1"][1].tolist() == [1, 2, 3, 4]
    assert model.kept["fc2"][0].tolist() == [0, 3, 4, 5, 6, 7]
    assert result.history[-1]["total"] == 12 * 5 + 8 * 12 + 3 * 8  # the original's
    for site, family in guide.families.items():
        assert family.mean().shape == model.shape_of(site)
    x, _ = labelled()
    assert model.network(x).shape == (EXAMPLES, CLASSES)  # still takes all five features


def test_shrinking_can_be_off() -> None:
    model, guide = pair()
    kill_units(guide, "fc1.weight", range(6))
    result = fitted(pair=(model, guide), epochs=4, shrink_every=0, lr=1e-4)
    assert result.history[-1]["units"]["fc1"] == 12


@FEW
def test_a_teacher_pulls_the_posterior_towards_itself() -> None:
    """With weight 1 the labels do not matter: the teacher's classes, permuted, are learnt."""

    class Teacher(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 8.0 * x[:, :CLASSES].roll(1, dims=1)

    x, y = labelled()
    teacher = Teacher().train()
    result = fitted(pair=pair(num_data=6000), epochs=25, lr=0.02, teacher=teacher, teacher_weight=1.0, temperature=1.0)
    assert teacher.training
    weights = {site: f.mean() for site, f in result.guide.families.items()}
    output = torch.func.functional_call(result.model.network.eval(), weights, (x,))
    assert float((output.argmax(1) == (y + 1) % CLASSES).float().mean()) > 0.9


def test_a_teacher_of_a_torch_loader() -> None:
    x, y = labelled()
    loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
    soft = fitted(loader=loader, teacher=mlp((FEATURES, CLASSES)))
    assert math.isfinite(soft.history[-1]["loss"])


def test_the_teacher_is_left_as_it_was() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(FEATURES), nn.Dropout(0.5), nn.Linear(FEATURES, CLASSES))
    teacher.train()
    teacher[2].eval()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    x, y = labelled()
    fitted(teacher=teacher)
    fitted(teacher=teacher, loader=DataLoader(TensorDataset(x, y), batch_size=20))
    assert same(teacher.state_dict(), before)
    assert [m.training for m in teacher] == [True, True, False, True]


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(DataError, match="soft labels have shape"):
        fitted(teacher=mlp((FEATURES, CLASSES + 2)))


@pytest.mark.parametrize("shuffle", [True, False])
def test_torch_data_loaders_work(shuffle: bool) -> None:
    x, y = labelled()
    result = fitted(loader=DataLoader(TensorDataset(x, y), batch_size=25, shuffle=shuffle), epochs=2)
    assert len(result.history) == 2


def test_a_sampler_may_take_a_part_of_the_data_set() -> None:
    x, y = labelled(examples=100)
    loader = DataLoader(TensorDataset(x, y), batch_size=20, sampler=SubsetRandomSampler(range(EXAMPLES)))
    fitted(loader=loader, epochs=1)


def test_a_list_of_batches_works() -> None:
    x, y = labelled()
    fitted(loader=list(zip(x.split(20), y.split(20), strict=True)), epochs=2)


def test_convolutions_and_batch_normalisation() -> None:
    x, y = pictures()

    def network() -> nn.Module:
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 3),
                norm=nn.BatchNorm2d(6),
                relu=nn.ReLU(),
                flatten=nn.Flatten(),
                fc=nn.Linear(24, CLASSES),
            )
        )

    model, guide = pair(network=network)
    result = fitted(
        pair=(model, guide), loader=TensorLoader(x, y, 20, shift=1), epochs=3, val_loader=TensorLoader(x, y)
    )
    assert math.isfinite(result.history[-1]["loss"])
    assert int(model.network.get_buffer("norm.num_batches_tracked")) == 9


@pytest.mark.parametrize("prior", [ARD(), ARD(1.0), ARD(learn=True), LogUniform(kl="sigmoid")])
def test_every_prior_fits(prior: ps.priors.Prior) -> None:
    result = fitted(pair=pair(prior=prior), epochs=2)
    assert math.isfinite(result.history[-1]["loss"])
    if isinstance(prior, ARD) and prior.log_precision is not None:
        learned = result.model.prior_of("fc1.weight")
        assert isinstance(learned, ARD) and learned.log_precision is not None
        assert (float(learned.log_precision.detach()) != 0) == isinstance(learned.log_precision, nn.Parameter)


def test_tied_weights_get_one_real_draw() -> None:
    """Independent noise at each place of one weight would be wrong, and would warn (an error here)."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
            self.again.weight = self.first.weight
            self.out = nn.Linear(FEATURES, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.again(torch.relu(self.first(x)))))

    model, guide = pair(network=Tied)
    assert set(model.sites) == {"first.weight", "out.weight"}
    kill_units(guide, "first.weight", [4], axis=1)
    result = fitted(pair=(model, guide), epochs=4, shrink_every=0)
    assert math.isfinite(result.history[-1]["loss"])


def test_gaussian_and_multi_label_targets() -> None:
    x, y = labelled()
    one_hot = nn.functional.one_hot(y, CLASSES).float()
    for likelihood in (Gaussian(num_data=EXAMPLES, learn_scale=True), MultiLabel(num_data=EXAMPLES)):
        model = SparseModel(mlp((FEATURES, 8, CLASSES)), LogUniform(), likelihood)
        loader = TensorLoader(x, one_hot, 20)
        result = fitted(pair=(model, AutoSparse(model)), loader=loader, epochs=8, val_loader=loader)
        assert result.history[-1]["loss"] < result.history[0]["loss"]
        assert "val_error" in result.history[-1]
        assert "val_accuracy" not in result.history[-1]


def test_the_range_of_the_kl_weights_for_the_bar() -> None:
    assert _range([0.5, 0.5]) == 0.5
    assert _range([0.5, 0.0, 1.0]) == "0–1"


# what is refused before any work


class Silent(nn.Module):
    """Fails the test if a step is made: gradients are asked for at training only."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled(), "a step was made"
        return self.fc(x)


X, Y = labelled()
BAD_DATA: dict[str, tuple[Any, str]] = {
    "features": (lambda: TensorLoader(X[:, :3], Y), r"cannot take inputs of shape \(60, 3\)"),
    "type": (lambda: TensorLoader(X.double(), Y), "cannot take inputs"),
    "label too large": (lambda: TensorLoader(X, Y + 1), "labels must lie between 0 and 2"),
    "label negative": (lambda: TensorLoader(X, Y - 1), "labels lie between -1"),
    "label too large in the last batch": (
        lambda: TensorLoader(X, torch.cat([Y[:-1], torch.tensor([7])]), 10, shuffle=False),
        "labels lie between 0 and 7",
    ),
    "labels in a column": (lambda: TensorLoader(X, Y[:, None]), r"labels have shape \(60, 1\)"),
    "numbers for labels": (lambda: TensorLoader(X, torch.randn(60)), "soft labels have shape"),
    "soft labels of other classes": (lambda: TensorLoader(X, torch.ones(60, 2) / 2), "soft labels have shape"),
    "soft labels that are none": (lambda: TensorLoader(X, torch.randn(60, 3)), "must be probabilities"),
    "NaN in the inputs": (lambda: TensorLoader(X * torch.nan, Y), "inputs have NaN"),
    "NaN in the last batch": (
        lambda: TensorLoader(torch.cat([X[:-1], X[-1:] * torch.nan]), Y, 10, shuffle=False),
        "inputs have NaN",
    ),
    "infinity in the inputs": (lambda: TensorLoader(X / 0.0, Y), "inputs have NaN or infinite"),
    "NaN in the targets": (lambda: TensorLoader(X, torch.full((60, 3), torch.nan)), "targets have NaN"),
    "num_data too small": (lambda: TensorLoader(X.repeat(2, 1), Y.repeat(2)), "120 examples.*num_data=60"),
    "num_data too small for a data set": (
        lambda: DataLoader(TensorDataset(X.repeat(2, 1), Y.repeat(2)), batch_size=20),
        "120 examples.*num_data=60",
    ),
    "no pairs": (lambda: DataLoader(TensorDataset(X), batch_size=20), r"must yield pairs"),
    "no tensors": (lambda: [([1.0], [2.0])], "not of list, list"),
    "numbers": (lambda: [1, 2], "must yield pairs"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit_are_refused_before_training(case: str) -> None:
    make, message = BAD_DATA[case]
    model, guide = pair(network=Silent)
    before = {k: v.clone() for k, v in guide.state_dict().items()}
    with pytest.raises(DataError, match=message):
        fitted(pair=(model, guide), loader=make())
    assert same(guide.state_dict(), before)


def test_validation_data_that_do_not_fit_are_refused_before_training() -> None:
    model, guide = pair(network=Silent)
    for bad in (TensorLoader(X, Y + 1), TensorLoader(X[:, 1:], Y), TensorLoader(X * torch.nan, Y)):
        with pytest.raises(DataError, match="val_loader: "):
            fitted(pair=(model, guide), val_loader=bad)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (lambda: iter([(X, Y)]), "no length"),
        (lambda: [], "no batch"),
        (lambda: TensorLoader(X, Y, 100, drop_last=True), "no batch"),
    ],
)
def test_loaders_without_batches_are_refused(loader: Any, message: str) -> None:
    with pytest.raises(FitError, match=message):
        fitted(loader=loader())


def test_a_loader_that_can_be_used_once_is_refused() -> None:
    class Once:
        def __init__(self) -> None:
            self.batches = iter([(X, Y)])

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            return self.batches

    with pytest.raises(FitError, match="more than once"):
        fitted(loader=Once())


def test_an_unwritable_folder_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match="run"):
        fitted(pair=pair(network=Silent), checkpoint=tmp_path / "run")


def test_a_network_that_gives_nan_is_refused() -> None:
    def network() -> nn.Module:
        net = mlp((FEATURES, CLASSES))
        nn.init.constant_(net.get_parameter("fc1.bias"), torch.nan)
        return net

    with pytest.raises(NetworkError, match="gives NaN"):
        fitted(pair=pair(network=network))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no setting 'clipp'; did you mean 'clip'"):
        fitted(clipp=0.1)
    with pytest.raises(ConfigError, match="did you mean 'val_loader'"):
        fitted(valid_loader=batches())


OTHERS: dict[str, tuple[Any, str]] = {
    "a guide written by hand": (lambda: (pair()[0], lambda x, y: None), "the guide is a function"),
    "a model written by hand": (lambda: (lambda x, y: None, pair()[1]), "the model is a function"),
    "another network's guide": (
        lambda: (pair()[0], pair(network=lambda: mlp((FEATURES, 7, 8, CLASSES)))[1]),
        r"'fc1.weight' has shape \(12, 5\) in the model and \(7, 5\) in the guide",
    ),
    "a guide with too few sites": (
        lambda: (pair()[0], pair(network=lambda: mlp((FEATURES, 12, CLASSES)))[1]),
        "has shape|has no site",
    ),
    "a guide with too many sites": (
        lambda: (pair(network=lambda: nn.Sequential(OrderedDict(fc1=nn.Linear(FEATURES, 12))))[0], pair()[1]),
        "the model has no site 'fc2.weight'",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_pair_that_is_none_is_refused(case: str) -> None:
    make, message = OTHERS[case]
    with pytest.raises(NetworkError, match=message):
        fitted(pair=make())


def test_a_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    fitted(checkpoint=tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(CheckpointError, match="resume=True, give another folder"):
        fitted(pair=pair(network=Silent), checkpoint=tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert len(fitted(checkpoint=tmp_path, resume=True).history) == 3


# what stops a run


def test_bad_numbers_in_a_later_batch_stop_the_run_and_keep_the_checkpoint(tmp_path: Path) -> None:
    x, y = labelled()
    # two good epochs of three batches, then a bad one
    loader = _Poisoned(x, y, at=7)
    with pytest.raises(FitError, match=r"step 8 \(epoch 3\).*last\.pt is good"):
        fitted(loader=loader, epochs=4, checkpoint=tmp_path)
    saved = load_checkpoint(tmp_path)
    assert saved is not None and saved["epoch"] == 2
    assert all(bool(t.isfinite().all()) for t in saved["guide"].values())
    # and with sound data it goes on from there
    result = fitted(epochs=4, checkpoint=tmp_path, resume=True)
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4]


class _Poisoned:
    """Three batches of 20 an epoch; the batch number ``at`` (from 0, the check's batch not counted) is NaN."""

    def __init__(self, x: Tensor, y: Tensor, at: int) -> None:
        self.batches = list(zip(x.split(20), y.split(20), strict=True))
        self.at = at + 1  # the check before the run takes one

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for x, y in self.batches:
            self.at -= 1
            yield (x * torch.nan if self.at < 0 else x), y


def test_a_rate_that_is_too_large_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="Lower lr and lr_log_var"):
        fitted(epochs=50, lr=1e4, lr_log_var=1e4, checkpoint=tmp_path)
    saved = load_checkpoint(tmp_path)
    if saved is not None:
        assert all(bool(t.isfinite().all()) for t in saved["guide"].values() if t.is_floating_point())


def test_parameters_that_leap_in_the_last_step_do_not_reach_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Step.update
    taken = []

    def leap(self: Step) -> None:
        update(self)
        taken.append(self)
        if len(taken) == 6:  # the last step of the second epoch: its own loss was finite
            with torch.no_grad():
                max(self.parameters, key=Tensor.numel).fill_(torch.inf)

    monkeypatch.setattr(Step, "update", leap)
    with pytest.raises(FitError, match=r"step 6 \(epoch 2\)"):
        fitted(checkpoint=tmp_path)
    saved = load_checkpoint(tmp_path)
    assert saved is not None and saved["epoch"] == 1


@pytest.mark.parametrize("where", ["callback", "loader"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupt_leaves_a_good_checkpoint(tmp_path: Path, where: str, error: type[BaseException]) -> None:
    def callback(state: FitState) -> None:
        if where == "callback" and state.epoch == 3:
            raise error

    # 2 epochs of 3 batches and one more; the check before the run takes one of its own
    loader = Interrupted(batches(), after=8) if where == "loader" else batches()
    if isinstance(loader, Interrupted):
        loader.error = error
    with pytest.raises(error):
        fitted(loader=loader, epochs=5, callbacks=(callback,), checkpoint=tmp_path)
    saved = load_checkpoint(tmp_path)
    assert saved is not None and saved["epoch"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_checkpoints_every_few_epochs_and_always_the_last(tmp_path: Path) -> None:
    seen: list[int | None] = []

    def look(state: FitState) -> None:
        saved = load_checkpoint(tmp_path)
        seen.append(None if saved is None else saved["epoch"])

    result = fitted(epochs=5, checkpoint=tmp_path, checkpoint_every=2, callbacks=(look,))
    assert seen == [None, None, 2, 2, 4]
    saved = load_checkpoint(tmp_path)
    assert saved is not None and saved["epoch"] == 5
    assert result.checkpoint == tmp_path / "last.pt"


def test_settings_are_listed_and_complete() -> None:
    fields = set(FitSettings.__dataclass_fields__)
    documented = {line.split()[1].rstrip(":") for line in (FitSettings.__doc__ or "").splitlines() if ":param" in line}
    assert documented == fields


@FEW
def test_a_convolutional_network_learns_images() -> None:
    x, y = pictures()
    result = fitted(
        pair=pair(network=convolutional, num_data=6000),
        loader=TensorLoader(x, y, 20),
        epochs=20,
        lr=0.02,
        val_loader=TensorLoader(x, y, 60),
    )
    assert result.history[-1]["val_error"] < 0.1


class _Mixed(nn.Module):
    """Units that go into sums over all of them: none can be cut without changing the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).cumsum(1))


def test_a_network_that_cannot_shrink_is_said_to_be_one() -> None:
    x, y = labelled(seed=1)
    model = ps.SparseModel(_Mixed(), ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=len(x)))
    with pytest.warns(ps.errors.PyrosparseWarning, match="first.*its units stay"):
        result = ps.fit(model, ps.guides.AutoSparse(model), TensorLoader(x, y, 30), epochs=2, progress=False)
    assert any("first" in note for note in result.history[-1]["notes"])


class _ReadOtherwise(nn.Module):
    """Of its three layers one is called, one is read without a call, and one does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 4), nn.Linear(4, CLASSES)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(torch.relu(self.first(x)), self.last.weight, self.last.bias)


def test_layers_that_are_never_called_are_named() -> None:
    x, y = labelled(seed=1)
    model = ps.SparseModel(_ReadOtherwise(), ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=len(x)))
    options: dict[str, Any] = {"epochs": 2, "progress": False, "shrink_every": 0}
    with pytest.warns(ps.errors.PyrosparseWarning, match="'last', 'spare': never called"):
        result = ps.fit(model, ps.guides.AutoSparse(model), TensorLoader(x, y, 30), **options)
    counted = 2 * (4 * FEATURES + CLASSES * 4 + 2 * 2)  # a product and a sum for each weight
    assert result.history[-1]["total_flops"] == counted
