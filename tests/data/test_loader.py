"""TensorLoader: batches, permutations, shifts and softened tables, each against a direct construction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pyrosparse.data import TensorLoader
from pyrosparse.errors import DataError


def numbered(n: int) -> tuple[Tensor, Tensor]:
    """Examples that know their number."""
    return torch.arange(n).float()[:, None], torch.arange(n)


def images(n: int, c: int = 1, h: int = 5, w: int = 4) -> Tensor:
    return torch.rand(n, c, h, w) + 1.0  # no zeros but those that move in


def moved(image: Tensor, dy: int, dx: int) -> Tensor:
    """Content moved by (dy, dx) pixels down and right: a roll whose wrapped part is zero."""
    h, w = image.shape[-2:]
    out = torch.roll(image, (dy, dx), dims=(-2, -1))
    rows, cols = torch.arange(h), torch.arange(w)
    inside = ((rows - dy >= 0) & (rows - dy < h))[:, None] & ((cols - dx >= 0) & (cols - dx < w))
    return out * inside


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 45), shuffle=st.booleans(), drop_last=st.booleans())
def test_every_example_once(n: int, batch_size: int, shuffle: bool, drop_last: bool) -> None:
    loader = TensorLoader(*numbered(n), batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(torch.equal(x[:, 0].long(), y) for x, y in batches)
    seen = [int(i) for _, y in batches for i in y]
    assert len(seen) == len(set(seen)) == loader.num_data
    assert all(len(y) == batch_size for _, y in batches[:-1])
    if drop_last:
        assert loader.num_data == n - n % batch_size
    else:
        assert sorted(seen) == list(range(n))
    if not shuffle:
        assert seen == sorted(seen)


def test_a_pass_is_one_permutation_of_torchs_generator() -> None:
    loader = TensorLoader(*numbered(20), 6)
    torch.manual_seed(5)
    seen = torch.cat([y for _, y in loader])
    torch.manual_seed(5)
    assert torch.equal(seen, torch.randperm(20))
    assert not torch.equal(torch.cat([y for _, y in loader]), seen)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_shifts_of_a_pass_are_drawn_as_it_starts(shuffle: bool) -> None:
    """What is drawn between the batches, such as noise on weights, does not move the images otherwise."""
    x = images(20)
    loader = TensorLoader(x, torch.arange(20), 6, shift=1, shuffle=shuffle)
    torch.manual_seed(5)
    batches = []
    for batch in loader:
        batches.append(batch)
        torch.randn(3)
    torch.manual_seed(5)
    order = torch.randperm(20) if shuffle else torch.arange(20)
    shifts = torch.randint(9, (20,))
    assert torch.equal(torch.cat([y for _, y in batches]), order)
    for image, number, shift in zip(torch.cat([x for x, _ in batches]), order, shifts, strict=True):
        # the cut-out of a padded image that starts at dy moves its content up by dy
        assert torch.equal(image, moved(x[number], 1 - int(shift) // 3, 1 - int(shift) % 3))


@pytest.mark.parametrize("shift", [0, 1])
def test_the_same_batches_after_the_state_of_the_generator_is_restored(shift: int) -> None:
    loader = TensorLoader(images(20), torch.arange(20), 6, shift=shift)
    state = torch.get_rng_state()
    first = list(loader)
    torch.set_rng_state(state)
    for (xa, ya), (xb, yb) in zip(first, loader, strict=True):
        assert torch.equal(xa, xb) and torch.equal(ya, yb)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("shift", "channels"), [(1, 1), (2, 3), (3, 1)])
def test_shifted_images_are_rolls_with_zeros_moving_in(shift: int, channels: int, shuffle: bool) -> None:
    x = images(30, channels)
    loader = TensorLoader(x, torch.arange(30), 7, shift=shift, shuffle=shuffle)
    wanted = [(dy, dx) for dy in range(-shift, shift + 1) for dx in range(-shift, shift + 1)]
    seen = set()
    for _ in range(4):
        for batch, numbers in loader:
            for image, number in zip(batch, numbers, strict=True):
                fitting = [d for d in wanted if torch.equal(image, moved(x[number], *d))]
                assert len(fitting) == 1
                seen.add(fitting[0])
    assert len(seen) > 0.7 * len(wanted)


def test_shifts_are_drawn_uniformly() -> None:
    """Nine shifts, 9000 draws: Pearson's χ² with 8 degrees of freedom stays below its 0.9999 quantile."""
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 1.0
    loader = TensorLoader(x.expand(9000, 1, 3, 3), torch.zeros(9000), 1000, shift=1)
    counts = sum(batch.sum(0)[0] for batch, _ in loader)
    assert float(counts.sum()) == 9000
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 31.8


def test_the_data_are_not_altered() -> None:
    x, y = images(10), torch.arange(10)
    before = x.clone()
    loader = TensorLoader(x, y, 4, shift=2)
    for batch, _ in loader:
        batch.zero_()
    assert torch.equal(x, before)


class Teacher(nn.Module):
    """Its opinion depends on the position of the bright pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.layer(x.flatten(1)))


def direct(teacher: nn.Module, x: Tensor, y: Tensor, weight: float, temperature: float) -> Tensor:
    """(1 − a)·onehot + a·softmax(logits / T)."""
    with torch.no_grad():
        soft = torch.softmax(teacher.eval()(x) / temperature, -1)
    return (1 - weight) * F.one_hot(y, 3) + weight * soft


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize(("weight", "temperature"), [(0.7, 2.0), (1.0, 0.5), (0.0, 1.0)])
def test_softened_targets_are_the_teachers_on_the_batch_itself(shift: int, weight: float, temperature: float) -> None:
    x, y = images(25), torch.randint(3, (25,))
    teacher = Teacher()
    loader = TensorLoader(x, y, 8, shift=shift).soften(teacher, weight=weight, temperature=temperature)
    state = torch.get_rng_state()
    hard = TensorLoader(x, y, 8, shift=shift)
    batches = list(loader)
    torch.set_rng_state(state)
    for (xs, soft), (xh, labels) in zip(batches, hard, strict=True):
        assert torch.equal(xs, xh)  # the same batches as without a teacher
        torch.testing.assert_close(soft, direct(teacher, xs, labels, weight, temperature))
        torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))


def test_softening_keeps_the_options_and_the_teacher() -> None:
    x, y = images(10), torch.randint(3, (10,))
    teacher = Teacher().train()
    teacher.drop.eval()
    loader = TensorLoader(x, y, 4, shuffle=False, shift=1, drop_last=True)
    softened = loader.soften(teacher)
    assert [m.training for m in teacher.modules()] == [True, True, False]
    assert (softened.batch_size, softened.shuffle, softened.shift, softened.drop_last) == (4, False, 1, True)
    assert softened.x is x and len(softened) == 2
    assert next(iter(loader))[1].dtype == torch.int64


def test_soften_works_on_parts_of_large_sets() -> None:
    x, y = images(1100), torch.randint(3, (1100,))
    teacher = Teacher()
    loader = TensorLoader(x, y, 1100, shuffle=False).soften(teacher)
    ((_, soft),) = list(loader)
    torch.testing.assert_close(soft, direct(teacher, x, y, 0.7, 2.0))


def test_labels_of_other_integer_types() -> None:
    x, y = images(6), torch.randint(3, (6,), dtype=torch.int32)
    ((_, soft),) = list(TensorLoader(x, y, 6, shuffle=False).soften(Teacher()))
    assert soft.shape == (6, 3)


BAD = {
    "lengths": (lambda: TensorLoader(torch.zeros(3, 1), torch.zeros(4)), "x has 3 examples and y has 4"),
    "empty": (lambda: TensorLoader(torch.zeros(0, 1), torch.zeros(0)), "no examples"),
    "batch size": (lambda: TensorLoader(*numbered(3), 0), "batch_size is 0"),
    "shift of points": (lambda: TensorLoader(*numbered(3), shift=1), "shift needs images"),
    "negative shift": (lambda: TensorLoader(images(3), torch.zeros(3), shift=-1), "shift is -1"),
    "teacher weight": (lambda: TensorLoader(*numbered(3)).soften(nn.Identity(), weight=1.5), "weight is 1.5"),
    "temperature": (lambda: TensorLoader(*numbered(3)).soften(nn.Identity(), temperature=0.0), "temperature is 0.0"),
    "soft already": (lambda: TensorLoader(torch.zeros(3, 1), torch.zeros(3, 2)).soften(nn.Identity()), "needs labels"),
    "numbers": (lambda: TensorLoader(torch.zeros(3, 1), torch.zeros(3)).soften(nn.Identity()), "float32"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(DataError, match=message):
        make()


def test_shifted_images_follow_what_is_written_on_the_data() -> None:
    x = torch.rand(6, 1, 4, 4)
    loader = TensorLoader(x, torch.arange(6), 6, shift=1)
    next(iter(loader))
    x.fill_(2.0)
    (images, _), *_ = loader
    assert set(images.unique().tolist()) <= {0.0, 2.0}
    loader.x = torch.full_like(x, 3.0)
    (images, _), *_ = loader
    assert set(images.unique().tolist()) <= {0.0, 3.0}


def test_shifted_images_may_come_from_inference_mode() -> None:
    with torch.inference_mode():
        x = torch.rand(6, 1, 4, 4)
    images, labels = next(iter(TensorLoader(x, torch.arange(6), 6, shift=1)))
    assert images.shape == (6, 1, 4, 4)
    assert sorted(labels.tolist()) == list(range(6))
