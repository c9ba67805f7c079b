"""Complex networks out of the library: ONNX in real arithmetic, .pt2, safetensors, and the command line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse.cli import main
from pyrosparse.errors import ExportError
from pyrosparse.export import export_onnx, export_safetensors, export_torch
from pyrosparse.export.pairs import RealPairs
from tests.complex_networks import convnet, dense, kill, pair, randomise

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None,
    reason="the onnx extra is not installed",
)
C = torch.complex64


class BilinearOfOne(nn.Module):
    """A bilinear layer that reads one tensor twice."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layer = psnn.ComplexBilinear(*sizes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x * (0.5 - 1j))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (psnn.ComplexLinear(5, 4), (5,)),
    "select": (psnn.ComplexSelectLinear(torch.tensor([0, 3]), 5, 4), (5,)),
    "conv1d": (psnn.ComplexConv1d(4, 6, 3, padding=2, padding_mode="circular", groups=2), (4, 9)),
    "conv2d": (psnn.ComplexConv2d(2, 3, 3, stride=2, padding=1), (2, 7, 6)),
    "conv3d": (psnn.ComplexConv3d(2, 3, 2, bias=False), (2, 4, 4, 4)),
    "transposed1d": (psnn.ComplexConvTranspose1d(2, 3, 3, stride=2), (2, 7)),
    "transposed2d": (psnn.ComplexConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1), (4, 5, 5)),
    "norm1d": (psnn.ComplexBatchNorm1d(4), (4,)),
    "norm2d": (psnn.ComplexBatchNorm2d(3), (3, 4, 4)),
    "crelu": (psnn.CReLU(), (5,)),
    "zrelu": (psnn.ZReLU(), (5,)),
    "cardioid": (psnn.Cardioid(), (5,)),
    "modrelu": (psnn.ModReLU(3, init=-0.5), (3, 4, 4)),
    "transposed3d": (psnn.ComplexConvTranspose3d(2, 3, 2), (2, 3, 3, 3)),
    "norm3d": (psnn.ComplexBatchNorm3d(2), (2, 3, 3, 3)),
    "average": (psnn.ComplexAvgPool2d(2), (3, 4, 6)),
    "average1d": (psnn.ComplexAvgPool1d(2), (3, 4)),
    "average3d": (psnn.ComplexAvgPool3d(2), (3, 4, 4, 4)),
    "bilinear": (BilinearOfOne(5, 5, 3), (5,)),
    "largest": (psnn.ModulusMaxPool2d(2), (3, 4, 6)),
    "largest1d": (psnn.ModulusMaxPool1d(3), (3, 12)),
    "phase": (psnn.PhaseShift(5), (5,)),
    "fourier": (psnn.FourierFeatures2d(), (2, 5, 6)),
    "dropout": (psnn.ComplexDropout(), (5,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_real_arithmetic_is_the_same(name: str) -> None:
    layer, shape = LAYERS[name]
    network = randomise(nn.Sequential(layer)).eval()
    x = torch.randn(3, *shape, dtype=C)
    x[0].zero_()
    pairs = RealPairs(network, complex_input=True).eval()
    with torch.no_grad():
        given, expected = pairs(torch.view_as_real(x)), torch.view_as_real(network(x))
    torch.testing.assert_close(given, expected, atol=2e-5, rtol=1e-5)


CASTS: dict[str, nn.Module] = {
    "real": psnn.ToComplex(),
    "interleaved": psnn.ToComplex("interleaved", dim=1),
    "concatenated": psnn.ToComplex("concatenated"),
    "stft": psnn.ShortTimeFourier(8, hop_length=3, win_length=6, normalized=True),
    "two-sided": psnn.ShortTimeFourier(8, onesided=False, center=False),
    "fourier": nn.Sequential(nn.Unflatten(1, (2, 2, 12)), psnn.FourierFeatures2d(norm="backward", shift=False)),
}


@pytest.mark.parametrize("name", CASTS)
@pytest.mark.parametrize("end", [psnn.RealPart(), psnn.ImaginaryPart(), psnn.Modulus()])
def test_casts(name: str, end: nn.Module) -> None:
    network = nn.Sequential(CASTS[name], end).eval()
    x = torch.randn(3, 48)
    given = RealPairs(network, complex_input=False)(x)
    torch.testing.assert_close(given, network(x), atol=2e-5, rtol=1e-5)


@needs_onnx
@pytest.mark.parametrize("name", CASTS)
def test_onnx_of_casts(tmp_path: Path, name: str) -> None:
    network = nn.Sequential(CASTS[name], psnn.CReLU(), psnn.RealPart()).eval()
    exported = export_onnx(network, tmp_path / "net.onnx", torch.randn(3, 48))
    assert exported.difference is not None and exported.difference < 1e-4


@needs_onnx
def test_every_number_is_in_the_file_once(tmp_path: Path) -> None:
    """No matrix of a Fourier transform, and no half of a weight for each of the products in which it stands."""
    network = ps.models.complex_music(window=256, channels=(4, 8, 8), hidden=64)
    exported = export_onnx(network, tmp_path / "net.onnx", torch.randn(2, 1, 256))
    numbers = sum(v.numel() for k, v in network.state_dict().items() if "num_batches" not in k)
    assert exported.bytes < 1.2 * 4 * numbers + 20_000


ENDS = {
    "concatenated": psnn.ToReal(dim=1),
    "interleaved": psnn.ToReal("interleaved"),
    "real part": psnn.ToReal("real"),
}


@pytest.mark.parametrize("end", ENDS)
def test_casts_to_real(end: str) -> None:
    network = nn.Sequential(psnn.FourierFeatures2d(), ENDS[end], nn.ReLU()).eval()
    x = torch.randn(3, 2, 4, 5)
    torch.testing.assert_close(RealPairs(network, complex_input=False)(x), network(x), atol=2e-5, rtol=1e-5)


class Residual(nn.Module):
    """Sums, products and concatenations of complex tensors, real ones and numbers, written as in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.cast, self.first, self.second = psnn.ToComplex(), psnn.ComplexLinear(4, 4), psnn.ComplexLinear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.cast(x)
        z = x + z * (0.5 - 2j) + self.first(z) * z.conj() - 0.25j
        z = torch.cat([z, torch.sub(1.0, z).mul(x)], dim=1)
        z = self.second(z)
        return torch.cat([z.real + z.abs(), torch.imag(z), torch.abs(z)], 1)


def test_operations_between_modules() -> None:
    network, x = randomise(Residual()).eval(), torch.randn(3, 4)
    torch.testing.assert_close(RealPairs(network, complex_input=False)(x), network(x), atol=1e-4, rtol=1e-5)


@needs_onnx
@pytest.mark.parametrize("activation", [psnn.CReLU, psnn.ZReLU, psnn.Cardioid, psnn.ModReLU])
def test_onnx_of_a_pruned_network(tmp_path: Path, activation: type[nn.Module]) -> None:
    model, guide = pair(randomise(convnet(activation, norm=True)), (1, 8, 8))
    kill(guide, {site: torch.rand(f.relevance().shape) > 0.6 for site, f in guide.families.items()})
    small = ps.prune(model, guide)
    exported = export_onnx(small, tmp_path / "net.onnx", torch.randn(3, 1, 8, 8))
    assert exported.difference is not None and exported.difference < 1e-4
    exported = export_torch(small, tmp_path / "net.pt2", torch.randn(3, 1, 8, 8))
    assert exported.difference is not None and exported.difference < 1e-6
    export_safetensors(small, tmp_path / "net.safetensors")
    for name, value in load_file(tmp_path / "net.safetensors").items():
        assert torch.equal(value, small.network.state_dict()[name])


@needs_onnx
@pytest.mark.parametrize("name", LAYERS)
def test_onnx_of_complex_inputs_and_outputs(tmp_path: Path, name: str) -> None:
    import onnxruntime

    layer, shape = LAYERS[name]
    x = torch.randn(2, *shape, dtype=C)
    network = nn.Sequential(layer).eval()
    exported = export_onnx(network, tmp_path / "net.onnx", x)
    assert exported.difference is not None and exported.difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    more = torch.randn(5, *shape, dtype=C)
    (out,) = session.run(None, {"input": torch.view_as_real(more).numpy()})
    torch.testing.assert_close(torch.view_as_complex(torch.from_numpy(out)), network(more), atol=1e-4, rtol=1e-4)


class Odd(nn.Module):
    def __init__(self, function: str) -> None:
        super().__init__()
        self.cast, self.end, self.function = psnn.ToComplex(), psnn.RealPart(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.end(getattr(torch, self.function)(self.cast(x)))


@needs_onnx
def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="exp of complex tensors has no form"):
        export_onnx(Odd("exp"), tmp_path / "net.onnx", torch.randn(2, 4))
    for network, word in (
        (nn.Sequential(psnn.ComplexLinear(4, 2), nn.Tanh()), r"1 \(Tanh\) has no form"),
        (nn.Sequential(psnn.ModulusMaxPool1d(2, return_indices=True)), "return_indices"),
        (nn.Sequential(psnn.ComplexBatchNorm1d(4, track_running_stats=False)), "running statistics"),
        (nn.Sequential(psnn.ShortTimeFourier(4)), "complex signals"),
    ):
        with pytest.raises(ExportError, match=word):
            shape = (2, 4) if word != "return_indices" else (2, 4, 4)
            RealPairs(network.eval(), complex_input=True)(torch.randn(*shape, 2))
    assert not list(tmp_path.iterdir())


def test_a_shape_that_does_not_fit_is_said_in_both_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ps.save(tmp_path / "net.psz", nn.Sequential(psnn.PhaseShift(6), psnn.ComplexLinear(6, 3), psnn.RealPart()))
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "net.psz"), "-o", str(tmp_path / "net.pt2"), "--shape", "5"])
    told = capsys.readouterr().err
    assert ended.value.code and "takes no example of shape (5,)" in told and "do not broadcast" in told


@needs_onnx
@pytest.mark.parametrize("start", ["cast", "cast, complex", "layer", "norm", "parts", "phase"])
def test_the_command_line(tmp_path: Path, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    network = {
        "norm": nn.Sequential(psnn.ComplexBatchNorm1d(6), psnn.ComplexLinear(6, 3), psnn.RealPart()),
        "parts": nn.Sequential(psnn.ToReal(), nn.Linear(12, 3)),
        "phase": nn.Sequential(psnn.PhaseShift(6), psnn.ComplexLinear(6, 3), psnn.RealPart()),
    }.get(start) or dense(6, 5, 3, cast="cast" in start)
    ps.save(tmp_path / "net.psz", network)
    for name in ("net.onnx", "net.pt2"):
        with pytest.raises(SystemExit) as ended:
            options = ["--shape", "6"] if start in {"norm", "parts", "phase"} else []
            options += ["--complex"] if start == "cast, complex" else []
            main(["export", str(tmp_path / "net.psz"), "-o", str(tmp_path / name), *options])
        assert ended.value.code == 0
        # a network that takes either is written for real examples, which is said
        assert ("give --complex" in capsys.readouterr().err) == (start == "cast")
    sizes = [d.dim_value for d in onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim]
    assert sizes[1:] == ([6] if start == "cast" else [6, 2])
    (kind,) = (
        n.meta["val"].dtype for n in torch.export.load(tmp_path / "net.pt2").graph.nodes
        if n.op == "placeholder" and not n.name.startswith(("p_", "b_"))
    )  # fmt: skip
    assert kind == (torch.float32 if start == "cast" else C)


class Arithmetic(nn.Module):
    """What one writes in a forward of one's own: numbers and buffers that are complex, parts put together, axes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = psnn.ComplexLinear(4, 6)
        self.register_buffer("factor", torch.randn(6, dtype=C))
        self.register_buffer("matrix", torch.randn(6, 3, dtype=C))

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(input=x)
        a = -z / 2 + torch.complex(torch.relu(z.real), torch.relu(z.imag)) * self.factor
        a = a / (z * z.conj() + 3.0 + z * 0.1) * 1j
        b = torch.stack([a, z], 1).sum(1) + a.unsqueeze(1).mean(1)
        c = b[:, 0:3] + b @ self.matrix + z.abs()[:, :3]
        d = torch.polar(c.abs(), c.angle()) + z.real[:, :3] * 1j + (1 + 2j)
        return torch.view_as_real(torch.view_as_complex(torch.view_as_real(d)).transpose(0, 1).transpose(0, 1))


class Sized(nn.Module):
    """A transposed convolution that is told the size of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = psnn.ComplexConvTranspose1d(2, 3, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, output_size=[12])


@needs_onnx
@pytest.mark.parametrize(("network", "shape"), [(Arithmetic(), (4,)), (Sized(), (2, 5))], ids=["arithmetic", "sized"])
def test_onnx_of_a_forward_of_ones_own(tmp_path: Path, network: nn.Module, shape: tuple[int, ...]) -> None:
    exported = export_onnx(network, tmp_path / "net.onnx", torch.randn(5, *shape, dtype=C))
    assert exported.difference is not None and exported.difference < 1e-4
