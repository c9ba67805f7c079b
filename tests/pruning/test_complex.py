"""Pruning of complex networks: what is cut, what is folded, what has to stay, always with the outputs compared."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import distributions as psd
from pyrosparse import guides
from pyrosparse.data import TensorLoader
from pyrosparse.errors import NetworkError
from pyrosparse.layers import sparse_layers
from pyrosparse.pruning.masks import keep_masks, masked_network
from tests.complex_networks import CLASSES, convnet, dense, kill, pair, randomise

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "crelu": psnn.CReLU,
    "zrelu": psnn.ZReLU,
    "cardioid": psnn.Cardioid,
    "modrelu": psnn.ModReLU,
}


def masked(model: ps.SparseModel, guide: guides.AutoSparse) -> nn.Module:
    return masked_network(model.network, guide.families, keep_masks(guide.families, 3.0))


def agree(masked: nn.Module, small: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected, given = masked(x), small(x)
    torch.testing.assert_close(given, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def dead(
    guide: guides.AutoSparse, site: str, *, outs: tuple[int, ...] = (), ins: tuple[int, ...] = ()
) -> dict[str, Tensor]:
    mask = torch.zeros(guide.families[site].relevance().shape, dtype=torch.bool)
    mask[list(outs)] = True
    mask[:, list(ins)] = True
    return {site: mask}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_constant_units_are_folded_and_unread_ones_go(activation: str) -> None:
    model, guide = pair(randomise(dense(6, 5, 4, 3, activation=ACTIVATIONS[activation])), (6,))
    # unit 1 of fc1 reads nothing, unit 3 is read by nobody; input 2 is dead
    kill(guide, dead(guide, "fc1.weight", outs=(1,), ins=(2,)) | dead(guide, "fc2.weight", ins=(3,)))
    small = ps.prune(model, guide)
    first, second = small.network.fc1, small.network.fc2
    assert isinstance(first, psnn.ComplexSelectLinear) and first.index.tolist() == [0, 1, 3, 4, 5]
    assert first.weight.shape == (3, 5, 2) and first.bias.shape == (3, 2) and second.weight.shape == (4, 3, 2)
    assert small.kept["fc1"][0].tolist() == [0, 2, 4]
    assert small.masks["fc1.weight"].shape == (5, 6) and int(small.masks["fc1.weight"].sum()) == 15
    row = small.report.layers[0]
    assert (row.kept, row.total, row.units, row.inputs, row.parts) == (30, 60, 3, 5, 2)
    # eight real operations a weight, less two sums for each unit that are the bias's
    assert row.original_flops == 8 * 30 and row.flops == 8 * 15
    kept = sum(int(mask.sum()) for mask in small.masks.values())
    assert small.report.ratio == 124 / (2 * kept) and small.nonzero == 2 * kept
    agree(masked(model, guide), small.network, torch.randn(64, 6))


def test_sigma_is_that_of_each_part() -> None:
    model, guide = pair(dense(4, 3), (4,))
    kill(guide, dead(guide, "fc1.weight", ins=(0,)))
    small = ps.prune(model, guide)
    sigma = small.sigma["fc1.weight"]
    torch.testing.assert_close(sigma, torch.full((3, 3, 2), (0.5 * torch.exp(torch.tensor(-6.0))).sqrt()))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convolutions(activation: str, norm: bool) -> None:
    network = randomise(convnet(ACTIVATIONS[activation], norm=norm))
    model, guide = pair(network, (1, 8, 8))
    cuts = dead(guide, "conv1.weight", outs=(0,)) | dead(guide, "conv2.weight", outs=(2,), ins=(3,))
    kill(guide, cuts | dead(guide, "fc1.weight", ins=(0, 1, 2, 3, 5)) | dead(guide, "fc2.weight", ins=(4,)))
    small = ps.prune(model, guide)
    shapes = {name: tuple(m.weight.shape) for name, m in sparse_layers(small.network).items()}
    # unit 0 of conv2 is unread, unit 2 constant; feature 5 of the flattened ones is left unread alone
    assert shapes["conv1"] == (2, 1, 3, 3, 2) and shapes["conv2"] == (3, 2, 2, 2, 2)
    assert shapes["fc1"] == (5, 11, 2) and isinstance(small.network.fc1, psnn.ComplexSelectLinear)
    if norm:
        assert small.network.norm1.num_features == 2 and small.network.norm1.running_covariance.shape == (2, 2, 2)
    assert small.report.notes == []
    agree(masked(model, guide), small.network, torch.randn(16, 1, 8, 8, dtype=torch.complex64))


def test_zero_padding_forbids_folding() -> None:
    model, guide = pair(randomise(convnet(padding=1)), (1, 8, 8))
    model.network.conv2.padding = (1, 1)
    model.network.fc1 = psnn.ComplexLinear(125, 6)  # the shapes that this padding gives
    model, guide = pair(randomise(model.network.requires_grad_(True)), (1, 8, 8))
    kill(guide, dead(guide, "conv1.weight", outs=(0,)))
    small = ps.prune(model, guide)
    assert small.network.conv1.weight.shape[0] == 4
    assert any("zero padding" in note for note in small.report.notes)
    agree(masked(model, guide), small.network, torch.randn(16, 1, 8, 8))


def test_random_masks_leave_the_outputs() -> None:
    for seed in range(6):
        torch.manual_seed(seed)
        model, guide = pair(randomise(convnet(norm=seed % 2 == 0)), (1, 8, 8))
        kill(guide, {site: torch.rand(f.relevance().shape) < 0.85 for site, f in guide.families.items()})
        small = ps.prune(model, guide)
        agree(masked(model, guide), small.network, torch.randn(16, 1, 8, 8))


def test_units_go_through_the_casts() -> None:
    network = nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(4, 5),
            relu=nn.ReLU(),
            cast=psnn.ToComplex(),
            fc2=psnn.ComplexLinear(5, 6),
            modulus=psnn.Modulus(),
            fc3=nn.Linear(6, CLASSES),
        )
    )
    priors = {"fc2": ps.priors.ComplexARD()}
    model = ps.SparseModel(randomise(network), ps.priors.ARD(), ps.likelihoods.Categorical(num_data=9), priors=priors)
    model.input_shape = torch.Size([4])
    guide = guides.AutoSparse(model)
    with torch.no_grad():
        for site, outs in (("fc1.weight", 1), ("fc2.weight", 2)):
            guide.families[site].log_var[outs] = 20.0
        guide.families["fc3.weight"].log_var[:, 4] = 20.0
    small = ps.prune(model, guide)
    shapes = [tuple(m.weight.shape) for m in sparse_layers(small.network).values()]
    assert shapes == [(4, 4), (4, 4, 2), (3, 4)]
    kept = {site: int(mask.sum()) for site, mask in small.masks.items()}
    # a complex weight counts as two numbers
    assert small.report.total == 20 + 2 * 30 + 18
    assert small.report.kept == small.nonzero == kept["fc1.weight"] + 2 * kept["fc2.weight"] + kept["fc3.weight"]
    agree(masked(model, guide), small.network, torch.randn(64, 4))


class _Branches(nn.Module):
    """A sum of two convolutions that are normalised, side by side with a third one."""

    def __init__(self) -> None:
        super().__init__()
        self.cast, self.act = psnn.ToComplex(), psnn.CReLU()
        self.a, self.b, self.c = (psnn.ComplexConv2d(1, units, 3) for units in (4, 4, 3))
        self.norm = psnn.ComplexBatchNorm2d(4)
        self.pool = psnn.ComplexAvgPool2d(3)
        self.fc = psnn.ComplexLinear(28, CLASSES)
        self.modulus = psnn.Modulus()

    def forward(self, x: Tensor) -> Tensor:
        z = self.cast(x)
        z = torch.cat([self.act(self.norm(self.a(z)) + self.b(z)), self.act(self.c(z))], 1)
        return self.modulus(self.fc(self.pool(z).flatten(1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("complex_input", [False, True])
def test_units_go_through_sums_and_concatenations(complex_input: bool) -> None:
    model, guide = pair(randomise(_Branches()), (1, 8, 8), complex_input=complex_input)
    # unit 0 of the sum is constant and unit 1 is fed by one of its branches, unit 2 is unread, as is unit 1 of c
    cuts = dead(guide, "a.weight", outs=(0,)) | dead(guide, "b.weight", outs=(0, 1))
    kill(guide, cuts | dead(guide, "fc.weight", ins=(*range(8, 12), *range(20, 24))))
    small = ps.prune(model, guide)
    shapes = {name: tuple(m.weight.shape) for name, m in sparse_layers(small.network).items()}
    assert shapes == {"a": (2, 1, 3, 3, 2), "b": (2, 1, 3, 3, 2), "c": (2, 1, 3, 3, 2), "fc": (3, 16, 2)}
    assert small.kept["a"][0].tolist() == small.kept["b"][0].tolist() == [1, 3] and small.kept["c"][0].tolist() == [
        0,
        2,
    ]
    assert small.network.norm.num_features == 2 and small.report.notes == []
    dtype = torch.complex64 if complex_input else torch.float32
    agree(masked(model, guide), small.network, torch.randn(16, 1, 8, 8, dtype=dtype))


def test_thresholds_of_single_units_are_cut_with_them() -> None:
    model, guide = pair(randomise(dense(4, 5, 3, activation=lambda: psnn.ModReLU(5))), (4,))
    kill(guide, dead(guide, "fc1.weight", outs=(1,)) | dead(guide, "fc2.weight", ins=(2,)))
    small = ps.prune(model, guide)
    assert small.network.act1.num_parameters == 3
    assert torch.equal(small.network.act1.bias, model.network.act1.bias[[0, 3, 4]])
    agree(masked(model, guide), small.network, torch.randn(64, 4))


def test_complex_inputs() -> None:
    model, guide = pair(randomise(dense(6, 5, 3, cast=False)), (6,), complex_input=True)
    kill(guide, dead(guide, "fc1.weight", outs=(1,), ins=(2,)))
    small = ps.prune(model, guide)
    assert small.network.fc1.weight.shape == (4, 5, 2)
    agree(masked(model, guide), small.network, torch.randn(64, 6, dtype=torch.complex64))


class _Written(nn.Module):
    """Parts and moduli written as in torch, between complex layers and real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.cast, self.fc1, self.fc2 = psnn.ToComplex(), psnn.ComplexLinear(4, 6), nn.Linear(24, 5)
        self.fc3 = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z = self.fc1(self.cast(x))
        return self.fc3(self.fc2(torch.cat([z.real, torch.imag(z.conj()), z.abs(), torch.abs(z)], 1)))


def test_units_go_through_parts_written_as_in_torch() -> None:
    network, priors = randomise(_Written()), {"fc1": ps.priors.ComplexARD()}
    model = ps.SparseModel(network, ps.priors.ARD(), ps.likelihoods.Categorical(num_data=9), priors=priors)
    model.input_shape = torch.Size([4])
    guide = guides.AutoSparse(model)
    kill(guide, dead(guide, "fc1.weight", outs=(1, 4)))
    small = ps.prune(model, guide)
    assert small.network.fc1.weight.shape == (4, 4, 2) and small.network.fc2.weight.shape == (5, 16)
    agree(masked(model, guide), small.network, torch.randn(16, 4))


@pytest.mark.parametrize(
    ("cast", "reads", "goes"),
    [
        (psnn.ToReal("interleaved", dim=1), 6, True),
        (psnn.ToReal("interleaved", dim=-1), 3, True),
        (psnn.ToReal(dim=2), 3, True),
        (psnn.ToReal("real", dim=1), 3, True),
        (psnn.ToReal(dim=1), 6, False),
    ],
    ids=repr,
)
def test_units_go_through_casts_to_real(cast: nn.Module, reads: int, goes: bool) -> None:
    """Where the parts of a unit stand side by side, or along positions; not where those of all units are regrouped."""
    bias = cast.dim == 1  # along positions a constant is not the same everywhere, so that it cannot be folded
    network = nn.Sequential(
        psnn.ToComplex(), psnn.ComplexConv2d(1, 3, 2, bias=bias), cast, nn.Conv2d(reads, 2, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    priors = {"3": ps.priors.ARD()}
    likelihood = ps.likelihoods.Categorical(num_data=9)
    model = ps.SparseModel(randomise(network), ps.priors.ComplexARD(), likelihood, priors=priors)
    model.input_shape = torch.Size([1, 6, 6])
    guide = guides.AutoSparse(model)
    with torch.no_grad():
        guide.families["1.weight"].log_var[1] = 20.0
    small = ps.prune(model, guide)
    assert small.network[1].weight.shape[0] == 3 - goes
    assert small.network[3].weight.shape[1] == reads - goes * reads // 3
    agree(masked(model, guide), small.network, torch.randn(8, 1, 6, 6))


def test_mixing_casts_and_phases_of_single_units_stay() -> None:
    network = nn.Sequential(
        nn.Linear(4, 6), psnn.ToComplex("interleaved"), psnn.ComplexLinear(3, 4), psnn.PhaseShift(4),
        psnn.ComplexLinear(4, 3), psnn.RealPart(),
    )  # fmt: skip
    priors = {"0": ps.priors.ARD()}
    model = ps.SparseModel(network, ps.priors.ComplexARD(), ps.likelihoods.Categorical(num_data=9), priors=priors)
    model.input_shape = torch.Size([4])
    guide = guides.AutoSparse(model)
    with torch.no_grad():
        guide.families["2.weight"].log_var[1] = 20.0
    small = ps.prune(model, guide)
    notes = " ".join(small.report.notes)
    assert "1 (ToComplex) follows" in notes and "3 (PhaseShift) follows" in notes
    agree(masked(model, guide), small.network, torch.randn(8, 4))


def test_live_shrinking_and_resume(tmp_path: Any) -> None:
    x, y = torch.randn(64, 1, 8, 8), torch.randint(0, CLASSES, (64,))

    def run(stop: int | None, folder: str, **options: Any) -> tuple[ps.SparseModel, guides.AutoSparse]:
        pyro.set_rng_seed(0)
        model, guide = pair(randomise(convnet(norm=True)), (1, 8, 8))
        kill(guide, dead(guide, "conv1.weight", outs=(0,)) | dead(guide, "fc2.weight", ins=(1,)))
        halt = (lambda state: setattr(state, "stop", state.epoch == stop),)
        loader = TensorLoader(x, y, 32)
        ps.fit(
            model, guide, loader, epochs=5, seed=1, shrink_every=1, callbacks=halt, progress=False,
            checkpoint=tmp_path / folder, **options,
        )  # fmt: skip
        return model, guide

    model, guide = run(None, "whole")
    assert len(model.kept["conv1"][0]) == 3 and model.network.norm1.num_features == 3
    assert len(model.kept["fc1"][0]) == 5
    assert guide.families["fc2.weight"].mean().shape == (3, 5, 2)
    assert guide.families["fc2.weight"].log_var.shape == (3, 5)
    agree(masked(model, guide), ps.prune(model, guide).network, x)
    run(3, "half")
    _, again = run(None, "half", resume=True)
    assert torch.equal(again.families["fc1.weight"].mean(), guide.families["fc1.weight"].mean())


def test_fine_tuning_keeps_the_mask() -> None:
    model, guide = pair(dense(6, 8, 3), (6,))
    kill(guide, {site: torch.rand(f.relevance().shape) < 0.6 for site, f in guide.families.items()})
    small = ps.prune(model, guide)
    with torch.no_grad():
        small.network.fc2.weight[..., 0][small.alive()["fc2.weight"]] = 0.0  # a part may be 0 in a weight that lives
    x = torch.randn(64, 6)
    loader = TensorLoader(x, (x[:, 0] > 0).long(), 16)
    tuned = ps.fine_tune(small, loader, epochs=2, lr=0.01, progress=False)
    for site, alive in small.alive().items():
        weight = tuned.network.get_parameter(site)
        assert torch.equal((weight != 0).all(-1), alive)
        assert not torch.equal(weight, small.network.get_parameter(site))


def test_auto_threshold() -> None:
    x = torch.randn(256, 6)
    y = (x[:, 0] > 0).long()
    model, guide = pair(dense(6, 8, 3), (6,), prior=ps.priors.ComplexARD(), num_data=256)
    loader = TensorLoader(x, y, 64)
    ps.fit(model, guide, loader, epochs=15, lr=0.02, lr_log_var=0.1, progress=False)
    small = ps.prune(model, guide, threshold="auto", val_loader=loader)
    assert small.report.error is not None and small.report.dense_error is not None
    assert small.report.error <= small.report.dense_error + 0.002 and small.report.ratio > 2
    assert all(c.kept % 2 == 0 for c in small.report.curve)


@pytest.mark.parametrize("posterior", ["complex", "real"])
def test_pairs_written_by_hand(posterior: str) -> None:
    network = randomise(dense(4, 3))

    def model(x: Tensor, y: Tensor) -> None:
        shape = torch.Size([3, 4])
        pyro.sample("fc1.weight", psd.ComplexLogUniform().expand(shape).to_event(2))

    def guide(x: Tensor, y: Tensor) -> None:
        loc, log_var = torch.ones(3, 4, 2), torch.full((3, 4), -6.0)
        log_var[:, 1] = 20.0
        if posterior == "complex":
            pyro.sample("fc1.weight", psd.ComplexNormal(loc, log_var).to_event(2))
        else:
            pyro.sample("fc1.weight", psd.DropoutNormal(loc, log_var[..., None].expand(3, 4, 2)).to_event(3))

    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    if posterior == "real":
        with pytest.raises(NetworkError, match="'fc1.weight' is the weight of a complex layer"):
            ps.prune(model, guide, x, y, network=network)
        return
    small = ps.prune(model, guide, x, y, network=network)
    assert small.network.fc1.weight.shape == (3, 3, 2) and small.masks["fc1.weight"].shape == (3, 4)
