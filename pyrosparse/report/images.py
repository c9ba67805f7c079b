"""Pictures of which weights live: one colour whose strength says how many, clear where none do."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from pyrosparse.report.theme import CUT, MUTED, themed

__all__ = ["filter_tiles", "image_shape", "input_image", "mask_image"]

BLUE, ORANGE = (0x1F, 0x86, 0xC6), (0xD0, 0x5A, 0x00)  # read well on white and on black
MAX_PIXELS = 400
MAX_TILES = 256


def image_shape(inputs: int, example: tuple[int, ...] | None) -> tuple[int, int, int] | None:
    """Find (channels, height, width) of the images that a first layer looks at; None if it looks at none.

    :param inputs: number of inputs of the layer.
    :param example: shape of one example; where it is not known, a square is guessed (784 is 28 × 28).
    """
    if example is None:
        for channels in (1, 3):
            side = math.isqrt(inputs // channels)
            if side >= 4 and channels * side * side == inputs:
                return channels, side, side
        return None
    if len(example) in (2, 3) and math.prod(example) == inputs and min(example[-2:]) > 1:
        return (1, *example)[-3:]  # type: ignore[return-value]
    return None


def _ink(strength: NDArray[np.float64], colour: tuple[int, int, int] = BLUE) -> NDArray[np.float64]:
    """One colour with the strength, in [0, 1], as opacity; whatever is above zero is seen."""
    image = np.empty((*strength.shape, 4))
    image[..., :3] = np.array(colour) / 255
    image[..., 3] = np.where(strength > 0, 0.18 + 0.82 * strength, 0)
    return image


def _frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(CUT)


@themed
def input_image(live: ArrayLike) -> Figure:
    """How many live weights leave each pixel of the input.

    :param live: counts of shape (height, width).
    """
    counts = np.asarray(live, dtype=np.float64)
    top = float(counts.max(initial=0))
    height, width = counts.shape
    figure = Figure(figsize=(3.5, min(6.0, 3.2 * height / width + 0.35)), layout="constrained")
    axes, scale = figure.subplots(2, 1, gridspec_kw={"height_ratios": [30 * height / width, 1]})
    axes.imshow(_ink(counts / max(top, 1)), interpolation="none")
    _frame(axes)
    ramp = _ink(np.linspace(0, 1, 64)[None, :])
    scale.imshow(ramp, aspect="auto", interpolation="none", extent=(0, max(top, 1), 0, 1))
    scale.set_yticks([])
    scale.set_xticks([0, max(top, 1)], ["0", f"{top:,.0f} live weights"])
    scale.get_xticklabels()[0].set_ha("left")
    scale.get_xticklabels()[1].set_ha("right")
    scale.tick_params(length=0)
    for spine in scale.spines.values():
        spine.set_visible(False)
    return figure


@themed
def mask_image(keep: ArrayLike) -> Figure:
    """The keep-mask of a matrix of weights, outputs down and inputs across.

    Large masks are drawn as density: a dot is a block of weights, stronger when more of them live.
    A convolution's mask has one tile of kernel positions for each pair of channels.
    """
    mask = np.asarray(keep, dtype=np.float64)
    kernel = (1, 1)
    if mask.ndim > 2:
        out, inp = mask.shape[:2]
        kernel = (mask.shape[2], int(np.prod(mask.shape[3:], initial=1)))
        mask = mask.reshape(out, inp, *kernel).transpose(0, 2, 1, 3).reshape(out * kernel[0], inp * kernel[1])
    elif mask.ndim < 2:
        mask = mask.reshape(1, -1)
    rows, columns = mask.shape
    block = block_size(mask.shape)
    if block > 1:
        padded = np.pad(mask, ((0, -rows % block), (0, -columns % block)))
        mask = padded.reshape(padded.shape[0] // block, block, -1, block).mean(axis=(1, 3))
        mask = np.sqrt(mask / max(mask.max(), 1e-12))
    figure = Figure(figsize=(3.5, float(np.clip(3.2 * rows / columns, 0.6, 3.6)) + 0.3), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_ink(mask), interpolation="none", aspect="auto", extent=(0, columns, rows, 0))
    _frame(axes)
    axes.set_xlabel(f"{columns // kernel[1]:,} inputs", color=MUTED)
    axes.set_ylabel(f"{rows // kernel[0]:,} outputs", color=MUTED)
    return figure


def block_size(shape: tuple[int, ...]) -> int:
    """Side of the block of weights that one dot of a mask image stands for."""
    return max(1, math.ceil(max(shape) / MAX_PIXELS))


def _hue(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of phases in radians, as strong and bright as the two of real weights."""
    full = np.ones_like(phase)
    return np.asarray(hsv_to_rgb(np.stack([phase / (2 * np.pi) % 1.0, 0.85 * full, 0.8 * full], -1)), dtype=np.float64)


@themed
def filter_tiles(weight: ArrayLike, keep: ArrayLike) -> Figure:
    """The filters of a first convolution, one tile for each output and input channel.

    Blue is positive, orange negative, clear pruned; of complex weights the hue is the phase, red at 0 and green and
    blue a third of the circle before and behind. At most 256 tiles are drawn, the first ones.

    :param weight: posterior means, real or complex, shape (outputs, inputs, height, width).
    :param keep: keep-mask, same shape.
    """
    values = np.where(np.asarray(keep, bool), np.asarray(weight), 0.0)
    _, _, height, width = values.shape
    tiles = values.reshape(-1, height, width)[:MAX_TILES]
    columns = min(len(tiles), max(1, math.ceil(math.sqrt(1.6 * len(tiles)))))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.zeros((rows * (height + 1) + 1, columns * (width + 1) + 1), dtype=values.dtype)
    for i, tile in enumerate(tiles):
        top, left = 1 + (i // columns) * (height + 1), 1 + (i % columns) * (width + 1)
        canvas[top - 1 : top + height + 1, left - 1 : left + width + 1] = np.nan
        canvas[top : top + height, left : left + width] = tile
    largest = max(float(np.abs(tiles).max(initial=0)), 1e-12)
    image = _ink(np.nan_to_num(np.abs(canvas)) / largest)
    if np.iscomplexobj(canvas):
        image[..., :3] = _hue(np.angle(np.nan_to_num(canvas)))
    else:
        image[canvas < 0, :3] = np.array(ORANGE) / 255
    image[np.isnan(canvas)] = (*np.array([0xB3, 0xB9, 0xC0]) / 255, 0.4)
    figure = Figure(figsize=(3.5, min(6.0, 3.4 * canvas.shape[0] / canvas.shape[1] + 0.1)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image, interpolation="none")
    axes.set_axis_off()
    return figure
