"""Fitting a posterior by stochastic variational inference."""

from __future__ import annotations

from typing import Any

from pyrosparse.guides.auto import AutoSparse
from pyrosparse.infer.evaluate import Batches
from pyrosparse.infer.pair import check_pair
from pyrosparse.infer.run import Run
from pyrosparse.infer.settings import settings_of
from pyrosparse.infer.state import Fit, FitState
from pyrosparse.model import SparseModel

__all__ = ["Fit", "FitState", "fit"]


def fit(
    model: SparseModel,
    guide: AutoSparse,
    loader: Batches,
    *,
    epochs: int,
    val_loader: Batches | None = None,
    **settings: Any,
) -> Fit:
    r"""Fit the posterior: minimise :math:`-E_q \log p(D|w) + \beta\,KL(q\|p)` with one fused Adam.

    The model and the guide are trained in place and move to the device. Units whose every weight is dead
    are cut out on the way (``shrink_every``), so that steps get faster as the network gets sparser.

    :param model: network, priors and likelihood.
    :param guide: posterior families.
    :param loader: yields ``(x, y)`` and has a length: a :class:`~pyrosparse.data.TensorLoader` or a torch DataLoader.
    :param epochs: passes over the data.
    :param val_loader: validation data, looked at after each epoch with the posterior means that are kept.
    :param settings: see :class:`~pyrosparse.infer.settings.FitSettings`, which lists every option.
    :returns: the fitted pair and the history of the run.
    :raises ConfigError: for a setting that is unknown or out of its range.
    :raises NetworkError: if the guide was not made for this model.
    :raises DataError: if the first batch does not fit the network or the likelihood.
    :raises CheckpointError: if there is a checkpoint already and ``resume`` is off, or it is of another run.
    :raises FitError: if the loss becomes NaN or infinite; the last checkpoint stays good.
    """
    chosen = settings_of({"epochs": epochs, **settings})
    check_pair(model, guide)
    return Run(model, guide, loader, val_loader, chosen).go()
