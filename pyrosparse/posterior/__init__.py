"""Reading a posterior: per site, in one table, in ArviZ."""

from __future__ import annotations

from pyrosparse.posterior.read import Posterior, read
from pyrosparse.posterior.summary import SiteSummary, Summary, summarize

__all__ = ["Posterior", "SiteSummary", "Summary", "read", "summarize"]
