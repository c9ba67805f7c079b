"""A network as a Pyro model: which layers get a site, what is trained, and what is refused."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pyrosparse import SparseModel
from pyrosparse.errors import NetworkError, PriorError, PyrosparseWarning
from pyrosparse.guides import AutoSparse
from pyrosparse.likelihoods import Categorical, Gaussian
from pyrosparse.models import lenet_5_caffe, mlp
from pyrosparse.priors import ARD, LogUniform, Prior


class Block(nn.Module):
    """A user's own module, with layers of its own, a residual sum and a functional use."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.inner = nn.Linear(units, units)
        self.norm = nn.LayerNorm(units)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.inner(x)))


class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([Block(6), Block(6)])
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in [self.stem, *self.blocks]:
            x = block(x)
        return self.scale * self.head(x)


def model_of(network: nn.Module, prior: Prior | None = None, **options: Any) -> SparseModel:
    return SparseModel(network, prior or LogUniform(), Categorical(num_data=20), **options)


def test_every_layer_gets_a_site_named_after_its_parameter() -> None:
    model = model_of(Mine())
    assert list(model.sites) == ["stem.weight", "blocks.0.inner.weight", "blocks.1.inner.weight", "head.weight"]
    site = model.sites["blocks.0.inner.weight"]
    assert (site.layer, site.shape, site.total) == ("blocks.0.inner", torch.Size([6, 6]), 36)
    assert model.original_parameters == sum(p.numel() for p in Mine().parameters())


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...], tuple[int, int]]] = {
    "Linear": (nn.Linear(3, 5), (2, 3), (0, 1)),
    "Conv1d": (nn.Conv1d(2, 5, 3, stride=2, padding=1), (2, 2, 6), (0, 1)),
    "Conv2d": (nn.Conv2d(2, 4, 3, groups=2, bias=False), (2, 2, 5, 5), (0, 1)),
    "Conv3d": (nn.Conv3d(2, 4, 2, dilation=2), (2, 2, 4, 4, 4), (0, 1)),
    "ConvTranspose1d": (nn.ConvTranspose1d(2, 5, 3), (2, 2, 4), (1, 0)),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 5, 3, stride=2, output_padding=1), (2, 2, 3, 3), (1, 0)),
    "ConvTranspose3d": (nn.ConvTranspose3d(2, 5, 2), (2, 2, 3, 3, 3), (1, 0)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer(name: str) -> None:
    """Alone, as the network itself: its site is called `weight`. The draw takes the weight's place."""
    layer, shape, (out_axis, in_axis) = LAYERS[name]
    model = SparseModel(layer, LogUniform(), Gaussian(num_data=10))
    site = model.sites["weight"]
    assert (site.layer, site.shape, site.out_axis, site.in_axis) == ("", layer.weight.shape, out_axis, in_axis)
    x = torch.randn(shape)
    guide = AutoSparse(model, log_var=-1.0)
    trace = poutine.trace(poutine.replay(model, trace=poutine.trace(guide).get_trace(x))).get_trace(x)
    expected = deepcopy(layer)
    expected.weight.data = trace.nodes["weight"]["value"]
    torch.testing.assert_close(trace.nodes["obs"]["fn"].mean, expected(x))


def test_the_network_is_copied() -> None:
    network = mlp((4, 5, 3))
    model = model_of(network)
    assert model.network is not network
    assert all(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        model.network.get_parameter("fc1.bias").fill_(7.0)
    assert float(network.get_parameter("fc1.bias").detach().max()) < 7.0


def test_the_likelihood_is_copied() -> None:
    likelihood = Gaussian(num_data=10, learn_scale=True)
    first, second = (SparseModel(mlp((4, 5, 3)), LogUniform(), likelihood) for _ in range(2))
    with torch.no_grad():
        first.get_parameter("likelihood.log_scale").fill_(7.0)
    assert all(float(p.detach()) == 0.0 for p in [*likelihood.parameters(), *second.likelihood.parameters()])


def test_what_is_trained_is_what_has_no_prior() -> None:
    network = Mine()
    network.scale.requires_grad_(False)
    model = model_of(network, ARD(learn=True), exclude=["stem"])
    names = [name for name, _ in model.trained_parameters()]
    assert [n for n in names if n.startswith("network.")] == [
        "network.stem.weight",
        "network.stem.bias",
        *[f"network.blocks.{i}.{rest}" for i in (0, 1) for rest in ("inner.bias", "norm.weight", "norm.bias")],
    ]
    assert len([n for n in names if n.endswith("log_precision")]) == 3  # one for each site


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["fc1"]}, ["fc1"]),
        ({"include": ["conv*"]}, ["conv1", "conv2"]),
        ({"include": ["conv*", "fc2"]}, ["conv1", "conv2", "fc2"]),
        ({"exclude": ["fc2"]}, ["conv1", "conv2", "fc1"]),
        ({"include": ["*"], "exclude": ["*2"]}, ["conv1", "fc1"]),
        ({"include": ("fc?",), "exclude": {"fc1"}}, ["fc2"]),
    ],
)
def test_include_and_exclude(options: dict[str, Any], expected: list[str]) -> None:
    model = model_of(lenet_5_caffe(channels=(2, 3), hidden=4), **options)
    assert [site.layer for site in model.sites.values()] == expected


def test_priors_by_layer_and_pattern() -> None:
    model = model_of(
        lenet_5_caffe(channels=(2, 3), hidden=4),
        LogUniform(),
        priors={"conv*": ARD(), "conv2": ARD(3.0), "fc2": ARD(5.0)},
    )
    kinds = {name: model.prior_of(name) for name in model.sites}
    assert isinstance(kinds["fc1.weight"], LogUniform)
    assert isinstance(kinds["conv1.weight"], ARD) and kinds["conv1.weight"].log_precision is None
    conv2 = kinds["conv2.weight"]
    assert isinstance(conv2, ARD) and conv2.log_precision is not None
    assert float(conv2.log_precision.exp()) == pytest.approx(3.0)


def test_each_site_has_a_prior_of_its_own() -> None:
    prior = ARD(learn=True)
    model = model_of(mlp((4, 5, 3)), prior)
    first, second = (model.prior_of(site) for site in model.sites)
    assert first is not second and first is not prior


class Tied(nn.Module):
    """The decoder has the encoder's weight; an embedding, that of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(4, 3)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(self.embedding(x))))


def test_tied_weights_are_one_site() -> None:
    model = model_of(Tied())
    assert list(model.sites) == ["encoder.weight", "head.weight"]
    assert model.tied == ["encoder.weight", "head.weight"]
    assert model.original_parameters == 16 + 4 + 4 + 12 + 3
    x = torch.tensor([0, 2])
    guide = AutoSparse(model, log_var=0.0)
    draws = poutine.trace(guide).get_trace(x)
    trace = poutine.trace(poutine.replay(model, trace=draws)).get_trace(x)
    plain = Tied()
    plain.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        plain.encoder.weight.copy_(draws.nodes["encoder.weight"]["value"])
        plain.head.weight.copy_(draws.nodes["head.weight"]["value"])
    expected = torch.log_softmax(plain(x), -1)
    torch.testing.assert_close(trace.nodes["obs"]["fn"].logits, expected)


def test_tied_weights_by_the_name_of_the_layer_that_is_included() -> None:
    assert list(model_of(Tied(), include=["decoder"]).sites) == ["decoder.weight"]
    assert model_of(mlp((4, 5, 3))).tied == []


def test_shared_modules_are_one_site() -> None:
    layer = nn.Linear(4, 4)
    model = model_of(nn.Sequential(layer, nn.ReLU(), layer))
    assert list(model.sites) == ["0.weight"] and model.tied == ["0.weight"]


def test_forward_observes_and_draws() -> None:
    model = model_of(mlp((4, 5, 3)))
    x, y = torch.randn(10, 4), torch.randint(3, (10,))
    trace = poutine.trace(model).get_trace(x, y)
    obs = trace.nodes["obs"]
    assert obs["is_observed"] and obs["scale"] == 2.0 and torch.equal(obs["value"], y)
    assert model.input_shape == torch.Size([4])
    assert model(x).shape == (10,)
    assert {n for n, s in trace.nodes.items() if s["type"] == "sample"} == {"fc1.weight", "fc2.weight", "obs", "data"}


def test_double_precision() -> None:
    """Draws of the prior take the type of the network."""
    model = model_of(mlp((4, 5, 3)).double(), priors={"fc2": ARD(1.0)})
    x = torch.randn(10, 4).double()
    assert model(x).shape == (10,)
    guide = AutoSparse(model)
    assert guide.families["fc1.weight"].mean().dtype == torch.float64
    assert TraceMeanField_ELBO().loss(model, guide, x, torch.zeros(10, dtype=torch.int64)) > 0


def test_pyros_predictive_and_autoguides_work() -> None:
    model = model_of(mlp((4, 5, 3)), ARD(1.0))
    x, y = torch.randn(10, 4), torch.randint(3, (10,))
    guide = AutoSparse(model)
    assert Predictive(model, guide=guide, num_samples=3)(x)["obs"].shape == (3, 10)
    auto = AutoNormal(model)
    svi = SVI(model, auto, pyro.optim.Adam({"lr": 0.01}), loss=TraceMeanField_ELBO())
    assert svi.step(x, y) > 0
    assert Predictive(model, guide=auto, num_samples=2)(x)["obs"].shape == (2, 10)


def test_a_hand_written_guide_for_a_part() -> None:
    """A guide may serve the sites itself."""
    model = model_of(mlp((4, 3)), ARD(1.0))

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        pyro.sample("fc1.weight", dist.Normal(torch.zeros(3, 4), 0.1).to_event(2))

    x, y = torch.randn(10, 4), torch.randint(3, (10,))
    assert TraceMeanField_ELBO().loss(model, guide, x, y) > 0


def test_copies_and_states() -> None:
    model = model_of(mlp((4, 5, 3)), ARD(2.0))
    copied = deepcopy(model)
    assert list(copied.sites) == list(model.sites)
    copied.load_state_dict(model.state_dict())
    assert copied.prior_of("fc1.weight") is not model.prior_of("fc1.weight")


# refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["fc9"]}, r"'fc9' fits no layer.*did you mean 'fc2'"),
        ({"exclude": ["conf1"]}, r"'conf1' fits no layer.*did you mean 'conv1'"),
        ({"priors": {"fcc1": ARD()}}, r"'fcc1' fits no layer.*did you mean 'fc1'"),
        ({"include": "fc1"}, r"\['fc1'\], not 'fc1'"),
        ({"exclude": "fc1"}, "lists of names"),
        ({"exclude": ["*"]}, "nothing to sparsify"),
        ({"include": []}, "nothing to sparsify"),
    ],
)
def test_names_that_fit_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        model_of(lenet_5_caffe(channels=(2, 3), hidden=4), **options)


def test_frozen_layers_get_no_prior_and_a_word() -> None:
    network = mlp((4, 5, 3))
    network.fc1.weight.requires_grad_(False)
    network.fc2.bias.requires_grad_(False)
    with pytest.warns(PyrosparseWarning, match=r"weights of 'fc1' are frozen") as caught:
        model = model_of(network)
    assert caught[0].filename != SparseModel.__init__.__code__.co_filename
    assert list(model.sites) == ["fc2.weight"]
    assert [name for name, _ in model.trained_parameters()] == ["network.fc1.bias"]
    # asked for by name, or left out by name: no word
    assert list(model_of(network, include=["fc*"]).sites) == ["fc1.weight", "fc2.weight"]
    assert list(model_of(network, exclude=["fc1"]).sites) == ["fc2.weight"]
    network.fc2.weight.requires_grad_(False)
    with pytest.raises(NetworkError, match="'fc1', 'fc2' are frozen.*name those"):
        model_of(network)


def test_unknown_site_suggests_the_nearest() -> None:
    with pytest.raises(NetworkError, match=r"no site 'fc1.wieght'; did you mean 'fc1.weight'"):
        model_of(mlp((4, 3))).prior_of("fc1.wieght")


@pytest.mark.parametrize("network", [nn.ReLU(), nn.Sequential(), nn.LSTM(3, 4), nn.Embedding(3, 4)])
def test_nothing_to_sparsify(network: nn.Module) -> None:
    with pytest.raises(NetworkError, match=f"{type(network).__name__} has no linear or convolution layer"):
        model_of(network)


def test_lazy_layers_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"'0' is lazy.*run the network once"):
        model_of(nn.Sequential(nn.LazyLinear(3)))


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_are_refused(wrap: Any) -> None:
    network = nn.Sequential(OrderedDict(fc1=wrap(nn.Linear(4, 4)), fc2=nn.Linear(4, 3)))
    with pytest.raises(NetworkError, match=r"'fc1' computes its weight.*exclude it"):
        model_of(network)
    assert list(model_of(network, exclude=["fc1"]).sites) == ["fc2.weight"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_networks_that_torch_cannot_copy_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"Linear cannot be copied.*weight_norm"):
        model_of(nn.utils.weight_norm(nn.Linear(4, 4)))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_a_prior_on_weights_it_cannot_serve(dtype: torch.dtype) -> None:
    network = mlp((4, 5, 3))
    network.fc2.weight = nn.Parameter(torch.zeros(3, 5, dtype=dtype), requires_grad=False)
    with pytest.raises(PriorError, match=r"LogUniform on layer 'fc2'"):
        model_of(network)
    assert list(model_of(network, exclude=["fc2"]).sites) == ["fc1.weight"]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((lambda x: x, LogUniform(), Categorical(3)), NetworkError, "network is a function"),
        ((mlp((2, 2)), dist.Normal(0.0, 1.0), Categorical(3)), PriorError, "prior is a Normal"),
        ((mlp((2, 2)), LogUniform, Categorical(3)), PriorError, "prior is a "),
        ((mlp((2, 2)), LogUniform(), nn.CrossEntropyLoss()), NetworkError, "likelihood is a CrossEntropyLoss"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        SparseModel(*arguments)


def test_a_prior_of_another_kind_for_a_layer_is_refused() -> None:
    with pytest.raises(PriorError, match=r"priors\['fc1'\] is a float"):
        model_of(mlp((2, 2)), priors={"fc1": 2.0})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        network[1].weight[0, 1] = bad
    with pytest.raises(NetworkError, match=r"1\.weight has 1 NaN or infinite of 4 numbers"):
        SparseModel(network, LogUniform(), Categorical(num_data=3))
