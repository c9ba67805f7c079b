"""Complex batch normalisation by whitening."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from pyrosparse.errors import NetworkError
from pyrosparse.nn.complex_forms import as_complex
from pyrosparse.nn.complex_weight import Device, check_complex, pairs

__all__ = ["ComplexBatchNorm1d", "ComplexBatchNorm2d", "ComplexBatchNorm3d"]


class _ComplexBatchNorm(nn.Module):
    """Complex batch normalisation; see :class:`ComplexBatchNorm2d`."""

    dims: ClassVar[tuple[int, ...]]
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_covariance: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(  # noqa: PLR0917 - torch's signature
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        real = None if dtype is None else dtype.to_real()

        def empty(*shape: int) -> Tensor:
            return torch.empty(num_features, *shape, device=device, dtype=real)

        self.register_parameter("weight", nn.Parameter(empty(2, 2)) if affine else None)
        self.register_parameter("bias", pairs(num_features, device=device, dtype=dtype) if affine else None)
        self.register_buffer("running_mean", empty(2) if track_running_stats else None)
        self.register_buffer("running_covariance", empty(2, 2) if track_running_stats else None)
        count = torch.tensor(0, dtype=torch.long, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what has been seen: mean 0, covariance one half of the identity (``E|x|^2 = 1``)."""
        if self.running_mean is not None and self.running_covariance is not None:
            self.running_mean.zero_()
            _scaled_identity(self.running_covariance, 0.5)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set gamma to the identity over the root of 2, so that the output has ``E|y|^2 = 1``, and beta to 0."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            with torch.no_grad():
                _scaled_identity(self.weight, 2.0**-0.5)
                self.bias.zero_()

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the batch and the spatial axes; complex, of the shape of the input.

        :raises NetworkError: for an input that is not complex, of another precision, has the wrong number of axes or
            features, or, in training, has a single value for each feature.
        """
        check_complex(self, input, self.running_mean if self.weight is None else self.weight)
        if input.dim() not in self.dims:
            dims = " or ".join(map(str, self.dims))
            raise NetworkError(f"{type(self).__name__} takes tensors of {dims} axes, and this one has {input.dim()}")
        if input.shape[1] != self.num_features:
            raise NetworkError(
                f"{type(self).__name__} has {self.num_features} features, and this tensor of shape "
                f"{tuple(input.shape)} has {input.shape[1]} along axis 1"
            )
        if not input.numel():
            return input.clone()
        shape = (1, -1, *[1] * (input.dim() - 2))
        if self.training or self.running_mean is None or self.running_covariance is None:
            mean, covariance = self._moments(input)
        else:
            mean, covariance = as_complex(self.running_mean), self.running_covariance
        # a real-linear map of the plane is y = p z + q conj(z)
        whitening = inverse_root(covariance, self.eps)
        gamma = whitening if self.weight is None else product(self.weight, whitening)
        (a, b), (c, d) = (row.unbind(-1) for row in gamma.unbind(-2))
        p, q = 0.5 * torch.complex(a + d, c - b), 0.5 * torch.complex(a - d, c + b)
        z = input - mean.reshape(shape)
        out = p.reshape(shape) * z + q.reshape(shape) * z.conj()
        return out if self.bias is None else out + as_complex(self.bias).reshape(shape)

    def _moments(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (features,), complex, and covariance (features, 2, 2) of the batch, which are remembered in training."""
        axes = [0, *range(2, input.dim())]
        count = input.numel() // max(input.shape[1], 1)
        # a program is exported for batches of any size, of which nothing can be asked
        if self.training and not torch.compiler.is_exporting() and count == 1:
            raise NetworkError(
                f"{type(self).__name__} in training needs more than one value for each feature, and the input has "
                f"shape {tuple(input.shape)}: use larger batches (and drop_last where one is left over), or eval()"
            )
        mean = input.sum(axes) / count  # the mean of complex numbers is exported for one size of a batch only
        z = input - mean.reshape(1, -1, *[1] * (input.dim() - 2))
        x, y = z.real, z.imag
        xy = (x * y).mean(axes)
        rows = [torch.stack([x.square().mean(axes), xy], -1), torch.stack([xy, y.square().mean(axes)], -1)]
        covariance = torch.stack(rows, -2)
        if self.training and self.track_running_stats:
            self._remember(torch.view_as_real(mean.detach()), covariance.detach() * (count / (count - 1)))
        return mean, covariance

    def _remember(self, mean: Tensor, covariance: Tensor) -> None:
        assert self.running_mean is not None and self.running_covariance is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else self.num_batches_tracked.to(mean.dtype).reciprocal()
        self.running_mean.add_(share * (mean - self.running_mean))
        self.running_covariance.add_(share * (covariance - self.running_covariance))

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


def _scaled_identity(matrices: Tensor, scale: float) -> None:
    """Fill matrices in place; without making one of them, which takes a millisecond on the meta device."""
    matrices.zero_()
    matrices.diagonal(dim1=-2, dim2=-1).fill_(scale)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` of (..., 2, 2), which autocast leaves in the precision that it has."""
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


def inverse_root(covariance: Tensor, eps: float) -> Tensor:
    r""":math:`V^{-1/2}` of :math:`V = C + \epsilon I`, for symmetric positive semidefinite C, (..., 2, 2).

    :math:`V^{1/2} = (V + sI)/t` with :math:`s = \sqrt{\det V}`, :math:`t = \sqrt{\mathrm{tr} V + 2s}`.
    """
    a, b, c = covariance[..., 0, 0] + eps, covariance[..., 0, 1], covariance[..., 1, 1] + eps
    # Of the smaller eigenvalue, which is at least eps, rounding leaves nothing in a c - b b where the parts go
    # together, and next to a much larger one its whitened part drowns: the determinant is kept above both errors.
    trace, square, rounding = a + c, b * b, torch.finfo(covariance.dtype).eps
    least = torch.maximum(8.0 * rounding * square, rounding / 16.0 * trace.square())
    s = torch.maximum(a * c - square, torch.maximum(least, eps * (trace - eps))).sqrt()
    t = (trace + 2.0 * s).sqrt()
    rows = [torch.stack([c + s, -b], -1), torch.stack([-b, a + s], -1)]
    return torch.stack(rows, -2) / (s * t)[..., None, None]


class ComplexBatchNorm1d(_ComplexBatchNorm):
    """Complex batch normalisation over ``(N, C)`` or ``(N, C, L)``; else as :class:`ComplexBatchNorm2d`."""

    dims = (2, 3)


class ComplexBatchNorm2d(_ComplexBatchNorm):
    r"""Complex batch normalisation over ``(N, C, H, W)``, Trabelsi et al. (2018), section 3.5.

    .. math:: y = \Gamma\,(V + \epsilon I)^{-1/2}(x - E x) + \beta

    on the pair of real and imaginary part, with their 2 by 2 covariance V: the output is circular before
    :math:`\Gamma`. ``weight`` is :math:`\Gamma`, (C, 2, 2), at the start the identity over the root of 2; ``bias`` is
    :math:`\beta`, (C, 2). The paper's :math:`\Gamma` is symmetric; this one may turn the plane as well. Evaluation
    uses ``running_mean`` (C, 2) and ``running_covariance`` (C, 2, 2, unbiased). The signature is that of
    ``torch.nn.BatchNorm2d``; ``eps`` is added to the variance of each part.

    :param num_features: C.
    :param eps: added to the diagonal of V.
    :param momentum: share of a new batch in the running moments; None: the average of all batches.
    :param affine: whether there are ``weight`` and ``bias``.
    :param track_running_stats: whether running moments are kept; without them evaluation uses the batch's.
    :param device: of parameters and buffers.
    :param dtype: of parameters and buffers, real or complex.
    """

    dims = (4,)


class ComplexBatchNorm3d(_ComplexBatchNorm):
    """Complex batch normalisation over ``(N, C, D, H, W)``; else as :class:`ComplexBatchNorm2d`."""

    dims = (5,)
