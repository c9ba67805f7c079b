"""The way from a network to a file on a CUDA device, and that a step does not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse.data import TensorLoader
from pyrosparse.guides import AutoSparse
from pyrosparse.infer import SparseELBO
from pyrosparse.infer.optimizer import adam
from pyrosparse.posterior import to_arviz
from pyrosparse.poutine import local_reparam
from pyrosparse.poutine.parameters import unexposed
from tests.infer.cases import CLASSES, EXAMPLES, FEATURES, batches, convolutional, kill_units, labelled, pair, pictures
from tests.reconstruction.networks import NETWORKS, loader

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

CUDA = torch.device("cuda", 0)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Make an error of every operation that waits for the device."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def on_device(module: nn.Module) -> bool:
    return all(p.device == CUDA for p in [*module.parameters(), *module.buffers()])


def test_fit_shrink_prune_save_and_predict(tmp_path: Path) -> None:
    model, guide = pair()
    kill_units(guide, "fc1.weight", [0, 3, 5])
    kill_units(guide, "fc2.weight", [0, 3, 5], axis=1)
    fit = ps.fit(
        model,
        guide,
        batches(device=CUDA),
        epochs=2,
        lr=1e-4,
        val_loader=batches(device=CUDA, shuffle=False),
        shrink_every=1,
        checkpoint=tmp_path / "checkpoint",
        device="cuda",
        progress=False,
    )
    assert on_device(model) and on_device(guide)
    assert fit.history[-1]["units"]["fc1"] <= 9
    assert all(np.isfinite(record["loss"]) for record in fit.history)

    x, y = labelled()
    prediction = ps.infer.predict(model, guide, x, draws=3)  # the inputs are on the CPU
    assert prediction.mean.device == CUDA and prediction.mean.shape == (EXAMPLES, CLASSES)
    local = ps.infer.predict(model, guide, x.to(CUDA), draws=3, local=True)
    torch.testing.assert_close(local.mean.sum(1), torch.ones(EXAMPLES, device=CUDA))

    pruned = ps.prune(model, guide, val_loader=TensorLoader(x, y, 30, shuffle=False))
    assert pruned.network is not None
    ps.save(tmp_path / "net.psz", pruned, c=0.25)
    loaded = ps.load(tmp_path / "net.psz")
    with torch.no_grad():
        expected = torch.softmax(pruned.network.cpu()(x), -1)
        torch.testing.assert_close(torch.softmax(loaded(x), -1), expected, rtol=0, atol=0.05)


def test_a_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Five epochs in one go, and three and then two: the same parameters."""
    options = {"lr": 1e-2, "device": "cuda", "progress": False, "seed": 3}
    whole = pair()
    ps.fit(*whole, batches(device=CUDA), epochs=5, **options)

    def stop(state: ps.infer.FitState) -> None:
        state.stop = state.epoch == 3

    folder = tmp_path / "checkpoint"
    ps.fit(*pair(), batches(device=CUDA), epochs=5, checkpoint=folder, callbacks=[stop], **options)
    parts = pair()
    ps.fit(*parts, batches(device=CUDA), epochs=5, checkpoint=folder, resume=True, **options)
    for key, value in whole[1].state_dict().items():
        torch.testing.assert_close(parts[1].state_dict()[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_a_step_does_not_wait_for_the_device(kind: str, local: bool) -> None:
    if kind == "linear":
        model, guide = pair()
        x, y = labelled()
    else:
        model, guide = pair(network=convolutional)
        x, y = pictures()
    model, guide, x, y = model.to(CUDA), guide.to(CUDA), x.to(CUDA), y.to(CUDA)
    elbo, source = SparseELBO(), local_reparam(guide) if local else guide
    named = [*model.trained_parameters(), *guide.named_parameters()]
    optimizer = adam(named, lr=1e-3)

    def step() -> None:
        loss = elbo.differentiable_loss(model, source, x, y) / model.likelihood.num_data
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    with unexposed():
        step()  # checks the pair, and makes what is kept between the steps
        with pyro.validation_enabled(False), no_waiting():
            step()


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_made_without_waiting(shuffle: bool) -> None:
    x, y = pictures()
    loader = TensorLoader(x, y, 20, shift=1, shuffle=shuffle, device=CUDA)
    passing = iter(loader)
    next(passing)  # the whole pass is drawn as it starts
    with no_waiting():
        assert len(list(passing)) == 2


def test_batches_are_those_of_the_cpu() -> None:
    x, y = pictures()
    torch.manual_seed(1)
    here = list(TensorLoader(x, y, 20, shift=1))
    torch.manual_seed(1)
    there = list(TensorLoader(x, y, 20, shift=1, device=CUDA))
    for (xa, ya), (xb, yb) in zip(here, there, strict=True):
        assert torch.equal(xa, xb.cpu()) and torch.equal(ya, yb.cpu())


def test_draws_of_a_prior_leave_the_devices_generator_alone_and_repeat() -> None:
    network = nn.Linear(FEATURES, CLASSES)
    prior = ps.priors.ARD(2.0, learn=True)
    model = ps.SparseModel(network, prior, ps.likelihoods.Categorical(num_data=EXAMPLES)).to(CUDA)
    guide = AutoSparse(model)
    before = torch.cuda.get_rng_state(CUDA)
    first = to_arviz(model, guide, draws=3, prior=True)
    assert torch.equal(torch.cuda.get_rng_state(CUDA), before)
    torch.randn(5, device=CUDA)
    again = to_arviz(model, guide, draws=3, prior=True)
    assert np.array_equal(first.prior["weight"].values, again.prior["weight"].values)


@pytest.mark.parametrize(
    ("name", "solver"), [*((name, "newton") for name in NETWORKS), ("linear", "fista"), ("linear", "descent")]
)
def test_reconstruction_is_that_of_the_cpu(name: str, solver: str) -> None:
    """Moments, solvers, both ways of chaining that run networks, refit and factors; data come from the CPU."""
    make, shape = NETWORKS[name]
    network, data = make().double().eval(), loader(*shape)
    batches_of_inputs = data.x.double().split(64)
    for options in (
        {"units": 4, "chaining": "top-down"},
        {"lam_ratio": 0.05, "chaining": "bottom-up", "refit": True, "low_rank": 0.1, "solver": solver},
    ):
        expected, told = ps.reconstruct(network, batches_of_inputs, **options)
        small, report = ps.reconstruct(deepcopy(network).to(CUDA), batches_of_inputs, **options)
        assert on_device(small)
        assert [row.kept for row in report.rows] == [row.kept for row in told.rows]
        assert report.kib == pytest.approx(told.kib)
        y = small(data.x.double().to(CUDA)).cpu()
        torch.testing.assert_close(y, expected(data.x.double()), rtol=1e-4, atol=1e-4)


def test_a_tape_becomes_a_graph_that_gives_the_same_fit() -> None:
    def fitted(replay: bool) -> ps.Fit:
        model, guide = pair(log_var=-40.0)  # noise that float32 does not see: a graph draws other noise
        kill_units(guide, "fc1.weight", [0, 3, 5])
        options = {"epochs": 5, "lr": 1e-3, "lr_log_var": 1e-3, "seed": 0, "device": CUDA, "progress": False}
        schedule = ps.infer.schedules.warm_up(until=0.8)  # the weight of the KL changes at every step
        return ps.fit(model, guide, batches(device=CUDA), kl_schedule=schedule, replay=replay, **options)

    played, taken = fitted(True), fitted(False)
    assert played.history[-1]["replayed"] == pytest.approx(2 / 3)
    for (name, p), q in zip(played.guide.named_parameters(), taken.guide.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-3, atol=1e-4), name
    assert played.history[-1]["loss"] == pytest.approx(taken.history[-1]["loss"], rel=1e-3)
