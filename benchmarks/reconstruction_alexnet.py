"""AlexNet by linear reconstruction, on synthetic moments: correctness and time of each layer.

The weights are random and so are the moments: units of uneven strength, correlated through a quarter as many factors,
with a little noise; no data are needed, and sizes and times are those of the real network. For each layer: seconds of
one Newton solve at λ/λ_max, its certificate, and whether the debiased map leaves no correlation on what it keeps.

    python benchmarks/reconstruction_alexnet.py [--layers conv2 conv3 …] [--ratio 0.2] [--device cpu] [--out FILE]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from common import environment, write
from torch import Tensor, nn

from pyrosparse.models.alexnet import alexnet
from pyrosparse.reconstruction.path import solve
from pyrosparse.reconstruction.problem import Problem
from pyrosparse.reconstruction.sizes import layer_bytes
from pyrosparse.reconstruction.units import column_groups

SPREAD = {"fc6": 36}
LAYERS = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def covariance(d: int, group: Tensor, generator: torch.Generator) -> Tensor:
    """Cov X of units of uneven strength, a quarter of them as many factors, and 1 % noise."""
    device = generator.device
    factors = torch.randn((d, max(8, d // 4)), generator=generator, device=device, dtype=torch.float64)
    strength = torch.exp(1.5 * torch.randn(int(group.max()) + 1, generator=generator, device=device).double())[group]
    factors *= strength[:, None] / factors.shape[1] ** 0.5
    R = factors @ factors.T
    R.diagonal().add_(0.01 * strength.square())
    return R


def measure(name: str, layer: nn.Module, ratio: float, device: str) -> dict[str, Any]:
    """Solve and debias one layer."""
    generator = torch.Generator(device).manual_seed(0)
    group = column_groups(layer, SPREAD.get(name, 1)).to(device)
    W = layer.weight.detach().flatten(1).double().to(device)
    R = covariance(W.shape[1], group, generator)
    S = W @ R
    problem = Problem.of(R, S, (S * W).sum(), group=group)
    lam = ratio * problem.lam_max
    start = time.perf_counter()
    solution = solve(problem, lam, start=problem.zeros())
    solved = time.perf_counter() - start
    start = time.perf_counter()
    M = problem.least_squares(solution.kept)
    debiased = time.perf_counter() - start
    columns = solution.kept[group]
    left = float(problem.correlation(M)[0][:, columns].abs().max() / S.abs().max())
    outputs, units = W.shape[0], problem.groups
    sizes = [layer_bytes(layer, outputs, n, SPREAD.get(name, 1)) / 2**20 for n in (units, solution.units)]
    return {
        "layer": name,
        "columns": W.shape[1],
        "units": units,
        "kept": solution.units,
        "steps": solution.steps,
        "gap": solution.gap,
        "error": problem.error(M),
        "left_after_debias": left,
        "seconds": round(solved, 2),
        "debias_seconds": round(debiased, 2),
        "mib_before": sizes[0],
        "mib": sizes[1],
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=LAYERS)
    parser.add_argument("--ratio", type=float, default=0.2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="reconstruction_alexnet.json")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = alexnet()
    rows = []
    for name in options.layers:
        rows.append(measure(name, network.get_submodule(name), options.ratio, options.device))
        print(rows[-1], flush=True)
    right = all(row["gap"] <= 1e-6 and row["left_after_debias"] <= 1e-6 for row in rows)
    write(options.out, {"claim": "AlexNet on synthetic moments", "rows": rows, "correct": right, **environment()})


if __name__ == "__main__":
    main()
