"""Complex batch normalisation against whitening with numpy's matrix square root, and torch's bookkeeping."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

import pyrosparse.nn as psnn
from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_norm import inverse_root


def skewed(*shape: int) -> Tensor:
    """Far from circular: correlated parts of different sizes, and a mean."""
    a, b = torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64)
    return torch.complex(3 * a + 1, a - 0.5 * b - 2)


CASES = {"(N, C)": (psnn.ComplexBatchNorm1d, (40, 3)), "1d": (psnn.ComplexBatchNorm1d, (10, 3, 7)),
         "2d": (psnn.ComplexBatchNorm2d, (10, 3, 4, 5)), "3d": (psnn.ComplexBatchNorm3d, (6, 3, 4, 2, 3))}  # fmt: skip


def pairs(x: Tensor, channel: int) -> np.ndarray:
    """One channel as (values, 2)."""
    return torch.view_as_real(x.detach()).transpose(0, 1)[channel].reshape(-1, 2).numpy()


@pytest.mark.parametrize("case", CASES)
def test_whitens_with_the_matrix_square_root(case: str) -> None:
    kind, shape = CASES[case]
    layer, x = kind(3, dtype=torch.float64), skewed(*shape)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    out = layer(x)
    assert out.shape == x.shape
    for c in range(3):
        values = pairs(x, c)
        covariance = np.cov(values.T, bias=True) + layer.eps * np.eye(2)
        whitened = (values - values.mean(0)) @ np.linalg.inv(scipy.linalg.sqrtm(covariance)).T
        expected = whitened @ layer.weight[c].detach().numpy().T + layer.bias[c].detach().numpy()
        np.testing.assert_allclose(pairs(out, c), expected, rtol=1e-9, atol=1e-9)


def test_output_is_circular_with_unit_power() -> None:
    out = psnn.ComplexBatchNorm2d(3, dtype=torch.float64)(skewed(10, 3, 4, 5))
    for c in range(3):
        np.testing.assert_allclose(np.cov(pairs(out, c).T, bias=True), 0.5 * np.eye(2), atol=1e-4)
        np.testing.assert_allclose(pairs(out, c).mean(0), 0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_moments_follow_torch(momentum: float | None) -> None:
    """The covariance's diagonal is the running variance of the parts, as torch keeps it."""
    layer = psnn.ComplexBatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    twins = [nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64) for _ in range(2)]
    for twin in twins:
        assert twin.running_var is not None
        twin.running_var.fill_(0.5)
    batches = [skewed(10, 3, 4, 5) + i for i in range(3)]
    for x in batches:
        layer(x)
        twins[0](x.real)
        twins[1](x.imag)
    assert layer.num_batches_tracked.item() == 3
    for part, twin in enumerate(twins):
        torch.testing.assert_close(layer.running_mean[:, part], twin.running_mean)
        torch.testing.assert_close(layer.running_covariance[:, part, part], twin.running_var)
    if momentum is None:
        crossed = np.mean([np.cov(pairs(x, 1).T)[0, 1] for x in batches])
        assert layer.running_covariance[1, 0, 1].item() == pytest.approx(crossed)


def test_evaluation_uses_the_running_moments_of_its_own() -> None:
    layer = psnn.ComplexBatchNorm1d(3, momentum=1.0, dtype=torch.float64)
    x = skewed(5000, 3)
    expected = layer(x)
    before = layer.running_mean.clone()
    layer.eval()
    torch.testing.assert_close(layer(x), expected, rtol=1e-3, atol=1e-3)
    one = layer(x[:1])
    torch.testing.assert_close(one, layer(x)[:1])
    assert torch.equal(layer.running_mean, before)


def test_without_running_moments_evaluation_uses_the_batch() -> None:
    layer = psnn.ComplexBatchNorm1d(3, track_running_stats=False, affine=False, dtype=torch.float64)
    x = skewed(50, 3)
    assert not layer.state_dict()
    torch.testing.assert_close(layer(x), layer.eval()(x))
    layer.reset_parameters()


def test_reset() -> None:
    layer = psnn.ComplexBatchNorm1d(3)
    layer(skewed(50, 3).to(torch.complex64))
    layer.reset_parameters()
    fresh = psnn.ComplexBatchNorm1d(3)
    for key, value in fresh.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value)


def test_a_constant_batch_is_finite() -> None:
    layer, x = psnn.ComplexBatchNorm1d(2), torch.full((8, 2), 1 + 1j).requires_grad_()
    out = layer(x)
    out.abs().square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert out.abs().max() < 1e-3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_parts_that_go_together_are_whitened_at_every_scale(slope: float, scale: float) -> None:
    """A real signal times a constant phase: of the smaller eigenvalue single precision keeps nothing."""
    a = scale * torch.randn(256, 1)
    x, weights = torch.complex(a, slope * a), torch.linspace(0, 1, 256)[:, None]
    outputs, gradients = [], []
    for dtype in (torch.complex64, torch.complex128):
        given = x.to(dtype).requires_grad_()
        out = psnn.ComplexBatchNorm1d(1, dtype=dtype)(given)
        (gradient,) = torch.autograd.grad((weights * out.abs().square()).sum(), given)
        outputs.append(out.detach().to(torch.complex128))
        gradients.append(gradient.to(torch.complex128))
    torch.testing.assert_close(*outputs, atol=5e-3, rtol=5e-3)
    difference = (gradients[0] - gradients[1]).abs().max()
    assert difference < 0.02 * gradients[1].abs().max()


def test_parts_of_very_different_sizes_are_whitened_each_by_its_own() -> None:
    covariance = torch.diag(torch.tensor([1e6, 1e-2]))
    torch.testing.assert_close(inverse_root(covariance, 1e-5).diagonal(), torch.tensor([1e-3, (1e-2 + 1e-5) ** -0.5]))


def test_an_empty_batch_passes_and_is_not_remembered() -> None:
    layer = psnn.ComplexBatchNorm2d(3)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    assert layer(torch.empty(0, 3, 4, 4, dtype=torch.complex64)).shape == (0, 3, 4, 4)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_bad_batches_are_refused() -> None:
    layer = psnn.ComplexBatchNorm1d(3)
    with pytest.raises(NetworkError, match=r"more than one value.*\(1, 3\).*eval"):
        layer(skewed(1, 3).to(torch.complex64))
    with pytest.raises(NetworkError, match="2 or 3 axes, and this one has 4"):
        layer(skewed(1, 3, 2, 2).to(torch.complex64))


def test_half_precision_of_products_leaves_it_alone() -> None:
    layer = psnn.ComplexBatchNorm1d(3)
    torch.nn.init.normal_(layer.weight)
    z = torch.randn(8, 3, dtype=torch.complex64)
    with torch.autocast("cpu", torch.bfloat16):
        given = layer(z)
    torch.testing.assert_close(given, layer(z))


def test_the_number_of_features_is_named() -> None:
    with pytest.raises(NetworkError, match=r"has 4 features.*\(8, 3\) has 3 along axis 1"):
        psnn.ComplexBatchNorm1d(4)(torch.randn(8, 3, dtype=torch.complex64))


def test_inverse_root() -> None:
    a = torch.randn(20, 2, 2, dtype=torch.float64)
    v = (a @ a.mT + 0.01 * torch.eye(2)).requires_grad_()
    root = inverse_root(v, 0.1)
    shifted = v + 0.1 * torch.eye(2)
    torch.testing.assert_close(root @ shifted @ root, torch.eye(2, dtype=torch.float64).expand(20, 2, 2))
    assert torch.autograd.gradcheck(lambda m: inverse_root(m @ m.mT, 1.0), (a.requires_grad_(),))


def test_printing() -> None:
    assert repr(psnn.ComplexBatchNorm2d(3, affine=False)) == (
        "ComplexBatchNorm2d(3, eps=1e-05, momentum=0.1, affine=False, track_running_stats=True)"
    )
