"""``info``, ``unpack`` and ``export``: what can be done with one .psz file."""

from __future__ import annotations

import json as json_format
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyrosparse.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    complex_numbers: Annotated[
        bool | None,
        typer.Option("--complex/--real", help="What examples are made of, where the network takes either."),
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
    try:
        example = torch.zeros(1, *size)
    except (RuntimeError, TypeError) as error:  # torch has either
        raise ConfigError(f"--shape {shape}: an example of this size does not fit into memory") from error
    if complex_numbers is None:
        complex_numbers = _takes_complex(network, example)
    example = example.to(torch.complex64) if complex_numbers else example
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


def _takes_complex(network: nn.Module, example: Tensor) -> bool:
    """Whether a network takes complex examples; of one that takes either it is said that real ones are taken."""
    import torch

    from pyrosparse.errors import PyrosparseWarning

    refused: dict[torch.dtype, str] = {}
    network.eval()
    for kind in (torch.float32, torch.complex64):
        try:
            with torch.no_grad():
                network(example.to(kind))
        except Exception as error:  # noqa: BLE001 - whatever a network says of what it does not take
            refused[kind] = str(error).partition("\n")[0]
    if len(refused) == 2:  # noqa: PLR2004 - real and complex ones
        raise ConfigError(
            f"the network takes no example of shape {tuple(example.shape[1:])}: give another --shape. Of real "
            f"numbers it says {refused[torch.float32]!r}, of complex ones {refused[torch.complex64]!r}"
        )
    if not refused:
        warnings.warn(
            "the network takes real and complex examples alike, and is written for real ones: for the others give "
            "--complex; --real says that this is meant",
            PyrosparseWarning,
            stacklevel=2,
        )
    return torch.float32 in refused
