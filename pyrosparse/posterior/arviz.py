"""The posterior as an ArviZ object: draws of chosen weights, and summaries of all of them."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray

from pyrosparse.errors import ConfigError, NetworkError
from pyrosparse.guides.family import DEFAULT_THRESHOLD
from pyrosparse.posterior import scales
from pyrosparse.posterior.read import Posterior, read
from pyrosparse.text import nearest

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["to_arviz"]

KERNEL_AXES = {1: ("position",), 2: ("row", "column"), 3: ("depth", "row", "column")}
PARTS = ("real", "imaginary")
INDEPENDENT = "draws from the guide are independent: effective sample size, r-hat and trace plots say nothing here"
SURROGATE = "an improper prior (log-uniform) is drawn from its documented surrogate"


def to_arviz(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    draws: int = 200,
    sites: Iterable[str] | None = None,
    max_weights: int = 64,
    threshold: float = DEFAULT_THRESHOLD,
    seed: int = 0,
    prior: bool = False,
) -> Any:
    """Draw from the posterior and name every dimension, for ArviZ.

    Groups of the result:

    - ``posterior``: one variable a site, dimensions ``chain`` (1), ``draw`` and the weight's. A site of at
      most ``max_weights`` weights has its own axes, ``fc3.weight_out`` and ``fc3.weight_in`` (convolutions:
      and ``_row``, ``_column``). Of a larger one the weights of the highest relevance are drawn, along one
      dimension ``fc1.weight_at`` labelled by their original indices, ``"12, 345"``; the attribute
      ``selection`` says what was chosen.
    - ``constant_data``: for every weight of each site, in its original shape, ``SITE.mean``, ``SITE.std``,
      ``SITE.log_alpha`` (+inf where a weight was cut while fitting) and ``SITE.kept``; for a site of which
      some weights were drawn, their original indices as numbers, ``SITE.at_out`` and ``SITE.at_in``.
    - ``prior``, if asked for: draws of the same weights from the prior.

    Complex weights have one dimension more, ``fc1.weight_part``: ``real`` and ``imaginary``.

    Where the weights of a site share scales, these are variables of ``posterior`` and ``prior`` too: the scales z as
    ``fc1.scale``, with the dimension ``fc1.scale_group`` labelled by original indices, and what they are made of
    (``fc1.scale.layer`` and ``fc1.scale.group`` for the horseshoe). ``az.plot_forest(data, var_names=["fc1.scale"])``
    shows which groups live. A draw of the scales belongs to the same draw of the weights.

    The draws of a site depend on ``seed`` and its name alone, not on which other sites are asked for.

    :param model: a :class:`~pyrosparse.SparseModel`, or any Pyro model.
    :param guide: its guide, automatic or written by hand.
    :param args: arguments of a pair written by hand, which is traced once with them.
    :param draws: number of draws.
    :param sites: names of the sites to include; None means all.
    :param max_weights: most weights of one site that are drawn.
    :param threshold: largest log α that counts as kept.
    :param seed: of the draws.
    :param prior: whether to draw from the prior as well.
    :returns: an ``arviz.InferenceData`` with ArviZ 0.2x, an ``xarray.DataTree`` with ArviZ 1.x. The project's
        checks run with 0.2x and look at the tree itself; reading it with ArviZ 1.x is tested by hand.
    :raises ConfigError: unless ``draws`` and ``max_weights`` are positive, and for a guide's class in place of a guide.
    :raises NetworkError: for an unknown site, with the nearest one.
    """
    for name, value in (("draws", draws), ("max_weights", max_weights)):
        if value < 1:
            raise ConfigError(f"to_arviz: {name} is {value}; give a positive number")
    if isinstance(guide, type):
        raise ConfigError(
            f"to_arviz: guide is the class {guide.__name__}: give a guide, such as {guide.__name__}(model)"
        )
    found = _chosen(read(model, guide, *args), sites)
    import xarray as xr

    groups: dict[str, list[xr.Dataset]] = {"posterior": [], "constant_data": [], "prior": []}
    for site, posterior in found.items():
        weights = _Weights(posterior, _axis_names(model, site, len(posterior.shape)), max_weights)
        groups["posterior"].append(weights.dataset(weights.posterior_draws(draws, seed)))
        groups["constant_data"].append(weights.summary(threshold))
        if prior:
            groups["prior"].append(weights.dataset(weights.prior_draws(draws, seed)))
        if scales.has_scales(posterior):
            with _seeded(posterior.site, seed):  # as the weights, whose scales these are
                groups["posterior"].append(scales.scale_dataset(posterior, scales.posterior_draws(posterior, draws)))
            if prior:
                with _seeded(posterior.site, seed):
                    drawn = scales.prior_draws(posterior, draws, weights=True)
                    groups["prior"].append(scales.scale_dataset(posterior, drawn))
    attributes = _attributes(draws=draws, seed=seed, threshold=threshold)
    datasets = {name: xr.merge(parts, join="exact") for name, parts in groups.items() if parts}
    for name, dataset in datasets.items():
        dataset.attrs = attributes | ({"note_prior": SURROGATE} if name == "prior" else {})
    return _for_this_arviz(datasets, attributes)


class _Weights:
    """The weights of one site that are drawn, and how their dimensions are called."""

    def __init__(self, posterior: Posterior, axes: tuple[str, ...], most: int) -> None:
        self.posterior, self.site, self.shape = posterior, posterior.site, tuple(posterior.shape)
        # draws of complex weights have an axis more
        self.parts = {} if posterior.family.parts == 1 else {f"{self.site}_part": list(PARTS)}
        self.axes = tuple(f"{self.site}_{axis}" for axis in axes)
        self.relevance = _numpy(posterior.relevance())
        self.whole = self.relevance.size <= most
        ranked = np.argsort(-self.relevance, axis=None, kind="stable")
        self.chosen = np.arange(self.relevance.size) if self.whole else ranked[:most]
        self.at, self.index = f"{self.site}_at", np.unravel_index(self.chosen, self.shape)

    def posterior_draws(self, draws: int, seed: int) -> NDArray[np.float32]:
        """Draws of the chosen weights from the posterior, shape (draws, weights); 0 where one was cut while fitting."""
        family = self.posterior.family
        left = family.relevance()
        places = self.posterior.expand(torch.arange(left.numel(), device=left.device).reshape(left.shape), -1).flatten()
        chosen = places[torch.as_tensor(self.chosen, device=left.device)]
        with _seeded(self.site, seed), torch.no_grad():
            drawn = family.draws(draws, chosen.clamp_min(0))
        there = chosen >= 0
        return _numpy(drawn * (there[:, None] if self.parts else there)).astype(np.float32)

    def prior_draws(self, draws: int, seed: int) -> NDArray[np.float32]:
        """Draws of the chosen weights from the prior, shape (draws, weights); the global generators are left alone."""
        prior = self.posterior.family.prior
        with _seeded(self.site, seed), torch.no_grad():
            rows = [_numpy(prior.sample(self.site, self.posterior.shape)) for _ in range(draws)]
        flat = (self.relevance.size, 2) if self.parts else (-1,)
        return np.stack([row.reshape(flat)[self.chosen] for row in rows]).astype(np.float32)

    def dataset(self, values: NDArray[np.float32]) -> xr.Dataset:
        """Name the dimensions of draws of shape (draws, weights)."""
        import xarray as xr

        coordinates: dict[str, Any] = {"chain": [0], "draw": np.arange(len(values))}
        if self.whole:
            dims = self.axes
            shaped = values.reshape(1, len(values), *self.shape, *values.shape[2:])
            coordinates |= {axis: np.arange(n) for axis, n in zip(self.axes, self.shape, strict=True)}
            selection = "all weights"
        else:
            dims, shaped = (self.at,), values[None]
            # labels alone: ArviZ 1.x cannot stack sites of which only some have further coordinates
            coordinates[self.at] = self.labels()
            selection = f"{len(self.chosen)} of {self.relevance.size} weights, those of the highest relevance"
        dims, coordinates = (*dims, *self.parts), coordinates | self.parts
        array = xr.DataArray(shaped, dims=("chain", "draw", *dims), coords=coordinates, attrs={"selection": selection})
        return array.to_dataset(name=self.site)

    def summary(self, threshold: float) -> xr.Dataset:
        """Mean, standard deviation, log α and what is kept, of every weight."""
        import xarray as xr

        arrays = {
            "mean": _numpy(self.posterior.mean()),
            "std": _numpy(self.posterior.std()),
            "log_alpha": -self.relevance,
            "kept": _numpy(self.posterior.keep(threshold)),
        }
        coordinates: dict[str, Any] = {axis: np.arange(n) for axis, n in zip(self.axes, self.shape, strict=True)}
        coordinates |= self.parts
        axes = {k: (*self.axes, *self.parts) if v.ndim > len(self.axes) else self.axes for k, v in arrays.items()}
        variables: dict[str, Any] = {f"{self.site}.{k}": (axes[k], v) for k, v in arrays.items()}
        if not self.whole:
            coordinates[self.at] = self.labels()
            for axis, index in zip(self.axes, self.index, strict=True):
                variables[f"{self.site}.at_{axis.removeprefix(self.site + '_')}"] = (self.at, index)
        return xr.Dataset(variables, coords=coordinates)

    def labels(self) -> list[str]:
        """Original indices of the chosen weights as text: ``"12, 345"``."""
        return [", ".join(str(int(i)) for i in place) for place in zip(*self.index, strict=True)]


@contextmanager
def _seeded(site: str, seed: int) -> Iterator[None]:
    """Draws that depend on the seed and the site's name alone; the global generators are left as they were."""
    state = crc32(site.encode(), seed)
    # draws are made where the parameters are; torch.manual_seed would touch every device, forked or not
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(state)
        if devices:
            torch.cuda.manual_seed_all(state)
        yield


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _chosen(found: Mapping[str, Posterior], sites: Iterable[str] | None) -> dict[str, Posterior]:
    if sites is None:
        return dict(found)
    names = [sites] if isinstance(sites, str) else list(sites)
    for name in names:
        if name not in found:
            raise NetworkError(f"there is no site {name!r} in the posterior{nearest(name, found)}")
    if not names:
        raise NetworkError("to_arviz: sites is empty; leave it out to get all of them")
    return {name: found[name] for name in names}


def _axis_names(model: object, site: str, rank: int) -> tuple[str, ...]:
    """Names of a weight's axes: out, in, then those of the kernel; transposed convolutions have in before out."""
    if rank < 2:
        return ("out",)[:rank]
    kernel = KERNEL_AXES.get(rank - 2, tuple(f"axis{i}" for i in range(2, rank)))
    known = getattr(model, "sites", {}).get(site)
    transposed = known is not None and known.out_axis > known.in_axis
    return (*(("in", "out") if transposed else ("out", "in")), *kernel)[:rank]


def _attributes(*, draws: int, seed: int, threshold: float) -> dict[str, Any]:
    packages = {name: version(name) for name in ("pyrosparse", "torch", "pyro-ppl", "numpy", "arviz")}
    return {
        "inference_library": "pyrosparse",
        "inference_library_version": packages["pyrosparse"],
        "versions": ", ".join(f"{k} {v}" for k, v in packages.items()) + f", python {platform.python_version()}",
        "draws": draws,
        "seed": seed,
        "threshold": threshold,
        "note": INDEPENDENT,
    }


def _for_this_arviz(datasets: Mapping[str, xr.Dataset], attributes: Mapping[str, Any]) -> Any:
    """Put the groups into what the installed ArviZ works with."""
    import xarray as xr

    with warnings.catch_warnings():
        # ArviZ 0.23 announces version 1 at every first import
        warnings.filterwarnings("ignore", category=FutureWarning)
        import arviz as az

    tree = xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})
    tree.attrs = dict(attributes)
    if int(az.__version__.split(".")[0]) >= 1:
        return tree
    return az.from_datatree(tree)
