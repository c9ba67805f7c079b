"""Undrawn weights: every linear operation against the moments of explicit draws, all others against one draw."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear as early_linear

from pyrosparse.errors import PyrosparseWarning
from pyrosparse.poutine import Undrawn
from pyrosparse.poutine.share import noise_like
from pyrosparse.poutine.undrawn import _Noise

LAZY, EXPLICIT = 2000, 800  # draws of each kind
SIGMAS = 5.5  # of Monte Carlo error; some 60 outputs a case, so 5.5 is passed by chance once in 4e5 runs


def undrawn(mean: Tensor, variance: Tensor, site: str = "w") -> Undrawn:
    return Undrawn(mean, variance, lambda: mean + variance.sqrt() * torch.randn_like(mean), site)


def never_drawn(*shape: int) -> Undrawn:
    def fail() -> Tensor:
        raise AssertionError("the weight was drawn")

    return Undrawn(torch.zeros(shape), torch.ones(shape), fail, "w")


# name -> (shape of the weight, shape of one example, operation with batch first)
Operation = Callable[..., Tensor]
LINEAR: dict[str, tuple[tuple[int, ...], tuple[int, ...], Operation]] = {
    "linear": ((4, 3), (3,), lambda w, x, b: F.linear(x, w, b)),
    "linear by keyword": ((4, 3), (3,), lambda w, x, b: F.linear(input=x, weight=w, bias=b)),
    "linear imported early": ((4, 3), (3,), lambda w, x, b: early_linear(x, w, bias=b)),
    "linear of a sequence": ((2, 3), (4, 3), lambda w, x, b: F.linear(x, w, b)),
    "conv1d": ((4, 3, 2), (3, 5), lambda w, x, b: F.conv1d(x, w, b)),
    "conv1d with everything": ((4, 1, 3), (2, 7), lambda w, x, b: F.conv1d(x, w, b, 2, 1, 2, 2)),
    "conv1d same": ((4, 2, 3), (2, 4), lambda w, x, b: F.conv1d(x, w, b, padding="same")),
    "conv2d": ((3, 2, 2, 2), (2, 3, 3), lambda w, x, b: F.conv2d(x, w, b)),
    "conv2d with everything": (
        (4, 1, 2, 2),
        (2, 5, 5),
        lambda w, x, b: F.conv2d(x, w, b, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
    ),
    "conv3d": ((2, 2, 2, 2, 2), (2, 3, 3, 3), lambda w, x, b: F.conv3d(x, w, b)),
    "conv3d with everything": (
        (2, 1, 2, 1, 2),
        (2, 3, 3, 4),
        lambda w, x, b: F.conv3d(x, w, b, stride=2, padding=1, dilation=2, groups=2),
    ),
    "conv_transpose1d": ((3, 2, 3), (3, 4), lambda w, x, b: F.conv_transpose1d(x, w, b)),
    "conv_transpose1d with everything": (
        (2, 2, 3),
        (2, 4),
        lambda w, x, b: F.conv_transpose1d(x, w, b, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
    ),
    "conv_transpose2d": ((2, 3, 2, 2), (2, 2, 2), lambda w, x, b: F.conv_transpose2d(x, w, b)),
    "conv_transpose2d with everything": (
        (2, 1, 2, 2),
        (2, 3, 2),
        lambda w, x, b: F.conv_transpose2d(x, w, b, (2, 1), (1, 0), (1, 0), 2, 1),
    ),
    "conv_transpose3d": ((2, 2, 2, 1, 2), (2, 2, 2, 2), lambda w, x, b: F.conv_transpose3d(x, w, b)),
    "conv_transpose3d with everything": (
        (2, 1, 2, 1, 2),
        (2, 2, 2, 2),
        lambda w, x, b: F.conv_transpose3d(x, w, b, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
    ),
}
MATMUL: dict[str, tuple[tuple[int, ...], tuple[int, ...], Operation]] = {
    "x @ w": ((3, 4), (3,), lambda w, x: x @ w),
    "w @ x": ((4, 3), (3,), lambda w, x: (w @ x.t()).t()),
    "x @ w.t()": ((4, 3), (3,), lambda w, x: x @ w.t()),
    "x @ w.T": ((4, 3), (3,), lambda w, x: x @ w.T),
    "x @ w.mT": ((4, 3), (3,), lambda w, x: x @ w.mT),
    "x @ w.transpose": ((4, 3), (3,), lambda w, x: x @ w.transpose(0, 1)),
    "torch.t": ((4, 3), (3,), lambda w, x: x @ torch.t(w)),
    "torch.transpose": ((4, 3), (3,), lambda w, x: x @ torch.transpose(w, 0, 1)),
    "w.T.T.T": ((4, 3), (3,), lambda w, x: x @ w.T.T.T),
    "linear with w.T": ((3, 4), (3,), lambda w, x: F.linear(x, w.T)),
    "torch.matmul(x, w)": ((3, 4), (3,), lambda w, x: torch.matmul(x, w)),
    "torch.matmul(w, x)": ((4, 3), (3, 2), torch.matmul),
    "torch.mm(x, w)": ((3, 4), (3,), lambda w, x: torch.mm(x, w)),
    "torch.mm(w, x)": ((4, 3), (3,), lambda w, x: torch.mm(w, x.t()).t()),
    "x.matmul(w)": ((3, 4), (3,), lambda w, x: x.matmul(w)),
    "w.matmul(x)": ((4, 3), (3, 2), lambda w, x: w.matmul(x)),
    "x.mm(w)": ((3, 4), (3,), lambda w, x: x.mm(w)),
    "w.mm(x)": ((4, 3), (3,), lambda w, x: w.mm(x.t()).t()),
    "reflected": ((3, 4), (3,), lambda w, x: w.__rmatmul__(x)),
    "batches of weights": ((2, 3, 4), (2, 2, 3), lambda w, x: x @ w),
    "a vector": ((3,), (2, 3), lambda w, x: x @ w),
}


def assert_same_moments(lazy: Tensor, explicit: Tensor) -> None:
    """Mean and variance over the first axis agree, each within SIGMAS Monte Carlo standard errors."""
    n, m = len(lazy), len(explicit)
    variance = explicit.var(0)
    silent = variance < 1e-12  # outputs that no weight reaches: the mean
    assert float(((lazy - explicit[0]) * silent).abs().max()) < 1e-5
    assert not bool(silent.all())
    variance = variance + silent
    error = (variance / n + variance / m).sqrt()
    assert float(((lazy.mean(0) - explicit.mean(0)) / error).abs().max()) < SIGMAS
    # of a Gaussian, the variance of an estimated variance is 2 σ⁴ / (n − 1)
    error = variance * (2 / (n - 1) + 2 / (m - 1)) ** 0.5
    assert float(((lazy.var(0) + silent - variance) / error).abs().max()) < SIGMAS


def outputs_of(module_out: Tensor) -> int:
    return module_out.shape[1]


def repeated(x: Tensor) -> Tensor:
    """LAZY copies of a batch in one: each example has noise of its own."""
    return x.repeat(LAZY, *[1] * (x.dim() - 1))


@pytest.mark.parametrize("bias_kind", ["absent", "parameter", "undrawn"])
@pytest.mark.parametrize("case", LINEAR)
def test_layers_have_the_moments_of_explicit_draws(case: str, bias_kind: str) -> None:
    shape, example, op = LINEAR[case]
    x = torch.randn(2, *example)
    mean, variance = torch.randn(shape), torch.rand(shape) + 0.1
    outputs = op(mean, x, None).shape[-1] if case.startswith("linear") else op(mean, x, None).shape[1]
    b_mean, b_variance = torch.randn(outputs), torch.rand(outputs) + 0.1

    def bias(lazy: bool) -> Tensor | None:
        if bias_kind == "absent":
            return None
        if bias_kind == "parameter":
            return nn.Parameter(b_mean)
        return undrawn(b_mean, b_variance) if lazy else b_mean + b_variance.sqrt() * torch.randn(outputs)

    w = undrawn(mean, variance)
    lazy = op(w, repeated(x), bias(True))
    assert w._drawn is None
    with torch.no_grad():
        explicit = torch.stack(
            [op(mean + variance.sqrt() * torch.randn(shape), x, bias(False)) for _ in range(EXPLICIT)]
        )
        assert_same_moments(lazy.view(LAZY, *explicit.shape[1:]), explicit)


@pytest.mark.parametrize("case", MATMUL)
def test_products_have_the_moments_of_explicit_draws(case: str) -> None:
    shape, example, op = MATMUL[case]
    x = torch.randn(2, *example)
    mean, variance = torch.randn(shape), torch.rand(shape) + 0.1
    w = undrawn(mean, variance)
    lazy = op(w, repeated(x))
    assert w._drawn is None
    explicit = torch.stack([op(mean + variance.sqrt() * torch.randn(shape), x) for _ in range(EXPLICIT)])
    assert_same_moments(lazy.view(LAZY, *explicit.shape[1:]), explicit)


def test_only_the_bias_is_undrawn() -> None:
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    mean, variance = torch.randn(4), torch.rand(4) + 0.1
    lazy = F.linear(repeated(x), weight, undrawn(mean, variance)).view(LAZY, 2, 4)
    explicit = torch.stack([F.linear(x, weight, mean + variance.sqrt() * torch.randn(4)) for _ in range(EXPLICIT)])
    assert_same_moments(lazy, explicit)


def test_each_example_and_position_has_noise_of_its_own() -> None:
    w = undrawn(torch.zeros(1, 1, 3), torch.ones(1, 1, 3))
    out = F.conv1d(torch.ones(LAZY, 1, 4), w).squeeze(1)  # of one real draw all entries would be equal
    correlation = torch.corrcoef(torch.cat([out.T, out.roll(1, 0).T]))
    off = correlation - torch.eye(4)
    assert float(off.abs().max()) < SIGMAS / LAZY**0.5


def test_zero_variance_gives_the_mean() -> None:
    x, mean = torch.randn(50, 3), torch.randn(4, 3, requires_grad=True)
    variance = torch.zeros(4, 3, requires_grad=True)
    out = F.linear(x, undrawn(mean, variance))
    assert torch.equal(out, F.linear(x, mean))
    out.sum().backward()
    assert mean.grad is not None and variance.grad is not None
    assert bool(mean.grad.isfinite().all()) and not variance.grad.any()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_noise_and_gradients_know_no_unit(scale: float) -> None:
    """Volts or microvolts: outputs and the gradient of log σ² grow with the inputs and nothing else changes."""
    x, mean = torch.randn(50, 3), torch.randn(4, 3)
    results = []
    for factor in (1.0, scale):
        log_var = torch.full((4, 3), -6.0, requires_grad=True)
        torch.manual_seed(1)
        out = F.linear(x * factor, undrawn(mean, log_var.exp())) / factor
        (gradient,) = torch.autograd.grad(out.square().sum(), log_var)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


GRADIENTS = ["linear", "conv2d with everything", "conv_transpose1d with everything"]


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_are_those_of_the_closed_form(case: str) -> None:
    shape, example, op = LINEAR[case]
    leaves = [t.double().requires_grad_() for t in (torch.randn(shape), torch.rand(shape) + 0.1)]
    mean, variance = leaves
    x = torch.randn(3, *example, dtype=torch.float64, requires_grad=True)
    b = torch.randn(outputs_of(op(mean, x, None)), dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    lazy = op(undrawn(mean, variance), x, b)
    torch.manual_seed(1)
    noise = torch.randn(lazy.shape, dtype=torch.float64)
    spread = op(variance, x * x, None)
    reached = spread > 0  # some outputs of a transposed convolution are not
    closed = op(mean, x, b) + torch.where(reached, spread.where(reached, 1.0).sqrt(), 0.0) * noise
    torch.testing.assert_close(lazy, closed)
    weights = torch.randn_like(lazy)
    ours = torch.autograd.grad((lazy * weights).sum(), [mean, variance, x, b])
    theirs = torch.autograd.grad((closed * weights).sum(), [mean, variance, x, b])
    torch.testing.assert_close(ours, theirs)


def test_noise_passes_gradcheck_and_refuses_a_second_derivative() -> None:
    mean = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    variance = (torch.rand(2, 3, dtype=torch.float64) + 0.5).requires_grad_()

    def noise(m: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(3)
        return _Noise.apply(m, v)

    assert torch.autograd.gradcheck(noise, (mean, variance))
    (first,) = torch.autograd.grad(noise(mean, variance).square().sum(), variance, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_gradient_of_expected_square() -> None:
    """E y² = (μ·x)² + σ²·x², so that its gradients are 2 (μ·x) x and x²."""
    x = torch.tensor([0.5, -1.0, 2.0])
    mean = torch.tensor([[0.3, 0.2, -0.1]], requires_grad=True)
    variance = torch.tensor([[0.5, 1.0, 0.2]], requires_grad=True)
    n = 100_000
    y = F.linear(x.expand(n, 3), undrawn(mean, variance))
    of_mean, of_variance = torch.autograd.grad(y.square().mean(), [mean, variance])
    center, spread = float(mean.detach() @ x), float((variance.detach() @ x.square()).sqrt())
    # a gradient's single terms are 2 y x_i and y ε x_i²/σ_y
    error = 2 * spread * x.abs() / n**0.5
    assert bool(((of_mean[0] - 2 * center * x).abs() < SIGMAS * error).all())
    error = (3.0 + (center / spread) ** 2) ** 0.5 * x.square() / n**0.5
    assert bool(((of_variance[0] - x.square()).abs() < SIGMAS * error).all())


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "sum": lambda w: w.sum(0),
    "w + 1": lambda w: w + 1,
    "1 - w": lambda w: 1 - w,
    "w * w": lambda w: w * w,
    "index": lambda w: w[1:, ::2],
    "detach": lambda w: w.detach(),
    "clone": lambda w: w.clone(),
    "reshape": lambda w: w.reshape(-1),
    "permute": lambda w: w.permute(1, 0),
    "expand": lambda w: w.expand(torch.Size([2, 4, 3])),
    "stack": lambda w: torch.stack([w, w]),
    "cat by keyword": lambda w: torch.cat(tensors=(w, w), dim=0),
    "einsum": lambda w: torch.einsum("oi,bi->bo", w, torch.ones(2, 3)),
    "addmm": lambda w: torch.addmm(torch.ones(4, 2), w, torch.ones(3, 2)),
    "bmm": lambda w: torch.bmm(w.expand(2, 4, 3), torch.ones(2, 3, 1)),
    "embedding": lambda w: F.embedding(torch.tensor([0, 2]), w),
    "normalize": lambda w: F.normalize(w, dim=1),
    "weight norm": lambda w: w / w.norm(dim=1, keepdim=True),
    "w @ w.t()": lambda w: w @ w.t(),
    "w.t() @ w": lambda w: w.t() @ w,
    "transpose by keyword": lambda w: torch.transpose(input=w, dim0=0, dim1=1),
    "mm by keyword": lambda w: torch.mm(torch.ones(2, 4), mat2=w),
    "matmul with out": lambda w: torch.matmul(torch.ones(2, 4), w, out=torch.empty(2, 3)),
    "as input of linear": lambda w: F.linear(w, torch.ones(2, 3)),
    "in both places of linear": lambda w: F.linear(w, w),
}


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_operation_gets_one_real_draw_and_always_the_same(case: str) -> None:
    operation = OTHERS[case]
    drawn: list[Tensor] = []

    def sampler() -> Tensor:
        drawn.append(torch.randn(4, 3))
        return drawn[-1]

    w = Undrawn(torch.zeros(4, 3), torch.ones(4, 3), sampler, "w")
    first, second = operation(w), operation(w)
    assert len(drawn) == 1
    assert type(first) is Tensor
    torch.testing.assert_close(first, operation(drawn[0]))
    assert torch.equal(first, second)


def test_a_draw_stays_a_draw() -> None:
    w = undrawn(torch.zeros(4, 3), torch.ones(4, 3))
    x = torch.randn(2, 3)
    exponential = w.exp()
    torch.testing.assert_close(F.linear(x, w), F.linear(x, exponential.log()))
    torch.testing.assert_close(x @ w.t(), F.linear(x, w.draw()))
    torch.testing.assert_close(x @ w.T, F.linear(x, w.draw()))
    assert torch.equal(w.t().exp(), exponential.t())


def test_a_transpose_shares_the_draw() -> None:
    w = undrawn(torch.zeros(4, 3), torch.ones(4, 3))
    turned = w.t()
    again = turned.t()
    assert torch.equal(turned.draw(), w.draw().t())
    assert torch.equal(again.draw(), w.draw())


def test_two_undrawn_factors_of_two_sites() -> None:
    a, b = undrawn(torch.zeros(2, 3), torch.ones(2, 3)), undrawn(torch.zeros(3, 2), torch.ones(3, 2))
    assert (a @ b).shape == (2, 2)
    assert a._drawn is not None and b._drawn is None


def test_draws_carry_gradients() -> None:
    mean, variance = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    undrawn(mean, variance).exp().sum().backward()
    assert mean.grad is not None and variance.grad is not None


METADATA: dict[str, tuple[Callable[[Tensor], object], object]] = {
    "shape": (lambda w: w.shape, torch.Size([4, 3])),
    "size": (lambda w: w.size(), torch.Size([4, 3])),
    "size(0)": (lambda w: w.size(0), 4),
    "dtype": (lambda w: w.dtype, torch.float32),
    "device": (lambda w: w.device, torch.device("cpu")),
    "ndim": (lambda w: w.ndim, 2),
    "dim": (lambda w: w.dim(), 2),
    "numel": (lambda w: w.numel(), 12),
    "nelement": (lambda w: w.nelement(), 12),
    "len": (len, 4),
    "is_cuda": (lambda w: w.is_cuda, False),
    "is_sparse": (lambda w: w.is_sparse, False),
    "is_nested": (lambda w: w.is_nested, False),
    "is_complex": (lambda w: w.is_complex(), False),
    "torch.numel": (torch.numel, 12),
    "is_floating_point": (torch.is_floating_point, True),
    "layout": (lambda w: w.layout, torch.strided),
    "element_size": (lambda w: w.element_size(), 4),
    "nbytes": (lambda w: w.nbytes, 48),
    "isinstance": (lambda w: isinstance(w, Tensor), True),
    "requires_grad": (lambda w: w.requires_grad, False),
    "t().shape": (lambda w: w.t().shape, torch.Size([3, 4])),
    "in a set": (lambda w: len({w, w}), 1),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_does_not_draw(name: str) -> None:
    ask, answer = METADATA[name]
    assert ask(never_drawn(4, 3)) == answer


def test_requires_grad_is_that_of_the_moments() -> None:
    assert undrawn(torch.zeros(2), torch.ones(2, requires_grad=True)).requires_grad


def test_used_twice_warns_with_the_name_of_the_site() -> None:
    x = torch.randn(2, 3)
    w = undrawn(torch.zeros(4, 3), torch.ones(4, 3), site="encoder.weight")
    F.linear(x, w)
    with pytest.warns(PyrosparseWarning, match=r"'encoder.weight' is used twice.*exclude="):
        F.linear(x, w)


def test_used_twice_is_seen_through_a_transpose() -> None:
    w = undrawn(torch.zeros(3, 3), torch.ones(3, 3))
    x = torch.randn(2, 3)
    F.linear(x, w)
    with pytest.warns(PyrosparseWarning, match="used twice"):
        x @ w.t()


def test_modules_with_undrawn_weights() -> None:
    """The modules themselves know nothing of undrawn weights."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )
    weights = {name: undrawn(p.detach(), torch.full_like(p, 0.1)) for name, p in network.named_parameters()}
    x = torch.randn(1, 1, 4, 4).repeat(LAZY, 1, 1, 1)
    out = functional_call(network, weights, (x,))
    assert all(w._drawn is None for w in weights.values())
    assert float(out.std(0).min()) > 0


@pytest.mark.parametrize("training", [True, False])
def test_attention_is_right(training: bool) -> None:
    """Attention hands its weights to a function of its own, which gets one real draw."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True).train(training)
    mean = attention.out_proj.weight.detach()
    w = undrawn(mean, torch.full_like(mean, 0.1))
    x = torch.randn(2, 3, 4)
    out, _ = functional_call(attention, {"out_proj.weight": w}, (x, x, x))
    expected, _ = functional_call(attention, {"out_proj.weight": w.draw()}, (x, x, x))
    torch.testing.assert_close(out, expected)


def test_recurrent_layers_get_one_real_draw() -> None:
    lstm = nn.LSTM(3, 4, batch_first=True)
    mean = lstm.weight_ih_l0.detach()
    w = undrawn(mean, torch.full_like(mean, 0.1))
    x = torch.randn(2, 5, 3)
    out, _ = functional_call(lstm, {"weight_ih_l0": w.draw()}, (x,))
    plain = nn.LSTM(3, 4, batch_first=True)
    plain.load_state_dict(lstm.state_dict() | {"weight_ih_l0": w.draw()})
    torch.testing.assert_close(out, plain(x)[0])


def test_nothing_is_patched() -> None:
    """Another thread sees torch's own functions while a weight is being used."""
    before = (F.linear, F.conv2d, torch.matmul, Tensor.__matmul__)
    results: list[Tensor] = []
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    w = undrawn(weight, torch.ones(4, 3))
    out = F.linear(x, w)
    thread = threading.Thread(target=lambda: results.append(F.linear(x, weight)))
    thread.start()
    thread.join()
    assert (F.linear, F.conv2d, torch.matmul, Tensor.__matmul__) == before
    assert torch.equal(results[0], x @ weight.t())
    assert not torch.equal(results[0], out)
    assert type(out) is Tensor


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_noise_lies_in_memory_as_what_it_is_added_to(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.zeros(shape, dtype=dtype)
    for like in (x, x.movedim(0, -1), x.movedim(1, -1) if len(shape) > 1 else x):
        noise = noise_like(like)
        assert noise.shape == like.shape and noise.stride() == like.stride() and noise.dtype == dtype
    # numbers that share memory have noise of their own
    assert len(noise_like(torch.zeros(1).expand(50)).unique()) == 50
    many = noise_like(torch.zeros((50, 3, 20, 40), dtype=dtype).movedim(1, -1))
    assert abs(float(many.abs().square().mean()) - 1.0) < 0.05
