"""A small complex network for the table of coders: MNIST, Fourier features, C-VD."""

from __future__ import annotations

from pathlib import Path

import torch
from mnist import load_data

import pyrosparse as ps
from pyrosparse import guides, models
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

EXAMPLES = 10_000


def complex_network(path: Path) -> Path:
    """Fit 784-128-10 on 10,000 images, prune and save it, unless the file is there."""
    if path.exists():
        return path
    data = load_data(0)
    torch.manual_seed(0)
    train = TensorLoader(data.train.x[:EXAMPLES], data.train.y[:EXAMPLES], 128)
    dense = models.complex_dense(hidden=128, fourier=True)
    dense = ps.train(dense, train, epochs=6, lr=1e-3, progress=False)
    model = ps.SparseModel(dense, ps.priors.ComplexLogUniform(), ps.likelihoods.Categorical(num_data=EXAMPLES))
    guide = guides.AutoSparse(model, log_var=-8.0)
    ps.fit(
        model,
        guide,
        train,
        epochs=25,
        lr=2e-3,
        lr_log_var=5e-2,
        kl_schedule=schedules.warm_up(until=0.3),
        lr_schedule=schedules.cosine(),
        val_loader=data.val,
        seed=0,
        progress=False,
    )
    small = ps.prune(model, guide, threshold="auto", val_loader=data.val, tolerance=0.002)
    info = ps.save(path, small, val_loader=data.val)
    print(f"complex: {small.nonzero:,} numbers, {info.bytes:,} bytes", flush=True)
    return path
