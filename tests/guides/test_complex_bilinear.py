"""Complex bilinear layers with a prior: their weights are drawn lazily, pruned and stored; units stay."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import pyrosparse as ps
import pyrosparse.nn as psnn
from pyrosparse import guides
from pyrosparse.data import TensorLoader
from pyrosparse.export.pairs import RealPairs
from tests.complex_networks import kill


class Squares(nn.Module):
    """A linear layer, and all products of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = psnn.ComplexLinear(5, 4)
        self.products = psnn.ComplexBilinear(4, 4, 3)
        self.logits = psnn.RealPart()

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return self.logits(self.products(h, h))


def test_from_the_fit_to_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 5, dtype=torch.complex64)
    y = (x[:, 0] * x[:, 1]).real.gt(0).long()
    model = ps.SparseModel(Squares(), ps.priors.ComplexLogUniform(), ps.likelihoods.Categorical(num_data=64))
    guide = guides.AutoSparse(model)
    assert set(model.sites) == {"fc.weight", "products.weight"}
    assert model.sites["products.weight"].total == 2 * 3 * 4 * 4
    ps.fit(model, guide, TensorLoader(x, y, 32), epochs=3, lr=1e-2, shrink_every=0, progress=False)
    dead = torch.zeros(3, 4, 4, dtype=torch.bool)
    dead[:, 1:, 2:] = True
    kill(guide, {"products.weight": dead})
    pruned = ps.prune(model, guide)
    weight = pruned.network.get_parameter("products.weight")
    assert weight.shape == (3, 4, 4, 2) and not bool(weight[dead].any())
    assert pruned.report.layers[1].kept == 2 * int(guide.families["products.weight"].keep().sum())
    tuned = ps.fine_tune(pruned, TensorLoader(x, y, 32), epochs=1, progress=False)
    assert not bool(tuned.network.get_parameter("products.weight")[dead].any())
    assert ps.summarize(model, guide).total == 2 * (5 * 4 + 48)
    ps.save(tmp_path / "net.psz", pruned, c=0.5)
    again = ps.load(tmp_path / "net.psz", network=Squares())
    torch.testing.assert_close(again(x), ps.coding.quantise(pruned, 0.5).network(x))
    real = RealPairs(pruned.network, complex_input=True)
    torch.testing.assert_close(real(torch.view_as_real(x)), pruned.network(x), atol=1e-5, rtol=1e-4)


def test_no_unit_around_it_is_cut() -> None:
    torch.manual_seed(0)
    model = ps.SparseModel(Squares(), ps.priors.ComplexLogUniform(), ps.likelihoods.Categorical(num_data=64))
    model.remember(torch.randn(2, 5, dtype=torch.complex64))
    guide = guides.AutoSparse(model)
    dead = torch.zeros(4, 5, dtype=torch.bool)
    dead[1] = True
    kill(guide, {"fc.weight": dead})
    pruned = ps.prune(model, guide)
    assert pruned.network.get_parameter("fc.weight").shape == (4, 5, 2)
    assert any("bilinear" in note for note in pruned.report.notes)
