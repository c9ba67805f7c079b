"""Undrawn complex weights: linear operations against the moments of explicit draws, all others against one draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import pyrosparse.nn as psnn
from pyrosparse.distributions import ComplexNormal
from pyrosparse.errors import PyrosparseWarning
from pyrosparse.poutine import local_reparam
from pyrosparse.poutine.share import noise_like
from pyrosparse.poutine.undrawn import Undrawn
from pyrosparse.poutine.undrawn_complex import UndrawnComplex, UndrawnPairs, _CircularNoise, _noisy, _SquaredModulus

LAZY, EXPLICIT = 1500, 400  # draws of each kind
SIGMAS = 6.0  # of Monte Carlo error; some 500 numbers a case, so 6 is passed by chance once in 1e6 runs

KINDS = ("circular", "relation")


def posterior(shape: tuple[int, ...], kind: str) -> ComplexNormal:
    """Random parameters; with a relation, some weights near the rim."""
    relation = None
    if kind == "relation":
        angle = 6.3 * torch.rand(shape)
        relation = (0.99 * torch.rand(shape)).sqrt().unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], -1)
    return ComplexNormal(torch.randn(*shape, 2), torch.rand(shape) - 1.0, relation)


def undrawn(q: ComplexNormal, site: str = "w") -> UndrawnPairs:
    with local_reparam():
        value = pyro.sample(site, q.to_event(len(q.batch_shape)))
    assert type(value) is UndrawnPairs
    return value


def explicit(q: ComplexNormal) -> Tensor:
    return torch.view_as_complex(q.sample())


def complex_randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64)


def directions(z: Tensor) -> Tensor:
    """Projections whose means and variances fix mean, variance and relation of a complex number."""
    return torch.stack([z.real, z.imag, z.real + z.imag, z.real - z.imag], -1)


def assert_same_moments(lazy: Tensor, drawn: Tensor) -> None:
    """Mean, variance and relation over the first axis agree, each within SIGMAS Monte Carlo standard errors."""
    n, m = len(lazy), len(drawn)
    lazy, drawn = directions(lazy), directions(drawn)
    variance = drawn.var(0)
    silent = variance < 1e-9  # outputs that no weight reaches: the mean
    assert float(((lazy - drawn[0]) * silent).abs().max()) < 1e-5
    assert not bool(silent.all())
    variance = variance + silent
    error = (variance / n + variance / m).sqrt()
    assert float(((lazy.mean(0) - drawn.mean(0)) / error).abs().max()) < SIGMAS
    # of a Gaussian, the variance of an estimated variance is 2 σ⁴ / (n − 1)
    error = variance * (2 / (n - 1) + 2 / (m - 1)) ** 0.5
    assert float(((lazy.var(0) + silent - variance) / error).abs().max()) < SIGMAS


# name -> (shape of the weight, shape of one example, operation with batch first)
Operation = Callable[..., Tensor]
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Operation]] = {
    "linear": ((4, 3), (3,), lambda w, x, b: F.linear(x, w, b)),
    "linear by keyword": ((4, 3), (3,), lambda w, x, b: F.linear(input=x, weight=w, bias=b)),
    "linear of a sequence": ((2, 3), (4, 3), lambda w, x, b: F.linear(x, w, b)),
    "bilinear": ((4, 3, 3), (3,), lambda w, x, b: F.bilinear(x, x * 1j + 1.0, w, b)),
    "conv1d with everything": ((4, 1, 3), (2, 7), lambda w, x, b: F.conv1d(x, w, b, 2, 1, 2, 2)),
    "conv1d same": ((4, 2, 3), (2, 4), lambda w, x, b: F.conv1d(x, w, b, padding="same")),
    "conv2d": ((3, 2, 2, 2), (2, 3, 3), lambda w, x, b: F.conv2d(x, w, b)),
    "conv2d with everything": (
        (4, 1, 2, 2),
        (2, 5, 5),
        lambda w, x, b: F.conv2d(x, w, b, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    ),
    "conv3d": ((2, 1, 2, 1, 2), (2, 3, 2, 3), lambda w, x, b: F.conv3d(x, w, b, groups=2)),
    "conv_transpose1d with everything": (
        (2, 2, 3),
        (2, 4),
        lambda w, x, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
    ),
    "conv_transpose2d with everything": (
        (2, 1, 2, 2),
        (2, 3, 2),
        lambda w, x, b: F.conv_transpose2d(x, w, b, (2, 1), (1, 0), (1, 0), 2, 1),
    ),
    "conv_transpose3d": ((2, 2, 2, 1, 2), (2, 2, 2, 2), lambda w, x, b: F.conv_transpose3d(x, w, b)),
}
PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Operation]] = {
    "x @ w": ((3, 4), (3,), lambda w, x: x @ w),
    "w @ x": ((4, 3), (3,), lambda w, x: (w @ x.t()).t()),
    "x @ w.t()": ((4, 3), (3,), lambda w, x: x @ w.t()),
    "x @ w.T": ((4, 3), (3,), lambda w, x: x @ w.T),
    "x @ w.mT": ((4, 3), (3,), lambda w, x: x @ w.mT),
    "x @ w.mH": ((4, 3), (3,), lambda w, x: x @ w.mH),
    "x @ w.H": ((4, 3), (3,), lambda w, x: x @ w.H),
    "x @ w.adjoint()": ((4, 3), (3,), lambda w, x: x @ w.adjoint()),
    "linear with w.conj()": ((4, 3), (3,), lambda w, x: F.linear(x, w.conj())),
    "linear with w.conj_physical()": ((4, 3), (3,), lambda w, x: F.linear(x, w.conj_physical().resolve_conj())),
    "linear with w.T": ((3, 4), (3,), lambda w, x: F.linear(x, w.T)),
    "torch.mm(x, w)": ((3, 4), (3,), lambda w, x: torch.mm(x, w)),
    "x.matmul(w)": ((3, 4), (3,), lambda w, x: x.matmul(w)),
    "reflected": ((3, 4), (3,), lambda w, x: w.__rmatmul__(x)),
    "batches of weights": ((2, 3, 4), (2, 2, 3), lambda w, x: x @ w),
    "a vector": ((3,), (2, 3), lambda w, x: x @ w),
}


def outputs_of(case: str, y: Tensor) -> int:
    return y.shape[-1] if "linear" in case else y.shape[1]


@pytest.mark.parametrize("bias_kind", ["parameter", "undrawn"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LAYERS)
def test_layers_have_the_moments_of_explicit_draws(case: str, kind: str, bias_kind: str) -> None:
    shape, example, op = LAYERS[case]
    x, q = complex_randn(2, *example), posterior(shape, kind)
    q_bias = posterior((outputs_of(case, op(explicit(q), x, None)),), kind)

    def bias(lazy: bool) -> Tensor:
        if bias_kind == "parameter":
            return torch.view_as_complex(q_bias.mean)
        return torch.view_as_complex(undrawn(q_bias, "b")) if lazy else explicit(q_bias)

    w = undrawn(q)
    lazy = op(torch.view_as_complex(w), x.repeat(LAZY, *[1] * len(example)), bias(True))
    assert type(lazy) is Tensor and not w.drawn
    drawn = torch.stack([op(explicit(q), x, bias(False)) for _ in range(EXPLICIT)])
    assert_same_moments(lazy.view(LAZY, *drawn.shape[1:]), drawn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", PRODUCTS)
def test_products_have_the_moments_of_explicit_draws(case: str, kind: str) -> None:
    shape, example, op = PRODUCTS[case]
    x, q = complex_randn(2, *example), posterior(shape, kind)
    w = undrawn(q)
    lazy = op(torch.view_as_complex(w), x.repeat(LAZY, *[1] * len(example)))
    assert not w.drawn
    drawn = torch.stack([op(explicit(q), x) for _ in range(EXPLICIT)])
    assert_same_moments(lazy.view(LAZY, *drawn.shape[1:]), drawn)


@pytest.mark.parametrize("weight_kind", KINDS)
@pytest.mark.parametrize("bias_kind", KINDS)
def test_weight_and_bias_of_two_kinds(weight_kind: str, bias_kind: str) -> None:
    x, q, q_bias = complex_randn(2, 3), posterior((4, 3), weight_kind), posterior((4,), bias_kind)
    w, b = (torch.view_as_complex(undrawn(d)) for d in (q, q_bias))
    lazy = F.linear(x.repeat(LAZY, 1), w, b).view(LAZY, 2, 4)
    drawn = torch.stack([F.linear(x, explicit(q), explicit(q_bias)) for _ in range(EXPLICIT)])
    assert_same_moments(lazy, drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_bias_is_undrawn(kind: str) -> None:
    x, weight, q = complex_randn(2, 3), complex_randn(4, 3), posterior((4,), kind)
    lazy = F.linear(x.repeat(LAZY, 1), weight, torch.view_as_complex(undrawn(q))).view(LAZY, 2, 4)
    drawn = torch.stack([F.linear(x, weight, explicit(q)) for _ in range(EXPLICIT)])
    assert_same_moments(lazy, drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_weights_give_no_noise(kind: str) -> None:
    q = posterior((4, 3), kind)
    cut = ComplexNormal(q.loc, q.log_var, q.relation, torch.zeros(4, 3, dtype=torch.bool))
    out = F.linear(complex_randn(50, 3), torch.view_as_complex(undrawn(cut)))
    assert not out.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["linear", "bilinear", "conv2d with everything", "conv_transpose1d with everything"])
def test_gradients_are_those_of_the_closed_form(case: str, kind: str) -> None:
    shape, example, op = LAYERS[case]
    q = posterior(shape, kind)
    moments = [q.loc, q.log_var.exp(), *([] if q.relation is None else [q.relation * q.log_var.exp().unsqueeze(-1)])]
    leaves = [t.double().requires_grad_() for t in moments]
    mean, variance, *relation = leaves
    seen = [torch.view_as_complex(r) for r in relation]
    x = torch.randn(3, *example, dtype=torch.complex128, requires_grad=True)
    outputs = outputs_of(case, op(explicit(q).cdouble(), x.detach(), None))
    b = torch.randn(outputs, dtype=torch.complex128, requires_grad=True)
    torch.manual_seed(1)
    lazy = op(torch.view_as_complex(UndrawnPairs(*leaves, sampler=q.rsample, site="w")), x, b)
    torch.manual_seed(1)
    noise = noise_like(lazy)
    if case == "bilinear":  # torch has no gradient of the complex one
        second = x * 1j + 1.0
        center = torch.einsum("bi,oij,bj->bo", x, torch.view_as_complex(mean), second) + b
        spread = torch.einsum("bi,oij,bj->bo", x.abs().square(), variance, second.abs().square())
        tilt = torch.einsum("bi,oij,bj->bo", x * x, seen[0], second * second) if seen else None
    else:
        center = op(torch.view_as_complex(mean), x, b)
        spread, tilt = op(variance, x.abs().square(), None), op(seen[0], x * x, None) if seen else None
    reached = spread > 0  # some outputs of a transposed convolution are not
    spread = spread.where(reached, 1.0)
    if tilt is None:
        spread_noise = spread.sqrt() * noise
    else:
        p = ((spread + (spread.square() - tilt.abs().square()).sqrt()) / 2).sqrt()
        spread_noise = p * noise + tilt / (2 * p) * noise.conj()
    closed = center + torch.where(reached, spread_noise, 0.0)
    torch.testing.assert_close(lazy, closed)
    weights = torch.randn_like(lazy)
    ours = torch.autograd.grad((lazy * weights).real.sum(), [*leaves, x, b])
    theirs = torch.autograd.grad((closed * weights).real.sum(), [*leaves, x, b])
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_noise_and_gradients_know_no_unit(scale: float, kind: str) -> None:
    """Volts or microvolts: outputs and the gradient of log σ² grow with the inputs and nothing else changes."""
    x, q = complex_randn(50, 3), posterior((4, 3), kind)
    results = []
    for factor in (1.0, scale):
        log_var = q.log_var.detach().clone().requires_grad_()
        torch.manual_seed(1)
        weight = undrawn(ComplexNormal(q.loc.detach(), log_var, None if q.relation is None else q.relation.detach()))
        out = F.linear(x * factor, torch.view_as_complex(weight)) / factor
        (gradient,) = torch.autograd.grad(out.abs().square().sum(), log_var)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_gradient_of_the_expected_square() -> None:
    """E |y|² = |μ·x|² + σ²·|x|², with gradients 2 (μ·x) x̄ and |x|²."""
    x = torch.tensor([0.5 + 1j, -1.0, 2.0 - 0.3j])
    mean = torch.tensor([[[0.3, -0.2], [0.2, 0.5], [-0.1, 0.4]]], requires_grad=True)
    variance = torch.tensor([[0.5, 1.0, 0.2]], requires_grad=True)
    n = 100_000
    w = UndrawnPairs(mean, variance, sampler=lambda: mean, site="w")
    y = F.linear(x.expand(n, 3), torch.view_as_complex(w))
    of_mean, of_variance = torch.autograd.grad(torch.view_as_real(y).square().sum() / n, [mean, variance])
    center = (torch.view_as_complex(mean.detach()) @ x)[0]
    spread = float((variance.detach() @ x.abs().square()).sqrt())
    error = SIGMAS * 2 * spread * x.abs() / n**0.5
    assert bool(((torch.view_as_complex(of_mean[0]) - 2 * center * x.conj()).abs() < error).all())
    error = SIGMAS * (3.0 + (abs(center) / spread) ** 2) ** 0.5 * x.abs().square() / n**0.5
    assert bool(((of_variance[0] - x.abs().square()).abs() < error).all())


def test_fused_functions_pass_gradcheck_and_refuse_a_second_derivative() -> None:
    mean = torch.randn(2, 3, dtype=torch.complex128, requires_grad=True)
    variance = (torch.rand(2, 3, dtype=torch.float64) + 0.5).requires_grad_()

    def noise(m: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)
        return _CircularNoise.apply(m, v)

    assert torch.autograd.gradcheck(noise, (mean, variance))
    assert torch.autograd.gradcheck(lambda m, v: noise(m, v).conj() * m, (mean, variance))
    assert torch.autograd.gradcheck(_SquaredModulus.apply, (mean,))
    assert torch.autograd.gradcheck(lambda m: _SquaredModulus.apply(m.conj()), (mean,))
    (first,) = torch.autograd.grad(noise(mean, variance).abs().square().sum(), variance, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("relation", [1.0, -1.0, 1j])
def test_noise_on_the_rim_has_finite_gradients(relation: complex) -> None:
    variance = torch.tensor([0.0, 1e-6, 1.0], requires_grad=True)
    tilt = (variance.detach() * complex(relation)).requires_grad_()
    _noisy(torch.zeros(3, dtype=torch.complex64), variance, tilt).abs().square().sum().backward()
    assert variance.grad is not None and tilt.grad is not None
    assert bool(variance.grad.isfinite().all()) and bool(tilt.grad.isfinite().all())


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "abs": lambda w: w.abs(),
    "w * w": lambda w: w * w,
    "index": lambda w: w[1:, ::2],
    "conj": lambda w: w.conj() + 0.0,
    "view_as_real": torch.view_as_real,
    "w @ w.mH": lambda w: w @ w.mH,
    "einsum": lambda w: torch.einsum("oi,bi->bo", w, torch.ones(2, 3, dtype=torch.complex64)),
    "in both places of linear": lambda w: F.linear(w, w),
    "matmul with out": lambda w: torch.matmul(complex_ones(2, 4), w, out=complex_ones(2, 3)),
}


def complex_ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.complex64)


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_operation_gets_one_real_draw_and_always_the_same(case: str) -> None:
    drawn: list[Tensor] = []

    def sampler() -> Tensor:
        drawn.append(torch.randn(4, 3, 2))
        return drawn[-1]

    pairs = UndrawnPairs(torch.zeros(4, 3, 2), torch.ones(4, 3), sampler=sampler, site="w")
    first, second = (OTHERS[case](torch.view_as_complex(pairs)) for _ in range(2))
    assert len(drawn) == 1
    assert type(first) is Tensor
    torch.testing.assert_close(first, OTHERS[case](torch.view_as_complex(drawn[0])))
    assert torch.equal(first, second)


PAIRS: dict[str, Callable[[Tensor], Tensor]] = {
    "parts": lambda w: w[..., 0],
    "linear over the parts": lambda w: F.linear(w, torch.ones(5, 2)),
    "t": lambda w: w.transpose(0, 1),
    "contiguous in another format": lambda w: w.contiguous(memory_format=torch.contiguous_format),
    "the view after a draw": lambda w: torch.view_as_complex(w * 1.0),
    "the view by keyword": lambda w: torch.view_as_complex(input=w) * 1.0,
    "complex": lambda w: torch.complex(w[..., 0], w[..., 1]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_get_a_real_draw_from_everything_but_their_view(case: str) -> None:
    q = posterior((4, 3), "circular")
    w = undrawn(q)
    got = PAIRS[case](w)
    assert w.drawn
    torch.testing.assert_close(got, PAIRS[case](w.draw()))


def test_a_draw_stays_a_draw() -> None:
    w = undrawn(posterior((4, 3), "circular"))
    x = complex_randn(2, 3)
    seen = torch.view_as_complex(w)
    exponential = seen.exp()
    expected = F.linear(x, torch.view_as_complex(w.draw()))
    torch.testing.assert_close(exponential, torch.view_as_complex(w.draw()).exp())
    for later in (F.linear(x, seen), x @ seen.T, x @ torch.view_as_complex(w).T, F.linear(x, torch.view_as_complex(w))):
        torch.testing.assert_close(later, expected)


def test_requires_grad_and_metadata_do_not_draw() -> None:
    def fail() -> Tensor:
        raise AssertionError("the weight was drawn")

    mean, variance = torch.zeros(4, 3, 2), torch.ones(4, 3)
    w = UndrawnPairs(mean, variance, sampler=fail, site="w")
    seen = torch.view_as_complex(w)
    assert isinstance(w, Undrawn) and type(seen) is UndrawnComplex
    assert (w.shape, w.dtype, w.contiguous() is w) == ((4, 3, 2), torch.float32, True)
    assert (seen.shape, seen.dtype, seen.is_complex(), seen.T.shape) == ((4, 3), torch.complex64, True, (3, 4))
    assert not seen.requires_grad
    w = UndrawnPairs(mean, variance.requires_grad_(), sampler=fail, site="w")
    assert torch.view_as_complex(w).requires_grad and w.requires_grad


def test_used_twice_warns_with_the_name_of_the_site() -> None:
    w = undrawn(posterior((3, 3), "circular"), site="encoder.weight")
    x = complex_randn(2, 3)
    F.linear(x, torch.view_as_complex(w))
    with pytest.warns(PyrosparseWarning, match=r"'encoder.weight' is used twice.*exclude="):
        x @ torch.view_as_complex(w).T


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_factor_keeps_pairs_undrawn(kind: str) -> None:
    q, z, x = posterior((4, 3), kind), torch.tensor([[[0.5], [-2.0], [1.0]]]), complex_randn(2, 3)
    w = undrawn(q)
    scaled = w.times(z)
    assert type(scaled) is UndrawnPairs
    lazy = F.linear(x.repeat(LAZY, 1), torch.view_as_complex(scaled)).view(LAZY, 2, 4)
    assert not w.drawn
    factor = z.squeeze(-1)
    drawn = torch.stack([F.linear(x, factor * explicit(q)) for _ in range(EXPLICIT)])
    assert_same_moments(lazy, drawn)
    seen = torch.view_as_complex(w).times(factor)
    assert type(seen) is UndrawnComplex
    torch.testing.assert_close(seen.draw(), factor * torch.view_as_complex(w.draw()))
    parts = torch.tensor([1.0, 2.0])  # one factor for each part: no complex Gaussian of this kind
    torch.testing.assert_close(undrawn(q).times(parts).shape, torch.Size([4, 3, 2]))
    torch.testing.assert_close(w.times(parts), w.draw() * parts)


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = psnn.ComplexBilinear(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bilinear(x, x)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(psnn.ComplexLinear(6, 5), psnn.CReLU(), psnn.ComplexLinear(5, 3)), (6,)),
    "conv": (
        lambda: nn.Sequential(
            psnn.ComplexConv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            psnn.CReLU(),
            psnn.ComplexConvTranspose2d(2, 2, 2, stride=2),
            nn.Flatten(),
            psnn.ComplexLinear(128, 3),
        ),
        (1, 4, 4),
    ),
    "bilinear": (Squared, (4,)),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_modules_keep_their_weights_undrawn(case: str) -> None:
    make, example = NETWORKS[case]
    network = make()
    weights: dict[str, Any] = {n: undrawn(ComplexNormal(p.detach(), -3.0)) for n, p in network.named_parameters()}
    out = functional_call(network, weights, (complex_randn(1, *example).repeat(LAZY, *[1] * len(example)),))
    assert not any(w.drawn for w in weights.values())
    assert float(torch.view_as_real(out).std(0).min()) > 0
