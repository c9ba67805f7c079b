"""AlexNet, the network of the reconstruction papers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["alexnet"]


def alexnet(
    num_classes: int = 1000,
    *,
    channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    groups: int = 1,
) -> nn.Sequential:
    """AlexNet on one device: images ``(B, 3, 227, 227)`` to logits ``(B, num_classes)`` (Krizhevsky et al., 2012).

    Five convolutions and three linear layers: 62,367,776 weights and 10,568 biases for the default sizes. Local
    response normalisation is left out: it ties channels together, and later networks do without.

    :param channels: filters of the five convolutions.
    :param hidden: units of the two hidden linear layers.
    :param groups: of the second, fourth and fifth convolution; 2 for the split of the original over two devices
        (60,954,656 weights).
    """
    c1, c2, c3, c4, c5 = channels
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, c1, 11, stride=4),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, 2),
            conv2=nn.Conv2d(c1, c2, 5, padding=2, groups=groups),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, 2),
            conv3=nn.Conv2d(c2, c3, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(c3, c4, 3, padding=1, groups=groups),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(c4, c5, 3, padding=1, groups=groups),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, 2),
            flatten=nn.Flatten(),
            fc6=nn.Linear(c5 * 36, hidden),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(),
            fc7=nn.Linear(hidden, hidden),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(),
            fc8=nn.Linear(hidden, num_classes),
        )
    )
