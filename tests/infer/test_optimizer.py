"""One Adam with a rate for each kind of parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrosparse.infer.optimizer import adam, scale_learning_rates


def named() -> list[tuple[str, nn.Parameter]]:
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    return [
        ("guide.fc1.loc", nn.Parameter(torch.ones(2))),
        ("guide.fc1.log_var", nn.Parameter(torch.ones(2))),
        ("model.fc1.bias", nn.Parameter(torch.ones(2))),
        ("model.fc1.weight", frozen),
    ]


def test_groups_and_rates() -> None:
    parameters = dict(named())
    optimizer = adam(parameters.items(), lr=0.1, lr_log_var=0.5)
    first, second = optimizer.param_groups
    assert [id(p) for p in first["params"]] == [id(parameters["guide.fc1.loc"]), id(parameters["model.fc1.bias"])]
    assert [id(p) for p in second["params"]] == [id(parameters["guide.fc1.log_var"])]
    assert (first["lr"], second["lr"]) == (0.1, 0.5)
    assert first["fused"]
    assert [g["lr"] for g in adam(named(), lr=0.1).param_groups] == [0.1, 0.1]


def test_without_log_variances_there_is_one_group() -> None:
    assert len(adam([("w", nn.Parameter(torch.ones(2)))], lr=0.1).param_groups) == 1


def test_complex_parameters_are_not_fused() -> None:
    optimizer = adam([("w", nn.Parameter(torch.ones(2, dtype=torch.complex64)))], lr=0.1)
    assert not optimizer.param_groups[0]["fused"]


def test_rates_are_scaled_from_where_they_began() -> None:
    optimizer = adam(named(), lr=0.1, lr_log_var=0.5)
    for factor in (0.5, 0.25, 1.0):
        scale_learning_rates(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.1 * factor, 0.5 * factor])
    plain = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    scale_learning_rates(plain, 0.5)
    scale_learning_rates(plain, 0.5)
    assert plain.param_groups[0]["lr"] == 1.0


def test_is_adam() -> None:
    ours, theirs = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    pairs = [(ours, adam([("w", ours)], lr=0.1)), (theirs, torch.optim.Adam([theirs], lr=0.1, fused=False))]
    for p, optimizer in pairs:
        for step in range(5):
            optimizer.zero_grad()
            (p * torch.arange(3.0) * (step + 1)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
