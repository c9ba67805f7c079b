"""Evidence lower bound with a weight on its KL terms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.util import torch_item
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match, warn_if_nan
from torch import Tensor
from torch.distributions import kl_divergence

from pyrosparse.errors import ConfigError, FitError, PyrosparseError, PyrosparseWarning
from pyrosparse.text import kind, nearest

__all__ = ["ELBOTerms", "SparseELBO"]


@dataclass
class ELBOTerms:
    """The parts of one ELBO estimate, in nats, unweighted; tensors without a gradient.

    :param log_likelihood: log-likelihood of the data, scaled to the whole training set.
    :param kl: KL divergence of each latent site, by name.
    """

    log_likelihood: Tensor
    kl: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total_kl(self) -> Tensor:
        """Sum of the KL divergences."""
        return sum(self.kl.values(), torch.zeros_like(self.log_likelihood))


class SparseELBO(TraceMeanField_ELBO):
    r"""β-ELBO with registered KL divergences.

    .. math:: \mathrm{loss} = -\mathbb E_q \log p(D \mid w) + \beta \sum_s \beta_s \, KL(q_s \,\|\, p_s)

    Only observed sites are scored. A latent site uses the KL divergence registered for its pair of
    distributions; where there is none it is estimated by ``log q(w) − log p(w)`` at the draw, and a warning
    names the site. With ``kl_scale = 1`` and no ``site_scale`` the loss is that of Pyro's
    ``TraceMeanField_ELBO``, and it can stand wherever Pyro takes a loss.

    :param kl_scale: β, the weight of all KL terms, not negative; may be changed between steps.
    :param site_scale: β_s, a further weight by site; 1 for sites that are not named. A tensor of the site's shape gives
        each element a weight of its own; tensors must not be negative, which is not looked at.
    :param num_particles: passes averaged in one estimate.
    :raises ConfigError: at a pass, for a weight that is negative or NaN; at the first one, for a site that is none.
    """

    def __init__(
        self,
        *,
        kl_scale: float = 1.0,
        site_scale: Mapping[str, float | Tensor] | None = None,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.kl_scale = kl_scale
        self.site_scale: dict[str, float | Tensor] = dict(site_scale or {})
        self.last: ELBOTerms | None = None
        self._checked: set[tuple[int, int]] = set()

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Estimate of the loss in nats, a scalar with a gradient; its parts are left in ``last``."""
        particles = [self._particle(model, guide, args, kwargs) for _ in range(self.num_particles)]
        self.last = _average([terms for _, terms in particles])
        return sum(loss for loss, _ in particles) / len(particles)  # type: ignore[return-value]

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """Estimate of the loss in nats, as a number and without a gradient."""
        with torch.no_grad():
            loss = torch_item(self.differentiable_loss(model, guide, *args, **kwargs))
        warn_if_nan(loss, "loss")
        return loss

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """Estimate of the loss as a number, after its gradient has been added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        value = torch_item(loss)
        warn_if_nan(value, "loss")
        return value

    def terms(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> ELBOTerms:
        """Unweighted log-likelihood and KL divergence of each site, averaged over the particles."""
        with torch.no_grad():
            return _average([self._particle(model, guide, args, kwargs)[1] for _ in range(self.num_particles)])

    def _particle(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Tensor, ELBOTerms]:
        self.check_weights()
        q, p = _traces(model, guide, args, kwargs)
        pair = (id(model), id(guide))
        if pair not in self._checked:
            # once for each pair: sites that only one of the two has are the commonest mistake, and a draw
            # without a gradient would train wrongly without a word
            check_model_guide_match(p, q)
            latent = {name: site for name, site in q.nodes.items() if _is_latent(site)}
            for site in latent.values():
                _check_reparameterised(site)
            for name in self.site_scale:
                if name not in latent:
                    raise ConfigError(f"site_scale: the guide has no site {name!r}{nearest(name, latent)}")
            self._checked.add(pair)

        log_likelihood: Any = 0.0
        weighted_kl: Any = 0.0
        kls: dict[str, Tensor] = {}
        for name, site in p.nodes.items():
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            if site["is_observed"]:
                fn: Any = site["fn"]
                log_prob = fn.log_prob(site["value"], *site["args"], **site["kwargs"])
                log_likelihood = log_likelihood + scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
            elif name in q.nodes:
                weight = self.site_scale.get(name, 1.0)
                if isinstance(weight, Tensor) and weight.dim():
                    each = _element_kl(name, q.nodes[name], site)
                    kl, weighted = each.sum(), (weight * each).sum()
                else:
                    kl = _kl(name, q.nodes[name], site)
                    weighted = weight * kl
                kls[name] = kl.detach()
                weighted_kl = weighted_kl + self.kl_scale * weighted
        for name, site in q.nodes.items():
            if site["type"] == "sample" and name not in p.nodes and not site_is_subsample(site):
                # auxiliary sites of the guide have an entropy and no prior
                fn = site["fn"]
                log_q = fn.log_prob(site["value"])
                kl = scale_and_mask(log_q, site["scale"], site["mask"]).sum()
                kls[name] = kl.detach()
                weighted_kl = weighted_kl + self.kl_scale * self.site_scale.get(name, 1.0) * kl
        loss = weighted_kl - log_likelihood
        detached = log_likelihood.detach() if isinstance(log_likelihood, Tensor) else torch.tensor(log_likelihood)
        return loss, ELBOTerms(detached, kls)

    def check_weights(self) -> None:
        """Refuse weights that would turn a penalty into a reward, or everything into NaN.

        :raises ConfigError: naming the site.
        """
        for site, weight in self.site_scale.items():
            if not isinstance(weight, Tensor) and not weight >= 0:  # a look at a tensor would wait for the device
                raise ConfigError(f"site_scale[{site!r}] is {weight!r}; give a number of at least 0")
        if not self.kl_scale >= 0:
            raise ConfigError(f"kl_scale is {self.kl_scale!r}; give a number of at least 0")


def _traces(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[poutine.Trace, poutine.Trace]:
    """Run the guide, then the model with its draws."""
    try:
        q = poutine.trace(guide).get_trace(*args, **kwargs)
        return q, poutine.trace(poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
    except PyrosparseError as error:
        # Pyro adds the shapes of all sites to a message, which says what is wrong without them
        raise (error.__cause__ if isinstance(error.__cause__, PyrosparseError) else error) from None


def _is_latent(site: Any) -> bool:
    return bool(site["type"] == "sample" and not site["is_observed"] and not site_is_subsample(site))


def _check_reparameterised(site: Mapping[str, Any]) -> None:
    if not getattr(site["fn"], "has_rsample", False):
        raise FitError(
            f"site {site['name']!r}: draws of {kind(site['fn'])} carry no gradient, and this ELBO has no other way to "
            "one; use a reparameterised distribution in the guide, or pyro.infer.TraceGraph_ELBO"
        )


def _average(parts: list[ELBOTerms]) -> ELBOTerms:
    """Average the terms of several particles."""
    n = len(parts)
    if n == 1:
        return parts[0]
    return ELBOTerms(
        sum(p.log_likelihood for p in parts) / n,  # type: ignore[arg-type]
        {site: sum(p.kl[site] for p in parts) / n for site in parts[0].kl},  # type: ignore[misc]
    )


def _element_kl(name: str, q_site: Mapping[str, Any], p_site: Mapping[str, Any]) -> Tensor:
    """Registered KL divergence of each element of a latent site."""
    q, p = (getattr(site["fn"], "base_dist", site["fn"]) for site in (q_site, p_site))
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError as error:
        raise ConfigError(
            f"site_scale[{name!r}] has a weight for each element, and there is no registered KL divergence from "
            f"{kind(q)} to {kind(p)}: give one number"
        ) from error
    return scale_and_mask(kl, q_site["scale"], q_site["mask"])


def _kl(name: str, q_site: Mapping[str, Any], p_site: Mapping[str, Any]) -> Tensor:
    """KL divergence of a latent site: registered, or else estimated at the draw, with a warning."""
    q, p = q_site["fn"], p_site["fn"]
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError as error:
        warnings.warn(
            f"site {name!r}: no registered KL divergence from {kind(q)} to {kind(p)} "
            f"({error or 'event dimensions differ'}); it is estimated at the draw instead. Give both "
            "the same event dimensions, or register one with torch.distributions.kl.register_kl",
            PyrosparseWarning,
            stacklevel=2,
        )
        log_q = scale_and_mask(q.log_prob(q_site["value"]), q_site["scale"], q_site["mask"])
        log_p = scale_and_mask(p.log_prob(p_site["value"]), p_site["scale"], p_site["mask"])
        return log_q.sum() - log_p.sum()
    return scale_and_mask(kl, q_site["scale"], q_site["mask"]).sum()
