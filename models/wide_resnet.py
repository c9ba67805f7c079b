"""Wide residual networks for small images."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from pyrosparse.errors import ConfigError

if TYPE_CHECKING:
    from pyrosparse.model import SparseModel
    from pyrosparse.priors import Prior

__all__ = ["WideBlock", "gated_wide_resnet", "wide_resnet"]


class WideBlock(nn.Module):
    """Two 3×3 convolutions behind normalisation and ReLU, beside a shortcut (Zagoruyko & Komodakis, 2016).

    The outputs of ``conv1`` go to ``conv2`` alone, so its filters can be removed one by one; those of ``conv2`` are
    added to the shortcut, and a channel goes in all blocks that share it or in none.

    :param channels: of the input.
    :param filters: of both convolutions.
    :param stride: of the first one and of the shortcut.
    :param dropout: rate of dropout between the convolutions.
    """

    def __init__(self, channels: int, filters: int, *, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        same = stride == 1 and channels == filters
        self.shortcut = None if same else nn.Conv2d(channels, filters, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, H, W)`` to ``(B, filters, H/stride, W/stride)``."""
        active = F.relu(self.norm1(x))
        out = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        return out + (x if self.shortcut is None else self.shortcut(active))


def wide_resnet(
    num_classes: int = 10, *, depth: int = 28, widen: int = 10, dropout: float = 0.0, in_channels: int = 3
) -> nn.Sequential:
    """WRN-28-10 for 32×32 images: ``(B, 3, 32, 32)`` to logits ``(B, num_classes)`` (Zagoruyko & Komodakis, 2016).

    :param depth: 6n + 4 convolutions: n blocks in each of three resolutions.
    :param widen: factor on the 16, 32 and 64 filters.
    :param dropout: rate inside the blocks.
    :param in_channels: channels of the images.
    :raises ConfigError: for a depth that is not 6n + 4.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ConfigError(f"wide_resnet: depth is {depth}; give 6n + 4, such as 10, 16, 22 or 28")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
    channels = 16
    for i, filters in enumerate((16 * widen, 32 * widen, 64 * widen), start=1):
        for j in range(1, blocks + 1):
            stride = 2 if i > 1 and j == 1 else 1
            layers[f"block{i}_{j}"] = WideBlock(channels, filters, stride=stride, dropout=dropout)
            channels = filters
    layers["norm"] = nn.BatchNorm2d(channels)
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def gated_wide_resnet(*, num_data: int, prior: Prior | None = None, **options: int | float) -> SparseModel:
    """A wide residual network with gates on the filters of each block's first convolution, as a Pyro model.

    After Louizos, Welling and Kingma (2018), section 4.2; all other layers stay deterministic. The gates stand where
    the second convolution reads the filters, behind normalisation and ReLU: a filter that nothing reads can be removed
    exactly, while one that is shut before its normalisation still gives that layer's shift.

    :param num_data: size of the training set.
    :param prior: of the gated layers; :class:`~pyrosparse.priors.L0` on their inputs with a drop rate of 0.3 when None.
    :param options: of :func:`wide_resnet`.
    """
    from pyrosparse.likelihoods import Categorical
    from pyrosparse.model import SparseModel
    from pyrosparse.priors import L0

    network = wide_resnet(**options)  # type: ignore[arg-type]
    chosen = prior or L0(drop_rate=0.3, groups="input")
    return SparseModel(network, chosen, Categorical(num_data=num_data), include=["block*.conv2"])
