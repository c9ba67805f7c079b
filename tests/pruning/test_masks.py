from __future__ import annotations

import pytest
import torch

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.pruning.masks import keep_masks, masked_network
from tests.pruning.networks import convnet, mlp, ones, pair, random_masks


def test_masks_are_those_of_the_threshold() -> None:
    network = mlp(5, 6, 3)
    masks = random_masks(network)
    masks["fc1"][0, 0] = masks["fc2"][0, 0] = True
    _, guide = pair(network, masks)
    notes: list[str] = []
    found = keep_masks(guide.families, 3.0, notes)
    assert {site: mask.tolist() for site, mask in found.items()} == {
        f"{layer}.weight": mask.tolist() for layer, mask in masks.items()
    }
    assert notes == []


@pytest.mark.parametrize("channels_last", [False, True])
def test_empty_layer_keeps_its_most_relevant_weight_and_says_so(channels_last: bool) -> None:
    network = convnet()
    network(torch.zeros(1, 1, 8, 8))
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    masks = ones(network)
    masks["conv2"][:] = False
    _, guide = pair(network, masks)
    family = guide.families["conv2.weight"]
    notes: list[str] = []
    with pytest.warns(PyrosparseWarning, match=r"conv2\.weight: no weight has log α ≤ 3") as caught:
        found = keep_masks(guide.families, 3.0, notes)
    assert len(caught) == len(notes) == 1
    mask = found["conv2.weight"]
    assert int(mask.sum()) == 1
    assert float(family.relevance()[mask]) == float(family.relevance().max())
    # nobody is told where nobody asks
    assert int(keep_masks(guide.families, 3.0)["conv2.weight"].sum()) == 1


def test_what_the_user_has_frozen_stays_frozen() -> None:
    network = mlp(5, 6, 3)
    network.fc1.bias.requires_grad_(False)
    model, guide = pair(network)
    small = masked_network(model.network, guide.families, keep_masks(guide.families, 3.0))
    assert [name for name, p in small.named_parameters() if not p.requires_grad] == ["fc1.bias"]


def test_masked_network_is_a_copy() -> None:
    network = mlp(5, 6, 3)
    masks = {f"{layer}.weight": mask for layer, mask in random_masks(network).items()}
    model, guide = pair(network)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        guide.families["fc1.weight"].loc.add_(1.0)
    small = masked_network(model.network, guide.families, masks)
    for site, family in guide.families.items():
        assert torch.equal(small.get_parameter(site), torch.where(masks[site], family.loc, 0.0))
    assert torch.equal(small.fc1.bias, model.network.fc1.bias)
    assert small.fc1.bias is not model.network.fc1.bias
    assert not small.training
    assert model.network.training
    assert all(p.requires_grad for p in small.parameters())
    assert not model.network.fc1.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
