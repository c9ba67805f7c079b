"""Points: a weight without uncertainty of its own."""

from __future__ import annotations

from copy import deepcopy

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyrosparse.guides import PointFamily
from pyrosparse.priors import L0

WEIGHT = torch.tensor([[0.5, -1.0, 0.0], [2.0, 1e-6, 3.0]])
FIRST = torch.tensor([[True, False, True], [True, True, True]])


def family() -> PointFamily:
    return PointFamily("fc1.weight", L0(weight_decay=0.5), WEIGHT.clone())


def test_the_questions() -> None:
    points = family()
    assert torch.equal(points.mean(), WEIGHT) and torch.equal(points.std(), torch.zeros(2, 3))
    assert torch.equal(points.relevance(), torch.full((2, 3), torch.inf))
    assert bool(points.keep(-100.0).all()) and bool((points.presence() == 1).all())
    assert set(points.weight_tensors()) == {"loc"} and points.weight_tensors()["loc"] is points.loc
    assert points.sites == ("fc1.weight",)
    for answer in (points.mean(), points.std(), points.relevance(), points.presence()):
        assert not answer.requires_grad
    torch.testing.assert_close(points.kl(), 0.25 * WEIGHT.square().sum())
    assert torch.equal(points.draws(3, torch.tensor([0, 5])), torch.tensor([[0.5, 3.0]]).expand(3, 2))


def test_answers_are_copies() -> None:
    points = family()
    points.mean().zero_()
    assert torch.equal(points.loc, WEIGHT)


def test_a_mask_is_for_good() -> None:
    points = family()
    points.freeze(FIRST)
    points.freeze(torch.tensor([[True, True, True], [True, True, False]]))
    alive = torch.tensor([[True, False, True], [True, True, False]])
    assert torch.equal(points.mean(), WEIGHT * alive)
    assert torch.equal(points.relevance() == -torch.inf, ~alive)
    assert torch.equal(points.keep(1e9), alive)
    assert set(points.weight_tensors()) == {"loc", "frozen"}
    torch.testing.assert_close(points.kl(), 0.25 * (WEIGHT * alive).square().sum())
    points.kl().backward()
    assert points.loc.grad is not None and bool((points.loc.grad[~alive] == 0).all())
    mask: Tensor = FIRST.clone()
    other = family()
    other.freeze(mask)
    mask.fill_(False)
    assert other.frozen is not None and torch.equal(other.frozen, FIRST)


def test_the_site_gets_the_points_and_their_gradient() -> None:
    points = family()
    trace = poutine.trace(points).get_trace()
    site = trace.nodes["fc1.weight"]
    assert torch.equal(site["value"], WEIGHT) and site["fn"].event_shape == (2, 3)
    site["value"].sum().backward()
    assert points.loc.grad is not None and bool((points.loc.grad == 1).all())
    with pyro.poutine.block():
        assert torch.equal(points(), WEIGHT)


def test_state_with_and_without_a_mask() -> None:
    masked, other = family(), family()
    masked.freeze(FIRST)
    with torch.no_grad():
        masked.loc.mul_(2)
    other.load_state_dict(deepcopy(masked.state_dict()))
    assert other.frozen is not None and torch.equal(other.frozen, FIRST)
    assert torch.equal(other.mean(), 2 * WEIGHT * FIRST)
    other.load_state_dict(family().state_dict())
    assert other.frozen is None and torch.equal(other.mean(), WEIGHT)
