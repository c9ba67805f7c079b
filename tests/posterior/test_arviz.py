from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path

import matplotlib.figure
import numpy as np
import pyro
import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import guides
from pyrosparse.distributions import DropoutNormal, LogUniform
from pyrosparse.errors import ConfigError, NetworkError
from pyrosparse.posterior import arviz as arviz_module
from pyrosparse.posterior import read
from pyrosparse.posterior.arviz import to_arviz
from pyrosparse.pruning.shrink import cut_to

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    az = pytest.importorskip("arviz")

OLD = int(az.__version__.split(".")[0]) < 1

Pair = tuple[ps.SparseModel, guides.AutoSparse]


def pair_of(network: nn.Module) -> Pair:
    model = ps.SparseModel(network, ps.priors.LogUniform(), ps.likelihoods.Categorical(num_data=100))
    return model, guides.AutoSparse(model, log_var=-4.0)


@pytest.fixture
def pair() -> Pair:
    return pair_of(nn.Sequential(OrderedDict(fc1=nn.Linear(12, 10), relu=nn.ReLU(), fc2=nn.Linear(10, 3))))


def test_a_small_site_has_its_own_axes(pair: Pair) -> None:
    draws = to_arviz(*pair, draws=7).posterior["fc2.weight"]
    assert draws.dims == ("chain", "draw", "fc2.weight_out", "fc2.weight_in")
    assert draws.shape == (1, 7, 3, 10)
    assert draws.attrs["selection"] == "all weights"


def test_of_a_large_site_the_most_relevant_weights_are_drawn_with_their_indices(pair: Pair) -> None:
    tree = to_arviz(*pair, draws=5, max_weights=20)
    draws, data = tree.posterior["fc1.weight"], tree.constant_data
    assert draws.dims == ("chain", "draw", "fc1.weight_at")
    relevance = read(*pair)["fc1.weight"].relevance().numpy()
    rows, columns = data["fc1.weight.at_out"].values, data["fc1.weight.at_in"].values
    chosen = relevance[rows, columns]
    assert np.array_equal(chosen, np.sort(relevance, axis=None)[::-1][:20])
    assert list(draws["fc1.weight_at"].values) == [f"{o}, {i}" for o, i in zip(rows, columns, strict=True)]
    assert draws.attrs["selection"] == "20 of 120 weights, those of the highest relevance"


def test_draws_have_the_moments_of_the_posterior(pair: Pair) -> None:
    number = 20_000
    found = to_arviz(*pair, draws=number, max_weights=120).posterior["fc1.weight"].values[0]
    posterior = read(*pair)["fc1.weight"]
    mean, std = posterior.mean().numpy(), posterior.std().numpy()
    # five standard errors of the mean and of the standard deviation, for 120 weights
    assert np.abs(found.mean(0) - mean).max() < 5 * std.max() / number**0.5
    assert np.abs(found.std(0) / std - 1).max() < 5 / (2 * number) ** 0.5


def test_draws_depend_on_the_seed_and_the_site_alone(pair: Pair) -> None:
    state = torch.get_rng_state()
    both = to_arviz(*pair, draws=4, seed=3, prior=True)
    alone = to_arviz(*pair, draws=4, seed=3, sites=["fc2.weight"], prior=True)
    for group in ("posterior", "prior"):
        assert np.array_equal(both[group]["fc2.weight"].values, alone[group]["fc2.weight"].values)
        assert "fc1.weight" not in alone[group]
    other = to_arviz(*pair, draws=4, seed=4)
    assert not np.array_equal(both.posterior["fc2.weight"].values, other.posterior["fc2.weight"].values)
    assert torch.equal(state, torch.get_rng_state())


def test_summaries_cover_every_weight(pair: Pair) -> None:
    data = to_arviz(*pair, max_weights=4, threshold=0.0).constant_data
    posterior = read(*pair)["fc1.weight"]
    assert data["fc1.weight.log_alpha"].dims == ("fc1.weight_out", "fc1.weight_in")
    assert np.array_equal(data["fc1.weight.log_alpha"].values, -posterior.relevance().numpy())
    assert np.array_equal(data["fc1.weight.kept"].values, posterior.keep(0.0).numpy())
    assert np.array_equal(data["fc1.weight.mean"].values, posterior.mean().numpy())


def test_axes_of_convolutions_have_names() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ConvTranspose2d(2, 3, 2))
    tree = to_arviz(*pair_of(network), draws=2)
    assert tree.posterior["0.weight"].dims[2:] == tuple(f"0.weight_{a}" for a in ("out", "in", "row", "column"))
    assert tree.posterior["2.weight"].dims[2:] == tuple(f"2.weight_{a}" for a in ("in", "out", "row", "column"))
    assert tree.posterior["2.weight"].shape == (1, 2, 2, 3, 2, 2)


def test_a_pair_written_by_hand() -> None:
    loc, log_var = torch.linspace(-1, 1, 4), torch.full((4,), -3.0)

    def model(x: Tensor) -> None:
        w = pyro.sample("w", LogUniform().expand((4,)).to_event(1))
        pyro.sample("y", pyro.distributions.Normal(x @ w, 1.0).to_event(1), obs=torch.zeros(len(x)))

    def guide(x: Tensor) -> None:
        pyro.sample("w", DropoutNormal(loc, log_var).to_event(1))

    tree = to_arviz(model, guide, torch.ones(3, 4), draws=11, prior=True)
    assert tree.posterior["w"].dims == ("chain", "draw", "w_out")
    assert tree.prior["w"].shape == (1, 11, 4)
    assert "surrogate" in tree.prior.attrs["note_prior"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_arviz_reads_it(pair: Pair, tmp_path: Path) -> None:
    tree = to_arviz(*pair, draws=50, max_weights=40)
    summary = az.summary(tree, kind="stats")
    assert len(summary) == 40 + 30
    assert any(name.startswith("fc1.weight[") and ", " in name for name in summary.index)
    if OLD:
        axes = az.plot_forest(tree, var_names=["fc2.weight"], combined=True)
        assert isinstance(axes[0].figure, matplotlib.figure.Figure)
        few = tree.posterior[["fc2.weight"]].isel({"fc2.weight_out": [0], "fc2.weight_in": [0, 1, 2]})
        az.plot_density(az.InferenceData(posterior=few))
        import matplotlib.pyplot as plt

        plt.close("all")
    tree.to_netcdf(str(tmp_path / "posterior.nc"))
    again = az.from_netcdf(str(tmp_path / "posterior.nc"))
    for group in ("posterior", "constant_data"):
        assert set(again[group].data_vars) == set(tree[group].data_vars)
        for name in tree[group].data_vars:
            assert np.array_equal(again[group][name].values, tree[group][name].values)
    assert list(again.posterior["fc1.weight_at"].values) == list(tree.posterior["fc1.weight_at"].values)
    assert again.posterior.attrs["seed"] == 0
    assert "independent" in again.posterior.attrs["note"]


def test_arviz_1_gets_a_data_tree(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    xarray = pytest.importorskip("xarray")
    monkeypatch.setattr(az, "__version__", "1.3.0")
    tree = arviz_module.to_arviz(*pair, draws=3)
    assert isinstance(tree, xarray.DataTree)
    assert set(tree.children) == {"posterior", "constant_data"}
    assert tree["posterior"]["fc2.weight"].shape == (1, 3, 3, 10)
    assert tree.attrs["inference_library"] == "pyrosparse"


@pytest.mark.parametrize("option", [{"draws": 0}, {"max_weights": 0}])
def test_numbers_must_be_positive(pair: Pair, option: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        to_arviz(*pair, **option)


def test_an_unknown_site_is_named_with_the_nearest(pair: Pair) -> None:
    with pytest.raises(NetworkError, match=r"fc3\.weight.*did you mean"):
        to_arviz(*pair, sites=["fc3.weight"])


def test_draws_of_the_prior_leave_the_generator_alone_and_repeat(pair: Pair) -> None:
    before = torch.get_rng_state()
    first = to_arviz(*pair, draws=3, prior=True)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(5)
    again = to_arviz(*pair, draws=3, prior=True)
    assert np.array_equal(first.prior["fc2.weight"].values, again.prior["fc2.weight"].values)


@pytest.mark.parametrize("groups", ["input", "output"])
@pytest.mark.parametrize("cut", [False, True])
def test_draws_of_weights_and_of_their_scales_belong_together(groups: str, cut: bool) -> None:
    """Points behind gates: a weight is its gate times the point, and 0 in the prior exactly where the gate is."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model = ps.SparseModel(network, ps.priors.L0(0.05, groups=groups), ps.likelihoods.Categorical(num_data=100))
    guide = guides.AutoSparse(model)
    left = torch.tensor([0, 2, 5, 7]) if cut else torch.arange(8)
    if cut:
        model.remember(torch.zeros(1, 6))
        cut_to(model, guide, {"0": (left, torch.arange(6)), "2": (torch.arange(3), left)})
    tree = to_arviz(model, guide, draws=200, prior=True)
    axis = 2 if groups == "input" else 1
    z = np.expand_dims(tree.posterior["2.scale"].values[0], 3 - axis)
    points = network[2].weight.detach().numpy()[:, left]
    np.testing.assert_allclose(tree.posterior["2.weight"].values[0][:, :, left], z * points, rtol=1e-5)
    z = np.expand_dims(tree.prior["2.scale"].values[0], 3 - axis)
    w = tree.prior["2.weight"].values[0][:, :, left]
    assert 0.2 < (z == 0).mean() < 0.8
    assert np.array_equal(w == 0, np.broadcast_to(z == 0, w.shape))


def test_the_class_of_a_guide_is_no_guide(pair: Pair) -> None:
    with pytest.raises(ConfigError, match=r"guide is the class AutoSparse: give a guide, such as AutoSparse\(model\)"):
        to_arviz(pair[0], guides.AutoSparse)
