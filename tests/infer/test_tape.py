"""A tape gives what the function gives, for other inputs, and knows what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrosparse.infer.tape import Tape

Function = Callable[..., Sequence[Tensor]]


def gradient(x: Tensor, w: Tensor) -> list[Tensor]:
    w = w.detach().requires_grad_()
    loss = (F.relu(x @ w.t()).square().mean() * 3).exp()
    return [loss.detach(), *torch.autograd.grad(loss, [w])]


def in_place(x: Tensor, w: Tensor) -> list[Tensor]:
    out = torch.empty_like(x)
    torch.mul(x, 2, out=out).add_(1.0).clamp_(max=1.5)
    total = torch.tensor(0.25)
    total += out.sum()
    return [out, total, x.t()[1].view(-1) + 1e-17]


def lists(x: Tensor, w: Tensor) -> list[Tensor]:
    a, b = x.split(3)
    first, *_ = w.unbind(1)
    return [torch.cat([b, a]), torch.stack([first, first]), x[[1, 2], :], x[None, :, 0]]


def several(x: Tensor, w: Tensor) -> list[Tensor]:
    images = x.reshape(1, 1, 6, 4)
    kernel = w[:1, :4].reshape(1, 1, 2, 2).detach().requires_grad_()
    out = F.max_pool2d(F.conv2d(images, kernel, None, 1, 1), 2)  # the images need no gradient: an absent output
    (of_kernel,) = torch.autograd.grad(out.sum(), [kernel])
    return [*x.topk(2), out.detach(), of_kernel, *torch.var_mean(x, 0)]


def factories(x: Tensor, w: Tensor) -> list[Tensor]:
    return [
        torch.arange(3, device=x.device) + x[0, :3],
        x.new_full((2,), 1e-16, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.complex64) * x[0, 0],
        x.to(torch.bfloat16).float(),
        F.pad(x, (1, 1), value=-1.0),
    ]


def complex_numbers(x: Tensor, w: Tensor) -> list[Tensor]:
    z = torch.view_as_complex(x.reshape(-1, 2).contiguous())
    return [z * z.conj() * (2 + 1j), z.abs(), torch.fft.fft(z), torch.view_as_real(z)]


def noise(x: Tensor, w: Tensor) -> list[Tensor]:
    return [torch.randn_like(x), torch.rand(3), F.dropout(x, 0.5), torch.bernoulli(torch.full((4,), 0.5))]


def unbounded(x: Tensor, w: Tensor) -> list[Tensor]:
    far = x.masked_fill(x > 0, float("-inf"))
    return [far, far.nan_to_num(nan=0.5, posinf=1.0), torch.full((2,), float("inf")), x + True, (x > 0) * 2]


def checked(x: Tensor, w: Tensor) -> list[Tensor]:
    square = x.t() @ x + 4 * torch.eye(4)
    return [torch.linalg.solve(square, w.t()), torch.linalg.inv(square)]


FUNCTIONS = [gradient, in_place, lists, several, factories, complex_numbers, noise, unbounded, checked]


def recorded(function: Function, *inputs: Tensor) -> Tape:
    tape = Tape(inputs)
    with tape:
        outputs = function(*inputs)
    tape.close(outputs)
    return tape


def some(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 4, generator=generator), torch.randn(5, 4, generator=generator)


def outputs(function: Callable[..., Sequence[Tensor]], *inputs: Tensor) -> list[Tensor]:
    torch.manual_seed(7)
    return [t.clone() for t in function(*inputs)]


@pytest.mark.parametrize("player", ["play", "script"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_tape_gives_what_the_function_gives(function: Function, player: str) -> None:
    tape = recorded(function, *some(0))
    assert tape.refusal is None
    play = tape.play if player == "play" else tape.script()
    for seed in (1, 2, 1):  # the last one: nothing of a play is left on the tape
        wanted, got = outputs(function, *some(seed)), outputs(play, *some(seed))
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def test_an_input_is_written_on_as_the_function_writes_on_it() -> None:
    def count(x: Tensor, total: Tensor) -> list[Tensor]:
        total.add_(x.sum())
        return [total * 2]

    tape = recorded(count, torch.ones(2), torch.zeros(()))
    total = torch.zeros(())
    (out,) = tape.script()(torch.ones(2), total)
    assert total == 2
    assert out == 4


def test_a_constant_is_read_as_it_is_when_the_tape_is_played() -> None:
    constant = torch.ones(2)
    tape = recorded(lambda x: [x * constant], torch.ones(2))
    constant.fill_(3.0)
    assert torch.equal(tape.play(torch.ones(2))[0], constant)
    assert torch.equal(tape.script()(torch.ones(2))[0], constant)


def test_an_output_may_be_an_input_or_a_constant() -> None:
    constant = torch.ones(2)
    tape = recorded(lambda x: [x, constant], torch.zeros(2))
    x = torch.full((2,), 5.0)
    for play in (tape.play, tape.script()):
        assert torch.equal(play(x)[0], x)
        assert torch.equal(play(x)[1], constant)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: [x * x.sum().item()], "_local_scalar_dense"),
        (lambda x: [x * 2] if x.sum() > 0 else [x], "_local_scalar_dense"),
        (lambda x: [x[x > 0].sum()], "index"),
        (lambda x: [F.one_hot(x.long(), 3)], "_local_scalar_dense"),
        (lambda x: [x * float(torch.equal(x, x))], "equal"),
        (lambda x: [x * x.tolist()[0]], "tolist"),
        (lambda x: [x * float(x.numpy()[0])], "numpy"),
        (lambda x: [x.detach().unsqueeze_(0)], "unsqueeze_"),
    ],
    ids=["number", "branch", "mask", "classes", "comparison", "list", "numpy", "form"],
)
def test_what_depends_on_numbers_is_refused(function: Function, named: str) -> None:
    tape = recorded(function, torch.ones(3))
    assert tape.refusal is not None
    assert named in tape.refusal


def test_a_generator_of_its_own_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    tape = recorded(lambda x: [x + torch.randn(3, generator=generator)], torch.ones(3))
    with pytest.raises(NotImplementedError, match="Generator"):
        tape.script()


def test_tapes_are_the_same_where_operations_and_numbers_are() -> None:
    factor, table = [2.0], torch.ones(4)

    def scaled(x: Tensor) -> list[Tensor]:
        return [x * factor[0] * table + torch.tensor(factor[0]) * 1j]

    first = recorded(scaled, torch.ones(4))
    assert first.same_as(recorded(scaled, torch.zeros(4)))
    factor[0] = 3.0
    assert not first.same_as(recorded(scaled, torch.ones(4)))
    factor[0], table = 2.0, torch.ones(4)  # as large as before, and another tensor
    assert not first.same_as(recorded(scaled, torch.ones(4)))


def test_playing_keeps_no_tensor_longer_than_it_is_needed() -> None:
    def long(x: Tensor) -> list[Tensor]:
        for _ in range(50):
            x = x.exp()
        return [x]

    assert [len(over) for over in recorded(long, torch.ones(2))._last_uses()] == [0, *[1] * 49]


def test_sums_write_on_terms_that_nothing_reads_any_more() -> None:
    def free(x: Tensor, w: Tensor) -> list[Tensor]:
        return [x.exp() + x.sin() + x.cos()]

    def read(x: Tensor, w: Tensor) -> list[Tensor]:
        term = x.exp()
        part = term[0]
        total = term + x  # `part` is read later, and lies in the term's memory
        return [total, part * 2, x + x, term.sum()]

    def given(x: Tensor, w: Tensor) -> list[Tensor]:
        term = x.exp()
        return [term, term + x, (x + 1) * x.view(4, 6).t().reshape(6, 4)]

    tape = recorded(free, *some(0))
    assert [str(call.operation) for call in tape._calls].count("aten.add_.Tensor") == 2
    for function in (free, read, given):
        tape = recorded(function, *some(0))
        for play in (tape.play, tape.script()):
            x, w = some(1)
            before = x.clone()
            assert all(map(torch.equal, play(x, w), function(x, w)))
            assert torch.equal(x, before)
