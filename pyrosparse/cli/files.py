"""``info``, ``unpack`` and ``export``: what can be done with one .psz file."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from pyrosparse.errors import ConfigError, DataError

__all__ = ["export", "info", "unpack"]

PszFile = Annotated[Path, typer.Argument(metavar="FILE.psz", help="A file that pyrosparse wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(file: PszFile, json: Json = False) -> None:
    """Say what every byte of a file is for.

    Example:  pyrosparse info runs/demo/network.psz
    """
    from pyrosparse import coding

    found = coding.info(_existing(file))
    typer.echo(json_format.dumps(found.to_dict(), indent=2) if json else str(found))


def unpack(
    file: PszFile,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the safetensors file goes.")],
) -> None:
    """Write the weights of a file as safetensors.

    Example:  pyrosparse unpack runs/demo/network.psz -o network.safetensors
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"-o {out}: unpack writes safetensors, give a name that ends in .safetensors")
    _writable(out)
    from pyrosparse.coding import read_tensors
    from pyrosparse.export import export_safetensors

    export_safetensors(read_tensors(_existing(file)), out)
    typer.echo(f"{out}: {out.stat().st_size} bytes")


def export(
    file: PszFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="net.onnx or net.pt2; the ending says which.")
    ],
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of one example, such as 1,28,28; from the first layer when left out."),
    ] = None,
) -> None:
    """Write the network of a file as ONNX or .pt2.

    Example:  pyrosparse export runs/demo/network.psz -o network.onnx --shape 1,8,8
    """
    if out.suffix not in {".onnx", ".pt2"}:
        raise ConfigError(f"-o {out}: give a name that ends in .onnx or .pt2")
    _writable(out)
    wanted = None if shape is None else _shape(shape)
    import torch

    import pyrosparse as ps

    network = ps.load(_existing(file))
    size = wanted or _first_shape(network)
    kind = torch.complex64 if _takes_complex(network) else torch.float32
    try:
        example = torch.zeros(1, *size, dtype=kind)
    except (RuntimeError, TypeError) as error:  # torch has either
        raise ConfigError(f"--shape {shape}: an example of this size does not fit into memory") from error
    (ps.export_onnx if out.suffix == ".onnx" else ps.export_torch)(network, out, example)
    typer.echo(f"{out}: {out.stat().st_size} bytes")


def _existing(file: Path) -> Path:
    if file.is_dir():
        raise DataError(f"{file} is a folder: give a file, such as {file / 'network.psz'}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    return file


def _writable(out: Path) -> None:
    if not out.parent.is_dir():
        raise ConfigError(f"-o {out}: there is no folder {out.parent}")


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ConfigError(f"--shape {text}: give positive whole numbers with commas, such as 1,28,28")
    return shape


def _first_shape(network: object) -> tuple[int, ...]:
    """Shape of one example, read from a first layer that tells it."""
    from torch import nn

    from pyrosparse.nn import ComplexLayout, ComplexLinear, ToComplex

    assert isinstance(network, nn.Module)
    for module in network.modules():
        if isinstance(module, nn.Linear | ComplexLinear):
            return (int(getattr(module, "original_features", module.in_features)),)
        same = isinstance(module, nn.Flatten) or (isinstance(module, ToComplex) and module.layout is ComplexLayout.REAL)
        if not same and not list(module.children()):
            break
    raise ConfigError("the first layer does not tell the shape of an example: give it with --shape, such as 1,28,28")


def _takes_complex(network: object) -> bool:
    """Whether the first layer of a network takes complex tensors."""
    from torch import nn

    from pyrosparse.layers import COMPLEX_LAYERS
    from pyrosparse.nn import ComplexBatchNorm1d, ComplexBatchNorm2d, ComplexBatchNorm3d, ToReal

    assert isinstance(network, nn.Module)
    leaves = (m for m in network.modules() if not list(m.children()) and not isinstance(m, nn.Flatten))
    first = next(leaves, None)
    return isinstance(first, (*COMPLEX_LAYERS, ComplexBatchNorm1d, ComplexBatchNorm2d, ComplexBatchNorm3d, ToReal))
