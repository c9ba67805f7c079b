from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyrosparse import coding
from pyrosparse.errors import ExportError
from pyrosparse.export import export_onnx, export_safetensors, export_torch
from pyrosparse.export.files import compare
from tests.coding.networks import Custom, convolutional, lenet

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnxscript") is None,
    reason="the onnx extra is not installed",
)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()


@needs_onnx
@pytest.mark.parametrize("kind", ["lenet", "convolutional", "custom"])
def test_onnx_agrees_with_the_network(tmp_path: Path, kind: str) -> None:
    import onnxruntime

    network, shape = {
        "lenet": (lenet().network, (1, 28, 28)),
        "convolutional": (convolutional(), (2, 9, 11)),
        "custom": (Custom().eval(), (6,)),
    }[kind]
    path = tmp_path / "net.onnx"
    exported = export_onnx(network, path, torch.randn(1, *shape))
    assert exported.difference is not None
    assert exported.difference < 1e-5
    assert exported.bytes == path.stat().st_size
    assert os.listdir(tmp_path) == ["net.onnx"]  # no data beside the file
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = torch.randn(7, *shape)
    got = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
    assert torch.allclose(got, network(x), atol=1e-5)


@needs_onnx
def test_onnx_of_a_loaded_file(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", lenet(), c=1.0)
    network = coding.load(tmp_path / "net.psz")
    assert export_onnx(network, tmp_path / "net.onnx", torch.rand(2, 1, 28, 28), check=False).difference is None


@needs_onnx
def test_complex_parameters_have_no_onnx_form(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="export_torch"):
        export_onnx(Complex(), tmp_path / "net.onnx", torch.randn(2, 4, dtype=torch.complex64))


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i1e(x)


@needs_onnx
def test_operations_without_an_onnx_form_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="i1e"):
        export_onnx(Unknown(), tmp_path / "net.onnx", torch.randn(2, 4))
    assert os.listdir(tmp_path) == []


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name))
    with pytest.raises(ExportError, match=r"pip install 'pyrosparse\[onnx\]'"):
        export_onnx(lenet().network, tmp_path / "net.onnx", torch.rand(2, 1, 28, 28))


@pytest.mark.parametrize("kind", ["lenet", "convolutional", "complex"])
def test_torch_programs_agree_with_the_network(tmp_path: Path, kind: str) -> None:
    network, example = {
        "lenet": (lenet().network, torch.rand(1, 1, 28, 28)),
        "convolutional": (convolutional().train(), torch.rand(3, 2, 9, 11)),
        "complex": (Complex(), torch.randn(2, 4, dtype=torch.complex64)),
    }[kind]
    training = network.training
    exported = export_torch(network, tmp_path / "net.pt2", example)
    assert exported.difference == 0.0
    assert network.training == training
    again = torch.export.load(tmp_path / "net.pt2").module()
    x = torch.cat([example] * 5)
    assert torch.equal(again(x), network.eval()(x))


def test_safetensors_hold_the_tensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = lenet().network
    exported = export_safetensors(network, tmp_path / "net.safetensors")
    assert exported.to_dict()["bytes"] == (tmp_path / "net.safetensors").stat().st_size
    tensors = load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in network.state_dict().items())
    custom = Custom()
    coding.save(tmp_path / "net.psz", custom)
    export_safetensors(coding.read_tensors(tmp_path / "net.psz"), tmp_path / "two.safetensors")
    assert torch.equal(load_file(tmp_path / "two.safetensors")["inner.weight"], custom.inner.weight)


def test_tied_weights_can_be_exported(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    assert export_safetensors(network, tmp_path / "net.safetensors").bytes > 0


def test_types_that_safetensors_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="safetensors"):
        export_safetensors({"x": torch.zeros(2, dtype=torch.complex128)}, tmp_path / "net.safetensors")


def test_examples_must_be_batches(tmp_path: Path) -> None:
    for example in (torch.tensor(1.0), torch.zeros(0, 6)):
        with pytest.raises(ExportError, match="batch"):
            export_torch(Custom(), tmp_path / "net.pt2", example)


def test_networks_that_cannot_be_traced_and_folders_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot trace"):
        export_torch(Custom(), tmp_path / "net.pt2", torch.zeros(2, 5))
    with pytest.raises(ExportError, match="create the folder"):
        export_torch(Custom(), tmp_path / "nowhere" / "net.pt2", torch.zeros(2, 6))
    assert os.listdir(tmp_path) == []


def test_outputs_that_differ_are_an_error() -> None:
    with pytest.raises(ExportError, match="off by"):
        compare(torch.ones(3), torch.tensor([1.0, 1.0, 1.1]), Path("net.onnx"))
    with pytest.raises(ExportError, match="shape"):
        compare(torch.ones(3), torch.ones(4), Path("net.onnx"))
    with pytest.raises(ExportError, match="off by"):
        compare(torch.ones(3), torch.full((3,), float("nan")), Path("net.onnx"))
    assert compare(torch.ones(0), torch.ones(0), Path("net.onnx")) == 0.0


@needs_onnx
def test_what_prune_gave_can_be_exported(tmp_path: Path) -> None:
    pruned, example = lenet(), torch.rand(2, 1, 28, 28)
    for export, name in ((export_onnx, "net.onnx"), (export_torch, "net.pt2")):
        export(pruned, tmp_path / name, example)
        export(pruned.network, tmp_path / f"plain_{name}", example)
    export_safetensors(pruned, tmp_path / "net.safetensors")
    export_safetensors(pruned.network, tmp_path / "plain_net.safetensors")
    for name in ("net.onnx", "net.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path / f"plain_{name}").read_bytes()


def test_other_things_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="network is a str"):
        export_torch("net.psz", tmp_path / "net.pt2", torch.zeros(2, 6))  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="network is a type"):
        export_safetensors(nn.Linear, tmp_path / "net.safetensors")  # type: ignore[arg-type]
