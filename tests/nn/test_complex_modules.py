"""What every complex module must bear: copies, state dicts, export, replicas, fused optimisers, both precisions."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, vmap

import pyrosparse.nn as psnn

Maker = Callable[[], nn.Module]


class BilinearOfOne(psnn.ComplexBilinear):
    """A bilinear layer that reads one tensor twice."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input, input.flip(-1))


MODULES: dict[str, tuple[Maker, tuple[int, ...]]] = {
    "linear": (lambda: psnn.ComplexLinear(4, 3), (5, 4)),
    "bilinear": (lambda: BilinearOfOne(4, 4, 3), (5, 4)),
    "conv1d": (lambda: psnn.ComplexConv1d(4, 2, 3, padding=1), (5, 4, 6)),
    "conv2d": (lambda: psnn.ComplexConv2d(4, 2, 3, groups=2), (5, 4, 6, 6)),
    "conv3d": (lambda: psnn.ComplexConv3d(2, 2, 3, padding="same"), (5, 2, 3, 3, 3)),
    "transposed1d": (lambda: psnn.ComplexConvTranspose1d(4, 2, 3), (5, 4, 6)),
    "transposed2d": (lambda: psnn.ComplexConvTranspose2d(4, 2, 3, stride=2), (5, 4, 3, 3)),
    "transposed3d": (lambda: psnn.ComplexConvTranspose3d(2, 2, 2), (5, 2, 3, 3, 3)),
    "norm1d": (lambda: psnn.ComplexBatchNorm1d(4), (5, 4)),
    "norm2d": (lambda: psnn.ComplexBatchNorm2d(4), (5, 4, 3, 3)),
    "norm3d": (lambda: psnn.ComplexBatchNorm3d(2), (5, 2, 3, 3, 3)),
    "crelu": (psnn.CReLU, (5, 4)),
    "zrelu": (psnn.ZReLU, (5, 4)),
    "cardioid": (psnn.Cardioid, (5, 4)),
    "modrelu": (lambda: psnn.ModReLU(4), (5, 4, 3)),
    "phase": (lambda: psnn.PhaseShift((4, 1)), (5, 4, 3)),
    "average1d": (lambda: psnn.ComplexAvgPool1d(2), (5, 4, 6)),
    "average2d": (lambda: psnn.ComplexAvgPool2d(2), (5, 4, 6, 6)),
    "average3d": (lambda: psnn.ComplexAvgPool3d(2), (5, 4, 2, 4, 4)),
    "largest1d": (lambda: psnn.ModulusMaxPool1d(2), (5, 4, 6)),
    "largest2d": (lambda: psnn.ModulusMaxPool2d(2), (5, 4, 6, 6)),
    "largest3d": (lambda: psnn.ModulusMaxPool3d(2), (5, 4, 2, 4, 4)),
    "dropout": (lambda: psnn.ComplexDropout(0.3), (5, 4)),
    "dropout1d": (lambda: psnn.ComplexDropout1d(0.3), (5, 4, 3)),
    "dropout2d": (lambda: psnn.ComplexDropout2d(0.3), (5, 4, 3, 3)),
    "dropout3d": (lambda: psnn.ComplexDropout3d(0.3), (5, 4, 3, 3, 3)),
    "modulus": (psnn.Modulus, (5, 4)),
    "real": (psnn.RealPart, (5, 4)),
    "imaginary": (psnn.ImaginaryPart, (5, 4)),
    "both parts": (lambda: psnn.ToReal(dim=1), (5, 4)),
    "to complex": (psnn.ToComplex, (5, 4)),
    "fourier": (psnn.FourierFeatures2d, (5, 4, 6)),
    "short time": (lambda: psnn.ShortTimeFourier(4), (5, 8)),
}
every_module = pytest.mark.parametrize("case", MODULES)
with_parameters = pytest.mark.parametrize(
    "case", [c for c in MODULES if any(True for _ in MODULES[c][0]().parameters())]
)


def made(case: str) -> tuple[nn.Module, Tensor]:
    make, shape = MODULES[case]
    module = make()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module, torch.randn(shape, dtype=torch.complex64)


@every_module
def test_gradients_are_right_and_inputs_untouched(case: str) -> None:
    module, x = made(case)
    module.double().eval()
    x = x.to(torch.complex128).requires_grad_()
    before = x.detach().clone()
    names = [n for n, _ in module.named_parameters()]
    leaves = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, values, strict=True)), (x,))

    def directional(*inputs: Tensor) -> Tensor:
        return torch.view_as_real(call(*inputs).resolve_conj() + 0j).flatten()[:40]

    assert torch.autograd.gradcheck(directional, (x, *leaves), fast_mode=True)
    assert torch.equal(x.detach(), before)


@every_module
def test_both_precisions(case: str) -> None:
    module, x = made(case)
    module.eval()
    single = module(x)
    double = deepcopy(module).double()(x.to(torch.complex128))
    assert single.dtype in {torch.complex64, torch.float32}
    assert double.dtype in {torch.complex128, torch.float64}
    torch.testing.assert_close(single, double.to(single.dtype), atol=1e-4, rtol=1e-4)


@every_module
def test_copies_and_saved_states(case: str) -> None:
    module, x = made(case)
    module(x)  # running moments
    module.eval()
    expected = module(x)
    assert torch.equal(deepcopy(module)(x), expected)
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    other = MODULES[case][0]().eval()
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(x), expected)


@with_parameters
def test_real_pairs_for_safetensors_and_fused_adam(case: str, tmp_path: Path) -> None:
    module, x = made(case)
    assert not any(t.is_complex() for t in module.state_dict().values())
    save_file(module.state_dict(), tmp_path / "module.safetensors")
    saved = load_file(tmp_path / "module.safetensors")
    assert all(torch.equal(saved[k], v) for k, v in module.state_dict().items())
    twin = deepcopy(module)
    for net, fused in ((module, True), (twin, False)):
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1, fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).abs().square().sum().backward()
            optimizer.step()
    for a, b in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@with_parameters
def test_functional_call_replaces_every_parameter(case: str) -> None:
    module, x = made(case)
    other, _ = made(case)
    module.eval()
    other.eval()
    values = {k: v.detach() for k, v in other.named_parameters()}
    torch.testing.assert_close(functional_call(module, values, (x,)), other(x))


@with_parameters
def test_replicas_with_plain_tensors(case: str) -> None:
    """A replica of DataParallel has no parameters of its own, but plain tensors in their places."""
    module, x = made(case)
    module.eval()
    replica = module._replicate_for_data_parallel()
    for key, parameter in module._parameters.items():
        setattr(replica, key, None if parameter is None else parameter * 1.0)
    assert not list(replica.parameters())
    torch.testing.assert_close(replica(x), module(x))


@with_parameters
def test_every_parameter_may_be_a_slice_of_a_flat_vector(case: str) -> None:
    """Of one that begins at an odd place, too: no view of real pairs as complex numbers is possible there."""
    module, x = made(case)
    module.eval()
    expected = module(x)
    for before in (0, 1):
        flat = torch.cat([torch.zeros(before), *(p.detach().flatten() for p in module.parameters())])
        values, start = {}, before
        for name, p in module.named_parameters():
            values[name] = flat[start : start + p.numel()].view(p.shape)
            start += p.numel()
        torch.testing.assert_close(functional_call(module, values, (x,)), expected)


@pytest.mark.parametrize("case", ["norm1d", "norm2d", "norm3d"])
def test_the_first_replica_keeps_the_running_moments(case: str) -> None:
    """As torch's own: the replica on the first device has the module's buffers, which it alters in place."""
    module, x = made(case)
    alone = deepcopy(module)
    replica = module._replicate_for_data_parallel()
    for key, parameter in module._parameters.items():
        setattr(replica, key, None if parameter is None else parameter * 1.0)
    torch.testing.assert_close(replica(x), alone(x))
    for buffer, expected in zip(module.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", [c for c in MODULES if not c.startswith("dropout")])
def test_exports_for_any_size_of_a_batch(case: str, training: bool) -> None:
    module, x = made(case)
    module.train(training)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    larger = torch.cat([x, -x])
    torch.testing.assert_close(program.module()(larger), deepcopy(module)(larger))


def test_phases_are_exported_for_any_length_of_a_signal() -> None:
    module, x = made("phase")
    module = psnn.PhaseShift((4, 1))
    program = torch.export.export(module, (x,), dynamic_shapes=({2: torch.export.Dim("time", min=2, max=64)},))
    longer = torch.cat([x, x], 2)
    torch.testing.assert_close(program.module()(longer), module(longer))


@pytest.mark.parametrize("case", [c for c in MODULES if not c.startswith("dropout")])
def test_exports_as_a_program(case: str) -> None:
    module, x = made(case)
    module.eval()
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x))


@with_parameters
def test_dtype_may_be_real_or_complex(case: str) -> None:
    module, _ = made(case)
    kind = type(module)
    arguments: dict[type[nn.Module], tuple[int, ...]] = {psnn.PhaseShift: (4,), psnn.ModReLU: (4,)}
    sizes = arguments.get(
        kind, (4,) if "BatchNorm" in kind.__name__ else (4, 4) if "Linear" in kind.__name__ else (4, 4, 2)
    )
    for dtype in (torch.float64, torch.complex128):
        assert {p.dtype for p in kind(*sizes, dtype=dtype).parameters()} == {torch.float64}
    assert {p.device.type for p in kind(*sizes, device="meta").parameters()} == {"meta"}


def test_memory_formats_of_images_do_not_matter() -> None:
    """A one-dimensional convolution's pairs have four axes, as images have."""
    layer = psnn.ComplexConv1d(4, 6, 3)
    x = torch.randn(2, 4, 8, dtype=torch.complex64)
    expected = layer(x)
    layer.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), expected)


def test_a_network_trains() -> None:
    network = nn.Sequential(
        psnn.FourierFeatures2d(),
        psnn.ComplexConv2d(1, 4, 3, padding=1),
        psnn.ComplexBatchNorm2d(4),
        psnn.CReLU(),
        psnn.ModulusMaxPool2d(2),
        psnn.ComplexDropout2d(0.1),
        nn.Flatten(),
        psnn.ComplexLinear(64, 8),
        psnn.ModReLU(8),
        psnn.PhaseShift(8),
        psnn.ComplexLinear(8, 2),
        psnn.RealPart(),
    )
    x, y = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
    x[y == 1] += torch.linspace(-2, 2, 8)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    network.eval()
    assert float((network(x).argmax(-1) == y).float().mean()) > 0.9


def test_vmap_over_weights() -> None:
    layer = psnn.ComplexLinear(3, 2)
    stacks = {k: torch.randn(5, *p.shape) for k, p in layer.named_parameters()}
    x = torch.randn(4, 3, dtype=torch.complex64)
    out = vmap(lambda weights: functional_call(layer, weights, (x,)))(stacks)
    for i in range(5):
        expected = functional_call(layer, {k: v[i] for k, v in stacks.items()}, (x,))
        torch.testing.assert_close(out[i], expected)
