"""Complex weights in a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pyrosparse.errors import CorruptFileError
from pyrosparse.report import write
from pyrosparse.report.polar import MOST, polar
from pyrosparse.report.read import read_run


def test_points_are_where_the_weights_are() -> None:
    mean = np.array([1 + 1j, -2j, 0.5, 0.0])
    figure = polar(mean, np.array([True, True, False, False]))
    cut, kept = figure.axes[0].collections
    np.testing.assert_allclose(kept.get_offsets(), [[np.pi / 4, np.sqrt(2)], [-np.pi / 2, 2]])
    np.testing.assert_allclose(cut.get_offsets(), [[0, 0.5]])  # what was cut while fitting is nowhere
    many = polar(np.exp(1j * np.arange(20_000)), np.ones(20_000, bool)).axes[0].collections[1]
    assert MOST / 2 < len(many.get_offsets()) <= MOST


def complex_run(make_run: Callable[..., Path]) -> Path:
    """The first site of a run, with imaginary parts."""
    folder = make_run()
    tensors = load_file(folder / "posterior.safetensors")
    site = sorted({key.rpartition("/")[0] for key in tensors})[0]
    for part in ("mean", "std"):
        value = tensors[f"{site}/{part}"]
        tensors[f"{site}/{part}"] = np.stack([0.6 * value, 0.8 * value], -1)
    save_file(tensors, folder / "posterior.safetensors")
    return folder


def test_moduli_stand_for_complex_weights(make_run: Callable[..., Path]) -> None:
    before = read_run(make_run()).sites
    folder = complex_run(make_run)
    run = read_run(folder)
    name, site = next((n, s) for n, s in run.sites.items() if s.complex_mean is not None)
    np.testing.assert_allclose(site.mean, np.abs(before[name].mean), rtol=1e-6)
    np.testing.assert_allclose(site.std, before[name].std, rtol=1e-6)
    write(folder)
    page = (folder / "report.html").read_text()
    assert page.count("Phase and modulus of") == 1 and "modulus of the mean" in page
    write(make_run())
    tensors = load_file(folder / "posterior.safetensors")
    tensors[f"{name}/mean"] = tensors[f"{name}/mean"][..., :1].copy()
    save_file(tensors, folder / "posterior.safetensors")
    with pytest.raises(CorruptFileError, match="differ in shape"):
        read_run(folder)


def test_curves_are_drawn_with_the_deviation_along_the_mean(make_run: Callable[..., Path]) -> None:
    folder = complex_run(make_run)
    name, site = next((n, s) for n, s in read_run(folder).sites.items() if s.complex_mean is not None)
    tensors = load_file(folder / "posterior.safetensors")
    tensors[f"{name}/std"] = np.stack([site.std, site.std], -1).astype(np.float32)
    save_file(tensors, folder / "posterior.safetensors")
    circular = read_run(folder).sites[name]
    assert circular.along is not None
    np.testing.assert_allclose(circular.along, circular.std / np.sqrt(2), rtol=1e-5)
    std, mean = tensors[f"{name}/std"], tensors[f"{name}/mean"]
    tensors[f"{name}/covariance"] = (0.9 * std[..., 0] * std[..., 1]).astype(np.float32)
    save_file(tensors, folder / "posterior.safetensors")
    along = read_run(folder).sites[name].along
    assert along is not None
    where = np.unravel_index(np.abs(site.mean).argmax(), site.mean.shape)
    unit = mean[where] / np.linalg.norm(mean[where])
    s = std[where].astype(float)
    matrix = np.array([[s[0] ** 2, 0.9 * s[0] * s[1]], [0.9 * s[0] * s[1], s[1] ** 2]])
    np.testing.assert_allclose(along[where], np.sqrt(unit @ matrix @ unit), rtol=1e-5)
