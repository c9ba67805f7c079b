"""The two LeNets of the compression papers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["lenet_5_caffe", "lenet_300_100"]


def lenet_300_100(num_classes: int = 10) -> nn.Sequential:
    """784-300-100-10 with ReLU: images ``(B, 1, 28, 28)`` or ``(B, 784)`` to logits ``(B, num_classes)``.

    266,200 weights and 410 biases (LeCun et al., 1998; the form of Han et al., 2015).
    """
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(784, 300),
            relu1=nn.ReLU(),
            fc2=nn.Linear(300, 100),
            relu2=nn.ReLU(),
            fc3=nn.Linear(100, num_classes),
        )
    )


def lenet_5_caffe(num_classes: int = 10, *, channels: tuple[int, int] = (20, 50), hidden: int = 500) -> nn.Sequential:
    """20-50-500 LeNet-5 of the Caffe examples: images ``(B, 1, 28, 28)`` to logits ``(B, num_classes)``.

    Two 5×5 convolutions without padding, each followed by 2×2 max pooling, then two linear layers:
    430,500 weights and 580 biases for the default sizes.

    :param channels: filters of the two convolutions.
    :param hidden: units of the hidden linear layer.
    """
    first, second = channels
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, first, 5),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * 16, hidden),
            relu3=nn.ReLU(),
            fc2=nn.Linear(hidden, num_classes),
        )
    )
