"""Scales drawn for each example: moments and covariances of every layer, against closed forms and explicit draws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pyrosparse.distributions import DropoutNormal, HardConcrete, LogNormal, Point
from pyrosparse.errors import PyrosparseWarning
from pyrosparse.poutine import Scaled, Undrawn, UndrawnScale, local_reparam, scaled

LAZY, EXPLICIT = 6000, 700  # examples of the one kind, draws of the other
SIGMAS = 5.5  # of Monte Carlo error

Operation = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# name -> (shape of the weight, shape of one example, operation with batch first, axes that can have groups)
LAYERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Operation, dict[str, int]]] = {
    "linear": ((3, 4), (4,), lambda w, x, b: F.linear(x, w, b), {"out": 0, "in": 1}),
    "linear by keyword": ((3, 4), (4,), lambda w, x, b: F.linear(input=x, weight=w, bias=b), {"out": 0, "in": 1}),
    "linear of a sequence": ((2, 3), (2, 3), lambda w, x, b: F.linear(x, w, b), {"out": 0, "in": 1}),
    "linear of a grid": ((2, 2), (2, 2, 2), lambda w, x, b: F.linear(x, w, b), {"out": 0, "in": 1}),
    "conv1d": ((2, 3, 2), (3, 4), lambda w, x, b: F.conv1d(x, w, b, padding=1), {"out": 0, "in": 1}),
    "conv1d same": ((2, 3, 3), (3, 3), lambda w, x, b: F.conv1d(x, w, b, padding="same"), {"out": 0, "in": 1}),
    "conv1d, groups": ((4, 1, 2), (2, 3), lambda w, x, b: F.conv1d(x, w, b, groups=2), {"out": 0}),
    "conv2d": ((2, 3, 2, 2), (3, 3, 3), lambda w, x, b: F.conv2d(x, w, b), {"out": 0, "in": 1}),
    "conv2d, groups": (
        (4, 1, 2, 2),
        (2, 4, 4),
        lambda w, x, b: F.conv2d(x, w, b, stride=2, padding=(1, 0), dilation=(1, 2), groups=2),
        {"out": 0},
    ),
    "conv3d": ((2, 2, 2, 1, 2), (2, 2, 2, 2), lambda w, x, b: F.conv3d(x, w, b), {"out": 0, "in": 1}),
    "conv_transpose1d": ((3, 2, 2), (3, 2), lambda w, x, b: F.conv_transpose1d(x, w, b), {"out": 1, "in": 0}),
    "conv_transpose2d": (
        (2, 3, 2, 2),
        (2, 2, 2),
        lambda w, x, b: F.conv_transpose2d(x, w, b, stride=2, padding=1, output_padding=1),
        {"out": 1, "in": 0},
    ),
    "conv_transpose2d, groups": (
        (4, 1, 2, 2),
        (4, 2, 2),
        lambda w, x, b: F.conv_transpose2d(x, w, b, groups=2),
        {"in": 0},
    ),
    "conv_transpose3d": (
        (2, 2, 1, 2, 2),
        (2, 1, 2, 2),
        lambda w, x, b: F.conv_transpose3d(x, w, b),
        {"out": 1, "in": 0},
    ),
}
CASES = [(name, side) for name, (*_, sides) in LAYERS.items() for side in sides]


def undrawn(mean: Tensor, variance: Tensor) -> Undrawn:
    return Undrawn(mean, variance, lambda: mean + variance.sqrt() * torch.randn_like(mean), "w")


def gaussian_scale(mean: Tensor, std: Tensor) -> UndrawnScale:
    return UndrawnScale(lambda shape: mean + std * torch.randn(*shape, *mean.shape, dtype=mean.dtype), mean)


def along(z: Tensor, axis: int, dims: int) -> Tensor:
    return z.reshape([-1 if i == axis else 1 for i in range(dims)])


class Layer:
    """One case: a weight, scales of its groups, a bias, an example, and the moments that its outputs must have."""

    def __init__(self, name: str, side: str, *, points: bool = False) -> None:
        shape, example, self.op, sides = LAYERS[name]
        self.axis = sides[side]
        groups = shape[self.axis]
        self.mean = torch.randn(shape)
        self.variance = torch.zeros(shape) if points else torch.rand(shape) * 0.5 + 0.1
        self.z_mean, self.z_std = torch.rand(groups) + 0.5, torch.rand(groups) * 0.5 + 0.2
        self.x = torch.randn(example)
        linear = name.startswith("linear")
        out = self.op(self.mean, self.x[None], None)
        self.bias = torch.randn(out.shape[-1 if linear else 1])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean, and covariance of all outputs of an example, in closed form.

        With y = Σ_g z_g a_g, where a_g ~ N(m_g, v_g) independently at each output:
        Cov(y_p, y_q) = Σ_g Var z_g m_gp m_gq + [p = q] Σ_g E z_g² v_gp.
        """
        groups = torch.eye(len(self.z_mean))
        x = self.x[None]
        masks = [along(one, self.axis, self.mean.dim()) for one in groups]
        m = torch.stack([self.op(self.mean * mask, x, None).flatten() for mask in masks])
        v = torch.stack([self.op(self.variance * mask, x * x, None).flatten() for mask in masks])
        mean = self.z_mean @ m + self.op(torch.zeros_like(self.mean), x, self.bias).flatten()
        shared = torch.einsum("g,gp,gq->pq", self.z_std.square(), m, m)
        return mean, shared + torch.diag((self.z_mean.square() + self.z_std.square()) @ v)


def assert_moments(drawn: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Mean and covariance over the first axis, each within SIGMAS standard errors, estimated from the draws."""
    n = len(drawn)
    centred = drawn - mean
    assert float((centred.mean(0) / (covariance.diagonal() / n).sqrt().clamp_min(1e-6)).abs().max()) < SIGMAS
    second = centred.T @ centred / n
    fourth = centred.square().T @ centred.square() / n
    error = ((fourth - second.square()) / n).clamp_min(0).sqrt() + 1e-6
    assert float(((second - covariance) / error).abs().max()) < SIGMAS


@pytest.mark.parametrize("points", [False, True], ids=["undrawn", "points"])
@pytest.mark.parametrize(("name", "side"), CASES)
def test_mean_and_covariance_are_the_closed_form(name: str, side: str, points: bool) -> None:
    layer = Layer(name, side, points=points)
    weight = layer.mean if points else undrawn(layer.mean, layer.variance)
    w = scaled(gaussian_scale(layer.z_mean, layer.z_std), weight, layer.axis)
    assert isinstance(w, Scaled) and w.shape == layer.mean.shape
    lazy = layer.op(w, layer.x.expand(LAZY, *layer.x.shape), nn.Parameter(layer.bias)).detach()
    assert w.z._drawn is None
    assert_moments(lazy.flatten(1), *layer.moments())


@pytest.mark.parametrize(("name", "side"), CASES)
def test_mean_and_variance_are_those_of_explicit_draws(name: str, side: str) -> None:
    """Each example gets a whole weight of its own, w = z · w̃, by a loop."""
    layer = Layer(name, side)
    w = scaled(gaussian_scale(layer.z_mean, layer.z_std), undrawn(layer.mean, layer.variance), layer.axis)
    lazy = layer.op(w, layer.x.expand(LAZY, *layer.x.shape), layer.bias)
    draws = []
    for _ in range(EXPLICIT):
        z = layer.z_mean + layer.z_std * torch.randn_like(layer.z_mean)
        w_tilde = layer.mean + layer.variance.sqrt() * torch.randn_like(layer.mean)
        draws.append(layer.op(along(z, layer.axis, w_tilde.dim()) * w_tilde, layer.x[None], layer.bias)[0])
    explicit = torch.stack(draws)
    for a, b in ((lazy, explicit), ((lazy - lazy.mean(0)).square(), (explicit - explicit.mean(0)).square())):
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt() + 1e-4
        assert float(((a.mean(0) - b.mean(0)) / error).abs().max()) < SIGMAS


def test_linear_against_a_weight_for_each_example() -> None:
    """Points: the very same numbers as einsum with the scales of each example."""
    x, w_tilde = torch.randn(7, 4), torch.randn(3, 4)
    for axis, groups in ((0, 3), (1, 4)):
        table = torch.randn(7, groups)
        z = UndrawnScale(lambda shape, table=table: table[: shape[0]], torch.empty(groups))
        weights = table[:, :, None] * w_tilde if axis == 0 else table[:, None, :] * w_tilde
        torch.testing.assert_close(F.linear(x, scaled(z, w_tilde, axis)), torch.einsum("boi,bi->bo", weights, x))


def test_convolution_against_a_filter_for_each_example() -> None:
    x, w_tilde, b = torch.randn(5, 2, 4, 4), torch.randn(3, 2, 2, 2), torch.randn(3)
    for axis, groups in ((0, 3), (1, 2)):
        table = torch.randn(5, groups)
        z = UndrawnScale(lambda shape, table=table: table[: shape[0]], torch.empty(groups))
        one_by_one = [F.conv2d(x[i : i + 1], along(table[i], axis, 4) * w_tilde, b) for i in range(5)]
        torch.testing.assert_close(F.conv2d(x, scaled(z, w_tilde, axis), b), torch.cat(one_by_one))


@pytest.mark.parametrize(("name", "side"), [c for c in CASES if "sequence" not in c[0] and "grid" not in c[0]])
def test_a_single_example_without_a_batch(name: str, side: str) -> None:
    layer = Layer(name, side)

    def out(x: Tensor) -> Tensor:
        torch.manual_seed(4)
        z = gaussian_scale(layer.z_mean, layer.z_std)
        return layer.op(scaled(z, undrawn(layer.mean, layer.variance), layer.axis), x, layer.bias)

    torch.testing.assert_close(out(layer.x), out(layer.x[None])[0])


def test_the_groups_of_a_wide_layer_are_independent_and_examples_too() -> None:
    z = gaussian_scale(torch.zeros(3), torch.ones(3))
    out = F.linear(torch.eye(3)[0].expand(LAZY, 3), scaled(z, torch.eye(3), 1))
    assert float(out[:, 0].std()) == pytest.approx(1.0, abs=SIGMAS / math.sqrt(2 * LAZY))
    neighbours = torch.corrcoef(torch.stack([out[:-1, 0], out[1:, 0]]))[0, 1]
    assert abs(float(neighbours)) < SIGMAS / math.sqrt(LAZY)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose1d"])
@pytest.mark.parametrize("side", ["in", "out"])
def test_gradients_are_those_of_the_closed_form(name: str, side: str, points: bool) -> None:
    layer = Layer(name, side)
    leaves = [t.double().requires_grad_() for t in (layer.mean, layer.variance, layer.z_mean, layer.z_std, layer.bias)]
    mean, variance, z_mean, z_std, bias = leaves
    x = torch.randn(3, *layer.x.shape, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    w_tilde = mean if points else undrawn(mean, variance)
    lazy = layer.op(scaled(gaussian_scale(z_mean, z_std), w_tilde, layer.axis), x, bias)
    torch.manual_seed(1)
    z = z_mean + z_std * torch.randn(3, len(z_mean), dtype=torch.float64)
    noise = torch.zeros_like(lazy) if points else torch.randn(lazy.shape, dtype=torch.float64)
    plain = [layer.op(along(z[i], layer.axis, mean.dim()) * mean, x[i : i + 1], bias) for i in range(3)]
    spread = [layer.op(along(z[i], layer.axis, mean.dim()) ** 2 * variance, x[i : i + 1] ** 2, None) for i in range(3)]
    if side == "in":
        closed = torch.cat(plain) + (torch.cat(spread) + 1e-8).sqrt() * noise
    else:  # z times a draw of the layer's output, whatever its sign
        factor = z.reshape(*z.shape, *[1] * (lazy.dim() - 2))
        closed = torch.cat(plain) + factor * (layer.op(variance, x**2, None) + 1e-8).sqrt() * noise
    torch.testing.assert_close(lazy, closed)
    wanted = [t for t in (*leaves, x) if not (points and t is variance)]
    direction = torch.randn_like(lazy)
    torch.testing.assert_close(
        torch.autograd.grad((lazy * direction).sum(), wanted), torch.autograd.grad((closed * direction).sum(), wanted)
    )


LOG_MOMENTS = (torch.tensor([[0.2, -0.4], [1.0, 0.3], [-0.5, 0.0]]), torch.tensor([[0.3, 0.1], [0.2, 0.5], [0.4, 0.2]]))


def log_normal() -> UndrawnScale:
    return UndrawnScale.log_normal(*LOG_MOMENTS)


ALGEBRA: dict[str, tuple[Callable[[UndrawnScale], Tensor], Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]] = {
    "prod": (lambda z: z.prod(-1), lambda m, v: (m.sum(-1), v.sum(-1))),
    "torch.prod": (lambda z: torch.prod(z, 0), lambda m, v: (m.sum(0), v.sum(0))),
    "prod, keeping": (lambda z: z.prod(-1, True), lambda m, v: (m.sum(-1, True), v.sum(-1, True))),
    "sqrt": (lambda z: z.sqrt(), lambda m, v: (m / 2, v / 4)),
    "torch.sqrt": (torch.sqrt, lambda m, v: (m / 2, v / 4)),
    "product": (lambda z: z * log_normal(), lambda m, v: (2 * m, 2 * v)),
    "torch.mul": (lambda z: torch.mul(z, log_normal()), lambda m, v: (2 * m, 2 * v)),
    "shared": (
        lambda z: z * UndrawnScale.log_normal(torch.tensor([0.7]), torch.tensor([0.9])),
        lambda m, v: (m + 0.7, v + 0.9),
    ),
    "shared number": (
        lambda z: UndrawnScale.log_normal(torch.tensor(0.7), torch.tensor(0.9)) * z,
        lambda m, v: (m + 0.7, v + 0.9),
    ),
    "root of a shared product": (
        lambda z: (UndrawnScale.log_normal(torch.tensor(0.7), torch.tensor(0.9)) * z.prod(-1)).sqrt(),
        lambda m, v: ((m.sum(-1) + 0.7) / 2, (v.sum(-1) + 0.9) / 4),
    ),
}


@pytest.mark.parametrize("name", ALGEBRA)
def test_log_normal_scales_stay_undrawn(name: str) -> None:
    operation, expected = ALGEBRA[name]
    z = log_normal()
    result = operation(z)
    assert isinstance(result, UndrawnScale) and z._drawn is None and result._drawn is None
    mean, variance = expected(*LOG_MOMENTS)
    assert result.log_moments is not None and result.shape == mean.shape
    torch.testing.assert_close(result.log_moments, (mean, variance))
    # and so are the draws, for examples and the real one
    logs = result.draws(LAZY).log()
    assert float(((logs.mean(0) - mean) / (variance / LAZY).sqrt()).abs().max()) < SIGMAS
    assert float((logs.var(0) / variance - 1).abs().max()) < SIGMAS * math.sqrt(2 / LAZY)
    assert operation(log_normal()).draw().shape == mean.shape


def test_a_shared_factor_is_one_draw_for_all_groups_of_an_example() -> None:
    """Of log z_g = (log s + log t_g)/2 the covariance is Var(log s)/4: the posterior of a horseshoe's layer scale."""
    s = UndrawnScale.log_normal(torch.tensor([0.3]), torch.tensor([0.8]))
    t = UndrawnScale.log_normal(torch.zeros(3), torch.full((3,), 0.4))
    logs = (s * t).sqrt().draws(LAZY).log()
    expected = torch.full((3, 3), 0.2) + 0.1 * torch.eye(3)
    error = (expected.square() + expected.diagonal()[:, None] * expected.diagonal()) / LAZY
    assert float(((torch.cov(logs.T) - expected) / error.sqrt()).abs().max()) < SIGMAS


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "z + 1": lambda z: z + 1,
    "2 z": lambda z: 2 * z,
    "z * 2": lambda z: z * 2,
    "z * z": lambda z: z * z,
    "z * tensor": lambda z: z * torch.ones(3, 2),
    "index": lambda z: z[1:],
    "stack": lambda z: torch.stack([z, z]),
    "prod by keyword": lambda z: z.prod(dim=-1),
    "unsqueeze": lambda z: z.unsqueeze(-1),
    "sum by keyword": lambda z: torch.sum(input=z, dim=0),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("known", [True, False], ids=["log-normal", "other"])
def test_any_other_operation_gets_one_real_draw(name: str, known: bool) -> None:
    operation = OTHERS[name]
    drawn: list[Tensor] = []

    def sampler(shape: torch.Size) -> Tensor:
        drawn.append(torch.rand(*shape, 3, 2) + 0.5)
        return drawn[-1]

    z = UndrawnScale(sampler, torch.empty(3, 2), LOG_MOMENTS if known else None)
    first, second = operation(z), operation(z)
    assert len(drawn) == 1 and type(first) is Tensor
    torch.testing.assert_close(first, operation(drawn[0]))
    assert torch.equal(first, second)
    # and the examples have it from then on
    assert torch.equal(z.draws(4), drawn[0].expand(4, 3, 2)) and len(drawn) == 1


@pytest.mark.parametrize("operation", [lambda z: z.prod(-1), torch.sqrt, lambda z: z * log_normal()])
def test_scales_that_are_not_log_normal_have_no_algebra(operation: Callable[[Tensor], Tensor]) -> None:
    assert type(operation(gaussian_scale(torch.ones(3, 2), torch.zeros(3, 2)))) is Tensor


def test_a_weight_used_otherwise_is_the_product_of_real_draws() -> None:
    z, w_tilde = gaussian_scale(torch.ones(4), torch.ones(4)), undrawn(torch.zeros(3, 4), torch.ones(3, 4))
    w = scaled(z, w_tilde, 1)
    total = w.sum()
    assert type(total) is Tensor
    expected = z.draw() * w_tilde.draw()
    torch.testing.assert_close(total, expected.sum())
    x = torch.randn(5, 4)
    # what is drawn stays drawn
    torch.testing.assert_close(F.linear(x, w), x @ expected.t())
    torch.testing.assert_close(x @ w.t(), x @ expected.t())
    assert w.dim() == 2 and w.numel() == 12 and len(w) == 3 and w.dtype == torch.float32


def test_a_layer_that_is_used_twice_has_the_same_scales_in_an_example() -> None:
    """Only the weights' own noise warns: of points both uses agree exactly."""
    x = torch.randn(6, 4)
    w = scaled(gaussian_scale(torch.ones(4), torch.ones(4)), torch.randn(3, 4), 1)
    torch.testing.assert_close(F.linear(x, w), F.linear(x, w))
    lazy = scaled(gaussian_scale(torch.ones(4), torch.ones(4)), undrawn(torch.zeros(3, 4), torch.ones(3, 4)), 1)
    F.linear(x, lazy)
    with pytest.warns(PyrosparseWarning, match="used twice"):
        F.linear(x, lazy)


def test_real_scales_leave_the_weight_undrawn() -> None:
    mean, variance = torch.randn(3, 4), torch.rand(3, 4)
    for z, axis in ((torch.randn(3), 0), (torch.randn(4), 1), (torch.randn(3, 4), None), (torch.randn(12), None)):
        factor = z.reshape(3, 4) if axis is None else along(z, axis, 2)
        w_tilde = undrawn(mean, variance)
        w = scaled(z, w_tilde, axis)
        assert isinstance(w, Undrawn) and not w_tilde.drawn
        torch.testing.assert_close(w.moments, (factor * mean, factor.square() * variance))
        torch.testing.assert_close(w.draw(), factor * w_tilde.draw())
        torch.testing.assert_close(scaled(z, w_tilde, axis), factor * w_tilde.draw())
        torch.testing.assert_close(scaled(z, mean, axis), factor * mean)


def test_scales_of_single_weights_are_drawn_once() -> None:
    z = gaussian_scale(torch.ones(3, 4), torch.ones(3, 4))
    w = scaled(z, undrawn(torch.zeros(3, 4), torch.ones(3, 4)), None)
    assert isinstance(w, Undrawn)
    torch.testing.assert_close(w.moments[1], z.draw().square())


SITES = {
    "log-normal": LogNormal(torch.randn(4, 2), torch.full((4, 2), -1.0)).to_event(2),
    "log-normal, masked": LogNormal(torch.randn(3), torch.zeros(3), torch.tensor([True, False, True])).to_event(1),
    "normal": DropoutNormal(torch.randn(3).double(), torch.zeros(3).double()).to_event(1),
    "gates": HardConcrete(torch.randn(3).double()).to_event(1),
}


@pytest.mark.parametrize("name", SITES)
def test_sites_that_say_so_yield_undrawn_scales(name: str) -> None:
    fn = SITES[name]

    def draw() -> Tensor:
        with local_reparam():
            return pyro.sample("z", fn, infer={"per_example": True})

    z = draw()
    assert isinstance(z, UndrawnScale)
    assert z.shape == fn.event_shape and z.dtype == fn.sample().dtype
    assert (z.log_moments is not None) == name.startswith("log-normal")
    draws = z.draws(LAZY)
    error = (fn.variance / LAZY).sqrt() + 1e-6
    assert float(((draws.mean(0) - fn.mean) / error).abs().max()) < SIGMAS
    assert torch.equal(draw().draw().isfinite(), torch.ones(fn.event_shape, dtype=torch.bool))
    if name.endswith("masked"):
        assert bool((draws[:, 1] == 1).all())
    with local_reparam():
        quiet = pyro.sample("z", fn)
    assert not isinstance(quiet, UndrawnScale)
    with local_reparam(exclude=["z"]):
        assert type(pyro.sample("z", fn, infer={"per_example": True})) is Tensor


def test_points_are_no_gaussians_and_stay_tensors() -> None:
    with local_reparam():
        assert type(pyro.sample("w", Point(torch.ones(2, 3)).to_event(2))) is Tensor


def test_a_module_that_looks_at_its_weight() -> None:
    """Under functional_call, as a model uses it; one that asks whether a gradient is needed gets one too."""
    layer = nn.Linear(4, 3)
    z_mean = torch.ones(4, requires_grad=True)
    w = scaled(gaussian_scale(z_mean, torch.ones(4)), layer.weight.detach(), 1)
    functional_call(layer, {"weight": w}, (torch.randn(5, 4),)).sum().backward()
    assert z_mean.grad is not None and bool((z_mean.grad != 0).all())
    assert w.shape == (3, 4)
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    tied = scaled(gaussian_scale(torch.ones(4), torch.ones(4)), attention.out_proj.weight.detach(), 1)
    x = torch.randn(2, 3, 4)
    out, _ = functional_call(attention, {"out_proj.weight": tied}, (x, x, x))
    expected, _ = functional_call(attention, {"out_proj.weight": tied.draw()}, (x, x, x))  # type: ignore[attr-defined]
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "product",
    [
        lambda x, w: x @ w.t(),
        lambda x, w: torch.matmul(x, w.T),
        lambda x, w: x.mm(w.transpose(0, 1)),
        lambda x, w: x @ w.transpose(-1, dim1=0),
        lambda x, w: x @ w.mT,
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_product_with_the_transpose_is_a_layer(product: Callable[..., Tensor], axis: int, lazy: bool) -> None:
    """Each example has scales of its own, as in ``F.linear``: the same numbers from the same seed."""
    shape = (4, 4)
    w_tilde, x = torch.randn(shape), torch.randn(7, 4)

    def weight() -> Tensor:
        inner = undrawn(w_tilde, torch.full(shape, 0.3)) if lazy else w_tilde
        return scaled(gaussian_scale(torch.ones(4), torch.full((4,), 0.5)), inner, axis)

    torch.manual_seed(2)
    expected = F.linear(x, weight())
    torch.manual_seed(2)
    torch.testing.assert_close(product(x, weight()), expected)
    same = product(x[:1].expand(7, -1), weight())
    assert float(same.std(0).min()) > 0.01


def test_a_transpose_that_is_none_is_drawn() -> None:
    w = scaled(gaussian_scale(torch.ones(4), torch.ones(4)), torch.randn(4, 4), 1)
    torch.testing.assert_close(w.transpose(0, 0), w.draw())
