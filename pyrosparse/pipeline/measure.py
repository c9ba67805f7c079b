"""Outputs, sizes and agreement of networks and files."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyrosparse.coding import quantise
from pyrosparse.errors import CorruptFileError, ExportError, PyrosparseError
from pyrosparse.guides import AutoSparse
from pyrosparse.likelihoods import Likelihood
from pyrosparse.model import SparseModel
from pyrosparse.pruning.pruned import Pruned

__all__ = ["agree", "error_of", "in_file", "mean_network", "onnx_outputs", "outputs", "scores", "sizes"]

BATCH = 1000
# of the largest output, float32: the file holds the very numbers, another runtime sums in another order
TOLERANCE: dict[str, tuple[float, type[PyrosparseError]]] = {
    "file": (1e-6, CorruptFileError),
    "onnx": (1e-4, ExportError),
}


@torch.no_grad()
def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs of a network in evaluation mode, batch by batch, on the CPU."""
    network = network.eval()
    device = next(network.parameters(), torch.empty(0)).device
    return torch.cat([network(part.to(device)).cpu() for part in x.split(BATCH)])


def onnx_outputs(path: Path, x: Tensor) -> Tensor:
    """Outputs of an ONNX file in ONNX Runtime, batch by batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x  # ONNX has pairs for complex numbers
    return torch.cat([torch.from_numpy(session.run(None, {name: part.numpy()})[0]) for part in x.split(BATCH)])


def error_of(likelihood: Likelihood, logits: Tensor, y: Tensor) -> float:
    """Share of wrong labels."""
    return float(likelihood.error(likelihood.mean(logits), y).double().mean())


def agree(what: str, expected: Tensor, actual: Tensor, path: Path) -> float:
    """Largest absolute difference between the outputs of the network in memory and of a file.

    :param what: ``"file"`` or ``"onnx"``.
    :raises CorruptFileError: (file) when it is more than rounding explains.
    :raises ExportError: (onnx) likewise.
    """
    difference = float((expected - actual).abs().max())
    tolerance, error = TOLERANCE[what]
    if not difference <= tolerance * max(1.0, float(expected.abs().max())):
        raise error(
            f"{path} does not agree with the network in memory: outputs differ by {difference:.2g}; "
            "keep the folder and report this"
        )
    return difference


def sizes(network: nn.Module) -> dict[str, int]:
    """Count numbers, those that are not zero, and bytes as float32; a complex number counts twice."""
    parameters = [torch.view_as_real(p) if p.is_complex() else p for p in network.parameters()]
    count = sum(p.numel() for p in parameters)
    return {
        "parameters": count,
        "nonzero": sum(int(p.detach().count_nonzero()) for p in parameters),
        "bytes": 4 * count,
    }


@torch.no_grad()
def mean_network(model: SparseModel, guide: AutoSparse) -> nn.Module:
    """Copy of the network with the posterior means as its weights."""
    network = deepcopy(model.network).eval()
    for site, family in guide.families.items():
        network.get_parameter(site).copy_(family.mean())
    return network


def in_file(
    pruned: Pruned,
    c: float | None,
    *,
    rate_weight: float | None = None,
    codebook: int | None = None,
    codec: str = "integers",
) -> nn.Module:
    """The network in memory that a file at precision ``c`` must agree with."""
    if c is None:
        return pruned.network
    return quantise(pruned, c, rate_weight=rate_weight or 0.0, codebook=codebook, codec=codec).network


def scores(error: float) -> dict[str, Any]:
    """Error and accuracy on validation data, as a stage records them."""
    return {"val_error": error, "val_accuracy": 1.0 - error}
