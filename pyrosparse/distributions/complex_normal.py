"""The complex Gaussian posterior of complex-valued Variational Dropout, in terms of mean and log variance."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl

from pyrosparse.distributions.complex_relation import unit_disc
from pyrosparse.distributions.kl import EPSILON
from pyrosparse.distributions.log_variance import LogVariance
from pyrosparse.errors import PriorError
from pyrosparse.pairs import squared_modulus

__all__ = ["ComplexNormal"]


class ComplexNormal(LogVariance, TorchDistribution):
    r"""Posterior :math:`w \sim CN(\mu, \sigma^2, \sigma^2\xi)` of a complex weight, over real pairs (..., 2).

    .. math:: (\mathrm{Re}\,w, \mathrm{Im}\,w) \sim N\left((\mathrm{Re}\,\mu, \mathrm{Im}\,\mu),\
        \tfrac{\sigma^2}{2}\begin{pmatrix}1 + \mathrm{Re}\,\xi & \mathrm{Im}\,\xi \\
        \mathrm{Im}\,\xi & 1 - \mathrm{Re}\,\xi\end{pmatrix}\right)

    :math:`\sigma^2 = E|w-\mu|^2` is the *total* variance, and its dropout rate is
    :math:`\alpha = \sigma^2/|\mu|^2` (Nazarov & Burnaev, 2020). Without a relation the posterior is circular, and the
    two parts are independent. Where ``keep`` is False the weight is exactly 0: mean, variance, entropy, log_prob
    and every KL are 0 there, and no gradient reaches it.

    Parameters
    ----------
    loc
        Mean, shape (..., 2): real and imaginary parts. The last axis is the event.
    log_var
        Log of the total variance; broadcasts with the shape of ``loc`` without its last axis.
    relation
        Optional :math:`\xi`, shape (..., 2), :math:`|\xi| \le 1`; :func:`bounded_relation` makes one of any pair.
    keep
        Optional bool tensor that broadcasts to the batch shape.
    """

    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        log_var: Tensor | float,
        relation: Tensor | None = None,
        keep: Tensor | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        for name, pair in (("loc", loc), ("relation", relation)):
            if pair is not None and (pair.is_complex() or pair.shape[-1:] != (2,)):
                raise PriorError(
                    f"ComplexNormal: {name} is {pair.dtype} of shape {tuple(pair.shape)}; give real pairs of shape "
                    "(..., 2), for complex numbers torch.view_as_real(...)"
                )
        if keep is not None and keep.dtype != torch.bool:
            raise PriorError(f"ComplexNormal: keep is {keep.dtype}, not torch.bool; pass keep.bool()")
        if not isinstance(log_var, Tensor):
            log_var = torch.tensor(float(log_var), dtype=loc.dtype, device=loc.device)
        shape = loc.shape[:-1]
        if log_var.shape != shape or (relation is not None and relation.shape != loc.shape):
            others = () if relation is None else (relation.shape[:-1],)
            shape = torch.broadcast_shapes(shape, log_var.shape, *others)
        self.loc, self.log_var = _expand(loc, (*shape, 2)), _expand(log_var, shape)
        self.relation = None if relation is None else _expand(relation, (*shape, 2))
        self.keep = None if keep is None else _expand(keep, shape)
        super().__init__(shape, torch.Size([2]), validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraints of the parameters that there are."""
        known: dict[str, constraints.Constraint] = {"loc": constraints.real, "log_var": constraints.real}
        return known if self.relation is None else known | {"relation": unit_disc}

    def __repr__(self) -> str:
        kind = "" if self.relation is None else ", relation"
        cut = "" if self.keep is None else f", kept={int(self.keep.sum())}/{self.keep.numel()}"
        return f"ComplexNormal(batch_shape={tuple(self.batch_shape)}{kind}{cut})"

    def expand(self, batch_shape: Any, _instance: ComplexNormal | None = None) -> ComplexNormal:
        """Return a ComplexNormal of that batch shape."""
        new = self._get_checked_instance(ComplexNormal, _instance)
        shape = torch.broadcast_shapes(self.batch_shape, torch.Size(batch_shape))
        new.loc, new.log_var = self.loc.expand(*shape, 2), self.log_var.expand(shape)
        new.relation = None if self.relation is None else self.relation.expand(*shape, 2)
        new.keep = None if self.keep is None else self.keep.expand(shape)
        super(ComplexNormal, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def log_alpha(self) -> Tensor:
        """``log_var - log(|loc|^2 + 1e-16)``, of the batch shape."""
        return self.log_var - torch.log(squared_modulus(self.loc) + EPSILON)

    @property
    def mean(self) -> Tensor:
        """``mu`` as pairs, 0 where not kept."""
        return self._kept_pairs(self.loc)

    @property
    def variance(self) -> Tensor:
        """Variances of the two parts, ``sigma^2/2 (1 + Re xi, 1 - Re xi)``, 0 where not kept."""
        half = 0.5 * self.total_variance
        if self.relation is None:
            return half.unsqueeze(-1).expand(self.loc.shape)
        tilt = self.relation[..., 0]
        return torch.stack([half * (1.0 + tilt), half * (1.0 - tilt)], -1)

    @property
    def total_variance(self) -> Tensor:
        """``sigma^2 = E|w - mu|^2``, of the batch shape, 0 where not kept."""
        return self.kept(self.sigma2)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""Draw pairs, exactly 0 where not kept.

        Circular: ``mu + sigma (e1 + i e2)/sqrt(2)``. With a relation: ``mu + sigma (p e + q conj(e))``, e ~ CN(0, 1),
        :math:`p = \sqrt{(1+s)/2}`, :math:`q = \xi/2p`, :math:`s = \sqrt{1-|\xi|^2}`: the symmetric square root of the
        covariance, which unlike Cholesky's is smooth at :math:`\xi = -1`.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        scale = torch.exp(0.5 * (self.log_var - math.log(2.0))).unsqueeze(-1)
        if self.relation is not None:
            p = torch.sqrt(0.5 + 0.5 * self.rest.sqrt())
            q = self.relation / (2.0 * p).unsqueeze(-1)
            e1, e2 = noise.unbind(-1)
            real, imaginary = q.unbind(-1)
            noise = torch.stack([(p + real) * e1 + imaginary * e2, imaginary * e1 + (p - real) * e2], -1)
        return self._kept_pairs(torch.addcmul(self.loc, scale, noise))

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density over the plane, 0 where not kept.

        .. math:: -\log\pi\sigma^2 - \tfrac12\log(1-|\xi|^2)
            - \frac{|w-\mu|^2 - \mathrm{Re}\,\bar\xi (w-\mu)^2}{\sigma^2(1-|\xi|^2)}
        """
        if self._validate_args:
            self._validate_sample(value)
        offset = value - self.loc
        distance, log_volume = squared_modulus(offset), self.log_var + math.log(math.pi)
        if self.relation is not None:
            distance = (distance - squared_projection(self.relation, offset)) / self.rest
            log_volume = log_volume + 0.5 * self.rest.log()
        return self.kept(-log_volume - distance * torch.exp(-self.log_var))

    def entropy(self) -> Tensor:
        r"""``1 + log(pi sigma^2) + log(1 - |xi|^2)/2`` nats, 0 where not kept."""
        entropy = self.log_var + (1.0 + math.log(math.pi))
        if self.relation is not None:
            entropy = entropy + 0.5 * self.rest.log()
        return self.kept(entropy)

    @property
    def rest(self) -> Tensor:
        """``1 - |xi|^2``, kept off 0 so that the density is finite on the rim; of a posterior with a relation.

        The gradient is that without the limit: it leads back from the rim.
        """
        if self.relation is None:
            return torch.ones_like(self.log_var)
        rest = 1.0 - squared_modulus(self.relation)
        return rest + (torch.finfo(rest.dtype).eps - rest.detach()).clamp_min(0.0)

    def kept(self, x: Tensor) -> Tensor:
        """Put 0 where not kept; ``x`` of the batch shape."""
        return x if self.keep is None else torch.where(self.keep, x, 0.0)

    def _kept_pairs(self, x: Tensor) -> Tensor:
        return x if self.keep is None else torch.where(self.keep.unsqueeze(-1), x, 0.0)


@register_kl(ComplexNormal, ComplexNormal)
def _complex_normal(q: ComplexNormal, p: ComplexNormal) -> Tensor:
    r"""KL of two Gaussians of the plane, 0 where q is not kept; p is a prior, all of which is kept.

    .. math:: \log\frac{\sigma_p^2}{\sigma_q^2} + \tfrac12\log\frac{1-|\xi_p|^2}{1-|\xi_q|^2}
        + \frac{\sigma_q^2(1 - \mathrm{Re}\,\bar\xi_p\xi_q) + |d|^2 - \mathrm{Re}\,\bar\xi_p d^2}
        {\sigma_p^2 (1-|\xi_p|^2)} - 1, \qquad d = \mu_q - \mu_p
    """
    offset, along = q.loc - p.loc, q.sigma2
    distance = squared_modulus(offset)
    if p.relation is not None:
        distance = distance - squared_projection(p.relation, offset)
        if q.relation is not None:
            along = along * (1.0 - (p.relation * q.relation).sum(-1))
    value = p.log_var - q.log_var + (along + distance) * torch.exp(-p.log_var) / p.rest - 1.0
    if p.relation is not None or q.relation is not None:
        value = value + 0.5 * (p.rest.log() - q.rest.log())
    return q.kept(value)


def squared_projection(relation: Tensor, pair: Tensor) -> Tensor:
    """``Re(conj(xi) z^2)`` of pairs ``xi`` and ``z``."""
    x, y = pair.unbind(-1)
    real, imaginary = relation.unbind(-1)
    return real * (x - y) * (x + y) + 2.0 * imaginary * x * y


def _expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else x.expand(shape)
