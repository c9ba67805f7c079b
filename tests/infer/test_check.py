"""Looking at data before and while they are first gone through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError, PyrosparseWarning
from pyrosparse.infer.check import check_batch, check_data
from pyrosparse.infer.distil import TaughtLoader, softened
from pyrosparse.likelihoods import Categorical, Gaussian
from tests.infer.cases import CLASSES, EXAMPLES, FEATURES, labelled

CPU = torch.device("cpu")

Pair = tuple[Tensor, Tensor]
BAD: dict[str, tuple[Callable[[Tensor, Tensor], Pair], str]] = {
    "NaN": (lambda x, y: (x * torch.nan, y), "inputs have NaN"),
    "infinite targets": (lambda x, y: (x, torch.full((len(x), CLASSES), torch.inf)), "targets have NaN or infinite"),
    "label too large": (lambda x, y: (x, y + CLASSES), "labels must lie between 0 and 2"),
    "label negative": (lambda x, y: (x, y - 5), "labels must lie between 0 and 2"),
    "lengths": (lambda x, y: (x, y[1:]), "one target an example"),
    "empty": (lambda x, y: (x[:0], y[:0]), "one target an example"),
    "features": (lambda x, y: (x[:, 1:], y), "cannot take inputs"),
    "no tensors": (lambda x, y: (x.tolist(), y.tolist()), "not of list, list"),  # type: ignore[return-value]
}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, CLASSES))


@pytest.mark.parametrize("case", BAD)
def test_a_bad_batch_is_named_by_its_number(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(DataError, match=f"batch 7 of the loader: .*{message}"):
        check_batch(Categorical(EXAMPLES), *make(*labelled()), 7, network=network())


def test_a_good_batch_passes_and_nothing_is_touched() -> None:
    net = network().train()
    net[2].eval()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    check_batch(Categorical(EXAMPLES), *labelled(), 1, network=net)
    assert [m.training for m in net.modules()] == [True, True, True, False, True]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in state.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_without_a_network_numbers_and_lengths_are_looked_at() -> None:
    x, y = labelled()
    check_batch(Categorical(EXAMPLES), x, y + 100, 1)
    with pytest.raises(DataError, match="batch 2 of the loader: the inputs"):
        check_batch(Categorical(EXAMPLES), x * torch.nan, y, 2)


def test_targets_of_another_shape() -> None:
    x, _ = labelled()
    with pytest.raises(DataError, match="batch 3 .*Gaussian: targets have shape"):
        check_batch(Gaussian(EXAMPLES), x, torch.zeros(len(x), 2), 3, network=nn.Linear(FEATURES, 1))


def test_a_teacher_names_the_batch_whose_label_has_no_class() -> None:
    x, y = labelled()
    batches = [(x[:20], y[:20]), (x[20:40], y[20:40] + CLASSES)]
    loader = softened(batches, network(), 0.5, 2.0)
    with pytest.raises(DataError, match="batch 2 of the loader: labels lie between"):
        list(loader)
    with pytest.raises(DataError, match=r"labels of shape \(B,\)"):
        list(softened([(x, torch.rand(len(x), CLASSES))], network(), 0.5, 2.0))


def test_a_teacher_checks_the_first_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("pyrosparse.infer.distil.check_batch", lambda lik, x, y, batch, **_: seen.append(batch))
    x, y = labelled()
    loader = TaughtLoader([(x[:30], y[:30]), (x[30:], y[30:])], network(), weight=0.5, temperature=1.0)
    next(iter(loader))  # a pass that is not finished does not count
    for _ in range(2):
        assert len(list(loader)) == 2
    assert seen == [1, 1, 2]


def test_a_likelihood_told_of_more_examples_than_there_are() -> None:
    loader = TensorLoader(*labelled(), 20)
    with pytest.warns(PyrosparseWarning, match="has 60 examples.*num_data=600: it counts for 600/60 of its weight"):
        check_data(network(), Categorical(600), loader, device=CPU, batches=3)


def test_near_enough_and_where_it_does_not_matter_nothing_is_said() -> None:
    x, y = labelled()
    check_data(network(), Categorical(EXAMPLES), TensorLoader(x, y, 20), device=CPU, batches=3)
    # a last batch that is left out in one pass comes in another
    check_data(network(), Categorical(EXAMPLES), TensorLoader(x, y, 50, drop_last=True), device=CPU, batches=1)
    check_data(network(), Categorical(600), TensorLoader(x, y, 20), device=CPU)
    many, labels = x.repeat(10, 1), y.repeat(10)
    check_data(network(), Categorical(605), TensorLoader(many, labels, 20), device=CPU, batches=30)
