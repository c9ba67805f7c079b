"""Random codes of networks: round trips, golden bytes, errors against the posterior, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pyrosparse import coding
from pyrosparse.coding import psz
from pyrosparse.coding.container import pack, unpack
from pyrosparse.coding.content import Content
from pyrosparse.coding.draws import Blocks, RandomCode, block_bits
from pyrosparse.coding.normals import UNIT
from pyrosparse.data import TensorLoader
from pyrosparse.errors import ConfigError, NetworkError, PyrosparseWarning
from pyrosparse.infer import evaluate
from pyrosparse.likelihoods import Categorical
from pyrosparse.models import mlp
from pyrosparse.pruning.pruned import Pruned, PruneReport
from tests.coding.networks import equal, lenet
from tests.coding.test_container import sealed
from tests.coding.test_corrupt import try_to_read
from tests.coding.test_golden import NEWEST, assert_as_before
from tests.infer.cases import CLASSES, FEATURES, labelled

# Linear(4, 3), ReLU, Linear(3, 2), the first with random codes of 7 bits for 4 weights each, the second too.
GOLDEN = bytes.fromhex(
    "50535a011b430e54a075401fa1c4b331300c621106834c292a2d8219615c0b0000a828003985b51b57c14d542916dbdc"
    "0746a1e46eaa7c8a9fe8f594da"
)


def golden_plan() -> tuple[nn.Sequential, psz.Plan]:
    """By whole numbers alone: masks, indices and biases."""
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    sigma = {name: torch.full_like(network.get_parameter(name), 0.25) for name in ("0.weight", "2.weight")}
    with torch.no_grad():
        for bias in (network[0].bias, network[2].bias):
            bias.copy_((torch.arange(len(bias)) - 1) * 0.25)
    plan = psz.make_plan(network, sigma, 1.0)
    codes = {}
    for name, seed in (("0.weight", 5), ("2.weight", 3)):
        shape = network.get_parameter(name).shape
        alive = (torch.arange(shape.numel()) * seed % 7 > 1).reshape(shape).numpy()
        count = int(alive.sum())
        indices = np.arange(-(-count // 4)) * 37 % 128
        levels = np.zeros(shape, np.int32)
        levels[alive] = Blocks(name, count, 4).weights(indices)
        codes[name] = Content("r", torch.float32, levels, 2.0**-13, code=RandomCode(7, 4, indices))
    return network, replace(plan, contents=plan.contents | codes)


@pytest.mark.parametrize("data", [GOLDEN, (NEWEST / "random.psz").read_bytes()], ids=["2", "3"])
def test_golden_bytes(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psz, "shortest", lambda name, content, places: content)
    network, plan = golden_plan()
    (tmp_path / "golden.psz").write_bytes(data)
    loaded = coding.load(tmp_path / "golden.psz").state_dict()
    for name, value in plan.state().items():
        assert torch.equal(loaded[name], value.reshape(loaded[name].shape)), name
    assert_as_before("random", psz.encode(network, plan, 23))


@pytest.mark.parametrize("pick", ["nearest", "sample"])
def test_round_trip(tmp_path: Path, pick: str) -> None:
    pruned = lenet(nonzero=(300, 120, 60))
    coded = coding.code_posterior(pruned, bits=8, pick=pick)
    info = coding.save(tmp_path / "net.psz", coded, codec="random-code", c=1.0)
    again = coding.load(tmp_path / "net.psz")
    assert all(equal_weights(again, coded.network, site) for site in coded.masks)
    assert [layer.codec for layer in info.layers if layer.name in coded.masks] == ["r"] * 3
    for layer in info.layers:
        if layer.name in coded.masks:
            assert layer.nonzero == int(coded.alive()[layer.name].sum())
            code = coded.codes[layer.name].code
            assert code is not None
            assert layer.value_bits == pytest.approx(code.bits * len(code.indices), abs=25)
    first = coding.save(tmp_path / "again.psz", coded, codec="random-code", c=1.0)
    assert first.bytes == info.bytes
    assert (tmp_path / "again.psz").read_bytes() == (tmp_path / "net.psz").read_bytes()


def equal_weights(first: nn.Module, second: nn.Module, site: str) -> bool:
    return torch.equal(first.get_parameter(site), second.get_parameter(site))


def test_the_error_is_that_of_the_posterior() -> None:
    """Bits of the KL buy an error of about a posterior deviation, and each further factor of the rate less."""
    pruned = lenet(nonzero=(300, 120, 60))
    site, errors = "fc1.weight", []
    for rate in (0.7, 1.0, 1.5):
        coded = coding.code_posterior(pruned, bits=12, rate=rate)
        alive = pruned.alive()[site]
        moved = (coded.network.get_parameter(site) - pruned.network.get_parameter(site)).detach()[alive]
        errors.append(float((moved / pruned.sigma[site][alive]).square().mean()))
    assert errors[0] > errors[1] > errors[2]
    assert 0.3 < errors[1] < 2.0


def test_blocks_have_the_bits_of_their_divergence() -> None:
    pruned = lenet(nonzero=(300, 120, 60))
    coded = coding.code_posterior(pruned, bits=12)
    for site, content in coded.codes.items():
        alive = pruned.alive()[site].numpy()
        mean = pruned.network.get_parameter(site).detach().double().numpy()[alive]
        sigma = pruned.sigma[site].double().numpy()[alive]
        bits = block_bits(mean, sigma, content.step * UNIT).sum()
        assert content.code is not None
        assert 12 * len(content.code.indices) == pytest.approx(bits, rel=0.25)


def test_save_codes_a_pruned_network(tmp_path: Path) -> None:
    pruned = lenet(nonzero=(100, 50, 20))
    coding.save(tmp_path / "net.psz", pruned, codec="random-code")
    again, coded = coding.load(tmp_path / "net.psz"), coding.code_posterior(pruned)
    assert all(equal_weights(again, coded.network, site) for site in pruned.masks)
    assert equal(pruned.network, lenet(nonzero=(100, 50, 20)).network)  # left as it was


def task(hidden: int = 10) -> tuple[Pruned, TensorLoader]:
    """A trained net of one hidden layer with a quarter of its weights cut."""
    torch.manual_seed(0)
    x, y = labelled(examples=400)
    loader = TensorLoader(x, y, 50)
    network = coding_train(mlp((FEATURES, hidden, CLASSES)), loader)
    masks, sigma = {}, {}
    for site in ("fc1.weight", "fc2.weight"):
        weight = network.get_parameter(site)
        masks[site] = weight.detach().abs() > weight.detach().abs().quantile(0.25)
        with torch.no_grad():
            weight.mul_(masks[site])
        sigma[site] = 0.1 * masks[site]
    kept = {
        "fc1": (torch.arange(hidden), torch.arange(FEATURES)),
        "fc2": (torch.arange(CLASSES), torch.arange(hidden)),
    }
    pruned = Pruned(network.eval(), masks, sigma, kept, 100, PruneReport(threshold=3.0), Categorical(num_data=400))
    return pruned, loader


def coding_train(network: nn.Module, loader: TensorLoader) -> nn.Module:
    import pyrosparse as ps

    return ps.train(network, loader, epochs=40, lr=1e-2, progress=False)


def test_fitted_codes_lose_less_than_those_of_the_posterior(tmp_path: Path) -> None:
    pruned, loader = task()
    before = {name: value.clone() for name, value in pruned.network.state_dict().items()}
    options = {"bits": 8, "rate": 0.6}
    at_once = coding.code_posterior(pruned, **options)
    coded = coding.random_code(
        pruned, loader, **options, settle=20, rounds=8, epochs=5, lr=5e-3, lr_log_var=0.05, val_loader=loader,
        progress=False,
    )  # fmt: skip
    measured = [evaluate(p.network, loader) for p in (pruned, at_once, coded)]
    assert coded.report.error == pytest.approx(measured[2].error)
    assert measured[2].log_likelihood > measured[1].log_likelihood
    assert measured[2].error < measured[0].error + 0.05
    for site in pruned.masks:
        assert torch.equal(coded.alive()[site], pruned.alive()[site])
        assert torch.equal(coded.network.get_parameter(site), coded.codes[site].tensor())
    assert all(torch.equal(value, before[name]) for name, value in pruned.network.state_dict().items())
    coding.save(tmp_path / "net.psz", coded, codec="random-code")
    again = coding.load(tmp_path / "net.psz")
    assert all(equal_weights(again, coded.network, site) for site in pruned.masks)


def test_altered_files_are_corrupt_or_read(tmp_path: Path) -> None:
    network, plan = golden_plan()
    whole = psz.encode(network, plan, 23)
    assert try_to_read(tmp_path, whole) == "read"
    generator = np.random.default_rng(0)
    for _ in range(150):
        altered = bytearray(whole[:-4])
        for place in generator.integers(4, len(altered), generator.integers(1, 4)):
            altered[place] = generator.integers(256)
        try_to_read(tmp_path, sealed(bytes(altered)))
    for _ in range(50):
        try_to_read(tmp_path, pack(unpack(whole, "").header, generator.bytes(4 * int(generator.integers(0, 20)))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bits": 0}, "bits is 0"),
        ({"bits": 21}, "bits is 21"),
        ({"rate": 0.0}, "rate is 0"),
        ({"pick": "nearby"}, "did you mean 'nearest'"),
    ],
    ids=str,
)
def test_numbers_out_of_range(options: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        coding.code_posterior(lenet(nonzero=(10, 10, 10)), **options)


def test_what_save_refuses(tmp_path: Path) -> None:
    pruned = lenet(nonzero=(10, 10, 10))
    with pytest.raises(ConfigError, match="random-code"):
        coding.save(tmp_path / "net.psz", pruned, codec="random-kode")
    for network, options in ((pruned.network, {}), (pruned, {"rate_weight": 0.1}), (pruned, {"rate_weight": None})):
        with pytest.raises(ConfigError, match="standard deviations"):
            coding.save(tmp_path / "net.psz", network, codec="random-code", **options)
    assert not list(tmp_path.iterdir())


def test_layers_without_deviations_are_rounded_and_said() -> None:
    pruned = lenet(nonzero=(10, 10, 10))
    pruned.sigma.pop("fc3.weight")
    with pytest.warns(PyrosparseWarning, match=r"fc3\.weight"):
        assert set(coding.code_posterior(pruned).codes) == {"fc1.weight", "fc2.weight"}
    pruned.sigma.clear()
    with pytest.warns(PyrosparseWarning), pytest.raises(NetworkError, match="posterior standard deviations"):
        coding.code_posterior(pruned)


def test_rounds_must_be_positive() -> None:
    pruned, loader = task()
    with pytest.raises(ConfigError, match="rounds is 0"):
        coding.random_code(pruned, loader, rounds=0)


def test_validation_data_choose_the_step_of_the_biases(tmp_path: Path) -> None:
    pruned = lenet(nonzero=(100, 50, 20))
    coded = coding.code_posterior(pruned)
    x = 0.1 * torch.randn(500, 784, generator=torch.Generator().manual_seed(0))  # biases count
    data = [(x, coded.network(x).argmax(-1))]
    path = tmp_path / "net.psz"
    coarse = coding.save(path, coded, codec="random-code", val_loader=data, tolerance=1.0)
    assert (coarse.c, coarse.rate_weight) == (4.0, 0.0)
    fine = coding.save(path, coded, codec="random-code", val_loader=data, tolerance=0.01)
    assert fine.c is not None and fine.c < 4.0
    assert fine.bytes > coarse.bytes
    assert evaluate(coding.load(path), data).error <= 0.01


def test_what_is_in_the_file_is_what_rounding_gives(tmp_path: Path) -> None:
    coded = coding.code_posterior(lenet(nonzero=(100, 50, 20)))
    coding.save(tmp_path / "net.psz", coded, codec="random-code", c=2.0)
    network = coding.quantise(coded, 2.0, codec="random-code").network
    assert equal(coding.load(tmp_path / "net.psz"), network)
    assert not equal(coding.quantise(coded, 2.0).network, network)
    with pytest.raises(ConfigError, match="without rate_weight"):
        coding.quantise(coded, 2.0, codec="random-code", rate_weight=0.1)
