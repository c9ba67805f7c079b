"""Plain parameters as param sites: seen by Pyro's handlers, never in the global store."""

from __future__ import annotations

import io
from copy import deepcopy

import pyro
import torch
from pyro import poutine
from torch import nn

from pyrosparse import SparseModel
from pyrosparse.guides import AutoSparse
from pyrosparse.likelihoods import Categorical
from pyrosparse.poutine.parameters import expose, unexposed
from pyrosparse.priors import ARD


def exposed(module: nn.Module, prefix: str = "m") -> dict[str, nn.Parameter]:
    with poutine.trace(param_only=True) as capture:
        expose(prefix, module.named_parameters())
    return {name: node["value"].unconstrained() for name, node in capture.trace.nodes.items()}


def pair() -> tuple[SparseModel, AutoSparse]:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model = SparseModel(network, ARD(1.0, learn=True), Categorical(num_data=5))
    return model, AutoSparse(model)


def test_param_sites_carry_the_parameters_themselves() -> None:
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    found = exposed(module, "guide")
    assert list(found) == ["guide.weight"]
    assert found["guide.weight"] is module.weight


def test_every_trained_parameter_of_a_pair_is_found() -> None:
    model, guide = pair()
    x, y = torch.randn(5, 3), torch.randint(2, (5,))
    with poutine.trace(param_only=True) as capture:
        with poutine.replay(trace=poutine.trace(guide).get_trace(x, y)):
            model(x, y)
    found = {id(node["value"].unconstrained()) for node in capture.trace.nodes.values()}
    wanted = [p for _, p in model.trained_parameters()] + list(guide.parameters())
    assert found == {id(p) for p in wanted}
    assert len(wanted) == 2 + 2 + 4  # biases, learned precisions, means and log variances
    assert all(name.startswith(("model.", "guide.")) for name in capture.trace.nodes)


def test_the_store_stays_empty() -> None:
    model, guide = pair()
    x = torch.randn(5, 3)
    with poutine.trace(param_only=True) as capture:
        guide(x)
        model(x)
    assert capture.trace.nodes
    assert not list(pyro.get_param_store().keys())


def test_unexposed_hides_them() -> None:
    module = nn.Linear(3, 2)
    with unexposed():
        assert exposed(module) == {}
    assert len(exposed(module)) == 2
    expose("m", module.named_parameters())  # without any handler: nothing happens


def test_blocked_parameters_are_not_seen() -> None:
    module = nn.Linear(3, 2)
    with poutine.trace(param_only=True) as capture, poutine.block(hide_types=["param"]):
        expose("m", module.named_parameters())
    assert not capture.trace.nodes


def test_exposed_modules_are_copied_and_saved() -> None:
    model, guide = pair()
    x, y = torch.randn(5, 3), torch.randint(2, (5,))
    with poutine.trace(param_only=True):
        guide(x)
        model(x, y)
    copied = deepcopy(guide)
    assert exposed(copied)["m._families.0/weight.loc"] is dict(copied.named_parameters())["_families.0/weight.loc"]
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "guide": guide.state_dict()}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    guide.load_state_dict(loaded["guide"])
    model.load_state_dict(loaded["model"])
    buffer = io.BytesIO()
    torch.save(guide, buffer)
    buffer.seek(0)
    whole = torch.load(buffer, weights_only=False)
    assert torch.equal(whole.families["0.weight"].loc, guide.families["0.weight"].loc)
    found = exposed(whole)
    assert all(found[f"m.{name}"] is parameter for name, parameter in whole.named_parameters())
