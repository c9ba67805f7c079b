from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pyrosparse import coding
from pyrosparse.errors import NetworkError
from pyrosparse.nn import SelectLinear
from tests.coding.networks import Custom, equal


class Images(nn.Module):
    """A network of a class that no file knows, with layers of several kinds."""

    def __init__(self, channels: int = 8, hidden: int = 10, features: int = 8 * 9, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, channels, 3, bias=bias)
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.ConvTranspose2d(channels, channels, 1)
        self.each = nn.Conv2d(channels, channels, 1, groups=channels)
        self.head = nn.Linear(features, hidden)
        self.last = nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(self.up(torch.relu(self.norm(self.conv(x)))))
        return self.last(torch.relu(self.head(x.flatten(1))))


def test_sizes_follow_the_file(tmp_path: Path) -> None:
    small = Images(channels=3, hidden=4, features=3 * 9).eval()
    path = tmp_path / "net.psz"
    coding.save(path, small)
    template = Images()
    loaded = coding.load(path, network=template)
    assert equal(loaded, small)
    x = torch.randn(2, 2, 5, 5)
    assert torch.equal(loaded(x), small(x))
    assert str(loaded) == str(small)
    assert template.conv.out_channels == 8  # what was handed in is left alone
    assert not loaded.training


def test_linear_layers_take_index_maps_and_biases(tmp_path: Path) -> None:
    small = Custom(hidden=5).eval()
    small.inner = SelectLinear(torch.tensor([0, 3, 4]), 6, 5)
    path = tmp_path / "net.psz"
    coding.save(path, small)
    template = Custom()
    template.inner = nn.Linear(6, 8, bias=False)
    loaded = coding.load(path, network=template)
    x = torch.randn(4, 6)
    assert torch.equal(loaded(x), small(x))


def test_a_file_with_an_architecture_can_fill_a_network_too(tmp_path: Path) -> None:
    small = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3)).eval()
    coding.save(tmp_path / "net.psz", small)
    big = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    assert equal(coding.load(tmp_path / "net.psz", network=big), small)


class Other(Custom):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Custom(hidden=2), r"inner\.weight has shape \(8, 6\)"),
        (Other(), r"no tensor for 'extra\.weight'"),
        (nn.Sequential(nn.Linear(6, 8)), "no tensor for '0.weight'"),
        (Custom().double(), r"inner\.weight .*float64"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_network_that_does_not_fit_is_refused_by_name(tmp_path: Path, network: nn.Module, words: str) -> None:
    coding.save(tmp_path / "net.psz", Custom())
    with pytest.raises(NetworkError, match=words):
        coding.load(tmp_path / "net.psz", network=network)


def test_what_the_network_lacks_is_named(tmp_path: Path) -> None:
    coding.save(tmp_path / "net.psz", Other())
    with pytest.raises(NetworkError, match="extra"):
        coding.load(tmp_path / "net.psz", network=Custom())
