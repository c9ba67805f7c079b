"""ONNX files: one file, any batch size; complex networks in real arithmetic."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyrosparse.coding.container import write
from pyrosparse.errors import ExportError
from pyrosparse.export.files import Exported, compare, on_cpu
from pyrosparse.export.pairs import RealPairs, is_complex_network

if TYPE_CHECKING:
    from pyrosparse.pruning.pruned import Pruned

__all__ = ["export_onnx"]

OPSET = 17
LARGEST = 1 << 31  # bytes: what one protobuf message may hold


def export_onnx(
    network: Pruned | nn.Module, path: str | os.PathLike[str], example: Tensor, *, check: bool = True
) -> Exported:
    """Write a network as ONNX, with input ``input``, output ``output`` and a free batch axis.

    ONNX has no complex numbers: a complex input or output is a real one with a last axis of two, real and imaginary
    part, and complex layers become their real arithmetic (:mod:`pyrosparse.export.pairs`).

    :param network: a network with one tensor in and one out, or what :func:`pyrosparse.prune` gave.
    :param path: the file; weights are inside it, not beside it.
    :param example: a batch as the network takes it, shape ``(B, ...)``.
    :param check: run the file in ONNX Runtime, where it is installed, on the example and on one row of it,
        and compare with the network.
    :return: the file, its size, and the largest absolute difference of the outputs.
    :raises ExportError: if the ``onnx`` extra is missing, an operation has no ONNX form, the outputs
        differ, or the file cannot be written.
    """
    path = Path(path)
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ExportError(f"ONNX export needs the package {package}: pip install 'pyrosparse[onnx]'")
    module, example = on_cpu(network, example)
    if any(p.is_complex() for p in module.parameters()):
        raise ExportError(
            "ONNX has no complex parameters: use the layers of pyrosparse.nn, whose parameters are real pairs, or "
            "export with export_torch"
        )
    if sum(v.numel() * v.element_size() for v in module.state_dict().values()) >= LARGEST:
        raise ExportError(f"{path}: a network of 2 GB and more does not fit into one ONNX file")
    form, given = module, example
    if example.is_complex() or is_complex_network(module):
        form = RealPairs(module, complex_input=example.is_complex()).eval()
        given = torch.view_as_real(example.resolve_conj()) if example.is_complex() else example
    buffer = io.BytesIO()
    try:
        # an exporter that fails prints its whole graph
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # The TorchScript exporter is deprecated in favour of one that takes 15 s to start.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                form,
                (given,),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            )
    except Exception as error:  # exporters raise whatever the operation at hand raises
        raise ExportError(f"{path}: the network has no ONNX form: {error}") from error
    data = _shared(buffer.getvalue())
    difference = _difference(module, data, example, path) if check else None
    write(path, data)
    return Exported(path, len(data), difference)


def _shared(data: bytes) -> bytes:
    """Let constants that are the same be stored once: each half of a complex weight stands in two products."""
    import onnx

    model = onnx.load_from_string(data)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return data  # a branch or a loop may read constants of the graph around it by their names
    first: dict[tuple[object, ...], str] = {}
    instead: dict[str, str] = {}
    outputs = {value.name for value in model.graph.output}
    for constant in list(model.graph.initializer):
        content = onnx.numpy_helper.to_array(constant)
        digest = hashlib.blake2b(content.tobytes()).digest()
        name = first.setdefault((content.dtype, content.shape, digest), constant.name)
        if name != constant.name and constant.name not in outputs:
            instead[constant.name] = name
            model.graph.initializer.remove(constant)
    for node in model.graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
    return bytes(model.SerializeToString())


def _difference(network: nn.Module, data: bytes, example: Tensor, path: Path) -> float | None:
    """Run the file beside the network; None if ONNX Runtime is not installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in (example, example[:1]):
        with torch.no_grad():
            expected = network(batch)
        batch = torch.view_as_real(batch.resolve_conj()) if batch.is_complex() else batch  # noqa: PLW2901
        expected = torch.view_as_real(expected.resolve_conj()) if expected.is_complex() else expected
        actual = torch.from_numpy(session.run(None, {"input": batch.numpy()})[0])
        largest = max(largest, compare(expected, actual, path))
    return largest
