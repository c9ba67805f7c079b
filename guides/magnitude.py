"""Weights as they are, ranked by their size: what posteriors are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrosparse.guides.auto import AutoSparse, check_model
from pyrosparse.guides.point import PointFamily
from pyrosparse.layers import not_zero
from pyrosparse.model import SparseModel

__all__ = ["Magnitude", "MagnitudeFamily"]


class MagnitudeFamily(PointFamily):
    r"""A point for each weight, whose relevance is its size: :math:`\log |w|^2 - \log \mathrm{mean}\,|w|^2`.

    Of complex weights the modulus counts, so that both parts are kept or cut together. Weights that are 0 are gone.
    """

    statistic = "−log |w|²"

    def relevance(self) -> Tensor:  # noqa: D102
        numbers = self.mean()
        square = numbers.square() if self.parts == 1 else numbers.square().sum(-1)
        alive = not_zero(numbers, self.parts)
        mean = square.sum() / alive.sum().clamp_min(1)
        return torch.where(alive, square.clamp_min(1e-30).log() - mean.clamp_min(1e-30).log(), -torch.inf)


class Magnitude(AutoSparse):
    """Guide that takes a network's weights as they are, for pruning by size; there is nothing to fit.

    :param model: made from a trained network.
    :raises NetworkError: unless ``model`` is a :class:`~pyrosparse.SparseModel`.
    """

    def __init__(self, model: SparseModel) -> None:
        check_model(type(self).__name__, model)
        families = {
            site: MagnitudeFamily(site, model.prior_of(site), model.network.get_parameter(site).detach().clone())
            for site in model.sites
        }
        super().__init__(model, families=families)
