"""A guide for any :class:`~pyrosparse.SparseModel`: one posterior family for each site."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from pyrosparse.errors import NetworkError, PriorError
from pyrosparse.guides.dropout import ComplexDropoutFamily
from pyrosparse.guides.family import Family, family_of
from pyrosparse.guides.group import Criterion, GroupFamily
from pyrosparse.model import SparseModel
from pyrosparse.poutine.parameters import expose
from pyrosparse.priors import ARD as ARDPrior
from pyrosparse.priors import L0 as L0Prior
from pyrosparse.priors import ComplexARD, ComplexLogUniform, GroupLogUniform, LogUniform, Prior
from pyrosparse.priors import GroupHorseshoe as HorseshoePrior
from pyrosparse.text import nearest

__all__ = ["ARD", "L0", "AutoSparse", "GroupHorseshoe", "GroupNormalJeffreys", "SparseVD", "check_model"]


def check_model(guide: str, model: object) -> None:
    """Refuse what a guide cannot be made for.

    :raises NetworkError: unless ``model`` is a :class:`~pyrosparse.SparseModel`.
    """
    if not isinstance(model, SparseModel):
        what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise NetworkError(f"{guide} needs a SparseModel, not {what}: wrap the network first")


class AutoSparse(nn.Module):
    r"""Mean-field guide: each site gets the posterior family that its prior calls for.

    The means start at the weights of the network that the model was made from, so hand a pre-trained
    network to the model to start from it (L0 gates start half open, or as their ``drop_rate`` says, and with them the
    means).

    :param model: a model with priors on its weights.
    :param log_var: initial log variance of each weight; −6 trains fast from a pre-trained network, −10 is
        the start of Molchanov et al. (2017). Under a group scale it is that of the weight of unit size: −4 there.
    :param max_std: largest posterior standard deviation of the individual weights, by layer or pattern
        (``{"fc1": 0.2}``), or one number for all; Louizos et al. (2017) cap the first layers of LeNets at 0.2.
    :param criterion: what decides whether a group of weights is kept: ``"scale"`` or ``"information"``, see
        :class:`~pyrosparse.guides.Criterion`. Without group priors it changes nothing.
    :param relation: whether posteriors of complex weights have a relation :math:`\xi = E(w-\mu)^2/\sigma^2`: parts of
        unequal variance, and correlated. False is the circular posterior, which is the fast one.
    :param families: ready posterior families, one for each site, in place of those that the priors call for.
    :raises NetworkError: unless ``model`` is a :class:`~pyrosparse.SparseModel`; for a pattern that fits no layer.
    :raises PriorError: if ``log_var`` is no finite number, ``max_std`` not positive, ``criterion`` unknown, or a prior
        has no family; see :func:`~pyrosparse.guides.register_family`. Likewise if ``families`` lacks a site, or
        ``relation`` is asked of a model without Gaussian posteriors of complex weights.
    """

    def __init__(
        self,
        model: SparseModel,
        *,
        log_var: float = -6.0,
        max_std: float | Mapping[str, float] | None = None,
        criterion: Criterion | str = Criterion.SCALE,
        relation: bool = False,
        families: Mapping[str, Family] | None = None,
    ) -> None:
        super().__init__()
        check_model(type(self).__name__, model)
        if not isinstance(log_var, int | float) or not math.isfinite(log_var):
            raise PriorError(f"{type(self).__name__}: log_var is {log_var!r}; give a finite number such as -6.0")
        for site in model.sites:
            if families is not None and site not in families:
                raise PriorError(
                    f"{type(self).__name__}: families has none for site {site!r}{nearest(site, families)}; give one "
                    "for each site"
                )
        self._families = nn.ModuleDict(
            {
                site.replace(".", "/"): families[site]
                if families is not None
                else family_of(site, model.prior_of(site), model.network.get_parameter(site), log_var)
                for site in model.sites
            }
        )
        if criterion not in list(Criterion):
            known = [c.value for c in Criterion]
            raise PriorError(
                f"{type(self).__name__}: criterion={criterion!r} is unknown{nearest(str(criterion), known)}"
            )
        for family in self.families.values():
            if isinstance(family, GroupFamily):
                family.criterion = Criterion(criterion)
        if relation:
            self._relate()
        self._cap(model, {"*": max_std} if isinstance(max_std, int | float) else max_std or {})

    def _relate(self) -> None:
        """Give the posteriors of complex weights a relation."""
        weights = [f.weights if isinstance(f, GroupFamily) else f for f in self.families.values()]
        found = [family for family in weights if isinstance(family, ComplexDropoutFamily)]
        if not found:
            raise PriorError(
                f"{type(self).__name__}: relation=True is for Gaussian posteriors of complex weights, and this model "
                "has none; leave it out"
            )
        for family in found:
            family.relate()

    def _cap(self, model: SparseModel, caps: Mapping[str, float]) -> None:
        """Tell families their largest standard deviation."""
        for pattern, cap in caps.items():
            if not (isinstance(cap, int | float) and 0 < cap < math.inf):
                raise PriorError(f"{type(self).__name__}: max_std[{pattern!r}] is {cap!r}; give a positive number")
            layers = {site.layer: self.families[site.name] for site in model.sites.values()}
            found = [family for layer, family in layers.items() if fnmatchcase(layer, pattern)]
            if not found:
                raise NetworkError(
                    f"{type(self).__name__}: max_std[{pattern!r}] fits no layer{nearest(pattern, layers)}"
                )
            for family in found:
                if not hasattr(family, "max_std"):
                    raise PriorError(f"{type(self).__name__}: max_std[{pattern!r}]: {family.site} has no such cap")
                family.max_std = cap  # type: ignore[assignment]

    @property
    def families(self) -> dict[str, Family]:
        """Posterior family of each site, by the site's name."""
        found: dict[str, Family] = {}
        for family in self._families.values():
            assert isinstance(family, Family)
            found[family.site] = family
        return found

    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> dict[str, Tensor]:
        """Run the guide: a draw for each site. The data are not looked at: the posterior is global."""
        expose("guide", self.named_parameters())
        return {site: family() for site, family in self.families.items()}


class _OnePrior(AutoSparse):
    """A guide for models with one kind of prior."""

    priors: tuple[type[Prior], ...]

    def __init__(self, model: SparseModel, **options: Any) -> None:
        super().__init__(model, **options)
        for site in model.sites:
            prior = model.prior_of(site)
            if not isinstance(prior, self.priors):
                raise PriorError(
                    f"{type(self).__name__}: site {site!r} has the prior {type(prior).__name__}, and this "
                    f"guide serves {' and '.join(p.__name__ for p in self.priors)}; use AutoSparse for mixed priors"
                )


class SparseVD(_OnePrior):
    """Guide of Sparse variational dropout: log-uniform priors only; else as :class:`AutoSparse`."""

    priors = (LogUniform, ComplexLogUniform)


class ARD(_OnePrior):
    """Guide of variational ARD dropout: ARD priors only; else as :class:`AutoSparse`."""

    priors = (ARDPrior, ComplexARD)


class GroupNormalJeffreys(_OnePrior):
    """Guide of Bayesian compression with log-uniform group scales; else as :class:`AutoSparse`."""

    priors = (GroupLogUniform,)


class GroupHorseshoe(_OnePrior):
    """Guide of Bayesian compression with the group horseshoe; else as :class:`AutoSparse`."""

    priors = (HorseshoePrior,)


class L0(_OnePrior):
    """Guide of L0 regularisation with hard concrete gates; else as :class:`AutoSparse`."""

    priors = (L0Prior,)
