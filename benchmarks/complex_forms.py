"""Which form of a complex linear map is fastest: torch's own, three real products, or one product of real blocks.

Forward and backward (weight, bias and input), complex64, one thread. All forms of one shape run in turn, so that what
else the machine does hits all of them; the best time of each is compared. The choice is in
`pyrosparse/nn/complex_forms.py`.

    python benchmarks/complex_forms.py [--seconds 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from common import environment, write
from torch import Tensor

from pyrosparse.nn import complex_forms as forms

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]

LINEAR = [(128, 784, 300), (128, 300, 100), (128, 100, 10), (128, 512, 512), (1024, 64, 64)]  # batch, in, out
CONVOLUTIONS = [(32, 1, 20, 5, 28), (32, 20, 50, 5, 12), (16, 32, 64, 3, 16), (8, 64, 64, 3, 32), (64, 3, 32, 3, 32)]


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


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each shape")
    parser.add_argument("--out", default="complex_forms.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    linear: dict[str, Operation] = {
        "native": F.linear,
        "three products": partial(three_products, F.linear),
        "blocks": linear_blocks,
    }
    convolution: dict[str, Operation] = {
        "native": F.conv2d,
        "three products": partial(three_products, F.conv2d),
        "blocks": forms.conv2d,
    }
    for n, i, o in LINEAR:
        best = compare(
            linear, torch.randn(n, i, dtype=torch.complex64), torch.randn(o, i, 2), torch.randn(o, 2), options.seconds
        )
        rows.append({"kind": "linear", "shape": [n, i, o], "ms": best})
    for n, i, o, k, size in CONVOLUTIONS:
        x = torch.randn(n, i, size, size, dtype=torch.complex64)
        best = compare(convolution, x, torch.randn(o, i, k, k, 2), torch.randn(o, 2), options.seconds)
        rows.append({"kind": "convolution", "shape": [n, i, o, k, size], "ms": best})
    for row in rows:
        base = row["ms"]["native"]
        row["to_native"] = {name: round(ms / base, 3) for name, ms in row["ms"].items()}
        row["ms"] = {name: round(ms, 3) for name, ms in row["ms"].items()}
        print(f"{row['kind']:12} {row['shape']!s:24}", "  ".join(f"{k} {v:.2f} ms" for k, v in row["ms"].items()))
    medians = {
        kind: {
            name: round(statistics.median(r["to_native"][name] for r in rows if r["kind"] == kind), 2)
            for name in ("native", "three products", "blocks")
        }
        for kind in ("linear", "convolution")
    }
    print("median of the ratios to native:", medians)
    write(options.out, {"claim": "forms of complex linear maps", "medians": medians, "rows": rows, **environment()})


if __name__ == "__main__":
    main()
