from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.errors import PruneError
from pyrosparse.infer.optimizer import adam
from pyrosparse.nn import SelectLinear
from pyrosparse.pruning.masks import masked_network
from pyrosparse.pruning.shrink import Shrinker, cut_to
from tests.pruning.networks import Residual, apart, convnet, mean_network, mlp, ones, pair, random_masks


def optimizer_of(model: ps.SparseModel, guide: guides.AutoSparse) -> torch.optim.Adam:
    return adam([*model.trained_parameters(), *guide.named_parameters()], lr=0.01)


def descend(model: ps.SparseModel, guide: guides.AutoSparse, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """A few steps on the posterior means: no noise, so that two runs can be compared."""
    for step in range(steps):
        torch.manual_seed(step)
        x, y = torch.randn(16, *model.input_shape), torch.randint(0, 3, (16,))
        optimizer.zero_grad()
        weights = {site: family.loc for site, family in guide.families.items()}
        output = torch.func.functional_call(model.network, weights, (x,))
        nn.functional.cross_entropy(output, y).backward()
        optimizer.step()


def kill(model: ps.SparseModel, guide: guides.AutoSparse, masks: dict[str, Tensor], *, loc: bool = False) -> None:
    """Raise the variance of what the masks do not keep; `loc` puts the means to 0 as well."""
    with torch.no_grad():
        for site, family in guide.families.items():
            dead = ~masks[model.sites[site].layer]
            if loc:
                family.loc[dead] = 0.0
            family.log_var[dead] = (family.loc.square() + 1e-16).log()[dead] + 8.0


def dead_units(network: nn.Module) -> dict[str, Tensor]:
    """Masks of mlp(6, 8, 7, 3): two inputs, two units of fc1 and one of fc2 are dead."""
    masks = ones(network)
    masks["fc1"][:, [1, 4]] = False
    masks["fc1"][2] = False  # a constant
    masks["fc2"][:, 5] = False  # not read
    masks["fc3"][:, 0] = False
    return masks


def kept(model: ps.SparseModel) -> dict[str, tuple[list[int], list[int]]]:
    return {layer: (outs.tolist(), ins.tolist()) for layer, (outs, ins) in model.kept.items()}


AFTER = {
    "fc1": ([0, 1, 3, 4, 6, 7], [0, 2, 3, 5]),
    "fc2": ([1, 2, 3, 4, 5, 6], [0, 1, 3, 4, 6, 7]),
    "fc3": ([0, 1, 2], [1, 2, 3, 4, 5, 6]),
}


def test_dead_once_stays_and_dead_twice_goes() -> None:
    network = mlp(6, 8, 7, 3, activation=nn.Sigmoid)
    model, guide = pair(network, dead_units(network), (6,))
    shrinker = Shrinker(model, guide)
    before = mean_network(model, guide)
    assert not shrinker.step()
    assert model.network.fc1.weight.shape == (8, 6)
    assert {k: v.tolist() for k, v in shrinker.dead.items()} == {"input of fc1": [1, 4], "fc1": [2, 5], "fc2": [0]}
    removal = shrinker.step()
    assert len(removal.cuts) == 3
    assert kept(model) == AFTER
    assert [tuple(f.loc.shape) for f in guide.families.values()] == [(6, 4), (6, 6), (3, 6)]
    assert [tuple(model.shape_of(s)) for s in model.sites] == [(6, 4), (6, 6), (3, 6)]
    assert [tuple(s.shape) for s in model.sites.values()] == [(8, 6), (7, 8), (3, 7)]
    assert isinstance(model.network.fc1, SelectLinear)
    assert apart(before, mean_network(model, guide), torch.randn(20, 6)) < 1e-6
    assert not shrinker.step()
    assert not shrinker.step()


def test_unit_that_comes_back_to_life_is_not_cut() -> None:
    network = mlp(6, 8, 3)
    masks = ones(network)
    masks["fc2"][:, 3] = False
    model, guide = pair(network, masks, (6,))
    shrinker = Shrinker(model, guide)
    shrinker.step()
    family = guide.families["fc2.weight"]
    with torch.no_grad():
        family.log_var[:, 3] -= 12.0
    assert not shrinker.step()
    with torch.no_grad():
        family.log_var[:, 3] += 12.0
    assert not shrinker.step(), "dead again, but for the first time in a row"
    assert shrinker.step()
    assert kept(model)["fc1"][0] == [0, 1, 2, 4, 5, 6, 7]


def test_indices_are_the_originals_after_several_cuts() -> None:
    network = mlp(6, 8, 7, 3)
    model, guide = pair(network, dead_units(network), (6,))
    shrinker = Shrinker(model, guide)
    shrinker.step(), shrinker.step()
    masks = ones(model.network)
    masks["fc1"][:, 0] = False  # the original's input 0
    masks["fc2"][:, 2] = False  # the original's unit 3
    kill(model, guide, masks)
    shrinker.step(), shrinker.step()
    assert kept(model)["fc1"] == ([0, 1, 4, 6, 7], [2, 3, 5])
    assert model.network.fc1.index.tolist() == [2, 3, 5]
    assert kept(model)["fc2"] == ([1, 2, 3, 4, 5, 6], [0, 1, 4, 6, 7])


def test_moments_are_cut_along() -> None:
    network = mlp(6, 8, 7, 3, activation=nn.Tanh)
    model, guide = pair(network, dead_units(network), (6,))
    optimizer = optimizer_of(model, guide)
    model(torch.randn(4, 6), torch.zeros(4, dtype=torch.int64))
    loss = Trace_ELBO().differentiable_loss(model, guide, torch.randn(4, 6), torch.zeros(4, dtype=torch.int64))
    loss.backward()
    optimizer.step()
    kill(model, guide, dead_units(network))
    family, bias = guide.families["fc2.weight"], model.network.fc2.bias
    parameters = [family.loc, family.log_var]
    before = {p: {k: v.clone() for k, v in optimizer.state[p].items()} for p in [*parameters, bias]}
    groups = [list(map(id, group["params"])) for group in optimizer.param_groups]
    shrinker = Shrinker(model, guide, optimizer)
    shrinker.step(), shrinker.step()
    outs, ins = model.kept["fc2"]
    assert (len(outs), len(ins)) == (6, 6)
    for parameter in parameters:
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(optimizer.state[parameter][key], before[parameter][key][outs][:, ins])
        assert torch.equal(optimizer.state[parameter]["step"], before[parameter]["step"])
    assert torch.equal(optimizer.state[bias]["exp_avg"], before[bias]["exp_avg"][outs])
    assert [list(map(id, group["params"])) for group in optimizer.param_groups] == groups


def test_training_goes_on_as_if_nothing_had_been_cut() -> None:
    """Dead weights of mean 0 give nothing, so the steps on what stays are those of the whole model."""
    network = mlp(6, 8, 7, 3, activation=nn.Tanh)
    masks = ones(network)
    masks["fc1"][:, [1, 4]] = False
    masks["fc2"][:, 5] = False
    masks["fc3"][:, 0] = False
    model, guide = pair(network, masks, (6,))
    optimizer = optimizer_of(model, guide)
    descend(model, guide, optimizer, 3)
    kill(model, guide, masks, loc=True)
    whole, whole_guide, whole_optimizer = deepcopy((model, guide, optimizer))
    shrinker = Shrinker(model, guide, optimizer)
    shrinker.step(), shrinker.step()
    assert kept(model)["fc1"] == ([0, 1, 2, 3, 4, 6, 7], [0, 2, 3, 5])
    # of the whole model, the dead means are held at 0
    frozen = {site: family.loc != 0 for site, family in whole_guide.families.items()}
    for family in whole_guide.families.values():
        family.loc.register_hook(lambda grad, mask=frozen[family.site]: grad * mask)
    for site, family in whole_guide.families.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            whole_optimizer.state[family.loc][moment] *= frozen[site]
    descend(model, guide, optimizer, 4)
    descend(whole, whole_guide, whole_optimizer, 4)
    for site, family in guide.families.items():
        outs, ins = model.kept[model.sites[site].layer]
        expected = whole_guide.families[site].loc[outs][:, ins]
        assert torch.allclose(family.loc, expected, atol=1e-5)
    assert torch.allclose(model.network.fc1.bias, whole.network.fc1.bias[model.kept["fc1"][0]], atol=1e-5)


@pytest.mark.parametrize(
    "prior", [ps.priors.LogUniform(), ps.priors.ARD(), ps.priors.ARD(2.0), ps.priors.ARD(learn=True)]
)
def test_every_prior_and_a_step_of_the_elbo_after_the_cut(prior: ps.priors.Prior) -> None:
    network = mlp(6, 8, 7, 3, activation=nn.Sigmoid)
    model, guide = pair(network, dead_units(network), (6,), prior=prior)
    optimizer = optimizer_of(model, guide)
    before = mean_network(model, guide)
    shrinker = Shrinker(model, guide, optimizer)
    shrinker.step(), shrinker.step()
    assert apart(before, mean_network(model, guide), torch.randn(20, 6)) < 1e-6
    x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
    loss = ps.SparseELBO().differentiable_loss(model, guide, x, y)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in guide.parameters())


def test_convolutions_and_normalisation() -> None:
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 5, 3),
            norm1=nn.BatchNorm2d(5),
            act1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(5, 6, 2),
            act2=nn.Softplus(),
            flatten=nn.Flatten(),
            norm2=nn.BatchNorm1d(24),
            fc=nn.Linear(24, 3),
        )
    )
    network(torch.randn(20, 1, 8, 8))  # gives the normalisations statistics
    masks = ones(network)
    masks["conv1"][1] = False
    masks["conv2"][:, 3] = False
    masks["conv2"][4] = False
    masks["fc"][:, :4] = False
    model, guide = pair(network, masks, (1, 8, 8))
    optimizer = optimizer_of(model, guide)
    loss = ps.SparseELBO().differentiable_loss(model.train(), guide, torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,)))
    loss.backward()
    optimizer.step()
    kill(model, guide, masks)
    before = mean_network(model, guide)
    biases = {name: p.detach().clone() for name, p in model.network.named_parameters() if name.endswith("bias")}
    shrinker = Shrinker(model, guide, optimizer)
    shrinker.step()
    assert all(torch.equal(model.network.get_parameter(name), value) for name, value in biases.items())
    shrinker.step()
    assert kept(model)["conv1"][0] == [0, 2, 4]
    assert kept(model)["conv2"] == ([1, 2, 3, 5], [0, 2, 4])
    assert len(kept(model)["fc"][1]) == 16
    assert model.network.norm1.num_features == 3
    assert optimizer.state[model.network.norm1.weight]["exp_avg"].shape == (3,)
    assert model.network.norm2.running_mean.shape == (16,)
    assert model.network.training
    assert apart(before, mean_network(model, guide), torch.randn(10, 1, 8, 8)) < 1e-5
    ps.SparseELBO().differentiable_loss(model, guide, torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))).backward()


def test_fixed_masks_are_cut_along() -> None:
    network = mlp(6, 8, 7, 3)
    masks = dead_units(network)
    model, guide = pair(network, None, (6,))
    for site, family in guide.families.items():
        family.freeze(masks[model.sites[site].layer])
    before = mean_network(model, guide)
    shrinker = Shrinker(model, guide)
    shrinker.step(), shrinker.step()
    assert kept(model) == AFTER
    for site, family in guide.families.items():
        outs, ins = model.kept[model.sites[site].layer]
        assert torch.equal(family.frozen, masks[model.sites[site].layer][outs][:, ins])
    assert apart(before, mean_network(model, guide), torch.randn(20, 6)) < 1e-6
    # the whole state still travels
    again_model, again_guide = pair(mlp(6, 8, 7, 3), None, (6,))
    cut_to(again_model, again_guide, model.kept)
    again_guide.load_state_dict(guide.state_dict())
    again_model.load_state_dict(model.state_dict())
    assert apart(before, mean_network(again_model, again_guide), torch.randn(20, 6)) < 1e-6


def test_cut_to_gives_the_shapes_of_a_shrunk_model() -> None:
    network = convnet()
    network(torch.zeros(1, 1, 8, 8))
    model, guide = pair(network, random_masks(network, 0.8), (1, 8, 8))
    shrinker = Shrinker(model, guide)
    shrinker.step(), shrinker.step()
    fresh, fresh_guide = pair(network, None, (1, 8, 8))
    cut_to(fresh, fresh_guide, model.kept)
    assert kept(fresh) == kept(model)
    for one, other in ((model, fresh), (guide, fresh_guide)):
        shapes = {name: value.shape for name, value in one.state_dict().items()}
        assert {name: value.shape for name, value in other.state_dict().items()} == shapes
    fresh.load_state_dict(model.state_dict())
    fresh_guide.load_state_dict(guide.state_dict())
    assert apart(mean_network(model, guide), mean_network(fresh, fresh_guide), torch.randn(5, 1, 8, 8)) == 0.0
    assert fresh.network.fc1.in_features == model.network.fc1.in_features
    # a second time there is nothing to do, and what is gone does not come back
    cut_to(fresh, fresh_guide, model.kept)
    assert kept(fresh) == kept(model)
    whole, _ = pair(network, None, (1, 8, 8))
    with pytest.raises(PruneError, match="has lost units"):
        cut_to(fresh, fresh_guide, whole.kept)


def test_what_was_dead_travels_with_the_state() -> None:
    network = mlp(6, 8, 7, 3)
    model, guide = pair(network, dead_units(network), (6,))
    first = Shrinker(model, guide)
    first.step()
    second = Shrinker(model, guide)
    second.load_state_dict(first.state_dict())
    assert second.step()
    assert kept(model) == AFTER


def test_layer_that_dies_as_a_whole_keeps_one_unit() -> None:
    network = mlp(6, 8, 7, 3, activation=nn.Sigmoid)
    masks = {name: torch.zeros_like(mask) for name, mask in ones(network).items()}
    model, guide = pair(network, masks, (6,))
    before = masked_network(model.network, guide.families, {s: f.keep() for s, f in guide.families.items()})
    shrinker = Shrinker(model, guide)
    shrinker.step(), shrinker.step()
    assert [tuple(f.loc.shape) for f in guide.families.values()] == [(1, 1), (1, 1), (3, 1)]
    after = masked_network(model.network, guide.families, {s: f.keep() for s, f in guide.families.items()})
    assert apart(before, after, torch.randn(20, 6)) < 1e-6


def test_cut_that_would_change_the_outputs_is_not_made() -> None:
    class Scaled(nn.Linear):
        """Looks linear; its constants are not its bias."""

        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2.0

    network = nn.Sequential(OrderedDict(fc1=Scaled(6, 8), act=nn.Sigmoid(), fc2=nn.Linear(8, 3)))
    masks = ones(network)
    masks["fc1"][2] = False
    model, guide = pair(network, masks, (6,))
    before = mean_network(model, guide)
    shrinker = Shrinker(model, guide)
    shrinker.step()
    removal = shrinker.step()
    assert not removal
    assert "changes the outputs" in removal.notes[0]
    assert model.network.fc1.weight.shape == (8, 6)
    assert apart(before, mean_network(model, guide), torch.randn(4, 6)) == 0.0


def test_branches_shrink_together() -> None:
    network = Residual()
    masks = ones(network)
    masks["fc1"][1] = masks["fc2"][1] = False  # a constant, which both readers fold
    masks["fc2"][:, 0] = masks["fc3"][:, 0] = False  # not read
    masks["fc3"][:, 2] = False  # read by one of the two
    model, guide = pair(network, masks, (4,))
    before = mean_network(model, guide)
    shrinker = Shrinker(model, guide)
    assert not shrinker.step()
    assert shrinker.step()
    assert kept(model) == {"fc1": ([2, 3], [0, 1, 2, 3]), "fc2": ([2, 3], [2, 3]), "fc3": ([0, 1], [3])}
    assert [tuple(f.loc.shape) for f in guide.families.values()] == [(2, 4), (2, 2), (2, 1)]
    assert apart(before, mean_network(model, guide), torch.randn(20, 4)) < 1e-6
    fresh, fresh_guide = pair(Residual(), None, (4,))
    cut_to(fresh, fresh_guide, model.kept)
    fresh.load_state_dict(model.state_dict())
    fresh_guide.load_state_dict(guide.state_dict())
    assert apart(mean_network(model, guide), mean_network(fresh, fresh_guide), torch.randn(5, 4)) == 0.0


def test_model_that_has_not_run_is_left_alone() -> None:
    network = mlp(6, 8, 7, 3)
    model, guide = pair(network, dead_units(network), None)
    shrinker = Shrinker(model, guide)
    shrinker.step()
    assert not shrinker.step()


def test_mode_and_generator_are_untouched() -> None:
    network = nn.Sequential(OrderedDict(fc1=nn.Linear(6, 8), act=nn.ReLU(), drop=nn.Dropout(), fc2=nn.Linear(8, 3)))
    masks = ones(network)
    masks["fc1"][2] = False
    masks["fc1"][:, 1] = False
    model, guide = pair(network, masks, (6,))
    model.train()
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    shrinker = Shrinker(model, guide)
    shrinker.step(), shrinker.step()
    assert torch.equal(torch.rand(2), expected)
    assert all(module.training for module in model.network.modules())
    assert isinstance(model.network.fc1, SelectLinear)
