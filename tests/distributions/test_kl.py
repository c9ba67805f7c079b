"""KLs against quadrature, Dawson's function, Monte Carlo and torch's own gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pyro.distributions as pdist
import pytest
import torch
from scipy import integrate, special
from torch import Tensor
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import (
    ARDNormal,
    DropoutNormal,
    KLForm,
    LogUniform,
    kl_ard,
    kl_log_uniform,
    kl_log_uniform_sigmoid,
)
from pyrosparse.errors import PriorError

ELEMENTWISE = [kl_log_uniform, kl_log_uniform_sigmoid, kl_ard]
PRIORS = [LogUniform(), LogUniform(kl="sigmoid"), ARDNormal(), ARDNormal(3.0)]
GRID = np.linspace(-20, 20, 161)


def exact(log_alpha: np.ndarray) -> np.ndarray:
    """2 * integral_0^u F as u^2 2F2(1, 1; 3/2, 2; -u^2), to 30 digits."""
    with mp.workdps(30):
        t = [mp.exp(-mp.mpf(float(x))) / 2 for x in log_alpha]
        return np.array([float(v * mp.hyp2f2(1, 1, mp.mpf(3) / 2, 2, -v)) for v in t])


def slope(log_alpha: np.ndarray) -> np.ndarray:
    u = np.sqrt(np.exp(-log_alpha) / 2)
    return -u * special.dawsn(u)


def test_the_oracle_agrees_with_quadrature_of_dawson() -> None:
    for x in (-8.0, -1.0, 0.0, 3.0):
        u = math.sqrt(math.exp(-x) / 2)
        assert exact(np.array([x]))[0] == pytest.approx(2 * integrate.quad(special.dawsn, 0, u)[0], rel=1e-10)


@pytest.mark.parametrize(
    ("dtype", "value_error", "slope_error"), [(torch.float32, 2e-6, 1e-5), (torch.float64, 1e-10, 1e-9)]
)
def test_exact_kl_and_gradient(dtype: torch.dtype, value_error: float, slope_error: float) -> None:
    x = torch.tensor(GRID, dtype=dtype, requires_grad=True)
    kl = kl_log_uniform(x)
    kl.sum().backward()
    assert x.grad is not None
    grid = x.detach().double().numpy()
    reference = exact(grid)
    assert np.max(np.abs(kl.detach().double().numpy() - reference) / np.maximum(1, reference)) <= value_error
    assert np.max(np.abs(x.grad.double().numpy() - slope(grid))) <= slope_error


def test_exact_gradient_keeps_its_relative_accuracy_at_large_alpha() -> None:
    x = torch.linspace(5, 60, 56, requires_grad=True)
    (grad,) = torch.autograd.grad(kl_log_uniform(x).sum(), x)
    reference = torch.from_numpy(slope(x.detach().double().numpy()))
    assert_close(grad.double(), reference, rtol=2e-4, atol=0.0)


def test_published_values() -> None:
    x = torch.tensor([-4.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    assert_close(kl_log_uniform(x), torch.tensor([2.6258, 0.9145, 0.4267, 0.1732, 0.0247]).double(), rtol=0, atol=5e-5)
    assert_close(
        kl_log_uniform_sigmoid(x),
        torch.tensor([2.6342, 0.9139, 0.4312, 0.1780, 0.0254]).double(),
        rtol=0,
        atol=5e-5,
    )


def test_sigmoid_approximation_is_within_its_stated_distance() -> None:
    x = torch.tensor(GRID)
    assert (kl_log_uniform(x) - kl_log_uniform_sigmoid(x)).abs().max() < 0.0094


def test_approximations_follow_their_formulas() -> None:
    x = torch.tensor(GRID)
    published = 0.63576 * torch.sigmoid(-1.87320 - 1.48695 * x) + 0.5 * torch.nn.functional.softplus(-x, threshold=60)
    assert_close(kl_log_uniform_sigmoid(x), published)
    assert_close(kl_ard(x), 0.5 * torch.log1p(torch.exp(-x)))


@pytest.mark.parametrize("kl", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_monotone_far_out(kl: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x = torch.linspace(-100, 100, 401, dtype=dtype, requires_grad=True)
    value = kl(x)
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all() and grad.isfinite().all()
    assert (value.diff() <= 1e-6 * value[:-1].clamp(min=1)).all()
    assert (grad <= 0).all() and (value >= 0).all()


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_finite_at_the_edges_of_the_parameters(prior: pdist.TorchDistribution) -> None:
    loc = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1e-8, 30.0, 1e-8]).requires_grad_()
    log_var = torch.tensor([-100.0, 0.0, 60.0, -100.0, 80.0, -100.0, -93.0, -60.0]).requires_grad_()
    kl = kl_divergence(DropoutNormal(loc, log_var), prior)
    kl.sum().backward()
    assert loc.grad is not None and log_var.grad is not None
    assert kl.isfinite().all() and loc.grad.isfinite().all() and log_var.grad.isfinite().all()


@pytest.mark.parametrize("prior", PRIORS[:3], ids=repr)
def test_finite_with_a_variance_beyond_float32(prior: pdist.TorchDistribution) -> None:
    loc, log_var = torch.tensor([0.0, 1.0, 1e9]).requires_grad_(), torch.full((3,), 100.0).requires_grad_()
    kl = kl_divergence(DropoutNormal(loc, log_var, validate_args=False), prior)
    kl.sum().backward()
    assert loc.grad is not None and log_var.grad is not None
    assert kl.isfinite().all() and loc.grad.isfinite().all() and log_var.grad.isfinite().all()


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_gradcheck(prior: pdist.TorchDistribution) -> None:
    loc = torch.tensor([0.3, -1.0, 0.01, 2.0], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([-1.0, 0.5, -8.0, 3.0], dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([True, True, True, False])
    weight = torch.tensor([1.0, 2.0, -3.0, 4.0], dtype=torch.float64)

    def weighted(loc: Tensor, log_var: Tensor) -> Tensor:
        return kl_divergence(DropoutNormal(loc, log_var, keep), prior.expand([4])) * weight

    assert torch.autograd.gradcheck(weighted, (loc, log_var))
    assert torch.autograd.gradcheck(lambda a, b: weighted(a, b).sum(), (loc, log_var))


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_gradcheck_of_a_learned_precision(shape: tuple[int, ...]) -> None:
    loc = torch.tensor([0.3, -1.0, 0.01, 2.0], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([-1.0, 0.5, -8.0, 3.0], dtype=torch.float64, requires_grad=True)
    tau = torch.full(shape, 1.7, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([True, False, True, True])
    assert torch.autograd.gradcheck(
        lambda a, b, t: kl_divergence(DropoutNormal(a, b, keep), ARDNormal(t)), (loc, log_var, tau)
    )


def test_pieces_agree_with_the_whole() -> None:
    n = 200_001
    loc, log_var = torch.randn(n, requires_grad=True), (torch.randn(n) * 3 - 4).requires_grad_()
    keep, weight = torch.rand(n) > 0.3, torch.randn(n)
    kl = kl_divergence(DropoutNormal(loc, log_var, keep), LogUniform())
    (kl * weight).sum().backward()
    log_alpha = (log_var - torch.log(loc.square() + 1e-16)).detach().double()
    assert_close(kl.double(), kl_log_uniform(log_alpha) * keep, rtol=2e-6, atol=2e-6)
    expected = torch.from_numpy(slope(log_alpha.numpy())) * keep * weight
    assert loc.grad is not None and log_var.grad is not None
    assert_close(log_var.grad.double(), expected, rtol=0, atol=4e-5)
    assert_close(loc.grad.double() * loc.detach(), -2 * expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_layout_and_shape_do_not_matter(prior: pdist.TorchDistribution) -> None:
    loc, log_var = torch.randn(5, 3, 2).transpose(0, 2), torch.randn(2, 1, 5).expand(2, 3, 5)
    got = kl_divergence(DropoutNormal(loc, log_var), prior.expand([2, 3, 5]))
    flat = kl_divergence(DropoutNormal(loc.reshape(-1), log_var.reshape(-1).contiguous()), prior.expand([30]))
    assert got.shape == (2, 3, 5)
    assert_close(got.reshape(-1), flat)
    assert kl_divergence(DropoutNormal(loc, log_var), prior.expand([4, 2, 3, 5])).shape == (4, 2, 3, 5)
    assert kl_divergence(DropoutNormal(torch.ones(()), torch.ones(())), prior).shape == ()
    assert kl_divergence(DropoutNormal(torch.ones(0), torch.ones(0)), prior.expand([0])).shape == (0,)


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_inputs_are_left_alone_and_the_gradient_can_be_taken_twice(prior: pdist.TorchDistribution) -> None:
    loc, log_var = torch.randn(6, requires_grad=True), torch.randn(6, requires_grad=True)
    before = loc.detach().clone(), log_var.detach().clone()
    q = DropoutNormal(loc, log_var, torch.arange(6) > 1)
    sigma2 = q.sigma2.detach().clone()
    kl = kl_divergence(q, prior).sum()
    first = torch.autograd.grad(kl, (loc, log_var), retain_graph=True)
    second = torch.autograd.grad(kl, (loc, log_var))
    assert_close(first, second, rtol=0, atol=0)
    assert_close((loc.detach(), log_var.detach(), q.sigma2.detach()), (*before, sigma2), rtol=0, atol=0)


def test_a_cut_weight_has_no_kl_and_no_gradient() -> None:
    for prior in [*PRIORS, pdist.Normal(0.0, 1.0)]:
        loc, log_var = torch.ones(2, requires_grad=True), torch.zeros(2, requires_grad=True)
        kl = kl_divergence(DropoutNormal(loc, log_var, torch.tensor([False, True])), prior)
        kl.sum().backward()
        assert loc.grad is not None and log_var.grad is not None
        assert kl[0] == 0 and loc.grad[0] == 0 and log_var.grad[0] == 0
        assert kl[1] != 0 and loc.grad[1] != 0


def test_gaussian_kls_agree_with_torch() -> None:
    loc, log_var = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    q, normal = DropoutNormal(loc, log_var), pdist.Normal(loc, torch.exp(0.5 * log_var))
    wide = pdist.Normal(torch.zeros(5, dtype=torch.float64), torch.tensor(0.25, dtype=torch.float64).sqrt())
    expected = kl_divergence(normal, wide)
    assert_close(kl_divergence(q, ARDNormal(4.0, dtype=torch.float64)), expected)
    assert_close(kl_divergence(normal, ARDNormal(4.0, dtype=torch.float64)), expected)
    shifted = pdist.Normal(torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64))
    assert_close(kl_divergence(q, shifted), kl_divergence(normal, shifted))


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_normal_and_dropout_normal_have_one_kl(prior: pdist.TorchDistribution) -> None:
    loc = torch.randn(5, requires_grad=True)
    scale = torch.rand(5).add(0.1).requires_grad_()
    normal = kl_divergence(pdist.Normal(loc, scale), prior)
    assert_close(normal, kl_divergence(DropoutNormal(loc, 2 * scale.log()), prior))
    normal.sum().backward()
    assert scale.grad is not None and scale.grad.isfinite().all()


def test_empirical_bayes_is_the_best_precision() -> None:
    loc, log_var = torch.tensor([0.3, -2.0]).double(), torch.tensor([-1.0, 0.4]).double()
    q = DropoutNormal(loc, log_var)
    best = 1 / (loc.square() + log_var.exp())
    kl = kl_divergence(q, ARDNormal())
    assert_close(kl, kl_divergence(q, ARDNormal(best)))
    for factor in (0.9, 1.1):
        assert (kl_divergence(q, ARDNormal(best * factor)) > kl).all()


def test_kl_difference_by_monte_carlo() -> None:
    # only differences between posteriors mean anything under an improper prior
    prior, n = LogUniform(), 400_000
    q = DropoutNormal(torch.tensor([1.0, 1.0, 0.1]).double(), torch.tensor([-3.0, 0.0, 0.0]).double())
    w = q.sample((n,))
    terms = q.log_prob(w) + w.abs().log()
    estimate, error = terms.mean(0), terms.std(0) / math.sqrt(n)
    for a, b in ((0, 1), (1, 2)):
        exact_difference = kl_divergence(q, prior)[a] - kl_divergence(q, prior)[b]
        assert abs(estimate[a] - estimate[b] - exact_difference) < 4 * (error[a] ** 2 + error[b] ** 2).sqrt()


def test_forms_are_chosen_by_name_or_enum() -> None:
    q = DropoutNormal(torch.ones(3), torch.zeros(3))
    assert_close(kl_divergence(q, LogUniform(kl=KLForm.SIGMOID)), kl_divergence(q, LogUniform(kl="sigmoid")))
    assert_close(kl_divergence(q, LogUniform().expand([3])), kl_log_uniform(q.log_alpha))
    assert LogUniform(kl="sigmoid").expand([2]).kl is KLForm.SIGMOID
    with pytest.raises(PriorError, match="'exact', 'sigmoid'"):
        LogUniform(kl="sigmoids")
    with pytest.raises(PriorError, match="positive"):
        ARDNormal(-1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_cuda_agrees_with_the_cpu(prior: pdist.TorchDistribution) -> None:
    loc, log_var, keep = torch.randn(1000), torch.randn(1000) * 3 - 4, torch.rand(1000) > 0.2
    results = []
    for device in ("cpu", "cuda"):
        a, b = (x.to(device).requires_grad_() for x in (loc, log_var))
        p = prior
        if isinstance(prior, ARDNormal) and prior.precision is not None:
            p = ARDNormal(prior.precision.to(device))
        kl = kl_divergence(DropoutNormal(a, b, keep.to(device)), p)
        kl.sum().backward()
        results.append((kl.detach().cpu(), a.grad.cpu(), b.grad.cpu()))
    assert_close(*results, rtol=1e-5, atol=1e-5)
