from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn import ComplexSelectLinear, SelectLinear


@pytest.mark.parametrize("bias", [True, False])
def test_is_the_linear_layer_with_zeros_elsewhere(bias: bool) -> None:
    index = torch.tensor([0, 3, 4])
    layer = SelectLinear(index, 6, 2, bias)
    whole = nn.Linear(6, 2, bias)
    with torch.no_grad():
        whole.weight.zero_()
        whole.weight[:, index] = layer.weight
        if bias:
            whole.bias.copy_(layer.bias)
    for shape in ((6,), (5, 6), (2, 3, 6)):
        x = torch.randn(shape)
        assert torch.allclose(layer(x), whole(x), atol=1e-6)
    assert [name for name, _ in layer.named_parameters()] == (["weight", "bias"] if bias else ["weight"])


def test_index_is_a_buffer_of_its_own() -> None:
    index = torch.tensor([0, 3], dtype=torch.int32)
    layer = SelectLinear(index, 6, 2)
    index[0] = 5
    assert layer.index.tolist() == [0, 3]
    assert layer.index.dtype == torch.int64
    assert set(layer.state_dict()) == {"index", "weight", "bias"}
    other = SelectLinear(torch.tensor([1, 2]), 6, 2)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 6)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(deepcopy(layer)(x), layer(x))


def test_types_and_printing() -> None:
    layer = SelectLinear(torch.tensor([0, 3]), 6, 2, dtype=torch.float64)
    assert layer.weight.dtype == torch.float64
    assert layer.double().index.dtype == torch.int64
    assert repr(layer) == "SelectLinear(2 of 6 features, in_features=2, out_features=2, bias=True)"
    assert isinstance(layer, nn.Linear)


def test_gradients_reach_selected_features_only() -> None:
    layer = SelectLinear(torch.tensor([1]), 3, 2)
    x = torch.randn(4, 3, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad[:, [0, 2]].eq(0).all()
    assert x.grad[:, 1].ne(0).all()
    assert layer.weight.grad is not None


def test_exports_as_a_program() -> None:
    layer = SelectLinear(torch.tensor([0, 2]), 4, 3)
    x = torch.randn(5, 4)
    program = torch.export.export(layer, (x,))
    assert torch.allclose(program.module()(x), layer(x))


@pytest.mark.parametrize(("kind", "dtype"), [(SelectLinear, torch.float32), (ComplexSelectLinear, torch.complex64)])
@pytest.mark.parametrize("size", [3, 9])
def test_an_input_of_another_size_is_refused(kind: type[nn.Module], dtype: torch.dtype, size: int) -> None:
    layer = kind(torch.tensor([0, 2]), 4, 3)
    with pytest.raises(NetworkError, match=rf"reads 2 of 4 features, and this input has shape \(2, {size}\)"):
        layer(torch.randn(2, size, dtype=dtype))


def test_a_width_that_a_file_does_not_say_is_an_upper_bound() -> None:
    layer = SelectLinear(torch.tensor([0, 2]), 6, 3)
    layer.at_most = True
    assert layer(torch.randn(2, 4)).shape == (2, 3)
    with pytest.raises(NetworkError, match="reads 2 of 6 features"):
        layer(torch.randn(2, 7))
