"""Reading a posterior: per site, in one table, in ArviZ."""

from __future__ import annotations

from pyrosparse.posterior.arviz import to_arviz
from pyrosparse.posterior.read import Posterior, read
from pyrosparse.posterior.summary import SiteSummary, Summary, summarize

__all__ = ["Posterior", "SiteSummary", "Summary", "read", "summarize", "to_arviz"]
