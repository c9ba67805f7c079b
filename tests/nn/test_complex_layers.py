"""Complex linear maps against torch's own complex operations, for every option."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyrosparse.nn as psnn
from pyrosparse.errors import NetworkError

Native = dict[str, Any]


def complex_randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def seen(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else torch.view_as_complex(parameter)


def assert_same_map(layer: nn.Module, native: Any, x: Tensor) -> None:
    """Values and all gradients agree."""
    ours, theirs = layer(x), native(x, seen(layer.weight), seen(layer.bias))
    torch.testing.assert_close(ours, theirs)
    leaves = [x, *layer.parameters()]
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).real.sum(), leaves),
        torch.autograd.grad((theirs * weight).real.sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
def test_linear(bias: bool, shape: tuple[int, ...]) -> None:
    layer = psnn.ComplexLinear(6, 4, bias, dtype=torch.complex128)
    assert layer.weight.shape == (4, 6, 2)
    assert_same_map(layer, F.linear, complex_randn(*shape).requires_grad_())
    x = complex_randn(3, 6).numpy()
    w = layer.weight.detach().numpy()
    expected = x @ (w[..., 0] + 1j * w[..., 1]).T
    if layer.bias is not None:
        b = layer.bias.detach().numpy()
        expected = expected + b[:, 0] + 1j * b[:, 1]
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_bilinear(bias: bool, shape: tuple[int, ...]) -> None:
    layer = psnn.ComplexBilinear(3, 5, 4, bias, dtype=torch.complex128)
    assert layer.weight.shape == (4, 3, 5, 2)
    x, y = complex_randn(*shape, 3).requires_grad_(), complex_randn(*shape, 5)

    def native(x: Tensor, weight: Tensor, b: Tensor | None) -> Tensor:
        out = torch.einsum("...i,oij,...j->...o", x, weight, y)
        return out if b is None else out + b

    class Half(nn.Module):
        weight, bias = layer.weight, layer.bias

        def forward(self, x: Tensor) -> Tensor:
            return layer(x, y)

        def parameters(self, recurse: bool = True) -> Any:
            return layer.parameters()

    assert_same_map(Half(), native, x)


CONVOLUTIONS: dict[str, tuple[int, Native]] = {
    "1d": (1, {"kernel_size": 3}),
    "1d options": (1, {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "groups": 2}),
    "1d no bias": (1, {"kernel_size": 2, "bias": False}),
    "1d same": (1, {"kernel_size": 4, "padding": "same", "dilation": 2}),
    "2d": (2, {"kernel_size": 3}),
    "2d options": (2, {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 4}),
    "2d valid": (2, {"kernel_size": 2, "padding": "valid"}),
    "3d": (3, {"kernel_size": 2}),
    "3d options": (3, {"kernel_size": (1, 2, 3), "stride": 2, "padding": 1, "groups": 2}),
}
PADDED: dict[str, tuple[int, Native]] = {
    f"{dims}d {mode} {padding}": (dims, {"kernel_size": 4, "padding": padding, "padding_mode": mode, "dilation": 1})
    for dims in (1, 2, 3)
    for mode in ("reflect", "replicate", "circular")
    for padding in (2, "same")
}


def arguments(dims: int, options: Native) -> Native:
    """What torch's functional form takes, for one dimension."""
    return {k: options[k] for k in ("stride", "padding", "dilation", "groups", "output_padding") if k in options}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case: str, batched: bool) -> None:
    dims, options = CONVOLUTIONS[case]
    layer = getattr(psnn, f"ComplexConv{dims}d")(4, 8, dtype=torch.complex128, **options)
    twin = getattr(nn, f"Conv{dims}d")(4, 8, **options)
    assert layer.weight.shape == (*twin.weight.shape, 2)
    conv = getattr(F, f"conv{dims}d")
    x = complex_randn(*([3] if batched else []), 4, *[7] * dims).requires_grad_()
    assert_same_map(layer, lambda x, w, b: conv(x, w, b, **arguments(dims, options)), x)


@pytest.mark.parametrize("case", PADDED)
def test_padding_modes_are_torch_s(case: str) -> None:
    dims, options = PADDED[case]
    layer = getattr(psnn, f"ComplexConv{dims}d")(2, 3, **options)
    real = getattr(nn, f"Conv{dims}d")(2, 3, **options)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[..., 0] = real.weight
        layer.bias.zero_()
        layer.bias[..., 0] = real.bias
    a, b = torch.randn(2, 2, *[6] * dims), torch.randn(2, 2, *[6] * dims)
    out = layer(torch.complex(a, b))
    torch.testing.assert_close(out.real, real(a))
    torch.testing.assert_close(out.imag, real(b) - real(torch.zeros_like(b)))


TRANSPOSED: dict[str, tuple[int, Native]] = {
    "1d": (1, {"kernel_size": 3}),
    "1d options": (
        1,
        {"kernel_size": 3, "stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "dilation": 2},
    ),
    "2d": (2, {"kernel_size": (3, 2), "bias": False}),
    "2d options": (
        2,
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0), "output_padding": (1, 0), "groups": 4},
    ),
    "3d options": (3, {"kernel_size": 2, "stride": 2, "groups": 2}),
}


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions(case: str, batched: bool) -> None:
    dims, options = TRANSPOSED[case]
    layer = getattr(psnn, f"ComplexConvTranspose{dims}d")(4, 8, dtype=torch.complex128, **options)
    twin = getattr(nn, f"ConvTranspose{dims}d")(4, 8, **options)
    assert layer.weight.shape == (*twin.weight.shape, 2)
    conv = getattr(F, f"conv_transpose{dims}d")
    x = complex_randn(*([3] if batched else []), 4, *[4] * dims).requires_grad_()
    assert_same_map(layer, lambda x, w, b: conv(x, w, b, **arguments(dims, options)), x)


def test_output_size_of_transposed_convolutions() -> None:
    layer, twin = psnn.ComplexConvTranspose2d(2, 3, 3, 3, dilation=2), nn.ConvTranspose2d(2, 3, 3, 3, dilation=2)
    x = torch.randn(1, 2, 4, 4)
    for size in ([14, 15], [16, 14], [1, 3, 15, 16]):
        assert layer(x + 0j, size).shape == twin(x, size).shape
    for size in ([13, 14], [14, 17], [14]):
        with pytest.raises(NetworkError, match=r"out of reach: between \(14, 14\) and \(16, 16\)"):
            layer(x + 0j, size)


def test_conjugate_views_are_read_right() -> None:
    x = complex_randn(2, 4, 5, 5)
    for layer in (
        psnn.ComplexConv2d(4, 3, 2, dtype=torch.complex128),
        psnn.ComplexConvTranspose2d(4, 3, 2, dtype=torch.complex128),
        psnn.ComplexLinear(5, 3, dtype=torch.complex128),
        psnn.CReLU(),
        psnn.ModulusMaxPool2d(2),
    ):
        torch.testing.assert_close(layer(x.conj()), layer(x.conj().resolve_conj()))


REFUSED: dict[str, tuple[Any, str]] = {
    "groups": (lambda: psnn.ComplexConv2d(3, 4, 2, groups=2), "groups=2 does not divide in_channels=3"),
    "no groups": (lambda: psnn.ComplexConvTranspose1d(3, 4, 2, groups=0), "groups=0"),
    "sizes": (lambda: psnn.ComplexConv2d(3, 4, (2, 2, 2)), r"kernel_size is \(2, 2, 2\); give a number or 2"),
    "padding": (lambda: psnn.ComplexConv1d(3, 4, 2, padding="full"), "choose a number, 'same' or 'valid'"),
    "same with stride": (lambda: psnn.ComplexConv1d(3, 4, 2, stride=2, padding="same"), "needs a stride of 1"),
    "mode": (lambda: psnn.ComplexConv1d(3, 4, 2, padding_mode="mirror"), "padding_mode='mirror'"),
    "transposed mode": (lambda: psnn.ComplexConvTranspose1d(3, 4, 2, padding_mode="reflect"), "only 'zeros'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(NetworkError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (psnn.ComplexLinear(3, 2), torch.ones(1, 3)),
        (psnn.ComplexConv1d(3, 2, 1), torch.ones(1, 3, 3)),
        (psnn.ComplexConvTranspose2d(3, 2, 1), torch.ones(1, 3, 3, 3)),
        (psnn.ComplexBatchNorm1d(3), torch.ones(2, 3)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_real_inputs_are_refused(layer: nn.Module, x: Tensor) -> None:
    with pytest.raises(NetworkError, match=rf"{type(layer).__name__} takes complex tensors.*float32.*ToComplex"):
        layer(x)


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: psnn.ComplexLinear(3, 2), (4, 3)),
    "conv": (lambda: psnn.ComplexConv1d(3, 2, 1), (4, 3, 3)),
    "transposed": (lambda: psnn.ComplexConvTranspose2d(3, 2, 1), (4, 3, 3, 3)),
    "norm": (lambda: psnn.ComplexBatchNorm1d(3), (4, 3)),
    "plain norm": (lambda: psnn.ComplexBatchNorm1d(3, affine=False), (4, 3)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_another_precision_is_refused_by_name(case: str) -> None:
    make, shape = LAYERS[case]
    x = torch.randn(shape, dtype=torch.complex128)
    with pytest.raises(
        NetworkError, match=r"parameters of torch\.float32 .* is torch\.complex128: give x\.to\(torch\.complex"
    ):
        make()(x)
    assert make().double()(x).dtype == torch.complex128
    with pytest.raises(NetworkError, match=r"parameters of torch\.bfloat16, and they must be real pairs"):
        make().bfloat16()(x)


@pytest.mark.parametrize(
    "layer", [psnn.ComplexBilinear(4, 4, 3), psnn.ComplexConv1d(4, 3, 2)], ids=lambda m: type(m).__name__
)
def test_a_default_device_and_export_change_nothing(layer: nn.Module) -> None:
    z = torch.randn(5, 4, 4, dtype=torch.complex64)
    inputs = (z, z) if isinstance(layer, psnn.ComplexBilinear) else (z,)
    expected = layer(*inputs)
    with torch.device("cpu"):
        given = layer(*inputs)
        given.abs().sum().backward()
    assert torch.equal(given, expected) and layer.weight.grad is not None
    program = torch.export.export(layer, inputs)
    torch.testing.assert_close(program.module()(*inputs), expected)


def test_bilinear_layers_refuse_a_mixture() -> None:
    z = torch.randn(4, 3, dtype=torch.complex64)
    with pytest.raises(NetworkError, match="complex128"):
        psnn.ComplexBilinear(3, 3, 2)(z, z.to(torch.complex128))


def test_bilinear_layers_name_the_input_that_does_not_fit() -> None:
    layer = psnn.ComplexBilinear(6, 4, 2)
    x4, x6 = torch.randn(2, 4, dtype=torch.complex64), torch.randn(2, 6, dtype=torch.complex64)
    assert layer(x6, x4).shape == (2, 2)
    with pytest.raises(NetworkError, match=r"the first input has shape \(2, 4\); give \(..., 6\)"):
        layer(x4, x6)
    with pytest.raises(NetworkError, match=r"the second input has shape \(2, 6\); give \(..., 4\)"):
        layer(x6, x6)
    with pytest.raises(NetworkError, match=r"\(2, 6\) and \(1, 4\) must have the same leading axes"):
        layer(x6, x4[:1])


@pytest.mark.parametrize("sizes", [(3, 4, 20), (20, 3, 2), (3, 20, 2)], ids=["outer", "first", "second"])
def test_every_order_of_a_bilinear_product(sizes: tuple[int, int, int]) -> None:
    in1, in2, out = sizes
    layer = psnn.ComplexBilinear(in1, in2, out, dtype=torch.complex128)
    x1, x2 = (torch.randn(2, 5, n, dtype=torch.complex128) for n in (in1, in2))
    weight, bias = (torch.view_as_complex(p.detach()) for p in (layer.weight, layer.bias))
    torch.testing.assert_close(layer(x1, x2), torch.einsum("...i,oij,...j->...o", x1, weight, x2) + bias)


def test_printing_names_what_torch_names() -> None:
    assert repr(psnn.ComplexLinear(3, 2)) == "ComplexLinear(in_features=3, out_features=2, bias=True)"
    conv = psnn.ComplexConv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)
    assert repr(conv) == (
        "ComplexConv2d(2, 4, kernel_size=(3, 3), stride=(2, 2), groups=2, bias=False, padding=(1, 1))"
    )
    assert "output_padding=(1,)" in repr(psnn.ComplexConvTranspose1d(2, 2, 3, stride=2, output_padding=1))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: psnn.ComplexLinear(50, 400), lambda: nn.Linear(50, 400)),
        (lambda: psnn.ComplexConv2d(8, 90, 3), lambda: nn.Conv2d(8, 90, 3)),
        (lambda: psnn.ComplexConvTranspose2d(90, 8, 3), lambda: nn.ConvTranspose2d(90, 8, 3)),
        (lambda: psnn.ComplexBilinear(20, 20, 100), lambda: nn.Bilinear(20, 20, 100)),
    ],
    ids=["linear", "conv", "transposed", "bilinear"],
)
def test_initial_weights_have_the_variance_of_torch(ours: Any, theirs: Any) -> None:
    layer, twin = ours(), theirs()
    n = twin.weight.numel()
    expected = float(twin.weight.detach().square().mean())
    # of the mean of n squares of a uniform law: 0.9 relative standard deviations over the root of n, two layers
    assert float(layer.weight.detach().square().sum(-1).mean()) == pytest.approx(expected, rel=5 * (1.8 / n) ** 0.5)
    parts = layer.weight.detach().reshape(-1, 2)
    assert abs(float(np.corrcoef(parts.T.numpy())[0, 1])) < 5 / n**0.5
    assert float(layer.bias.detach().square().sum(-1).mean()) == pytest.approx(
        float(twin.bias.detach().square().mean()), rel=0.8
    )


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (psnn.ComplexLinear(3, 2), (4, 5), r"ComplexLinear takes \(\.\.\., 3\)"),
        (psnn.ComplexConv1d(3, 4, 3), (2, 5, 8), r"ComplexConv1d takes \(N, 3, L\) or \(3, L\)"),
        (
            psnn.ComplexConv2d(1, 4, 3),
            (8, 8),
            r"takes \(N, 1, H, W\) or \(1, H, W\), .* shape \(8, 8\)",
        ),
        (psnn.ComplexConvTranspose3d(2, 4, 3), (2, 8), r"takes \(N, 2, D, H, W\)"),
        (psnn.ComplexAvgPool2d(2), (4, 4), r"takes \(N, C, H, W\) or \(C, H, W\)"),
        (psnn.ModulusMaxPool1d(2), (4,), r"takes \(N, C, L\)"),
    ],
)
def test_shapes_are_said_in_complex_channels(layer: nn.Module, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(NetworkError, match=said):
        layer(torch.randn(*shape, dtype=torch.complex64))


@pytest.mark.parametrize(
    "layer",
    [
        psnn.ComplexLinear(4, 3),
        psnn.ComplexConv1d(4, 3, 2),
        psnn.ComplexConvTranspose1d(4, 3, 2),
        psnn.ComplexAvgPool1d(2),
        psnn.ModulusMaxPool1d(2),
        psnn.ComplexBatchNorm1d(4),
        psnn.ModReLU(4),
        psnn.CReLU(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_dynamo_follows(layer: nn.Module) -> None:
    layer.eval()
    x = torch.randn(3, 4, 4, dtype=torch.complex64)
    torch.testing.assert_close(torch.compile(layer, backend="eager")(x), layer(x))
