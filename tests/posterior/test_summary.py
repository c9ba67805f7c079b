from __future__ import annotations

import json
import math
from collections import OrderedDict

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.distributions import DropoutNormal, LogUniform
from pyrosparse.pruning.shrink import cut_to


@pytest.fixture
def pair() -> tuple[ps.SparseModel, guides.AutoSparse]:
    network = nn.Sequential(OrderedDict(fc1=nn.Linear(7, 11), act=nn.ReLU(), fc2=nn.Linear(11, 3)))
    model = ps.SparseModel(network, ps.priors.ARD(), ps.likelihoods.Categorical(num_data=10))
    guide = guides.AutoSparse(model)
    model.input_shape = torch.Size([7])
    with torch.no_grad():
        for family in guide.families.values():
            family.log_var.uniform_(-10.0, 6.0)
    return model, guide


def log_alpha(family: guides.Family) -> np.ndarray:
    mu, log_var = family.loc.detach().double().numpy(), family.log_var.detach().double().numpy()
    return log_var - np.log(mu**2 + 1e-16)


@pytest.mark.parametrize("threshold", [3.0, -2.0])
def test_against_numpy(pair: tuple[ps.SparseModel, guides.AutoSparse], threshold: float) -> None:
    summary = ps.summarize(*pair, threshold=threshold)
    assert summary.threshold == threshold
    for row, (site, family) in zip(summary.rows, pair[1].families.items(), strict=True):
        alpha = log_alpha(family)
        assert (row.site, row.shape, row.total) == (site, alpha.shape, alpha.size)
        assert row.kept == int((alpha <= threshold).sum())
        assert row.density == row.kept / row.total
        expected = np.quantile(alpha, [0.05, 0.5, 0.95], method="closest_observation")
        ordered = np.sort(alpha.ravel())
        for value, quantile in zip(
            (row.log_alpha_low, row.log_alpha_median, row.log_alpha_high), expected, strict=True
        ):
            place, other = np.searchsorted(ordered, [value - 1e-4, quantile - 1e-9])
            assert abs(place - other) <= 1
            assert np.isclose(ordered[place], value, atol=1e-4)
        mu2 = family.loc.detach().double() ** 2
        nats = 0.5 * torch.log1p(mu2 / family.log_var.detach().double().exp()).sum()
        assert row.kl_bits == pytest.approx(float(nats) / math.log(2.0), rel=1e-5)
    assert summary.kept == sum(row.kept for row in summary.rows)
    assert summary.total == 7 * 11 + 11 * 3
    assert summary.kl_bits == pytest.approx(sum(row.kl_bits for row in summary.rows))


def test_after_live_shrinking_totals_are_the_originals(pair: tuple[ps.SparseModel, guides.AutoSparse]) -> None:
    model, guide = pair
    kept = {
        "fc1": (torch.tensor([0, 4, 9]), torch.tensor([1, 2])),
        "fc2": (torch.arange(3), torch.tensor([0, 4, 9])),
    }
    cut_to(model, guide, kept)
    first, second = ps.summarize(model, guide, threshold=1e9).rows
    assert (first.shape, first.total, first.kept) == ((11, 7), 77, 6)
    assert (second.shape, second.total, second.kept) == ((3, 11), 33, 9)
    assert first.log_alpha_low == pytest.approx(log_alpha(guide.families["fc1.weight"]).min(), abs=1e-4)


def test_masked_weights_do_not_count(pair: tuple[ps.SparseModel, guides.AutoSparse]) -> None:
    _, guide = pair
    family = guide.families["fc2.weight"]
    keep = torch.rand(3, 11) < 0.5
    family.freeze(keep)
    _, row = ps.summarize(*pair, threshold=1e9).rows
    assert row.kept == int(keep.sum())
    left = log_alpha(family)[keep.numpy()]
    assert np.abs(left - row.log_alpha_median).min() < 1e-4
    assert row.log_alpha_high <= left.max() + 1e-4
    family.freeze(torch.zeros(3, 11, dtype=torch.bool))
    _, row = ps.summarize(*pair).rows
    assert (row.kept, row.kl_bits) == (0, 0.0)
    assert math.isnan(row.log_alpha_median)
    assert (
        json.loads(json.dumps(ps.summarize(*pair).to_dict(), allow_nan=False))["sites"][1]["log_alpha_median"] is None
    )


def test_printing_lines_up(pair: tuple[ps.SparseModel, guides.AutoSparse]) -> None:
    lines = str(ps.summarize(*pair)).splitlines()
    assert lines[0].split() == [
        "site",
        "shape",
        "kept",
        "density",
        "log",
        "α",
        "5",
        "%",
        "median",
        "95",
        "%",
        "KL",
        "bits",
    ]
    ends = [i for i, sign in enumerate(lines[1] + " ") if sign == " " and lines[1][i - 1] == "─"]
    for line in (lines[0], *lines[2:4]):
        for end in ends[1:]:
            assert line[end - 1] != " "
            assert line[end : end + 2] in ("", "  ")
    assert lines[2].split()[:2] == ["fc1.weight", "11×7"]
    assert lines[4].startswith("all")
    assert lines[-1] == "kept: log α ≤ 3"


def test_the_table_says_which_statistic_decides() -> None:
    """Each family's own; a column of them where layers differ."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    likelihood = ps.likelihoods.Categorical(num_data=10)
    horseshoe = ps.priors.GroupHorseshoe()
    alike = ps.SparseModel(network, horseshoe, likelihood)
    lines = str(ps.summarize(alike, guides.AutoSparse(alike))).splitlines()
    assert "−log mode 5 %" in lines[0] and lines[-1] == "kept: −log mode ≤ 3"
    over = ps.priors.GroupHorseshoe(individual=ps.priors.LogUniform())
    mixed = ps.SparseModel(network, horseshoe, likelihood, priors={"2": ps.priors.L0(), "0": over})
    guide = guides.AutoSparse(mixed)
    lines = str(ps.summarize(mixed, guide)).splitlines()
    assert "statistic" in lines[0] and lines[-1] == "kept: statistic ≤ 3"
    assert "max(−log mode, log α)" in lines[2] and "3 − log 11α" in lines[3]
    # what the names say is the number that is compared
    gates = guide.families["2.weight"].scale.log_alpha.detach()  # type: ignore[union-attr]
    row = ps.summarize(mixed, guide).rows[1]
    assert row.log_alpha_high == pytest.approx(float((3 - gates - math.log(11)).max()), abs=1e-5)


def test_dictionary_is_json(pair: tuple[ps.SparseModel, guides.AutoSparse]) -> None:
    summary = ps.summarize(*pair)
    told = json.loads(json.dumps(summary.to_dict()))
    assert (told["kept"], told["total"], told["threshold"]) == (summary.kept, summary.total, 3.0)
    assert told["sites"][0]["shape"] == [11, 7]
    assert told["sites"][0]["density"] == summary.rows[0].density


def test_pair_written_by_hand() -> None:
    loc, log_var = torch.ones(2, 3), torch.tensor([[-1.0, 0.0, 1.0], [2.0, 3.5, 9.0]])

    def model(x: Tensor) -> None:
        pyro.sample("w", LogUniform().expand([2, 3]).to_event(2))

    def guide(x: Tensor) -> None:
        pyro.sample("w", DropoutNormal(loc, log_var).to_event(2))

    (row,) = ps.summarize(model, guide, torch.zeros(1)).rows
    assert (row.site, row.shape, row.kept, row.total) == ("w", (2, 3), 4, 6)
    assert (row.log_alpha_low, row.log_alpha_high) == (-1.0, 9.0)
    expected = float(ps.posterior.read(model, guide, torch.zeros(1))["w"].kl()) / math.log(2.0)
    assert row.kl_bits == pytest.approx(expected)
