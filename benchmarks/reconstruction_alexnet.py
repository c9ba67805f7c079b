"""AlexNet by linear reconstruction on synthetic data: correctness, time and size of every layer.

Its training data are not to be had: weights are random, and so are inputs.

- Layer by layer: the inputs of a layer are units of uneven strength that are correlated through half as many factors,
  with a little noise, so that their covariance is known and of full rank. λ falls by √2 from λ_max, each solution
  from the one before, until the share of units that is asked for is kept. Seconds are those of the whole path and of
  its last solution. The certificate, what the debiased map leaves on the units it keeps, and the relative error that
  the moments promise are written down, and beside that the error of the layer's outputs on draws that nothing was
  fitted to. A convolution is run on its patches.
- The network: smooth random images go through all of it, the stage itself takes units out of every layer, conv1 too
  (which reads the image, whose channels stay, and loses outputs that conv2 does without), and refits. The error that
  the moments promise for the last layer is that of the network's outputs on these images.

    python benchmarks/reconstruction_alexnet.py [--layers conv2 … fc8] [--images 48] [--device cpu] [--out FILE]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import torch.nn.functional as F
from common import environment, write
from torch import Tensor, nn

from pyrosparse.data import TensorLoader
from pyrosparse.models.alexnet import alexnet
from pyrosparse.reconstruction import reconstruct
from pyrosparse.reconstruction.path import solve
from pyrosparse.reconstruction.problem import Problem
from pyrosparse.reconstruction.sizes import layer_bytes
from pyrosparse.reconstruction.units import column_groups

# share of the units that is to be kept, at most: the widest layer is by far the dearest
KEPT = {"conv2": 0.5, "conv3": 0.5, "conv4": 0.5, "conv5": 0.5, "fc6": 0.2, "fc7": 0.3, "fc8": 0.3}
SPREAD = {"fc6": 36}
DRAWS = 512
MIB = 2**20


def factors_of(d: int, group: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Loadings of d inputs on d/2 factors, and the deviation of each input's noise."""
    options = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    strength = torch.exp(0.5 * torch.randn(int(group.max()) + 1, **options))[group]
    decay = torch.linspace(1.0, 0.02, d // 2, device=generator.device, dtype=torch.float64)
    return strength[:, None] * torch.randn((d, d // 2), **options) * decay / d**0.5, 0.05 * strength


def measure(name: str, layer: nn.Module, device: str) -> dict[str, Any]:
    """Follow the path of one layer to the share of units that is asked for, debias, and compare with fresh draws."""
    generator = torch.Generator(device).manual_seed(0)
    spread = SPREAD.get(name, 1)
    group = column_groups(layer, spread).to(device)
    W = layer.weight.detach().flatten(1).double().to(device)
    loadings, noise = factors_of(W.shape[1], group, generator)
    R = loadings @ loadings.T
    R.diagonal().add_(noise.square())
    S = W @ R
    problem = Problem.of(R, S, (S * W).sum(), group=group)
    wanted = KEPT[name] * problem.groups
    began = start = time.process_time()
    ratio, solution, path = 1.0, None, []
    while solution is None or solution.units < wanted:
        ratio /= 2**0.5
        start = time.process_time()
        warm = problem.zeros() if solution is None else solution.M
        solution = solve(problem, ratio * problem.lam_max, start=warm)
        path.append({"lam_ratio": ratio, "kept": solution.units, "seconds": round(time.process_time() - start, 2)})
    ended = time.process_time()
    M = problem.least_squares(solution.kept)
    debiased = time.process_time() - ended
    columns = solution.kept[group]
    left = float(problem.correlation_of_few(M)[0][:, columns].abs().max() / S.abs().max())
    sizes = [layer_bytes(layer, W.shape[0], n, spread) / MIB for n in (problem.groups, solution.units)]
    return {
        "layer": name,
        "columns": W.shape[1],
        "units": problem.groups,
        "kept": solution.units,
        "lam_ratio": ratio,
        "steps": solution.steps,
        "gap": solution.gap,
        "left_after_debias": left,
        "error": problem.error(M),
        "error_of_draws": error_on_draws(layer, M[0], loadings, noise, generator),
        "seconds": path[-1]["seconds"],
        "path_seconds": round(ended - began, 2),
        "debias_seconds": round(debiased, 2),
        "path": path,
        "mib_before": sizes[0],
        "mib": sizes[1],
    }


def error_on_draws(layer: nn.Module, M: Tensor, loadings: Tensor, noise: Tensor, generator: torch.Generator) -> float:
    """Relative error of the outputs that a layer of weight M gives, on fresh inputs of the same covariance."""
    options = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    x = torch.randn((DRAWS, loadings.shape[1]), **options) @ loadings.T
    x += noise * torch.randn((DRAWS, len(noise)), **options)
    x = x.float()
    W = layer.weight.detach().to(x)
    if isinstance(layer, nn.Conv2d):
        patches = x.reshape(DRAWS, *W.shape[1:])
        y, y_hat = (F.conv2d(patches, w.to(x).reshape(W.shape)).flatten(1) for w in (W, M))
    else:
        y, y_hat = F.linear(x, W), F.linear(x, M.to(x))
    return float((y - y_hat).square().sum() / y.square().sum())


def smooth_images(count: int, *, seed: int, device: str) -> Tensor:
    """Noise of many scales, (count, 3, 227, 227)."""
    generator = torch.Generator().manual_seed(seed)
    scales = [torch.randn((count, 3, s, s), generator=generator) for s in (4, 8, 16, 32, 64, 227)]
    return sum(F.interpolate(z, size=227, mode="bilinear") / (k + 1) for k, z in enumerate(scales)).to(device)


def whole(network: nn.Module, images: int, device: str) -> dict[str, Any]:
    """Reconstruct and refit the network, and compare its outputs with the original's."""
    network = network.to(device).eval()
    x = smooth_images(images, seed=0, device=device)
    loader = TensorLoader(x, torch.zeros(images, dtype=torch.int64, device=device), 4, shuffle=False)
    start = time.process_time()
    small, report = reconstruct(network, loader, lam_ratio=0.1, chaining="bottom-up", refit=True)
    seconds = time.process_time() - start
    keys = ("layer", "inputs", "kept", "outputs", "kept_outputs", "lam_ratio", "gap", "error")
    rows = [
        {key: getattr(row, key) for key in keys} | {"mib_before": row.kib_before / 1024, "mib": row.kib / 1024}
        for row in report.rows
    ]
    return {
        "images": images,
        "rows": rows,
        "seconds": round(seconds, 2),
        "mib_before": report.kib_before / 1024,
        "mib": report.kib / 1024,
        "cut_changes_outputs_by": report.difference,
        "promised_error": report.rows[-1].error,
        "error": output_error(network, small, x),
        "error_on_other_images": output_error(network, small, smooth_images(images, seed=1, device=device)),
    }


@torch.no_grad()
def output_error(network: nn.Module, small: nn.Module, x: Tensor) -> float:
    """E‖y − ŷ‖² / E‖y − E y‖² of the outputs."""
    y, y_hat = (torch.cat([net(part) for part in x.split(4)]).double() for net in (network, small))
    return float((y - y_hat).square().sum() / (y - y.mean(0)).square().sum())


def correct(row: dict[str, Any]) -> bool:
    """Certified, debiased, and as good on fresh draws as the moments promise, within 10 % of it."""
    kept_its_promise = abs(row["error_of_draws"] - row["error"]) <= 0.1 * row["error"]
    return row["gap"] <= 1e-6 and row["left_after_debias"] <= 1e-6 and kept_its_promise


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="+", default=list(KEPT), choices=list(KEPT))
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="reconstruction_alexnet.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = alexnet()
    began = time.process_time()
    result: dict[str, Any] = {"claim": "AlexNet on synthetic data", "complete": False, "layers": []}
    result["network"] = whole(network, options.images, options.device)
    print(result["network"], flush=True)
    for name in options.layers:
        result["layers"].append(measure(name, network.get_submodule(name), options.device))
        print(result["layers"][-1], flush=True)
        write(options.out, result | environment())
    found = result["network"]
    same = abs(found["error"] - found["promised_error"]) <= 1e-3 * found["promised_error"] + 1e-9
    result["correct"] = (
        all(correct(row) for row in result["layers"]) and same and found["cut_changes_outputs_by"] <= 1e-4
    )
    result["complete"] = options.layers == list(KEPT)
    result["cpu_seconds"] = round(time.process_time() - began, 1)
    write(options.out, result | environment())


if __name__ == "__main__":
    main()
