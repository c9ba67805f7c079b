"""Batches lie in memory as the network reads them fastest, and that changes nothing but the time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pyrosparse as ps
from pyrosparse import priors
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError
from pyrosparse.infer import layout, step
from pyrosparse.infer.layout import layout_of
from tests.infer.cases import CLASSES, EXAMPLES, convolutional, pair, pictures


class Viewed(nn.Module):
    """A network that flattens by ``view``, which tensors with channels last do not admit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.fc1 = nn.Linear(96, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(torch.relu(self.conv1(x)).view(x.size(0), -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_and_the_same_numbers(channels: int) -> None:
    network = nn.Sequential(nn.Conv2d(channels, 5, 3), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten()).train()
    x = torch.randn(4, channels, 8, 6)
    laid_out = layout_of(network, x)
    assert network.training and network[2].training
    given = laid_out(x)
    assert torch.equal(given, x)
    assert given.stride() == (channels * 48, 1, channels * 6, channels)
    assert network[0](given).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network.eval()(given), network(x))
    assert laid_out(x[:, :, ::2]).stride() == (channels * 24, 1, channels * 6, channels)


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.randn(2, 1, 4, 4)),
        (nn.Conv1d(3, 2, 3), torch.randn(2, 3, 8)),
        (nn.Conv2d(3, 2, 3), torch.randn(3, 8, 8)),
        (Viewed(), torch.randn(2, 1, 4, 4)),
    ],
)
def test_others_are_left_alone(network: nn.Module, x: Tensor) -> None:
    assert layout_of(network, x)(x) is x


@pytest.mark.parametrize("prior", [priors.LogUniform, priors.GroupHorseshoe])
def test_a_fit_does_not_depend_on_it(prior: Callable[[], priors.Prior], monkeypatch: pytest.MonkeyPatch) -> None:
    def loss() -> list[float]:
        model, guide = pair(network=convolutional, prior=prior(), log_var=-4.0)
        fit = ps.fit(model, guide, TensorLoader(*pictures(), 16), epochs=1, seed=1, shrink_every=0)
        return [fit.history[0]["kl"], fit.history[0]["loss"]]

    def kept(x: Tensor) -> Tensor:
        return x

    used: list[tuple[int, ...]] = []
    plain = layout._channels_last
    monkeypatch.setattr(layout, "_channels_last", lambda x: used.append(x.shape) or plain(x))
    first = loss()
    assert len(used) == 5  # a look before the fit, and four batches
    monkeypatch.setattr(step, "layout_of", lambda *_, **__: kept)
    # the same noise falls on other outputs: only its law is the same
    assert loss() == pytest.approx(first, rel=0.02)


def test_a_network_that_views_can_be_fitted_and_trained() -> None:
    loader = TensorLoader(*pictures(), 20)
    trained = ps.train(Viewed(), loader, epochs=1, progress=False)
    model = ps.SparseModel(trained, priors.LogUniform(), ps.likelihoods.Categorical(num_data=EXAMPLES))
    assert len(ps.fit(model, ps.guides.AutoSparse(model), loader, epochs=1, progress=False).history) == 1


@pytest.mark.parametrize("prior", [priors.LogUniform, priors.GroupLogUniform, lambda: priors.L0(per_example=False)])
def test_half_precision_leaves_parameters_and_kl_alone(prior: Callable[[], priors.Prior]) -> None:
    def fitted(autocast: str | None) -> tuple[ps.infer.Fit, list[Tensor]]:
        torch.manual_seed(0)
        model, guide = pair(network=convolutional, prior=prior(), log_var=-4.0)
        loader = TensorLoader(*pictures(), EXAMPLES, shuffle=False)
        fit = ps.fit(model, guide, loader, epochs=3, seed=1, lr=1e-3, autocast=autocast, shrink_every=0)
        return fit, [*guide.parameters()]

    (whole, ours), (half, theirs) = fitted(None), fitted("bfloat16")
    assert all(p.dtype == torch.float32 for p in theirs)
    assert half.history[0]["kl"] == whole.history[0]["kl"]  # before the first step
    assert half.history[0]["loss"] == pytest.approx(whole.history[0]["loss"], rel=5e-3)
    assert half.history[0]["loss"] != whole.history[0]["loss"]
    assert half.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-2)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.07)  # Adam: three steps of the sign, at most 0.06


def test_double_precision_is_not_narrowed() -> None:
    model, guide = pair(network=lambda: convolutional().double())
    x, y = pictures()
    fit = ps.fit(model, guide, TensorLoader(x.double(), y, 20), epochs=1, autocast="bfloat16", progress=False)
    assert len(fit.history) == 1 and all(p.dtype == torch.float64 for p in guide.parameters())


def test_other_precisions_are_refused() -> None:
    model, guide = pair()
    with pytest.raises(ConfigError, match=r"autocast is 'float16'; give 'bfloat16', or leave it out"):
        ps.fit(model, guide, TensorLoader(*pictures(), 20), epochs=1, autocast="float16")
