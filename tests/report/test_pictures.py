from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyrosparse.report import curves, images, pictures
from pyrosparse.report.axes import power, short
from pyrosparse.report.theme import CUT, KEPT, to_svg


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in axes.texts]


def test_the_histogram_counts_every_weight() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(-3, 1, 80), rng.normal(7, 1, 900), np.full(20, np.inf)])
    axes = pictures.log_alpha_histogram(values, threshold=3.0).axes[0]
    bars = {colour: 0.0 for colour in (KEPT, CUT)}
    for patch in axes.patches:
        red, green, blue, _ = (round(255 * c) for c in patch.get_facecolor())
        bars[f"#{red:02x}{green:02x}{blue:02x}"] += patch.get_height()
    assert bars == {KEPT: (values <= 3).sum(), CUT: (values > 3).sum()}
    assert "cut\n20" in texts(axes.figure)


@pytest.mark.parametrize("threshold", [None, 3.0, -50.0])
@pytest.mark.parametrize("values", [[], [1.0], [np.inf, np.inf], [-2.0, 4.0]])
def test_a_histogram_of_next_to_nothing(values: list[float], threshold: float | None) -> None:
    to_svg(pictures.log_alpha_histogram(values, threshold=threshold), key="h", alt="")


def test_the_elbo_is_the_sum_of_its_parts() -> None:
    axes = curves.elbo([1, 2], [-5.0, -4.0], [3.0, 2.0], [0.5, 1.0]).axes[0]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert drawn == {(8.0, 6.0), (5.0, 4.0), (3.0, 2.0)}


def test_the_elbo_with_holes() -> None:
    figure = curves.elbo([1, 2, 3], [np.nan, -4.0, np.nan], [3.0, np.nan, 2.0], [np.nan] * 3)
    to_svg(figure, key="e", alt="")


def test_the_chosen_point_is_marked_where_it_lies() -> None:
    figure = curves.quality_against_size([300, 100, 200], [0.95, 0.5, 0.9], chosen=0, note="this one")
    marked = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [float(line.get_xdata()[0]) for line in marked] == [300.0]
    assert "this one" in texts(figure)


@pytest.mark.parametrize("quality", [[1.0], [1.0, 1.0], [0.0, 1.0], [0.97, 0.98]])
def test_accuracies_at_the_ends_of_the_scale(quality: list[float]) -> None:
    cost = np.arange(1, len(quality) + 1) * 1000
    to_svg(curves.quality_against_size(cost, quality, reference=1.0), key="q", alt="")


def test_errors_are_drawn_as_they_are() -> None:
    figure = curves.quality_against_size([1, 2], [0.2, 12.0], accuracy=False, in_bytes=False)
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.2, 12.0]


def test_the_line_of_the_threshold_is_where_log_alpha_is_the_threshold() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=500), np.exp(rng.normal(size=500))
    line = pictures.mean_against_std(mean, std, threshold=2.0).axes[0].lines[0]
    mu, sigma = 10 ** np.asarray(line.get_xdata()), 10 ** np.asarray(line.get_ydata())
    assert np.allclose(np.log(sigma**2 / mu**2), 2.0)


def test_posteriors_without_any_kept_or_with_no_spread() -> None:
    figure = pictures.posteriors([0.0, 0.1], [0.0, 0.3], [False, False], ["a", "b"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_units_and_weights_over_time() -> None:
    figure = curves.kept_over_time([1, 2], [900, 30], total=1000, units={"fc1": [30, 10], "fc2": [10, 10]})
    assert {"30", "of 1,000", "fc1: 10", "fc2: 10"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("inputs", "example", "expected"),
    [
        (784, None, (1, 28, 28)),
        (3072, None, (3, 32, 32)),
        (100, (100,), None),
        (96, (1, 8, 12), (1, 8, 12)),
        (96, (8, 12), (1, 8, 12)),
        (13, None, None),
        (50, (1, 8, 8), None),
    ],
)
def test_images_are_recognised(inputs: int, example: tuple[int, ...] | None, expected: tuple[int, ...] | None) -> None:
    assert images.image_shape(inputs, example) == expected


def test_a_dot_of_a_large_mask_is_a_block_with_any_weight_alive() -> None:
    keep = np.zeros((1000, 900), bool)
    keep[501, 7] = True
    drawn = np.asarray(images.mask_image(keep).axes[0].images[0].get_array())
    block = images.block_size(keep.shape)
    assert block == 3
    assert np.argwhere(drawn[..., 3] > 0).tolist() == [[501 // block, 7 // block]]


@pytest.mark.parametrize("shape", [(7,), (3, 5), (4, 2, 3), (4, 2, 3, 3), (2, 2, 2, 2, 2)])
def test_masks_of_every_rank(shape: tuple[int, ...]) -> None:
    drawn = np.asarray(images.mask_image(np.ones(shape, bool)).axes[0].images[0].get_array())
    assert drawn.shape[0] * drawn.shape[1] == np.prod(shape)
    assert (drawn[..., 3] > 0).all()


def test_filters_show_sign_and_what_is_pruned() -> None:
    weight = np.zeros((1, 1, 2, 2))
    weight[0, 0] = [[1.0, -1.0], [0.5, 0.5]]
    keep = np.array([[[[True, True], [True, False]]]])
    tile = np.asarray(images.filter_tiles(weight, keep).axes[0].images[0].get_array())[1:3, 1:3]
    assert tile[0, 0, 2] > tile[0, 0, 0] and tile[0, 1, 0] > tile[0, 1, 2]
    assert tile[0, 0, 3] > tile[1, 0, 3] > tile[1, 1, 3] == 0


def test_filters_of_complex_weights_show_the_phase() -> None:
    phases = np.array([0.0, 2.0, -2.0]) * np.pi / 3
    weight = np.array([1.0, 1.0, 0.5]) * np.exp(1j * phases)
    tile = np.asarray(
        images.filter_tiles(weight[None, None, None], np.ones((1, 1, 1, 3), bool)).axes[0].images[0].get_array()
    )
    drawn = tile[1, 1:4]
    assert drawn[:, :3].argmax(1).tolist() == [0, 1, 2]  # red, green, blue
    assert drawn[0, 3] == drawn[1, 3] > drawn[2, 3]


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.02, "0.02"), (12, "12"), (3400, "3,400"), (60000, "60,000"), (1.25e6, "1.25 M"), (-3, "−3")],
)
def test_axis_numbers(value: float, written: str) -> None:
    assert short(value) == written


@pytest.mark.parametrize(("exponent", "written"), [(0, "1"), (-2, "0.01"), (-5, "10⁻⁵"), (3, "1,000")])
def test_powers(exponent: float, written: str) -> None:
    assert power(exponent) == written


def test_colours_follow_the_page() -> None:
    svg = to_svg(curves.elbo([1, 2], [-5.0, -4.0], [3.0, 2.0], [0.5, 1.0]), key="k", alt='a "b" <c>')
    assert "var(--kept)" in svg and KEPT not in svg
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;"' in svg
