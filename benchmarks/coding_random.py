"""Random codes against integers: LeNet-5, Sparse VD, the posterior of the second cycle, bytes of whole files.

The posterior is read back from the cache of lenet_5_caffe.py. Rows: the integer coder, rounded at once, and at
c = 1 with its quantisation-aware ending; random codes of the posterior as it is; random codes that were fitted with
the KL of each block under control, on 20,000 images with soft labels. Rows are compared on validation data; nothing
is chosen by the test set, whose errors stand beside.

    python benchmarks/coding_random.py [--seed 40] [--rates 0.8 1.0]

Without rates only the rows of integers are made anew.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from common import CACHE, RESULTS, environment, write
from compression import Held, prune_to  # noqa: F401 - what the cache holds is a Held
from lenet_5_caffe import SECOND
from mnist import Data, load_data, train_teacher

import pyrosparse as ps
from pyrosparse import coding, guides
from pyrosparse.data import TensorLoader
from pyrosparse.infer.checkpoint import load_checkpoint
from pyrosparse.pruning.shrink import cut_to

BITS = 14
EXAMPLES = 20_000
STEPS = (1.0, 1.41, 2.0, 2.83)


def posterior(seed: int, data: Data) -> ps.Pruned:
    """The pruned network of the second cycle with its deviations."""
    first, second = (
        torch.load(CACHE / f"lenet_5_caffe-{row}-seed{seed}.pt", weights_only=False) for row in ("first", "second")
    )  # our own, of this machine
    likelihood = ps.likelihoods.Categorical(num_data=EXAMPLES)
    model = ps.SparseModel(first.spent.following, ps.priors.LogUniform(), likelihood)
    model.remember(data.train.x[:1])
    guide = guides.AutoSparse(model, log_var=SECOND.log_var)
    (folder,) = CACHE.glob(f"lenet_5_caffe-second-seed{seed}-*")
    saved = load_checkpoint(folder)
    assert saved is not None
    cut_to(model, guide, {layer: tuple(pair) for layer, pair in saved["kept"].items()})
    model.load_state_dict(saved["model"])
    guide.load_state_dict(saved["guide"])
    original = sum(p.numel() for p in second.spent.dense.parameters())
    return prune_to(model, guide, original, threshold=second.result["threshold"])


def measure(name: str, network: Any, data: Data, *, c: float = 1.0, **options: Any) -> dict[str, Any]:
    """Bytes and errors of the network that is read back."""
    path = CACHE / "coding-random.psz"
    info = ps.save(path, network, c=c, **options)
    again = ps.load(path)
    sites = [layer for layer in info.layers if layer.mask_bits]
    found = {
        "bytes": info.bytes,
        "ratio": info.ratio,
        "mask_bytes": round(sum(layer.mask_bits for layer in sites) / 8, 1),
        "value_bytes": round(sum(layer.value_bits for layer in sites) / 8, 1),
        "val_error": ps.evaluate(again, data.val).error,
        "test_error": ps.evaluate(again, data.test).error,
    }
    print(name, found, flush=True)
    return found


def main() -> None:
    """Write coding_random.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--rates", nargs="*", type=float, default=[0.8, 1.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(0)
    pruned = posterior(options.seed, data)
    kl = divergences(pruned)
    rows = {f"integers, rounded at once, c = {c:g}": measure(f"c {c}", pruned, data, c=c) for c in STEPS}
    table = json.loads((RESULTS / f"lenet_5_caffe-second-seed{options.seed}.json").read_text())
    wanted = ("bytes", "ratio", "val_error", "test_error")
    rows[f"integers, quantisation-aware, c = {table['c']:g}"] = {key: table["file"][key] for key in wanted}
    before = RESULTS / "coding_random.json"
    if not options.rates and before.exists():
        kept = json.loads(before.read_text())
        rows |= {name: row for name, row in kept["rows"].items() if name.startswith("random")}
        write(before.name, kept | {"rows": rows})
        return
    for rate in (*options.rates, 1.25):
        coded = coding.code_posterior(pruned, bits=BITS, rate=rate)
        name = f"random codes of the posterior, {rate:g} of its KL"
        rows[name] = measure(name, coded, data, codec="random-code")
    teacher, _ = train_teacher(SECOND.teacher_epochs)
    torch.manual_seed(options.seed)
    some = TensorLoader(data.train.x[:EXAMPLES], data.train.y[:EXAMPLES], 128, shift=SECOND.shift)
    taught = some.soften(teacher, weight=SECOND.teacher_weight)
    for rate in options.rates:
        start = time.process_time()
        coded = coding.random_code(
            pruned, taught, bits=BITS, rate=rate, settle=5, rounds=10, lr=2e-3, lr_log_var=2e-2, progress=False
        )
        name = f"random codes, fitted, {rate:g} of the KL"
        rows[name] = measure(name, coded, data, codec="random-code") | {"cpu_seconds": time.process_time() - start}
    result = {
        "claim": "random codes against integers, LeNet-5, Sparse VD, two cycles",
        "seed": options.seed,
        "bits_a_block": BITS,
        "weights": pruned.nonzero,
        "kl_bits": kl,
        "rows": rows,
        **environment(),
    }
    write("coding_random.json", result)


def divergences(pruned: ps.Pruned) -> dict[str, float]:
    """Bits of the KL of each layer, mask apart, to the Gaussian prior that random codes give it."""
    coded = coding.code_posterior(pruned, bits=1)
    found = {}
    for site, content in coded.codes.items():
        alive = pruned.alive()[site].numpy()
        mean = pruned.network.get_parameter(site).detach().double().numpy()[alive]
        sigma = pruned.sigma[site].double().numpy()[alive]
        found[site] = round(float(coding.draws.block_bits(mean, sigma, content.step * coding.normals.UNIT).sum()), 1)
    return found


if __name__ == "__main__":
    main()
