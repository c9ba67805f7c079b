"""What all tables of a configuration share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Options", "Share", "Table"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Options = dict[str, Any]


class Table(BaseModel):
    """A table that knows all its keys and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
