"""Priors of groups: their sites, their groups in every layer, their densities, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import scipy.stats as st
import torch
from pyro import poutine
from torch import Tensor, nn

from pyrosparse import SparseModel
from pyrosparse import distributions as dist
from pyrosparse.errors import PriorError
from pyrosparse.layers import Site, axes
from pyrosparse.likelihoods import Categorical
from pyrosparse.models import mlp
from pyrosparse.priors import ARD, L0, GroupHorseshoe, GroupLogUniform, GroupPrior, Groups, LogUniform, Prior
from pyrosparse.priors.group import horseshoe, scale_name

KINDS: dict[str, type[GroupPrior]] = {
    "GroupLogUniform": GroupLogUniform,
    "GroupHorseshoe": GroupHorseshoe,
    "L0": L0,
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)

LAYERS: dict[str, nn.Module] = {
    "linear": nn.Linear(4, 3),
    "conv1d": nn.Conv1d(4, 3, 2),
    "conv2d": nn.Conv2d(4, 3, 2),
    "conv3d": nn.Conv3d(4, 3, 2),
    "transposed": nn.ConvTranspose2d(4, 3, 2),
    "grouped": nn.Conv2d(4, 6, 2, groups=2),
    "grouped transposed": nn.ConvTranspose1d(4, 6, 2, groups=2),
}


def at(prior: GroupPrior, layer: nn.Module) -> GroupPrior:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    prior.check("layer", layer)
    return prior.at(Site("fc1.weight", "fc1", weight.shape, *axes(layer)), layer)


def sites(prior: GroupPrior, shape: torch.Size, name: str = "fc1.weight") -> dict[str, Any]:
    trace = poutine.trace(prior.sample).get_trace(name, shape)
    return {n: node for n, node in trace.nodes.items() if node["type"] == "sample"}


# layer, groups -> how many groups, along which axis
GROUPS = [
    ("linear", "auto", 4, 1),
    ("linear", "input", 4, 1),
    ("linear", "output", 3, 0),
    ("conv1d", "auto", 3, 0),
    ("conv2d", "auto", 3, 0),
    ("conv2d", "input", 4, 1),
    ("conv3d", "output", 3, 0),
    ("transposed", "auto", 3, 1),
    ("transposed", "input", 4, 0),
    ("grouped", "auto", 6, 0),
    ("grouped transposed", "input", 4, 0),
]


@every_kind
@pytest.mark.parametrize(("layer", "groups", "count", "axis"), GROUPS)
def test_groups_of_a_layer(kind: type[GroupPrior], layer: str, groups: str, count: int, axis: int) -> None:
    module = LAYERS[layer]
    original = kind(groups=groups)  # type: ignore[call-arg]
    prior = at(original, module)
    shape = module.weight.shape  # type: ignore[union-attr]
    assert original.axis is None and prior.axis == axis  # a copy knows its layer
    assert prior.count(shape) == (count,)  # type: ignore[arg-type]
    drawn = sites(prior, shape)  # type: ignore[arg-type]
    names = {"GroupHorseshoe": ["fc1.scale.layer", "fc1.scale.group"]}.get(kind.__name__, ["fc1.scale"])
    assert list(drawn) == [*names, "fc1.weight"]
    last = drawn[names[-1]]["fn"]
    assert last.batch_shape == () and last.event_shape[0] == count
    assert drawn["fc1.weight"]["fn"].event_shape == shape
    assert prior.distribution(shape).event_shape == shape  # type: ignore[arg-type]


def test_auto_is_a_groups_value_and_so_is_its_name() -> None:
    assert GroupLogUniform().groups is Groups.AUTO
    assert GroupLogUniform(groups=Groups.OUTPUT).groups is GroupLogUniform(groups="output").groups


def test_names_of_scales() -> None:
    assert scale_name("fc1.weight") == "fc1.scale"
    assert scale_name("block.0.weight") == "block.0.scale"
    assert scale_name("weight") == "scale"
    assert list(sites(at(GroupLogUniform(), nn.Linear(4, 3)), torch.Size([3, 4]), "weight")) == ["scale", "weight"]


@pytest.mark.parametrize(("layer", "groups", "count", "axis"), GROUPS)
def test_the_weight_is_the_scale_times_the_rest(layer: str, groups: str, count: int, axis: int) -> None:
    module = LAYERS[layer]
    prior = at(GroupLogUniform(groups=groups), module)
    shape = module.weight.shape
    z, w_tilde = torch.rand(count) + 0.5, torch.randn(shape)  # type: ignore[arg-type]
    with poutine.condition(data={"fc1.scale": z, "fc1.weight": w_tilde}):
        w = prior.sample("fc1.weight", shape)  # type: ignore[arg-type]
    for g in range(count):
        torch.testing.assert_close(w.select(axis, g), z[g] * w_tilde.select(axis, g))


def test_a_scale_of_each_weight() -> None:
    prior = at(L0(0.3, groups="weight"), nn.Conv2d(4, 3, 2))
    shape = torch.Size([3, 4, 2, 2])
    assert prior.axis is None and prior.count(shape) == shape
    drawn = sites(prior, shape)
    assert drawn["fc1.scale"]["fn"].event_shape == shape
    torch.testing.assert_close(drawn["fc1.scale"]["fn"].base_dist.penalty, torch.full(shape, 0.3))
    for kind in (GroupLogUniform, GroupHorseshoe):
        with pytest.raises(PriorError, match=rf"{kind.__name__}: groups='weight' is for L0.*LogUniform or priors.ARD"):
            kind(groups="weight")


def test_log_uniform_scales() -> None:
    """p(z) ∝ 1/|z|, and N(0, 1) for the rest."""
    drawn = sites(at(GroupLogUniform(kl="sigmoid"), nn.Linear(4, 3)), torch.Size([3, 4]))
    p = drawn["fc1.scale"]["fn"].base_dist
    assert isinstance(p, dist.LogUniform) and p.kl is dist.KLForm.SIGMOID
    w = torch.randn(3, 4)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(w).sum()
    torch.testing.assert_close(drawn["fc1.weight"]["fn"].log_prob(w), expected)


def test_horseshoe_scales_are_products_of_half_cauchys() -> None:
    """z_g / s ~ C⁺(0, 1) and s ~ C⁺(0, τ0), by draws of the prior against scipy."""
    prior = at(GroupHorseshoe(0.01), nn.Linear(2000, 1))
    with poutine.trace() as trace:
        z = prior.scale("fc1.scale", torch.Size([1, 2000]))
    s = trace.trace.nodes["fc1.scale.layer"]["value"].prod().sqrt()
    assert st.kstest((z / s).numpy(), st.halfcauchy.cdf).pvalue > 1e-4
    layers = torch.stack(
        [poutine.trace(prior.scale).get_trace("s", torch.Size([1, 1])).nodes["s.layer"]["value"] for _ in range(800)]
    )
    assert st.kstest(layers.prod(-1).sqrt().numpy(), st.halfcauchy(scale=0.01).cdf).pvalue > 1e-4


def test_the_scales_of_a_horseshoe_from_its_factors() -> None:
    s, z = torch.rand(2), torch.rand(5, 2)
    torch.testing.assert_close(horseshoe(s, z), (s[0] * s[1] * z[:, 0] * z[:, 1]).sqrt())
    many_s, many_z = torch.rand(5, 2), torch.rand(5, 5, 2)  # as many draws as groups: nothing may be mixed up
    expected = torch.stack([horseshoe(a, b) for a, b in zip(many_s, many_z, strict=True)])
    torch.testing.assert_close(horseshoe(many_s, many_z), expected)


@pytest.mark.parametrize(("groups", "size"), [("input", 3), ("output", 4), ("weight", 1)])
def test_the_price_of_a_gate_is_that_of_its_weights(groups: str, size: int) -> None:
    drawn = sites(at(L0(0.25, groups=groups), nn.Linear(4, 3)), torch.Size([3, 4]))
    assert drawn["fc1.scale"]["fn"].base_dist.penalty.unique().tolist() == [0.25 * size]


def test_slabs() -> None:
    w = torch.randn(3, 4)
    point = at(L0(weight_decay=0.6), nn.Linear(4, 3)).distribution(torch.Size([3, 4]))
    torch.testing.assert_close(point.log_prob(w), -0.3 * w.square().sum())
    normal = at(L0(slab="normal"), nn.Linear(4, 3)).distribution(torch.Size([3, 4]))
    torch.testing.assert_close(normal.log_prob(w), torch.distributions.Normal(0.0, 1.0).log_prob(w).sum())


def test_where_gates_start() -> None:
    """σ(log α) is the share of gates that is open."""
    for rate in (0.2, 0.5, 0.9):
        assert float(torch.sigmoid(torch.tensor(L0(drop_rate=rate).log_alpha))) == pytest.approx(1 - rate)


@every_kind
def test_a_prior_of_the_single_weights(kind: type[GroupPrior]) -> None:
    options = {"slab": "normal"} if kind is L0 else {}
    plain = kind(**options)  # type: ignore[call-arg]
    assert not plain.decides and isinstance(plain.individual, ARD)
    both = at(kind(individual=LogUniform(), **options), nn.Linear(4, 3))  # type: ignore[call-arg]
    assert both.decides
    assert isinstance(sites(both, torch.Size([3, 4]))["fc1.weight"]["fn"].base_dist, dist.LogUniform)


def test_a_learned_precision_under_the_scales_is_the_models() -> None:
    prior = GroupHorseshoe(individual=ARD(learn=True))
    model = SparseModel(mlp((4, 5, 3)), prior, Categorical(num_data=10))
    learned = [n for n, _ in model.trained_parameters() if "log_precision" in n]
    assert len(learned) == 2 and all("individual" in n for n in learned)


@every_kind
def test_priors_move_with_their_model(kind: type[GroupPrior]) -> None:
    prior = at(kind(), nn.Linear(4, 3)).double()
    drawn = sites(prior, torch.Size([3, 4]))
    if kind is not GroupLogUniform:  # whose draws are surrogates in torch's default type
        assert all(node["value"].dtype == torch.float64 for node in drawn.values())
    assert kind().state_dict().keys() <= {"individual.log_precision"}


@every_kind
def test_the_prior_alone_can_be_sampled(kind: type[GroupPrior]) -> None:
    model = SparseModel(mlp((4, 5, 3)), kind(), Categorical(num_data=10))
    trace = poutine.trace(model).get_trace(torch.randn(6, 4))
    assert trace.nodes["obs"]["value"].shape == (6,)
    assert trace.log_prob_sum().isfinite()
    drawn = pyro.infer.Predictive(model, num_samples=3)(torch.randn(6, 4))
    assert drawn["obs"].shape == (3, 6)


class Mine(Prior):
    def distribution(self, shape: torch.Size) -> Any:
        return dist.LogUniform().expand(shape).to_event(len(shape))


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "groups": (GroupLogUniform, {"groups": "inputs"}, "GroupLogUniform: groups='inputs' is unknown.*did you mean 'inp"),
    "groups, none": (L0, {"groups": None}, "L0: groups=None is unknown.*known: auto, input, output, weight"),
    "groups, a list": (L0, {"groups": ["input"]}, "L0: groups=.*is unknown"),
    "individual, a string": (GroupHorseshoe, {"individual": "ARD"}, "individual is a str; give a prior of single"),
    "individual, a group": (GroupHorseshoe, {"individual": L0()}, "individual is a L0; give a prior of single weights"),
    "individual, a class": (GroupLogUniform, {"individual": ARD}, "give a prior of single weights"),
    "form": (GroupLogUniform, {"kl": "exakt"}, "kl='exakt' is unknown.*did you mean 'exact'"),
    "global scale, 0": (GroupHorseshoe, {"global_scale": 0.0}, "global_scale is 0.0; give a number between"),
    "global scale, NaN": (GroupHorseshoe, {"global_scale": math.nan}, "global_scale is nan"),
    "global scale, text": (GroupHorseshoe, {"global_scale": "1e-5"}, "global_scale is '1e-5'"),
    "global scale, too small": (GroupHorseshoe, {"global_scale": 1e-30}, "between 1e-18 and 1e18"),
    "global scale, too large": (GroupHorseshoe, {"global_scale": 1e30}, "between 1e-18 and 1e18"),
    "penalty": (L0, {"penalty": -0.1}, "L0: penalty is -0.1; give a number of at least 0"),
    "penalty, infinite": (L0, {"penalty": math.inf}, "penalty is inf"),
    "penalty, none": (L0, {"penalty": None}, "penalty is None"),
    "decay": (L0, {"weight_decay": -1.0}, "weight_decay is -1.0"),
    "slab": (L0, {"slab": "normals"}, "slab='normals' is unknown; did you mean 'normal'"),
    "drop rate, 0": (L0, {"drop_rate": 0.0}, "drop_rate is 0.0; give a number between 0 and 1"),
    "drop rate, 1": (L0, {"drop_rate": 1.0}, "drop_rate is 1.0"),
    "points and a prior": (L0, {"individual": LogUniform()}, "point weights have no prior but weight decay.*slab='nor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    kind, options, message = REFUSED[name]
    with pytest.raises(PriorError, match=message):
        kind(**options)


@every_kind
def test_layers_that_are_refused(kind: type[GroupPrior]) -> None:
    for layer, groups, instead in (
        ("grouped", "input", "use groups='output'"),
        ("grouped transposed", "output", "use groups='input'"),
        ("grouped transposed", "auto", "use groups='input'"),
    ):
        with pytest.raises(
            PriorError, match=rf"{kind.__name__} on layer 'conv'.*is not an axis of the weight; {instead}"
        ):
            kind(groups=groups).check("conv", LAYERS[layer])  # type: ignore[call-arg]
    whole = nn.Linear(2, 2)
    del whole.weight
    whole.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64), requires_grad=False)
    with pytest.raises(PriorError, match=rf"{kind.__name__} on layer 'fc1'.*real floating-point"):
        kind().check("fc1", whole)


def test_the_individual_prior_is_asked_too() -> None:
    class Choosy(ARD):
        def check(self, layer: str, module: nn.Module) -> None:
            raise PriorError(f"not {layer}")

    with pytest.raises(PriorError, match="not fc1"):
        GroupLogUniform(individual=Choosy()).check("fc1", nn.Linear(2, 2))
