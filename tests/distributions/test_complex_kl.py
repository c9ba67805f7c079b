"""KLs of complex weights against the exponential integral, quadrature, Monte Carlo and torch's own gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pyro
import pyro.distributions as pdist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from scipy import integrate, special
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence
from torch.testing import assert_close

from pyrosparse.distributions import (
    ComplexARD,
    ComplexLogUniform,
    ComplexNormal,
    KLForm,
    bounded_relation,
    kl_complex_ard,
    kl_complex_log_uniform,
    kl_complex_log_uniform_sigmoid,
)
from pyrosparse.distributions.complex_modulus import relation_term

ELEMENTWISE = [kl_complex_log_uniform, kl_complex_log_uniform_sigmoid, kl_complex_ard]
PRIORS = [ComplexLogUniform(), ComplexLogUniform(kl="sigmoid"), ComplexLogUniform(1.3), ComplexARD(), ComplexARD(3.0)]
every_prior = pytest.mark.parametrize("prior", PRIORS, ids=repr)
KINDS = pytest.mark.parametrize("tilted", [False, True], ids=["circular", "relation"])
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
GRID = np.linspace(-20, 20, 161)
SHAPE = torch.Size([3, 4])


def exact(log_alpha: np.ndarray) -> np.ndarray:
    """gamma - log_alpha - Ei(-1/alpha), to 40 digits."""
    with mp.workdps(40):
        r = [mp.exp(-mp.mpf(float(x))) for x in log_alpha]
        return np.array([float(mp.euler + mp.log(v) - mp.ei(-v)) for v in r])


def slope(log_alpha: np.ndarray) -> np.ndarray:
    return np.expm1(-np.exp(-log_alpha))


def mean_log_square(mean: complex, variance: float, relation: complex) -> float:
    """E log|w|^2 by quadrature in polar coordinates: the density's own, nothing of the formula under test."""
    rest = 1 - abs(relation) ** 2
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 257)[:-1])  # the trapezoid rule of a periodic function
    reach = abs(mean) + 9 * math.sqrt(variance)

    def ring(modulus: float) -> float:
        d = modulus * circle - mean
        form = (np.abs(d) ** 2 - (np.conj(relation) * d**2).real) / (variance * rest)
        density = np.exp(-form) / (np.pi * variance * math.sqrt(rest))
        return modulus * math.log(modulus**2) * float(density.mean()) * 2 * np.pi

    return float(integrate.quad(ring, 0, reach, epsabs=1e-9, epsrel=1e-9, limit=200)[0])


def posterior(shape: torch.Size, tilted: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Leaves: mean, log variance, and a relation where asked."""
    loc, log_var = torch.randn(*shape, 2, dtype=dtype), torch.randn(shape, dtype=dtype) - 1
    relation = bounded_relation(torch.randn(*shape, 2, dtype=dtype))
    return tuple(t.requires_grad_() for t in (loc, log_var, *([relation] if tilted else [])))


def test_the_oracle_agrees_with_scipy_and_with_the_integral() -> None:
    for x in (-3.0, 0.0, 3.0):
        r = math.exp(-x)
        assert exact(np.array([x]))[0] == pytest.approx(np.euler_gamma + math.log(r) - special.expi(-r), rel=1e-10)
        integral = integrate.quad(lambda t: -math.expm1(-t) / t if t else 1.0, 0, r)[0]
        assert exact(np.array([x]))[0] == pytest.approx(integral, rel=1e-10)


@pytest.mark.parametrize(
    ("dtype", "value_error", "slope_error"), [(torch.float32, 1e-6, 2e-7), (torch.float64, 1e-10, 1e-15)]
)
@DEVICES
def test_exact_kl_and_gradient(device: str, dtype: torch.dtype, value_error: float, slope_error: float) -> None:
    x = torch.tensor(GRID, dtype=dtype, device=device, requires_grad=True)
    kl = kl_complex_log_uniform(x)
    (grad,) = torch.autograd.grad(kl.sum(), x)
    grid = x.detach().double().cpu().numpy()
    reference = exact(grid)
    assert np.max(np.abs(kl.detach().double().cpu().numpy() - reference) / np.maximum(1, reference)) <= value_error
    assert np.max(np.abs(grad.double().cpu().numpy() - slope(grid))) <= slope_error


def test_exact_gradient_keeps_its_relative_accuracy_at_large_alpha() -> None:
    x = torch.linspace(5, 60, 56, requires_grad=True)
    (grad,) = torch.autograd.grad(kl_complex_log_uniform(x).sum(), x)
    reference = torch.from_numpy(slope(x.detach().double().numpy()))
    assert_close(grad.double(), reference, rtol=1e-5, atol=0.0)
    # a mean of 0 keeps its variance's share of the gradient: dKL/dloc = 2 loc / sigma^2
    loc = torch.tensor([[1e-10, -2e-10]], requires_grad=True)
    kl_divergence(ComplexNormal(loc, 0.0), ComplexLogUniform()).sum().backward()
    assert_close(loc.grad, 2 * loc.detach(), rtol=1e-3, atol=0.0)


def test_published_values() -> None:
    x = torch.tensor([-4.0, -1.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([4.5772, 1.5959, 0.7966, 0.3366, 0.0492]).double()
    assert_close(kl_complex_log_uniform(x), expected, rtol=0, atol=5e-5)
    assert (kl_complex_log_uniform_sigmoid(x) - expected).abs().max() < 0.011


def test_approximations_follow_their_formulas_and_their_stated_distance() -> None:
    x = torch.tensor(GRID, requires_grad=True)
    approximate = kl_complex_log_uniform_sigmoid(x)
    published = torch.nn.functional.softplus(-x, threshold=60) + 0.57810 * torch.sigmoid(-1.36526 * x - 1.45926)
    assert_close(approximate, published)
    assert_close(kl_complex_ard(x), torch.log1p(torch.exp(-x)))
    assert (kl_complex_log_uniform(x) - approximate).abs().max() < 0.011
    slopes = [torch.autograd.grad(f(x).sum(), x)[0] for f in (kl_complex_log_uniform, kl_complex_log_uniform_sigmoid)]
    assert (slopes[0] - slopes[1]).abs().max() < 0.017
    assert_close(slopes[1], torch.autograd.grad(published.sum(), x)[0])


@pytest.mark.parametrize("kl", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_monotone_far_out(kl: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x = torch.linspace(-100, 100, 401, dtype=dtype, requires_grad=True)
    value = kl(x)
    (grad,) = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all() and grad.isfinite().all()
    assert (value.diff() <= 1e-6 * value[:-1].clamp(min=1)).all()
    assert (grad <= 0).all() and (value >= 0).all()


@every_prior
@KINDS
def test_finite_at_the_edges_of_the_parameters(prior: pdist.TorchDistribution, tilted: bool) -> None:
    real = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1e-8, 30.0, 1e-8])
    loc = torch.stack([real, -0.5 * real], -1).requires_grad_()
    log_var = torch.tensor([-100.0, 0.0, 60.0, -100.0, 80.0, -100.0, -93.0, -60.0]).requires_grad_()
    leaves = [loc, log_var]
    if tilted:
        leaves.append(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8], [0.0, 0.0]]).repeat(2, 1).requires_grad_())
    kl = kl_divergence(ComplexNormal(*leaves), prior)
    gradients = torch.autograd.grad(kl.sum(), leaves)
    assert kl.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("prior", PRIORS[:4], ids=repr)
def test_finite_with_a_variance_beyond_float32(prior: pdist.TorchDistribution) -> None:
    loc = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1e9]]).requires_grad_()
    log_var = torch.full((3,), 100.0).requires_grad_()
    kl = kl_divergence(ComplexNormal(loc, log_var, validate_args=False), prior)
    gradients = torch.autograd.grad(kl.sum(), (loc, log_var))
    assert kl.isfinite().all() and all(g.isfinite().all() for g in gradients)


@every_prior
@KINDS
def test_gradcheck(prior: pdist.TorchDistribution, tilted: bool) -> None:
    keep = torch.tensor([True, True, True, False])
    weight = torch.tensor([1.0, 2.0, -3.0, 4.0], dtype=torch.float64)

    def weighted(*leaves: Tensor) -> Tensor:
        relation = leaves[2] if tilted else None
        q = ComplexNormal(leaves[0], leaves[1], relation, keep, validate_args=False)
        return kl_divergence(q, prior.expand([4])) * weight

    leaves = posterior(torch.Size([4]), tilted)
    assert torch.autograd.gradcheck(weighted, leaves, rtol=1e-5, atol=1e-7)
    assert torch.autograd.gradcheck(lambda *p: weighted(*p).sum(), leaves)


def test_gradcheck_of_a_learned_precision() -> None:
    for shape in ((), (1,), (4,)):
        tau = torch.full(shape, 1.7, dtype=torch.float64, requires_grad=True)
        keep = torch.tensor([True, False, True, True])
        leaves = posterior(torch.Size([4]), True)
        assert torch.autograd.gradcheck(
            lambda a, b, c, t, keep=keep: kl_divergence(
                ComplexNormal(a, b, c, keep, validate_args=False), ComplexARD(t)
            ),
            (*leaves, tau),
        )


RELATIONS = [0.0, 0.5, -0.9j, 0.6 + 0.7j]
MEANS = [0.0, 0.3, 1.0 - 0.5j, 3j]


@pytest.mark.parametrize("rho", [2.0, 1.0, 3.5])
@pytest.mark.parametrize("relation", RELATIONS)
def test_log_uniform_kl_against_quadrature(rho: float, relation: complex) -> None:
    """KL = -H(q) + rho/2 E log|w|^2, with the constant that puts 0 at mean 0, variance 1, relation 0."""
    variance = 0.7
    for mean in map(complex, MEANS):
        loc, xi = (torch.tensor([z.real, z.imag], dtype=torch.float64) for z in (mean, complex(relation)))
        q = ComplexNormal(loc, math.log(variance), None if relation == 0 else xi)
        entropy = math.log(math.pi * math.e * variance * math.sqrt(1 - abs(relation) ** 2))
        origin = -math.log(math.pi * math.e) - 0.5 * rho * np.euler_gamma
        expected = -entropy + 0.5 * rho * mean_log_square(mean, variance, complex(relation)) - origin
        assert float(kl_divergence(q, ComplexLogUniform(rho))) == pytest.approx(expected, abs=2e-6)


def test_general_rho_is_the_published_formula() -> None:
    loc, log_var = posterior(torch.Size([50]), False)
    square = loc.detach().square().sum(-1)
    log_alpha = log_var.detach() - square.log()
    ei = torch.from_numpy(special.expi(-np.exp(-log_alpha.numpy())))
    for rho in (1.0, 2.0, 2.6):
        published = (0.5 * rho - 1) * square.log() - log_alpha - 0.5 * rho * ei + 0.5 * rho * np.euler_gamma
        got = kl_divergence(ComplexNormal(loc, log_var), ComplexLogUniform(rho)).detach()
        assert_close(got, published, rtol=1e-9, atol=1e-9)


def test_relation_term_against_a_fine_quadrature() -> None:
    """Its integral over s with mpmath, for moduli up to 0.99 and ratios that span the range."""

    def integral(r: float, cosine: float, kappa: float) -> float:
        def integrand(s: mp.mpf) -> mp.mpf:
            a = 1 - kappa * s * s
            return (mp.exp(-r * s) - mp.exp(-s * r * (1 - s * cosine) / a) / mp.sqrt(a)) / s

        near = [x for x in (1 / (1 + r), 5 / (1 + r), 30 / (1 + r)) if x < 0.9]
        return float(mp.quad(integrand, [0, *near, 0.9, 0.99, 1]))

    cases = [(r, k * c, k * k) for k in (0.1, 0.8, 0.99, 0.999) for r in (1e-9, 0.1, 5.0, 1e4) for c in (-1.0, 0.7)]
    reference = torch.tensor([integral(*case) for case in cases], dtype=torch.float64)
    for dtype, error, worst in ((torch.float32, 1e-6, 1e-6), (torch.float64, 1e-12, 2e-11)):
        r, cosine, kappa = torch.tensor(cases, dtype=dtype).T
        got = relation_term(-r.log(), cosine, kappa).double()
        off, near_the_rim = (got - reference).abs(), kappa > 0.99  # noqa: PLR2004 - 0.999 squared is
        assert off[~near_the_rim].max() < error and off[near_the_rim].max() < worst
    # closed form at mean 0
    k = torch.linspace(0, 0.99, 50, dtype=torch.float64)
    zero = torch.zeros_like(k)
    assert_close(relation_term(zero + 100, zero, k * k), torch.log((1 + (1 - k * k).sqrt()) / 2), rtol=0, atol=1e-12)


@KINDS
def test_kl_difference_by_monte_carlo(tilted: bool) -> None:
    # only differences between posteriors mean anything under an improper prior
    n, prior = 200_000, ComplexLogUniform()
    loc = torch.tensor([[1.0, 0.0], [0.8, -0.6], [0.1, 0.0]]).double()
    relation = torch.tensor([[0.9, 0.0], [0.9, 0.0], [0.0, 0.5]]).double() if tilted else None
    q = ComplexNormal(loc, torch.tensor([-3.0, 0.0, 0.0]).double(), relation)
    w = q.sample((n,))
    terms = q.log_prob(w) + w.square().sum(-1).log()
    estimate, error = terms.mean(0), terms.std(0) / math.sqrt(n)
    kl = kl_divergence(q, prior)
    for a, b in ((0, 1), (1, 2)):
        distance = abs(estimate[a] - estimate[b] - (kl[a] - kl[b]))
        assert distance < 4 * (error[a] ** 2 + error[b] ** 2).sqrt()


def as_gaussian(q: ComplexNormal) -> MultivariateNormal:
    xi = torch.zeros_like(q.loc) if q.relation is None else q.relation
    a, b = xi.unbind(-1)
    shape = torch.stack([torch.stack([1 + a, b], -1), torch.stack([b, 1 - a], -1)], -2)
    return MultivariateNormal(q.loc, 0.5 * q.sigma2[..., None, None] * shape)


@KINDS
def test_gaussian_kl_agrees_with_torch(tilted: bool) -> None:
    q = ComplexNormal(*posterior(torch.Size([5]), tilted), validate_args=False)
    tau = torch.tensor(4.0, dtype=torch.float64)
    prior = MultivariateNormal(torch.zeros(2, dtype=torch.float64), 0.5 / tau * torch.eye(2, dtype=torch.float64))
    assert_close(kl_divergence(q, ComplexARD(tau)), kl_divergence(as_gaussian(q), prior))
    # empirical Bayes is the best precision
    best = 1 / (q.loc.square().sum(-1) + q.sigma2).detach()
    kl = kl_divergence(q, ComplexARD())
    assert_close(kl, kl_divergence(q, ComplexARD(best)))
    for factor in (0.9, 1.1):
        assert (kl_divergence(q, ComplexARD(best * factor)) > kl).all()


@pytest.mark.parametrize("tilted_prior", [False, True])
@KINDS
def test_kl_of_two_complex_gaussians_agrees_with_torch(tilted: bool, tilted_prior: bool) -> None:
    q = ComplexNormal(*posterior(torch.Size([5]), tilted), validate_args=False)
    p = ComplexNormal(*posterior(torch.Size([5]), tilted_prior), validate_args=False)
    assert_close(kl_divergence(q, p), kl_divergence(as_gaussian(q), as_gaussian(p)))
    assert_close(kl_divergence(q, q), torch.zeros(5, dtype=torch.float64))
    cut = ComplexNormal(q.loc, q.log_var, q.relation, torch.zeros(5, dtype=torch.bool), validate_args=False)
    assert not kl_divergence(cut, p).any()


@every_prior
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_leads_back_from_the_rim(prior: pdist.TorchDistribution, dtype: torch.dtype) -> None:
    if isinstance(prior, ComplexARD) and prior.precision is not None:
        prior = ComplexARD(prior.precision.to(dtype))
    loc, log_var = torch.tensor([1.0, 0.3], dtype=dtype), torch.zeros((), dtype=dtype)
    rim = torch.tensor([0.6, -0.8], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(kl_divergence(ComplexNormal(loc, log_var, rim), prior), rim)
    assert float(gradient @ rim.detach()) > 1e5
    for size in (1e2, 1e3, 1e4):
        pair = torch.tensor([0.6 * size, -0.8 * size], dtype=dtype, requires_grad=True)
        kl = kl_divergence(ComplexNormal(loc, log_var, bounded_relation(pair)), prior)
        (gradient,) = torch.autograd.grad(kl, pair)
        assert float(gradient @ pair.detach()) > 0


def test_a_relation_of_zero_is_the_circular_posterior() -> None:
    loc, log_var = posterior(torch.Size([6]), False)
    zero = torch.zeros_like(loc)
    for prior in PRIORS:
        assert_close(
            kl_divergence(ComplexNormal(loc, log_var, zero), prior), kl_divergence(ComplexNormal(loc, log_var), prior)
        )


@every_prior
def test_turning_the_plane_changes_nothing(prior: pdist.TorchDistribution) -> None:
    leaves = posterior(torch.Size([6]), True)
    turn = torch.polar(torch.ones((), dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64))
    loc = torch.view_as_real(torch.view_as_complex(leaves[0].detach()) * turn)
    relation = torch.view_as_real(torch.view_as_complex(leaves[2].detach()) * turn**2)
    q, p = ComplexNormal(*leaves, validate_args=False), ComplexNormal(loc, leaves[1], relation, validate_args=False)
    assert_close(kl_divergence(p, prior), kl_divergence(q, prior), rtol=1e-7, atol=1e-9)


@KINDS
def test_pieces_agree_with_the_whole(tilted: bool) -> None:
    n = 150_001
    leaves = posterior(torch.Size([n]), tilted, torch.float32)
    keep, weight = torch.rand(n) > 0.3, torch.randn(n)
    relation = leaves[2] if tilted else None
    kl = kl_divergence(ComplexNormal(leaves[0], leaves[1], relation, keep, validate_args=False), ComplexLogUniform())
    gradients = torch.autograd.grad((kl * weight).sum(), leaves)
    some = torch.randperm(n)[:500]
    few = tuple(t.detach()[some].double().requires_grad_() for t in leaves)
    small = ComplexNormal(few[0], few[1], few[2] if tilted else None, keep[some], validate_args=False)
    expected = kl_divergence(small, ComplexLogUniform())
    assert_close(kl.detach()[some].double(), expected, rtol=1e-4, atol=1e-4)
    theirs = torch.autograd.grad((expected * weight[some]).sum(), few)
    for ours, exact_one in zip(gradients, theirs, strict=True):
        assert_close(ours[some].double(), exact_one, rtol=1e-3, atol=1e-4)


@every_prior
@KINDS
def test_layout_and_shape_do_not_matter(prior: pdist.TorchDistribution, tilted: bool) -> None:
    loc, log_var = torch.randn(2, 5, 3, 2).permute(3, 2, 1, 0), torch.randn(2, 1, 5).expand(2, 3, 5)
    relation = 0.6 * torch.rand(5, 2).expand(2, 3, 5, 2) if tilted else None
    flat_relation = None if relation is None else relation.reshape(-1, 2)
    got = kl_divergence(ComplexNormal(loc, log_var, relation), prior.expand([2, 3, 5]))
    flat = kl_divergence(
        ComplexNormal(loc.reshape(-1, 2), log_var.reshape(-1).contiguous(), flat_relation), prior.expand([30])
    )
    assert got.shape == (2, 3, 5)
    assert_close(got.reshape(-1), flat)
    big = kl_divergence(ComplexNormal(loc, log_var, relation), prior.expand([4, 2, 3, 5]))
    assert_close(big, got.expand(4, 2, 3, 5))
    xi = torch.zeros(2) if tilted else None
    assert kl_divergence(ComplexNormal(torch.ones(2), torch.ones(()), xi), prior).shape == ()
    xi = torch.zeros(0, 2) if tilted else None
    assert kl_divergence(ComplexNormal(torch.ones(0, 2), torch.ones(0), xi), prior.expand([0])).shape == (0,)


@every_prior
@KINDS
def test_inputs_are_left_alone_and_the_gradient_can_be_taken_twice(
    prior: pdist.TorchDistribution, tilted: bool
) -> None:
    leaves = posterior(torch.Size([6]), tilted)
    before = [t.detach().clone() for t in leaves]
    q = ComplexNormal(leaves[0], leaves[1], leaves[2] if tilted else None, torch.arange(6) > 1, validate_args=False)
    sigma2 = q.sigma2.detach().clone()
    kl = kl_divergence(q, prior).sum()
    first = torch.autograd.grad(kl, leaves, retain_graph=True)
    assert_close(first, torch.autograd.grad(kl, leaves), rtol=0, atol=0)
    assert_close([t.detach() for t in leaves] + [q.sigma2.detach()], [*before, sigma2], rtol=0, atol=0)


@KINDS
def test_a_cut_weight_has_no_kl_and_no_gradient(tilted: bool) -> None:
    for prior in PRIORS:
        leaves = posterior(torch.Size([2]), tilted)
        q = ComplexNormal(*leaves[:2], leaves[2] if tilted else None, torch.tensor([False, True]), validate_args=False)
        kl = kl_divergence(q, prior)
        gradients = torch.autograd.grad(kl.sum(), leaves)
        assert kl[0] == 0 and kl[1] != 0
        assert all(not g[0].any() and g[1].any() for g in gradients)


def test_forms_are_chosen_by_name_or_enum() -> None:
    q = ComplexNormal(torch.ones(3, 2), torch.zeros(3))
    expected = kl_complex_log_uniform_sigmoid(q.log_alpha)
    assert_close(kl_divergence(q, ComplexLogUniform(kl=KLForm.SIGMOID)), expected)
    assert_close(kl_divergence(q, ComplexLogUniform(kl="sigmoid")), expected)
    assert_close(kl_divergence(q, ComplexLogUniform().expand([3])), kl_complex_log_uniform(q.log_alpha))
    copy = ComplexLogUniform(1.5, kl="sigmoid").expand([2])
    assert (copy.kl, copy.rho) == (KLForm.SIGMOID, 1.5)


@every_prior
@KINDS
def test_mean_field_elbo_takes_the_registered_kl(prior: pdist.TorchDistribution, tilted: bool) -> None:
    leaves = posterior(SHAPE, tilted, torch.float32)

    def posterior_of_weights() -> ComplexNormal:
        return ComplexNormal(leaves[0], leaves[1], leaves[2] if tilted else None, validate_args=False)

    def model() -> None:
        pyro.sample("w", prior.expand(SHAPE).to_event(2))

    def guide() -> None:
        pyro.sample("w", posterior_of_weights().to_event(2))

    elbo = TraceMeanField_ELBO()
    loss = elbo.differentiable_loss(model, guide)
    expected = kl_divergence(posterior_of_weights(), prior).sum()
    assert_close(loss, expected)  # a Monte Carlo estimate differs from draw to draw
    assert_close(elbo.differentiable_loss(model, guide), loss, rtol=0, atol=0)
    assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


def test_stock_svi_finds_a_conjugate_posterior() -> None:
    """One complex weight, y = w x + noise, w ~ CN(0, 1): the posterior is CN(Σ x̄y/(s² + Σ|x|²), s²/(s² + Σ|x|²))."""
    x, noise = torch.randn(30, dtype=torch.complex64), 0.8
    y = (0.7 - 0.4j) * x + noise * torch.randn(30, dtype=torch.complex64)

    def model() -> None:
        w = torch.view_as_complex(pyro.sample("w", ComplexARD(1.0)))
        error = torch.view_as_real(w * x)
        pyro.sample("y", pdist.Normal(error, noise / 2**0.5).to_event(2), obs=torch.view_as_real(y))

    def guide() -> None:
        loc, log_var = pyro.param("loc", torch.zeros(2)), pyro.param("log_var", torch.tensor(-1.0))
        pyro.sample("w", ComplexNormal(loc, log_var))

    for elbo in (TraceMeanField_ELBO(num_particles=2), Trace_ELBO(num_particles=4)):
        pyro.clear_param_store()
        svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.985}), elbo)
        for _ in range(300):
            svi.step()
        total = noise**2 + float(x.abs().square().sum())
        mean = torch.view_as_complex(pyro.param("loc").detach())
        assert abs(complex(mean - (x.conj() * y).sum() / total)) < 0.02
        assert float(pyro.param("log_var").detach().exp()) == pytest.approx(noise**2 / total, rel=0.15)


@CUDA
@every_prior
@KINDS
def test_cuda_agrees_with_the_cpu(prior: pdist.TorchDistribution, tilted: bool) -> None:
    start = posterior(torch.Size([1000]), tilted, torch.float32)
    keep, results = torch.rand(1000) > 0.2, []
    for device in ("cpu", "cuda"):
        leaves = [t.detach().to(device).requires_grad_() for t in start]
        p = prior
        if isinstance(prior, ComplexARD) and prior.precision is not None:
            p = ComplexARD(prior.precision.to(device))
        q = ComplexNormal(*leaves[:2], leaves[2] if tilted else None, keep.to(device), validate_args=False)
        kl = kl_divergence(q, p)
        results.append((kl.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(kl.sum(), leaves))))
    assert_close(*results, rtol=1e-5, atol=1e-5)
