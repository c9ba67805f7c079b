"""The stages beside the posterior: baselines made of the same dense network, as large as its result."""

from __future__ import annotations

from functools import cached_property

from pyrosparse import coding
from pyrosparse.coding.kmeans import kmeans
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pruning import Pruned, fine_tune
from pyrosparse.pruning.baselines import l1_prune, magnitude_prune

__all__ = ["Comparing"]


class Comparing:
    """Makes each baseline of ``[baselines]`` once: a network, a row of measurements and a .psz file."""

    def __init__(self, run: Context, cutting: Cutting) -> None:
        self.run, self.cutting = run, cutting

    def all(self) -> None:
        """Run every method that was asked for and is not finished."""
        table = self.run.config.baselines
        for method in table.methods if table is not None else ():
            if not self.run.folder.finished(method):
                {"magnitude": self._finish_magnitude, "l1": self._finish_l1, "kmeans": self._finish_kmeans}[method]()

    @cached_property
    def density(self) -> float:
        """Share of the weights that a baseline keeps: that of the posterior, or what the settings say."""
        table = self.run.config.baselines
        assert table is not None
        if table.density is not None:
            return table.density
        pruned = self.cutting.pruned
        parts = sum(mask.numel() * pruned.parts(site) for site, mask in pruned.masks.items())
        return max(pruned.report.kept, 1) / parts

    @cached_property
    def magnitude(self) -> Pruned:
        """The largest weights of the dense network, trained on."""
        run, table = self.run, self.run.config.baselines
        assert table is not None
        example = next(iter(run.val))[0]
        cut = magnitude_prune(
            self.cutting.fitting.dense, example, density=self.density, likelihood=run.likelihood, val_loader=run.val
        )
        run.seed("magnitude")
        return fine_tune(cut, run.train, epochs=table.epochs, lr=table.lr, val_loader=run.val)

    def _finish_magnitude(self) -> None:
        clock = Clock()
        self._finish("magnitude", self.magnitude, clock)

    def _finish_l1(self) -> None:
        run, table = self.run, self.run.config.baselines
        assert table is not None
        density, clock = self.density, Clock()
        run.seed("l1")
        found = l1_prune(
            self.cutting.fitting.dense,
            run.train,
            penalty=table.penalty,
            epochs=table.l1_epochs,
            lr=table.l1_lr,
            density=density,
            likelihood=run.likelihood,
            val_loader=run.val,
        )
        # without the penalty, which has made what is left smaller than it should be
        tuned = fine_tune(found, run.train, epochs=table.epochs, lr=table.lr, val_loader=run.val)
        self._finish("l1", tuned, clock)

    def _finish_kmeans(self) -> None:
        table = self.run.config.baselines
        assert table is not None
        clock = Clock()
        books = kmeans(self.magnitude, clusters=table.clusters)
        # the centres that there are, in the file as a table
        self._finish("kmeans", books.pruned, clock, codebook=table.clusters)

    def _finish(self, method: str, pruned: Pruned, clock: Clock, codebook: int | None = None) -> None:
        """Write the file and the row."""
        info = coding.save(self.run.folder / f"{method}.psz", pruned, codebook=codebook)
        self.run.finish(method, pruned.network, clock(), record={"bytes": info.bytes})
