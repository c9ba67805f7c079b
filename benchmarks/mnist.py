"""MNIST as every table uses it: the last training images are the validation data; one dense teacher for all seeds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from common import CACHE, mnist_folder
from torch import nn

import pyrosparse as ps
from pyrosparse import models
from pyrosparse.data import TensorLoader
from pyrosparse.infer import schedules

VALIDATION = 5_000


@dataclass
class Data:
    """MNIST with its last training images for validation."""

    train: TensorLoader
    val: TensorLoader
    test: TensorLoader
    num_data: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_data = self.train.x.shape[0]


def load_data(shift: int) -> Data:
    """Load MNIST; the training loader moves images by up to ``shift`` pixels."""
    mnist = ps.data.load("idx", path=mnist_folder(), validation=VALIDATION)
    return Data(
        TensorLoader(mnist.x_train, mnist.y_train, 128, shift=shift),
        TensorLoader(mnist.x_val, mnist.y_val, 1000, shuffle=False),
        TensorLoader(mnist.x_test, mnist.y_test, 1000, shuffle=False),
    )


def train_teacher(epochs: int) -> tuple[nn.Module, float]:
    """One dense LeNet-5 for all seeds, trained with shifts and kept in a cache; also its CPU seconds."""
    path = CACHE / f"teacher-{epochs}.pt"
    network = models.lenet_5_caffe()
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["state"])
        return network.eval(), saved["cpu_seconds"]
    cpu = time.process_time()
    torch.manual_seed(1_000)
    network = models.lenet_5_caffe()
    network = ps.train(
        network,
        load_data(1).train,
        epochs=epochs,
        lr=1e-3,
        lr_schedule=schedules.cosine(hold=0.3),
        progress=False,
    )
    seconds = time.process_time() - cpu
    CACHE.mkdir(exist_ok=True)
    torch.save({"state": network.state_dict(), "cpu_seconds": seconds}, path)
    return network, seconds


def pretrained(network: str, data: Data, epochs: int) -> nn.Module:
    """The dense network that a posterior starts from."""
    return ps.train(models.build(network), data.train, epochs=epochs, lr=1e-3, progress=False)
