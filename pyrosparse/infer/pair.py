"""Model and guide belong together: said before any work when they do not."""

from __future__ import annotations

from pyrosparse.errors import NetworkError
from pyrosparse.guides.auto import AutoSparse
from pyrosparse.model import SparseModel
from pyrosparse.text import nearest

__all__ = ["check_pair", "tied_sites"]


def tied_sites(model: SparseModel, guide: object) -> list[str]:
    """Names of the sites of weights that stand at several places, those of their scales too.

    Independent noise at each place of a tied weight would be wrong: these get a real draw.
    """
    families = guide.families if isinstance(guide, AutoSparse) else {}
    return [name for site in model.tied for name in (families[site].sites if site in families else (site,))]


def check_pair(model: object, guide: object) -> None:
    """Refuse a model and a guide that cannot be fitted together.

    :raises NetworkError: if one of them is of another kind, or the guide was made for another model.
    """
    if not isinstance(model, SparseModel):
        raise NetworkError(
            f"fit: the model is a {type(model).__name__}; give a pyrosparse.SparseModel. A Pyro model written by "
            "hand is trained with pyro.infer.SVI and pyrosparse.SparseELBO"
        )
    if not isinstance(guide, AutoSparse):
        raise NetworkError(
            f"fit: the guide is a {type(guide).__name__}; give a pyrosparse.guides.AutoSparse(model). A guide written "
            "by hand is trained with pyro.infer.SVI and pyrosparse.SparseELBO"
        )
    families = guide.families
    made = "the guide was made for another model: make it anew with AutoSparse(model)"
    for site in model.sites:
        if site not in families:
            raise NetworkError(f"fit: the guide has no site {site!r}{nearest(site, families)}; {made}")
        shape, needed = families[site].mean().shape, model.network.get_parameter(site).shape
        if shape != needed:
            raise NetworkError(
                f"fit: site {site!r} has shape {tuple(needed)} in the model and {tuple(shape)} in the guide; {made}"
            )
    for site in families:
        if site not in model.sites:
            raise NetworkError(f"fit: the model has no site {site!r}{nearest(site, model.sites)}; {made}")
