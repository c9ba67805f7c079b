"""Activations, pooling, dropout, casts and transforms against numpy and torch's real modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyrosparse.nn as psnn
from pyrosparse.errors import DataError, NetworkError


def complex_randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64)


def test_activations_follow_their_formulas() -> None:
    x = torch.cat([complex_randn(500), torch.tensor([0, 1, -1, 1j, -1j, 1 + 1j])])
    z = x.numpy()
    modulus = np.where(z == 0, 1, np.abs(z))
    cases: list[tuple[nn.Module, np.ndarray]] = [
        (psnn.CReLU(), np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0)),
        (psnn.ZReLU(), np.where((z.real > 0) & (z.imag > 0), z, 0)),
        (psnn.Cardioid(), 0.5 * (1 + z.real / modulus) * z),
        (psnn.ModReLU(init=-0.4), np.maximum(np.abs(z) - 0.4, 0) * z / modulus),
        (psnn.Modulus(), np.abs(z)),
        (psnn.RealPart(), z.real),
        (psnn.ImaginaryPart(), z.imag),
    ]
    for module, expected in cases:
        np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "module", [psnn.CReLU(), psnn.ZReLU(), psnn.Cardioid(), psnn.ModReLU(init=0.2), psnn.Modulus()]
)
def test_gradients_at_zero_are_finite(module: nn.Module) -> None:
    x = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    module(x).abs().square().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_modrelu_has_a_threshold_for_each_channel() -> None:
    layer = psnn.ModReLU(3)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-10.0, 0.0, 1.0]))
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        x = complex_randn(*shape)
        out = layer(x)
        assert not out[:, 0].any()
        torch.testing.assert_close(out[:, 1], x[:, 1])
        torch.testing.assert_close(out[:, 2].abs(), x[:, 2].abs() + 1)
        torch.testing.assert_close(out[:, 2].angle(), x[:, 2].angle(), rtol=1e-4, atol=1e-4)
    assert layer(complex_randn(3)).shape == (3,)


def test_phase_shift() -> None:
    layer = psnn.PhaseShift((3, 1))
    x = complex_randn(2, 3, 4)
    torch.testing.assert_close(layer(x), x)
    with torch.no_grad():
        layer.phase.copy_(torch.tensor([[0.0], [np.pi / 2], [np.pi]]))
    torch.testing.assert_close(layer(x), x * torch.tensor([[1], [1j], [-1]]), rtol=1e-5, atol=1e-6)
    assert psnn.PhaseShift(5).phase.shape == (5,)


POOLS = {
    "1d": (1, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "1d ceil": (1, {"kernel_size": 2, "ceil_mode": True}),
    "2d": (2, {"kernel_size": (3, 2), "stride": 2, "padding": 1}),
    "3d": (3, {"kernel_size": 2}),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("batched", [True, False])
def test_average_pools_of_the_parts(case: str, batched: bool) -> None:
    dims, options = POOLS[case]
    x = complex_randn(*([2] if batched else []), 3, *[7] * dims)
    ours, theirs = (getattr(m, f"{p}AvgPool{dims}d")(**options) for m, p in ((psnn, "Complex"), (nn, "")))
    torch.testing.assert_close(ours(x), torch.complex(theirs(x.real), theirs(x.imag)))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("batched", [True, False])
def test_the_largest_modulus_is_taken(case: str, batched: bool, dilation: int) -> None:
    dims, options = POOLS[case]
    options = {**options, "dilation": dilation}
    x = complex_randn(*([2] if batched else []), 3, *[7] * dims)
    pool = getattr(psnn, f"ModulusMaxPool{dims}d")(**options)
    twin = getattr(nn, f"MaxPool{dims}d")(**options, return_indices=True)
    modulus, where = twin(x.abs())
    torch.testing.assert_close(pool(x).abs(), modulus)
    out, indices = getattr(psnn, f"ModulusMaxPool{dims}d")(**options, return_indices=True)(x)
    assert torch.equal(indices, where)
    torch.testing.assert_close(out, pool(x))
    assert np.isin(out.numpy(), x.numpy()).all()


def test_pooling_passes_gradients_to_what_it_took() -> None:
    x = torch.tensor([[[1.0, 3j, -2, 0.5]]], dtype=torch.complex64, requires_grad=True)
    psnn.ModulusMaxPool1d(2)(x).sum().abs().backward()
    assert x.grad is not None
    assert (x.grad != 0).tolist() == [[[False, True, True, False]]]


@pytest.mark.parametrize(
    "kind", [psnn.ComplexDropout, psnn.ComplexDropout1d, psnn.ComplexDropout2d, psnn.ComplexDropout3d]
)
def test_dropout(kind: type[psnn.ComplexDropout]) -> None:
    dims = kind.spatial
    x = complex_randn(400, 50, *[2] * dims)
    layer = kind(0.3)
    out = layer(x)
    dropped = out == 0
    torch.testing.assert_close(out[~dropped], x[~dropped] / 0.7)
    channels = dropped.flatten(2) if dims else dropped.unsqueeze(-1)
    assert torch.equal(channels.all(-1), channels.any(-1))  # a channel goes as a whole
    share = float(channels.any(-1).float().mean())
    assert abs(share - 0.3) < 5 * (0.21 / 20_000) ** 0.5
    assert layer.eval()(x) is x
    assert kind(0.0)(x) is x
    y = x.clone()
    assert kind(1.0, inplace=True)(y) is y and not y.any()
    assert not layer(x[0] * 0).any() and layer.train()(x[0]).shape == x[0].shape
    if dims:
        with pytest.raises(NetworkError, match=rf"{dims + 1} or {dims + 2} axes, and this one has shape \(6,\)"):
            layer(complex_randn(6))


@pytest.mark.parametrize("module", [psnn.Cardioid(), psnn.ModReLU(init=0.1), psnn.Modulus()], ids=str)
def test_numbers_too_small_for_a_phase_count_as_zero(module: nn.Module) -> None:
    z = torch.tensor([0, 1e-39 + 1e-39j, -1e-42, 1e-45j, 2e-38j, 1e-30 + 1e-30j], dtype=torch.complex64)
    z.requires_grad_()
    out = module(z)
    assert out.isfinite().all() and out.detach()[:4].abs().max() < 1e-38
    torch.view_as_real(out).sum().backward() if out.is_complex() else out.sum().backward()
    assert z.grad is not None and z.grad.isfinite().all()
    for lost in (complex("nan+1j"), complex("1+nanj")):
        assert module(torch.tensor([lost])).isnan().all()  # what has gone wrong is not taken for 0


def test_shapes_of_thresholds_and_phases_are_compared() -> None:
    z = complex_randn(2, 1, 3, 3)
    with pytest.raises(NetworkError, match=r"thresholds for 8 channels.*\(2, 1, 3, 3\)"):
        psnn.ModReLU(8)(z)
    assert psnn.ModReLU()(z[0, 0, 0, 0]).shape == ()
    with pytest.raises(NetworkError, match=r"phases of shape \(5,\).*\(3, 1\)"):
        psnn.PhaseShift(5)(complex_randn(3, 1))
    with pytest.raises(NetworkError, match=r"phases of shape \(2, 3\).*\(3,\)"):
        psnn.PhaseShift((2, 3))(complex_randn(3))
    for module in (psnn.ModReLU(dtype=torch.float64), psnn.PhaseShift(3, dtype=torch.float64)):
        with pytest.raises(NetworkError, match="takes torch.complex128, and this tensor is torch.complex64"):
            module(z)


def test_to_complex() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    a, b = x[:, 0::2], x[:, 1::2]
    torch.testing.assert_close(psnn.ToComplex()(x), x + 0j)
    torch.testing.assert_close(psnn.ToComplex("interleaved", dim=1)(x), torch.complex(a, b))
    torch.testing.assert_close(psnn.ToComplex("interleaved", dim=-2)(x), torch.complex(a, b))
    torch.testing.assert_close(psnn.ToComplex("concatenated", dim=1)(x), torch.complex(x[:, :2], x[:, 2:]))
    torch.testing.assert_close(
        psnn.ToComplex("interleaved")(x[..., :2]), torch.view_as_complex(x[..., None, :2].contiguous())
    )
    z = x + 1j
    assert psnn.ToComplex()(z) is z
    assert psnn.ToComplex()(x.double()).dtype == torch.complex128
    assert repr(psnn.ToComplex("interleaved", dim=1)) == "ToComplex('interleaved', dim=1)"
    with pytest.raises(NetworkError, match="'real', 'interleaved', 'concatenated'"):
        psnn.ToComplex("pairs")
    with pytest.raises(DataError, match=r"axis -1 .*\(2, 4, 3\).*odd"):
        psnn.ToComplex("interleaved")(x)
    with pytest.raises(DataError, match=r"not torch\.int64"):
        psnn.ToComplex()(torch.arange(3))
    with pytest.raises(DataError, match=r"not torch\.complex64"):
        psnn.ToComplex("concatenated")(z)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("layout", psnn.ComplexLayout)
def test_to_real_undoes_to_complex(layout: psnn.ComplexLayout, dim: int) -> None:
    z = torch.randn(2, 4, 3, dtype=torch.complex64)
    given = psnn.ToReal(layout, dim=dim)(z)
    assert not given.is_complex()
    expected = z.real + 0j if layout == "real" else z
    torch.testing.assert_close(psnn.ToComplex(layout, dim=dim)(given), expected)


def test_to_real() -> None:
    z = torch.randn(2, 3, dtype=torch.complex64)
    assert psnn.ToReal(dim=1)(z).tolist() == torch.cat([z.real, z.imag], 1).tolist()
    assert psnn.ToReal("interleaved")(z)[0, :4].tolist() == [z[0, 0].real, z[0, 0].imag, z[0, 1].real, z[0, 1].imag]
    assert repr(psnn.ToReal(dim=1)) == "ToReal('concatenated', dim=1)"
    with pytest.raises(NetworkError, match="ToReal: layout='pairs' is unknown"):
        psnn.ToReal("pairs")
    for cast, x in ((psnn.ToReal(dim=2), z), (psnn.ToComplex("interleaved", dim=-3), z.real)):
        with pytest.raises(DataError, match=r"of shape \(2, 3\) has no axis"):
            cast(x)


def test_features_of_bfloat16_are_complex64() -> None:
    x = torch.randn(2, 4, 8)
    for layer in (psnn.ToComplex(), psnn.ToComplex("interleaved"), psnn.FourierFeatures2d(), psnn.ShortTimeFourier(4)):
        torch.testing.assert_close(layer(x.bfloat16()), layer(x.bfloat16().float()))


REAL_INPUTS = [
    psnn.CReLU(), psnn.ZReLU(), psnn.ImaginaryPart(), psnn.ToReal(), psnn.ComplexAvgPool1d(2),
    psnn.ComplexAvgPool2d(2), psnn.ComplexAvgPool3d(2), psnn.ModulusMaxPool2d(2), psnn.Cardioid(), psnn.ModReLU(),
    psnn.RealPart(), psnn.Modulus(), psnn.PhaseShift(4), psnn.ComplexDropout(), psnn.ComplexDropout2d(),
]  # fmt: skip


@pytest.mark.parametrize("module", REAL_INPUTS, ids=lambda m: type(m).__name__)
def test_real_inputs_are_refused(module: nn.Module) -> None:
    with pytest.raises(NetworkError, match=rf"{type(module).__name__} takes complex tensors.*float32.*ToComplex"):
        module(torch.ones(2, 2, 4, 4))


def test_fourier_features() -> None:
    x = torch.randn(2, 3, 4, 5)
    expected = np.fft.fftshift(np.fft.fft2(x.numpy(), norm="ortho"), (-2, -1))
    np.testing.assert_allclose(psnn.FourierFeatures2d()(x).numpy(), expected, atol=1e-5)
    plain = psnn.FourierFeatures2d(norm="backward", shift=False)(x + 0j)
    np.testing.assert_allclose(plain.numpy(), np.fft.fft2(x.numpy()), atol=1e-4)
    with pytest.raises(NetworkError, match="norm='unit'"):
        psnn.FourierFeatures2d(norm="unit")
    assert psnn.FourierFeatures2d()(x[:0]).shape == (0, 3, 4, 5) and psnn.FourierFeatures2d()(x[:0]).is_complex()
    with pytest.raises(DataError, match=r"\(5,\) has no two axes"):
        psnn.FourierFeatures2d()(x[0, 0, 0])


def test_short_time_fourier() -> None:
    x = torch.randn(2, 3, 64)
    layer = psnn.ShortTimeFourier(16, 8, 12)
    out = layer(x)
    assert out.shape == (2, 3, 9, 9)
    window = torch.hann_window(12)
    one = torch.stft(x[1, 2], 16, 8, 12, window=window, return_complex=True)
    torch.testing.assert_close(out[1, 2], one)
    # a frame is the transform of a windowed piece of the signal
    frame = x[0, 0, 16 - 8 : 16 + 8].clone()
    frame[2:14] *= window
    frame[:2] = frame[14:] = 0
    np.testing.assert_allclose(out[0, 0, :, 2].numpy(), np.fft.rfft(frame.numpy()), atol=1e-5)
    assert layer(x[0, 0]).shape == (9, 9)
    whole = psnn.ShortTimeFourier(16, window=torch.ones(16), center=False, onesided=False)
    assert whole(x).shape == (2, 3, 16, 13)
    assert whole.hop_length == 4
    assert layer.double()(x.double()).dtype == torch.complex128
    with pytest.raises(NetworkError, match="hop_length=0; give at least 1"):
        psnn.ShortTimeFourier(16, 0)
    with pytest.raises(NetworkError, match="win_length=20"):
        psnn.ShortTimeFourier(16, win_length=20)
    with pytest.raises(NetworkError, match="pad_mode='mirror'; choose one of 'reflect'"):
        psnn.ShortTimeFourier(16, pad_mode="mirror")
    with pytest.raises(DataError, match=r"\(2, 3, 8\); signals .* at least 9 numbers"):
        layer(x[..., :8])
    with pytest.raises(DataError, match=r"\(0, 64\); .* there must be one"):
        layer(x[0, :0])
    assert psnn.ShortTimeFourier(16, dtype=torch.float64).window.dtype == torch.float64
    with pytest.raises(NetworkError, match=r"shape \(3,\)"):
        psnn.ShortTimeFourier(16, window=torch.ones(3))


@pytest.mark.parametrize("module", [psnn.CReLU(), psnn.ComplexAvgPool2d(2), psnn.ComplexConv2d(3, 4, 2)])
def test_memory_order_changes_neither_values_nor_gradients(module: nn.Module) -> None:
    z = torch.randn(2, 3, 4, 6, dtype=torch.complex64)
    results = []
    for x in (z.clone(), z.to(memory_format=torch.channels_last), z.transpose(0, 1).contiguous().transpose(0, 1)):
        x.requires_grad_()
        y = module(x)
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
        results.append((y, gradient))
    for y, gradient in results[1:]:
        torch.testing.assert_close(y, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


def test_channels_last_is_kept_on_the_way() -> None:
    """No copy between convolution, activation and pooling."""
    y = psnn.ComplexAvgPool2d(2)(psnn.CReLU()(psnn.ComplexConv2d(3, 4, 2)(torch.randn(2, 3, 5, 7) + 0j)))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_short_time_signals_that_cannot_be() -> None:
    assert psnn.ShortTimeFourier(3).hop_length == 1
    with pytest.raises(NetworkError, match="n_fft=0"):
        psnn.ShortTimeFourier(0)
    with pytest.raises(NetworkError, match="window must be a tensor of real numbers"):
        psnn.ShortTimeFourier(4, window=torch.ones(4, dtype=torch.int64))
    with pytest.raises(DataError, match="half of the spectrum of complex signals"):
        psnn.ShortTimeFourier(8, onesided=True)(torch.zeros(16, dtype=torch.complex64))
    with pytest.raises(DataError, match=r"signals are torch\.int32"):
        psnn.ShortTimeFourier(8)(torch.ones(16, dtype=torch.int32))
