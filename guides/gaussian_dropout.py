"""From Gaussian dropout to Sparse VD: one family, whose noise is shared by a layer, a unit, or by nobody."""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor, nn

from pyrosparse.distributions import DropoutNormal
from pyrosparse.distributions.kl import EPSILON
from pyrosparse.errors import PriorError
from pyrosparse.guides.auto import AutoSparse, check_model
from pyrosparse.guides.dropout import NormalFamily
from pyrosparse.model import SparseModel
from pyrosparse.priors import LogUniform, Prior
from pyrosparse.text import nearest

__all__ = ["GaussianDropout", "GaussianDropoutFamily", "Share"]


class Share(StrEnum):
    """Which weights have one dropout rate in common."""

    LAYER = "layer"
    """All weights of a layer."""

    INPUT = "input"
    """All weights that read one input unit: what dropout of that unit does."""

    OUTPUT = "output"
    """All weights that feed one unit."""

    WEIGHT = "weight"
    """Each weight has a rate of its own: Sparse VD with multiplicative noise."""


class GaussianDropoutFamily(NormalFamily):
    r""":math:`q(w) = N(\mu, \alpha\mu^2)`: noise in proportion to the weight, with α shared.

    Trained are :math:`\mu` (``loc``) and, unless the rate is fixed, :math:`\log\alpha` (``log_alpha``). The gradient of
    μ has the multiplicative noise that Molchanov et al. (2017), section 4.2, replace by an additive one.

    :param site: name of the weight.
    :param prior: its prior.
    :param weight: initial mean.
    :param log_alpha: initial log α, with the weight's number of axes, of length 1 along those that share it.
    :param learn: whether log α is trained.
    :param max_alpha: largest α; None for no bound.
    """

    log_alpha: Tensor

    def __init__(
        self, site: str, prior: Prior, weight: Tensor, log_alpha: Tensor, *, learn: bool, max_alpha: float | None
    ) -> None:
        super().__init__(site, prior, weight)
        self.max_alpha = max_alpha
        if learn:
            self.log_alpha = nn.Parameter(log_alpha)
        else:
            self.register_buffer("log_alpha", log_alpha)

    def elements(self) -> DropoutNormal:  # noqa: D102
        log_var = self.log_alpha + (self.loc.square() + EPSILON).log()
        return DropoutNormal(self.loc, log_var, keep=self.frozen)

    @torch.no_grad()
    def cap(self) -> None:  # noqa: D102
        if self.max_alpha is not None:
            self.log_alpha.clamp_(max=math.log(self.max_alpha))

    def weight_tensors(self) -> dict[str, Tensor]:  # noqa: D102
        return super().weight_tensors() | {"log_alpha": self.log_alpha}


class GaussianDropout(AutoSparse):
    r"""Guide of Gaussian dropout under log-uniform priors: the road from dropout to Sparse VD in one family.

    Dropout at rate p multiplies by noise of mean 1 and variance :math:`\alpha = p/(1-p)`; Gaussian dropout takes the
    normal law with these moments (Srivastava et al., 2014). With ``learn=False`` it is that. With ``learn=True`` and
    ``share="layer"`` or ``"input"`` it is variational dropout (Kingma, Salimans & Welling, 2015, who bound α by 1:
    ``max_alpha=1``). With ``share="weight"`` and no bound it is the posterior of Sparse VD (Molchanov et al., 2017).

    :param model: a model whose priors are :class:`~pyrosparse.priors.LogUniform`.
    :param share: which weights have one α: a value of :class:`Share`.
    :param rate: dropout rate p at the start, between 0 and 1.
    :param learn: whether α is trained.
    :param max_alpha: largest α; None for no bound.
    :raises PriorError: for another prior, or options out of their range.
    :raises NetworkError: unless ``model`` is a :class:`~pyrosparse.SparseModel`.
    """

    def __init__(
        self,
        model: SparseModel,
        *,
        share: Share | str = Share.LAYER,
        rate: float = 0.5,
        learn: bool = True,
        max_alpha: float | None = None,
    ) -> None:
        check_model(type(self).__name__, model)
        if share not in set(Share):
            hint = nearest(str(share), [s.value for s in Share])
            raise PriorError(f"GaussianDropout: share={share!r} is unknown{hint}")
        if not (isinstance(rate, int | float) and 0 < rate < 1):
            raise PriorError(f"GaussianDropout: rate is {rate!r}; give a dropout rate between 0 and 1")
        if max_alpha is not None and not (isinstance(max_alpha, int | float) and 0 < max_alpha < math.inf):
            raise PriorError(f"GaussianDropout: max_alpha is {max_alpha!r}; give a positive number, or None")
        families: dict[str, GaussianDropoutFamily] = {}
        for name, site in model.sites.items():
            prior = model.prior_of(name)
            if not isinstance(prior, LogUniform):
                raise PriorError(
                    f"GaussianDropout: site {name!r} has the prior {type(prior).__name__}, and the KL divergence of "
                    "Gaussian dropout is that to LogUniform; use AutoSparse for other priors"
                )
            weight = model.network.get_parameter(name).detach().clone()
            own = {Share.LAYER: (), Share.INPUT: (site.in_axis,), Share.OUTPUT: (site.out_axis,)}
            axes = own.get(Share(share), tuple(range(weight.dim())))
            shape = [n if axis in axes else 1 for axis, n in enumerate(weight.shape)]
            log_alpha = weight.new_full(shape, math.log(rate / (1.0 - rate)))
            families[name] = GaussianDropoutFamily(name, prior, weight, log_alpha, learn=learn, max_alpha=max_alpha)
        super().__init__(model, families=families)
