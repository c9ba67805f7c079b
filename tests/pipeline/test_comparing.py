"""Baselines beside the posterior: same dense network, same size, same outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

import pyrosparse as ps
from pyrosparse import pipeline
from pyrosparse.layers import not_zero, parts_of, sparse_layers
from tests.pipeline.runs import metrics, settings

COMPLEX = {
    "model": {"name": "complex_dense", "args": {"inputs": 64, "hidden": 24}},
    "prior": {"name": "ComplexLogUniform"},
}


@pytest.mark.parametrize("tables", [{}, COMPLEX], ids=["real", "complex"])
def test_each_baseline_is_a_stage_with_a_file(tmp_path: Path, tables: dict[str, object]) -> None:
    baselines = {"epochs": 1, "l1_epochs": 2, "penalty": 3e-3, "clusters": 4}
    out = tmp_path / "run"
    found = pipeline.run(settings(baselines=baselines, **tables), out)
    rows = {row["name"]: row for row in found["stages"]}
    kept = sum(layer["kept"] for layer in found["layers"])
    for method in ("magnitude", "l1", "kmeans"):
        network = ps.load(out / f"{method}.psz")
        layers = sparse_layers(network).values()
        left = sum(int(not_zero(m.weight, parts_of(m)).sum()) * parts_of(m) for m in layers)
        assert rows[method]["bytes"] == (out / f"{method}.psz").stat().st_size
        assert 0.0 <= rows[method]["error"] <= 1.0 and "val_error" in rows[method]
        # one weight in two hundred more, so that units need not take any with them, and rounding to whole weights
        assert left <= 1.01 * kept + 2
        if method != "l1":
            assert left >= kept - 2
    for layer in sparse_layers(ps.load(out / "kmeans.psz")).values():
        pairs = layer.weight.detach().reshape(-1, parts_of(layer))
        assert len(pairs[(pairs != 0).any(1)].unique(dim=0)) <= 4
    assert rows["kmeans"]["bytes"] < 0.5 * rows["magnitude"]["bytes"]
    before = {m: (out / f"{m}.psz").read_bytes() for m in ("magnitude", "l1", "kmeans")}
    again = pipeline.prune_again(out, threshold=0.0)
    less = sum(layer["kept"] for layer in again["layers"])
    assert less < kept and (out / "magnitude.psz").read_bytes() != before["magnitude"]
    assert metrics(out)["stages"][-1]["name"] == again["stages"][-1]["name"]
