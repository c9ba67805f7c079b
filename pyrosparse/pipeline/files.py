"""The stages that write files and look at them: the .psz file, ONNX, the test data, the report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from pyrosparse import coding, report
from pyrosparse.coding import FileInfo
from pyrosparse.coding.codes import RANDOM_CODE
from pyrosparse.errors import PruneError, PyrosparseWarning
from pyrosparse.export import export_onnx
from pyrosparse.pipeline import build
from pyrosparse.pipeline.context import Clock, Context
from pyrosparse.pipeline.cutting import Cutting
from pyrosparse.pipeline.fitting import Fitting
from pyrosparse.pipeline.folder import CODED
from pyrosparse.pipeline.measure import agree, error_of, in_file, mean_network, onnx_outputs, outputs
from pyrosparse.pruning import Pruned

__all__ = ["Files"]


class Files:
    """Writes each file once and compares it with the network in memory."""

    def __init__(self, run: Context, fitting: Fitting, cutting: Cutting) -> None:
        self.run, self.fitting, self.cutting = run, fitting, cutting

    def psz(self) -> None:
        """Write network.psz, read it back and compare."""
        run = self.run
        path = run.folder / "network.psz"
        if run.folder.finished("file", *([CODED] if self._random else [])):
            return
        clock = Clock()
        small = self.cutting.small
        if self._random:
            small = self.cutting.fitted_codes()
        info = self._save(path, small)
        network, memory = self.reloaded(), self._in_memory(small, info.c, info.rate_weight)
        agree("file", outputs(memory, run.data.x_val), outputs(network, run.data.x_val), path)
        if self._random:  # chance has made it: the stages that follow compare the file with what is written here
            run.write_state(CODED, memory)
        described = info.to_dict() | {"path": path.name}
        if info.c is not None and small.sigma:
            bits = {layer.site: layer.bits for layer in coding.precision_bits(small, c=info.c)}
            described["layers"] = [
                layer | {"precision_bits": bits[layer["name"]]} if layer["name"] in bits else layer
                for layer in described["layers"]
            ]
        record = {"bytes": info.bytes, "c": info.c, "rate_weight": info.rate_weight}
        run.finish("file", network, clock(), record=record, file=described)

    @property
    def _random(self) -> bool:
        """Whether the file has random codes."""
        return self.run.config.file.codec == RANDOM_CODE

    def _in_memory(self, small: Pruned, c: float | None, rate_weight: float | None) -> nn.Module:
        table = self.run.config.file
        return in_file(small, c, rate_weight=rate_weight, codebook=table.codebook, codec=table.codec)

    def _save(self, path: Path, small: Pruned) -> FileInfo:
        """Write the file: c and rate_weight as given, or chosen on validation data, or to the budget."""
        run, table, budget = (
            self.run,
            self.run.config.file,
            self.run.config.prune.budget_bytes,
        )  # none without a posterior
        rate = None if table.rate_weight == "auto" else table.rate_weight
        trained = run.folder.stage("quantise").get("c")
        options: dict[str, Any] = {
            "val_loader": run.val, "tolerance": table.tolerance, "rate_weight": rate, "budget": budget,
            "codebook": table.codebook, "codec": table.codec,
        }  # fmt: skip
        try:
            info = coding.save(path, small, c=table.c if trained is None else trained, **options)
        except PruneError:
            if trained is None or table.c is not None:
                raise
            info = coding.save(path, small, **options)  # other steps than the network was trained with
        if budget is not None:
            self._weigh_budget(path, small, info)
        return info

    def _weigh_budget(self, path: Path, small: Pruned, info: FileInfo) -> None:
        """Warn where the budget costs more accuracy than the settings allow a file without one."""
        error = self.run.error(self.reloaded())
        free = self.run.error(small.network)
        if error > free + self.run.config.file.tolerance:
            warnings.warn(
                f"{path}: to fit into {self.run.config.prune.budget_bytes:,} bytes, steps of {info.c:g} posterior "
                f"deviations were taken, which raise the validation error from {100 * free:.2f} to "
                f"{100 * error:.2f} %",
                PyrosparseWarning,
                stacklevel=3,
            )

    def reloaded(self, name: str = "network") -> nn.Module:
        """The network as it is in the file of this name."""
        path = self.run.folder / f"{name}.psz"
        known = coding.info(path).architecture
        return coding.load(path, network=None if known else build.network("model", self.run.config.model))

    def onnx(self) -> None:
        """Write network.onnx from the network of the file and compare."""
        run = self.run
        path = run.folder / "network.onnx"
        if not run.config.export.onnx or run.folder.finished("onnx"):
            return
        clock = Clock()
        network = self.reloaded()
        export_onnx(network, path, run.data.x_val[:8])
        logits = onnx_outputs(path, run.data.x_val)
        agree("onnx", outputs(network, run.data.x_val), logits, path)
        error = error_of(run.likelihood, logits, run.data.y_val)
        run.finish("onnx", network, clock(), record={"bytes": path.stat().st_size}, error=error)

    def test(self) -> None:
        """Touch the test data, once: score the network of every stage, compare the files with memory."""
        run = self.run
        if run.folder.finished("test"):
            return
        x, y = run.data.x_test, run.data.y_test
        small = self.cutting.small
        written = run.folder.stage("file")
        if self._random:
            stored = deepcopy(small.network)
            build.weights(stored, str(run.folder / CODED))
        else:
            stored = self._in_memory(small, written.get("c"), written.get("rate_weight"))
        memory = outputs(stored, x)
        logits = {"dense": outputs(self.fitting.dense, x), "file": outputs(self.reloaded(), x)}
        agreement = {"file": agree("file", memory, logits["file"], run.folder / "network.psz")}
        made: dict[str, Callable[[], nn.Module | None]] = {
            "teacher": lambda: self.fitting.teacher,
            "reconstruct": lambda: self.fitting.start,
            "fit": lambda: mean_network(*self.fitting.posterior),
            "prune": lambda: self.cutting.pruned.network,
            "reconstruct_pruned": lambda: self.cutting.cut.network,
            "fine_tune": lambda: self.cutting.fine_tuned.network,
            "quantise": lambda: small.network,
        }
        for name, network in made.items():
            found = network() if run.folder.stage(name) else None
            if found is not None:
                logits[name] = outputs(found, x)
        if run.folder.stage("onnx"):
            logits["onnx"] = onnx_outputs(run.folder / "network.onnx", x)
            agreement["onnx"] = agree("onnx", memory, logits["onnx"], run.folder / "network.onnx")
        for method in run.config.baselines.methods if run.config.baselines else ():
            logits[method] = outputs(self.reloaded(method), x)
        for name, values in logits.items():
            error = error_of(run.likelihood, values, y)
            run.folder.stage(name).update(error=error, accuracy=1.0 - error)
        run.folder.finish("test", agreement=agreement)

    def report(self) -> None:
        """Write report.html."""
        if self.run.folder.finished("report"):
            return
        report.write(self.run.folder.path)
        self.run.folder.finish("report")
