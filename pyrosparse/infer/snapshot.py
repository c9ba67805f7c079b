"""What a step reads and leaves behind: to be compared, and to be taken back to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Snapshot", "digest", "tensors_of"]

_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Snapshot:
    """Random generators and the modules' buffers as they are now."""

    def __init__(self, device: torch.device, modules: Iterable[nn.Module]) -> None:
        self._device = device
        self._generator = torch.get_rng_state()
        self._of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._buffers = [(b, b.detach().clone()) for m in modules for b in m.buffers()]

    def restore(self) -> None:
        """Take them back there."""
        torch.set_rng_state(self._generator)
        if self._of_device is not None:
            torch.cuda.set_rng_state(self._of_device, self._device)
        with torch.no_grad():
            for buffer, value in self._buffers:
                buffer.copy_(value)


def tensors_of(modules: Iterable[nn.Module], parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Distinct tensors that a step may read."""
    found: dict[int, Tensor] = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}
    return list((found | {id(p): p for p in parameters}).values())


def digest(tensor: Tensor) -> tuple[Any, ...]:
    """Form of a tensor and sums of its bits, which no two tensors that differ are likely to share."""
    flat = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    bits = flat.reshape(len(flat) if flat.dim() and len(flat) else 1, -1).view(_WHOLE[flat.element_size()])
    rows = bits.sum(1, dtype=torch.int64)
    place = torch.arange(1, len(rows) + 1, device=rows.device)
    columns = bits[:, 1::2].sum(dtype=torch.int64)  # every other one: what changes places changes this
    return tensor.shape, tensor.dtype, int(rows.sum()), int((rows * place).sum()), int(columns)
