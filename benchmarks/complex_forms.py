"""Which form of a complex linear map is fastest: torch's own, three real products, or one product of real blocks.

For bilinear maps: the product that comes first. Forward and backward (weight, bias and input), complex64, one thread.
All forms of one shape run in turn, so that what else the machine does hits all of them; the best time of each is
compared. The choice is in `pyrosparse/nn/complex_forms.py`.

    python benchmarks/complex_forms.py [--seconds 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import environment, write
from torch import Tensor

from pyrosparse.nn import complex_forms as forms

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]

# batch, in, out
LINEAR = [(128, 784, 300), (128, 300, 100), (128, 100, 10), (128, 512, 512), (1024, 64, 64)]
# batch, in1, in2, out
BILINEAR = [(128, 64, 64, 32), (128, 16, 16, 10), (32, 100, 100, 100), (128, 32, 32, 128), (512, 20, 20, 5)]
# function of torch, shape of the input, of the weight, other arguments
CONVOLUTIONS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, int]]] = [
    ("conv2d", (32, 1, 28, 28), (20, 1, 5, 5), {}),
    ("conv2d", (32, 20, 12, 12), (50, 20, 5, 5), {}),
    ("conv2d", (16, 32, 16, 16), (64, 32, 3, 3), {}),
    ("conv2d", (8, 64, 32, 32), (64, 64, 3, 3), {}),
    ("conv2d", (64, 3, 32, 32), (32, 3, 3, 3), {}),
    ("conv2d", (16, 64, 16, 16), (64, 64, 1, 1), {}),
    ("conv2d", (16, 64, 16, 16), (64, 1, 3, 3), {"groups": 64}),
    ("conv1d", (32, 16, 512), (32, 16, 9), {}),
    ("conv3d", (4, 8, 12, 12, 12), (16, 8, 3, 3, 3), {}),
    ("conv_transpose1d", (32, 32, 256), (32, 16, 9), {"stride": 2}),
    ("conv_transpose2d", (16, 32, 16, 16), (32, 16, 4, 4), {"stride": 2}),
    ("conv_transpose3d", (4, 16, 6, 6, 6), (16, 8, 3, 3, 3), {}),
]


def three_products(op: Callable[[Tensor, Tensor], Tensor], x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Gauss's three products instead of four."""
    first = op(x.real + x.imag, w.real)
    y = torch.complex(first - op(x.imag, w.real + w.imag), first + op(x.real, w.imag - w.real))
    return y + b.reshape(-1, *[1] * (y.dim() - 2))


def linear_blocks(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """One real product with [[a, -b], [b, a]] for each weight."""
    parts = torch.view_as_real(w)
    signed = torch.stack([torch.stack([parts[..., 0], -parts[..., 1]], -1), parts.flip(-1)], 1)
    y = F.linear(torch.view_as_real(x).flatten(-2), signed.flatten(2).flatten(0, 1), torch.view_as_real(b).flatten())
    return torch.view_as_complex(y.unflatten(-1, (-1, 2)))


def first_product(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``x1^T W_o`` of all outputs first; both inputs stand beside each other."""
    out, in1, in2 = w.shape
    x1, x2 = x.split([in1, in2], -1)
    return (F.linear(x1, w.mT.flatten(0, 1)).unflatten(-1, (out, in2)) * x2.unsqueeze(-2)).sum(-1) + b


def second_product(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``W_o x2`` of all outputs first."""
    out, in1, in2 = w.shape
    x1, x2 = x.split([in1, in2], -1)
    return (F.linear(x2, w.flatten(0, 1)).unflatten(-1, (out, in1)) * x1.unsqueeze(-2)).sum(-1) + b


def outer_product(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """``x1 x2^T`` first."""
    x1, x2 = x.split(list(w.shape[1:]), -1)
    return F.linear((x1.unsqueeze(-1) * x2.unsqueeze(-2)).flatten(-2), w.flatten(1), b)


def chosen_product(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """What the library takes."""
    return forms.bilinear(*x.split(list(w.shape[1:]), -1), w, b)


def step(operation: Operation, weight: Tensor, bias: Tensor, x: Tensor) -> None:
    """One forward and backward pass."""
    y = operation(x, torch.view_as_complex(weight), torch.view_as_complex(bias))
    torch.autograd.grad(y, (weight, bias, x), torch.ones_like(y))


def compare(
    operations: dict[str, Operation], x: Tensor, weight: Tensor, bias: Tensor, seconds: float
) -> dict[str, float]:
    """Best milliseconds of each operation, after checking that they agree."""
    leaves = weight.requires_grad_(), bias.requires_grad_(), x.requires_grad_()
    with torch.no_grad():
        results = [f(x, torch.view_as_complex(weight), torch.view_as_complex(bias)) for f in operations.values()]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-3, rtol=1e-3)
    best = dict.fromkeys(operations, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, operation in operations.items():
            start = time.perf_counter()
            step(operation, *leaves)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def cases() -> Iterator[tuple[str, dict[str, Operation], tuple[int, ...], tuple[int, ...], int]]:
    """Kind, forms, the first of which is the base, shapes of input and weight, and number of outputs."""
    for n, i, o in LINEAR:
        operations: dict[str, Operation] = {
            "native": F.linear,
            "three products": partial(three_products, F.linear),
            "blocks": linear_blocks,
        }
        yield "linear", operations, (n, i), (o, i), o
    for n, i, j, o in BILINEAR:
        operations = {
            "outer product": outer_product,
            "first input": first_product,
            "second input": second_product,
            "chosen": chosen_product,
        }
        yield "bilinear", operations, (n, i + j), (o, i, j), o
    for name, x, w, options in CONVOLUTIONS:
        native = partial(getattr(F, name), **options)
        operations = {
            "native": native,
            "three products": partial(three_products, native),
            "blocks": partial(getattr(forms, name), **options),
        }
        yield name, operations, x, w, w[1] if "transpose" in name else w[0]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each shape")
    parser.add_argument("--out", default="complex_forms.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for kind, operations, x, weight, outputs in cases():
        best = compare(
            operations,
            torch.randn(x, dtype=torch.complex64),
            torch.randn(*weight, 2),
            torch.randn(outputs, 2),
            options.seconds,
        )
        base = next(iter(best.values()))
        ratios = {name: round(ms / base, 3) for name, ms in best.items()}
        rows.append({"kind": kind, "input": x, "weight": weight, "ms": best, "to_first": ratios})
        print(f"{kind:18} {x!s:20} {weight!s:16}", "  ".join(f"{k} {v:.2f}" for k, v in ratios.items()), flush=True)
    kinds = {str(row["kind"]): None for row in rows}
    medians = {kind: _medians([row["to_first"] for row in rows if row["kind"] == kind]) for kind in kinds}
    write(options.out, {"claim": "forms of complex linear maps", "medians": medians, "rows": rows, **environment()})


def _medians(ratios: list[Any]) -> dict[str, float]:
    return {name: round(statistics.median(r[name] for r in ratios), 2) for name in ratios[0]}


if __name__ == "__main__":
    main()
