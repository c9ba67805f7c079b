"""The table ``[reconstruct]``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pyrosparse.config.base import Share, Table

__all__ = ["Reconstruct"]


class Reconstruct(Table):
    """``[reconstruct]``: units removed by linear reconstruction, or what it is compared with.

    ``position`` is before the posterior, after it (the pruned network is reconstructed), or instead of it (then there
    is no ``[prior]``, ``[fit]``, ``[prune]`` and ``[posterior]``). ``method`` is ``"linear"``, or a baseline:
    ``"magnitude"`` pruning to a ``density`` in ``rounds``, or ``"low-rank"`` without a look at the data.

    Exactly one of ``lam``, ``lam_ratio``, ``units``, ``kib`` and ``error`` says how much goes, as a number or a table
    by layer; low rank takes ``kib`` or ``error``, one number. ``tolerance`` is the relative duality gap. ``low_rank``
    is the relative error that a factorisation of each layer may have afterwards. ``examples`` of the training data
    give the moments; ``curve`` lists λ/λ_max for error against size. What comes out is trained for ``epochs``;
    magnitude pruning trains for as many in each round.
    """

    position: Literal["before", "after", "instead"] = "before"
    method: Literal["linear", "magnitude", "low-rank"] = "linear"
    lam: PositiveFloat | dict[str, PositiveFloat] | None = None
    lam_ratio: Share | dict[str, Share] | None = None
    units: PositiveInt | dict[str, PositiveInt] | None = None
    kib: PositiveFloat | dict[str, PositiveFloat] | None = None
    error: Share | dict[str, Share] | None = None
    density: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    rounds: PositiveInt = 5
    low_rank: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    chaining: Literal["parallel", "top-down", "bottom-up"] = "bottom-up"
    debias: bool = True
    refit: bool = True
    input_features: bool = True
    solver: Literal["newton", "fista", "descent"] = "newton"
    tolerance: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-6
    examples: PositiveInt = 10_000
    epochs: NonNegativeInt = 0
    lr: PositiveFloat = 3e-4
    curve: list[Share] = Field(default_factory=lambda: [0.003, 0.01, 0.03, 0.1])

    @property
    def goal(self) -> dict[str, Any]:
        """How much goes, as an option of :func:`pyrosparse.reconstruct`."""
        options = {name: getattr(self, name) for name in ("lam", "lam_ratio", "units", "kib", "error")}
        return {name: value for name, value in options.items() if value is not None}

    @model_validator(mode="after")
    def _fits_together(self) -> Reconstruct:
        if self.method == "magnitude":
            if self.goal or self.density is None:
                raise ValueError(
                    "method = 'magnitude' takes a density, the share of weights to keep, and no other goal"
                )
        elif self.density is not None:
            raise ValueError(f"density is for method = 'magnitude', and this is {self.method!r}")
        elif self.method == "low-rank":
            numbers = [v for name, v in self.goal.items() if name in {"kib", "error"} and not isinstance(v, dict)]
            if len(self.goal) != 1 or len(numbers) != 1:
                raise ValueError("method = 'low-rank' takes exactly one of kib and error, as one number")
        elif len(self.goal) != 1:
            raise ValueError("give exactly one of lam, lam_ratio, units, kib and error")
        own = {"magnitude": {"density", "rounds"}, "low-rank": {"kib", "error"}}.get(self.method)
        if own is not None:
            for name in sorted(self.model_fields_set - own - {"position", "method", "epochs", "lr"}):
                # a run's own config.toml has every default in it
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    raise ValueError(f"{name} is for method = 'linear', and this is {self.method!r}")
        return self
