"""The whole stage: networks in, smaller networks with the same outputs or nearly so out."""

from __future__ import annotations

import json
import math
import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

import pyrosparse as ps
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, DataError, NetworkError, PruneError, PyrosparseWarning
from pyrosparse.nn import SelectLinear
from pyrosparse.reconstruction import Chaining, reconstruct
from pyrosparse.reconstruction.moments import input_moments, joint_moments
from pyrosparse.reconstruction.newton import newton
from pyrosparse.reconstruction.problem import Problem
from pyrosparse.reconstruction.sizes import network_bytes
from tests.reconstruction.networks import NETWORKS, Residual, convnet, loader, mlp

CASES = [(name, chaining) for name in NETWORKS for chaining in Chaining]


def error_of(original: nn.Module, small: nn.Module, x: torch.Tensor) -> float:
    """E‖y − ŷ‖² / E‖y − E y‖² of the outputs."""
    with torch.no_grad():
        y, y_hat = original.eval()(x), small.eval()(x)
    return float((y - y_hat).square().sum() / (y - y.mean(0)).square().sum())


@pytest.mark.parametrize(("name", "chaining"), CASES)
def test_every_network_and_chaining(name: str, chaining: Chaining) -> None:
    make, shape = NETWORKS[name]
    network, data = make(), loader(*shape)
    before = deepcopy(network.state_dict())
    small, report = reconstruct(network, data, lam_ratio=0.02, chaining=chaining, refit=True)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert error_of(network, small, data.x) < 0.1
    assert report.difference < 1e-5
    assert report.kib_before == pytest.approx(network_bytes(network) / 1024)
    assert report.kib < report.kib_before
    assert report.kib == pytest.approx(network_bytes(small) / 1024)
    assert any(row.kept < row.inputs for row in report.rows)
    assert all(row.gap <= 1e-6 for row in report.rows)
    again, second = reconstruct(small, data, lam_ratio=0.02, chaining=chaining)  # may be followed by itself
    assert second.kib_before == pytest.approx(report.kib)
    assert again(data.x).shape == network(data.x).shape


@pytest.mark.parametrize("name", NETWORKS)
def test_next_to_no_penalty_changes_nothing(name: str) -> None:
    make, shape = NETWORKS[name]
    network, data = make(), loader(*shape)
    small, report = reconstruct(network, data, lam_ratio=0.0, input_features=False)
    assert error_of(network, small, data.x) < 1e-6
    assert report.error < 1e-6


def test_means_are_kept_exactly() -> None:
    """b' = b + E[Y] − M E[X]: what a layer gives on average stays."""
    network, data = mlp().eval(), loader(20)
    small, _ = reconstruct(network, data, lam_ratio={"fc2": 0.3}, debias=False)
    names = ["fc2"]
    was = joint_moments(network, network, names, data)["fc2"]
    now = joint_moments(small, small, names, data)["fc2"]
    torch.testing.assert_close(now.mean_y, was.mean_y, rtol=1e-5, atol=1e-5)


def test_debiasing_leaves_no_correlation_and_less_error() -> None:
    network, data = mlp().eval(), loader(20)
    goal = {"fc2": 0.2}
    (small, report), (_, shrunk) = (reconstruct(network, data, lam_ratio=goal, debias=d) for d in (True, False))
    assert report["fc2"].kept == shrunk["fc2"].kept < 16
    assert report["fc2"].error < shrunk["fc2"].error
    (moments,) = input_moments(network, ["fc2"], data)["fc2"]
    joint = joint_moments(network, small, ["fc2"], data)["fc2"]
    G = joint.S - small.fc2.weight.double() @ joint.R
    assert G.abs().max() < 1e-6 * moments.R.diagonal().mean()


@pytest.mark.parametrize("chaining", Chaining)
def test_the_reported_error_is_that_of_the_layer(chaining: Chaining) -> None:
    network, data = mlp().eval(), loader(20)
    small, report = reconstruct(network, data, lam_ratio={"fc3": 0.2}, chaining=chaining)
    assert report["fc3"].error == pytest.approx(error_of(network, small, data.x), rel=1e-4)


def test_refitting_helps_layers_behind() -> None:
    network, data = mlp(), loader(20)
    plain, _ = reconstruct(network, data, lam_ratio=0.1)
    refitted, report = reconstruct(network, data, lam_ratio=0.1, refit=True)
    assert error_of(network, refitted, data.x) < error_of(network, plain, data.x)
    assert report["fc3"].error == pytest.approx(error_of(network, refitted, data.x), rel=1e-3)


@pytest.mark.parametrize("name", ["linear", "residual"])
def test_refitting_undoes_a_penalty_that_cost_no_unit(name: str) -> None:
    """Every unit stays and every weight is shrunk: least squares on all inputs is the original."""
    make, shape = NETWORKS[name]
    network, data = make().eval(), loader(*shape)
    options = {"lam_ratio": 1e-3, "debias": False, "input_features": False}
    shrunk, before = reconstruct(network, data, **options)
    assert all(row.kept == row.inputs for row in before.rows)
    assert error_of(network, shrunk, data.x) > 1e-6
    small, report = reconstruct(network, data, **options, refit=True)
    assert error_of(network, small, data.x) < 1e-10
    assert report.error < 1e-10
    assert network_bytes(small) == network_bytes(network)  # no bias that was not there


def test_refitting_looks_behind_a_layer_that_lost_no_unit() -> None:
    """fc2 keeps all and is shrunk, fc3 loses some: both are fitted anew, fc3 to what fc2 gives after that."""
    network, data = mlp().eval(), loader(20)
    options = {"lam_ratio": {"fc2": 1e-4, "fc3": 0.1}, "debias": False}
    small, report = reconstruct(network, data, **options, refit=True)
    assert report["fc2"].kept == 16 and report["fc3"].kept < 12
    debiased, expected = reconstruct(network, data, lam_ratio={"fc3": 0.1})
    assert report["fc3"].kept == expected["fc3"].kept
    torch.testing.assert_close(small(data.x), debiased(data.x), rtol=1e-3, atol=1e-3)


def test_bottom_up_reconstructs_only_what_is_read() -> None:
    """fc3 first; then of fc2 only the rows that fc3 still reads."""
    network, data = mlp().eval(), loader(20)
    small, report = reconstruct(network, data, units={"fc2": 8, "fc3": 5}, chaining="bottom-up")
    moments = input_moments(network, ["fc2", "fc3"], data)
    rows = torch.arange(10)  # all outputs of fc3, then what it reads
    for name in ("fc3", "fc2"):
        joint = moments[name][0].through(network.get_submodule(name))
        rows = rows[rows < len(joint.S)]
        problem = Problem.of(joint.R, joint.S[rows], joint.variance_y[rows].sum())
        kept = newton(problem, report[name].lam).kept
        (M,) = problem.least_squares(kept)
        rows = kept.nonzero().flatten()
        torch.testing.assert_close(small.get_submodule(name).weight, M[:, kept].float(), rtol=1e-4, atol=1e-5)
    assert report["fc2"].kept_outputs == small.fc2.out_features == 5


def test_dead_and_constant_units_go_for_nothing() -> None:
    network, data = mlp(), loader(20)
    network.fc1.weight.data[:5] = 0
    network.fc1.bias.data[:5] = torch.tensor([1.0, -1.0, 2.0, 0.0, 0.5])
    small, report = reconstruct(network, data, lam_ratio={"fc2": 1e-7})
    assert report["fc2"].kept <= 11
    assert error_of(network, small, data.x) < 1e-6


@pytest.mark.parametrize("chaining", ["parallel", "bottom-up"])
def test_what_is_asked_of_the_whole_network(chaining: str) -> None:
    network, data = convnet(), loader(1, 10, 10)
    kib = 0.5 * network_bytes(network) / 1024
    small, report = reconstruct(network, data, kib=kib, chaining=chaining)
    assert 0.8 * kib < report.kib <= kib
    assert report.kib == pytest.approx(network_bytes(small) / 1024)
    ratios = [row.lam_ratio for row in report.rows if row.layer != "conv1"]
    assert max(ratios) == pytest.approx(min(ratios))


def test_what_is_asked_of_each_layer() -> None:
    network, data = mlp(), loader(20)
    _, report = reconstruct(network, data, units={"fc1": 7, "fc2": 5})
    assert (report["fc1"].kept, report["fc2"].kept, report["fc3"].kept) == (7, 5, 12)
    _, report = reconstruct(network, data, units=4)
    assert [row.kept for row in report.rows] == [4, 4, 4]
    _, report = reconstruct(network, data, error=0.03)
    assert all(row.error <= 0.03 for row in report.rows)
    _, tighter = reconstruct(network, data, error=0.001)
    assert tighter.kib > report.kib
    _, report = reconstruct(network, data, kib={"fc2": 0.5})
    assert 4 * (12 * report["fc2"].kept + 12) <= 512 < 4 * (12 * report["fc2"].kept + 24)
    _, report = reconstruct(network, data, lam={"fc2": 1e-1, "fc3": 1e-9})
    assert report["fc2"].lam == 0.1
    assert report["fc3"].kept == 12


def test_input_features() -> None:
    network, data = mlp(), loader(20)
    small, report = reconstruct(network, data, lam_ratio=0.1)
    assert isinstance(small.fc1, SelectLinear)
    assert small.fc1.in_features == report["fc1"].kept < 20
    small, report = reconstruct(network, data, lam_ratio=0.1, input_features=False)
    assert type(small.fc1) is nn.Linear
    assert report["fc1"].kept == 20
    assert "input_features is off" in str(report)


def test_residual_blocks_share_their_channels() -> None:
    network, data = Residual(), loader(2, 6, 6)
    network.eval()
    small, report = reconstruct(network, data, units={"head": 5, "block1.conv2": 3}, refit=True)
    stream = small.stem.out_channels
    assert stream == 5
    for name in ("block1", "block2"):
        block = small.get_submodule(name)
        assert block.conv1.in_channels == block.conv2.out_channels == stream
    assert small.block1.norm1.num_features == small.block1.conv1.out_channels == 3
    assert small.head.in_features == stream
    assert report["block1.conv1"].lam == report["head"].lam > 0


def test_low_rank_after_reconstruction() -> None:
    network, data = mlp(), loader(20)
    plain, before = reconstruct(network, data, lam_ratio=1e-4, refit=True)
    small, after = reconstruct(network, data, lam_ratio=1e-4, refit=True, low_rank=0.05)
    assert after.kib < before.kib
    assert after.kib == pytest.approx(network_bytes(small) / 1024)
    assert after["fc1"].rank == small.fc1[0].out_features < 10
    assert before["fc1"].error < after["fc1"].error < before["fc1"].error + 0.05
    assert error_of(plain, small, data.x) < 0.2


def test_before_and_after_other_stages() -> None:
    network, data = mlp(), loader(20)
    small, _ = reconstruct(network, data, lam_ratio=0.05)
    trained = ps.train(small, data, epochs=1, progress=False)
    again, report = reconstruct(trained, data, lam_ratio=0.05)
    assert report["fc1"].inputs == small.fc1.in_features
    assert again.fc1.original_features == 20


def test_saved_and_loaded(tmp_path: object) -> None:
    network, data = convnet(), loader(1, 10, 10)
    small, report = reconstruct(network, data, lam_ratio=0.05)
    json.dumps(report.to_dict(), allow_nan=False)
    assert str(report).count("\n") >= len(report.rows)
    assert "conv2" in str(report)
    copy = deepcopy(small)
    assert torch.equal(copy(data.x), small(data.x))


def test_what_goes_entirely_is_said() -> None:
    network, data = mlp(), loader(20)
    with pytest.warns(PyrosparseWarning, match="fc1 → fc2: no unit would be left"):
        _, report = reconstruct(network, data, lam_ratio={"fc2": 1.0})
    assert report["fc2"].kept == 1


def test_no_warning_without_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reconstruct(convnet(), loader(1, 10, 10), lam_ratio=0.1, low_rank=0.01)


class Unknown(nn.Module):
    """Softmax over units ties them together."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mix, self.fc2 = nn.Linear(20, 8), nn.Softmax(1), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.mix(self.fc1(x)))


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.fc(x)))


def test_what_cannot_be_reconstructed_is_refused_by_name() -> None:
    data = loader(20)
    for network, match in (
        (Unknown(), r"mix \(Softmax\) cannot be reconstructed through"),
        (Twice(), "fc is used more than once"),
        (nn.Sequential(nn.Linear(20, 3)), None),
        (nn.Sequential(nn.ReLU()), "no parameters"),
        (nn.Sequential(nn.Linear(19, 3)), "cannot be traced"),
        (nn.Sequential(nn.Linear(20, 3, dtype=torch.complex64)), "complex"),
    ):
        if match is None:
            reconstruct(network, data, lam_ratio=0.1)
        else:
            with pytest.raises(NetworkError, match=match):
                reconstruct(network, data, lam_ratio=0.1)
    images = loader(1, 10, 10)
    transposed = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 144, 3))
    with pytest.raises(NetworkError, match=r"0 \(ConvTranspose2d\) cannot be reconstructed"):
        reconstruct(transposed, images, lam_ratio=0.1)
    with pytest.raises(NetworkError, match="no layer has inputs that can go"):
        reconstruct(nn.Sequential(nn.Conv2d(1, 3, 3)), images, lam_ratio=0.1)


def test_grouped_convolutions_keep_their_units() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 8),
        nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    small, report = reconstruct(network, loader(1, 10, 10), lam_ratio=0.3, refit=True)
    assert small[2].in_channels == small[2].out_channels == 4
    assert small[7].in_features < 8
    assert "2 is a grouped convolution" in str(report)


def test_options_that_do_not_go_together() -> None:
    network, data = mlp(), loader(20)
    for options, match in (
        ({}, "exactly one of lam, lam_ratio, units, kib, error"),
        ({"lam": 1.0, "units": 3}, "lam, units given"),
        ({"lam_ratio": 1.5}, "lam_ratio is 1.5"),
        ({"units": 2.5}, "units is 2.5"),
        ({"lam": math.nan}, "lam is nan"),
        ({"units": {"fc9": 3}}, "'fc9'"),
        ({"lam_ratio": 0.1, "chaining": "sideways"}, "no chaining 'sideways'"),
        ({"lam_ratio": 0.1, "solver": "simplex"}, "no solver 'simplex'"),
        ({"lam_ratio": 0.1, "tol": 0.0}, "tol is 0"),
        ({"lam_ratio": 0.1, "low_rank": 1.0}, "error of a factorisation is 1"),
        ({"lam_ratio": {"fc1": 0.1}, "input_features": False}, "'fc1', whose inputs stay"),
    ):
        with pytest.raises(ConfigError, match=match):
            reconstruct(network, data, **options)
    for kib in (0.01, {"fc1": 0.01}):
        with pytest.raises(PruneError, match="out of reach"):
            reconstruct(network, data, kib=kib)
    with pytest.raises(DataError, match="no example"):
        reconstruct(network, [], lam_ratio=0.1)
    with pytest.raises(ConfigError, match="differs between"):
        reconstruct(Residual(), loader(2, 6, 6), units={"head": 3, "block2.conv1": 4})


@pytest.mark.parametrize("solver", ["fista", "descent"])
def test_other_solvers_keep_the_same_units(solver: str) -> None:
    network, data = mlp(), loader(20)
    small, report = reconstruct(network, data, lam_ratio=0.2, solver=solver)
    other, expected = reconstruct(network, data, lam_ratio=0.2)
    assert [row.kept for row in report.rows] == [row.kept for row in expected.rows]
    torch.testing.assert_close(small(data.x), other(data.x), rtol=1e-3, atol=1e-3)


def test_networks_on_float64() -> None:
    data = loader(20)
    data = TensorLoader(data.x.double(), data.y, 64)
    small, _ = reconstruct(mlp().double(), data, lam_ratio=0.05)
    assert small.fc2.weight.dtype == torch.float64


def test_selecting_commutes_with_elementwise_maps() -> None:
    """P Cᵀ σ(U) = P σ(Cᵀ U): what bottom-up chaining rests on."""
    U, P = torch.randn(9, 50), torch.randn(4, 3)
    C = torch.eye(9)[:, [1, 4, 8]]
    for sigma in (torch.relu, torch.tanh, torch.sigmoid):
        torch.testing.assert_close(P @ C.T @ sigma(U), P @ sigma(C.T @ U))


def test_a_problem_is_in_the_layers_own_units() -> None:
    network, data = mlp().eval(), loader(20)
    (moments,) = input_moments(network, ["fc2"], data)["fc2"]
    joint = moments.through(network.fc2)
    problem = Problem.of(joint.R, joint.S, joint.c)
    _, report = reconstruct(network, data, lam_ratio={"fc2": 0.1})
    assert report["fc2"].lam == pytest.approx(0.1 * problem.lam_max, rel=1e-6)
