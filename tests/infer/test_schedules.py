"""Schedules: their values at key points, and their ranges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrosparse.errors import ConfigError
from pyrosparse.infer.schedules import (
    SCHEDULES,
    ClosedLoop,
    Schedule,
    constant,
    cosine,
    cyclic,
    linear_decay,
    named,
    overweight,
    rises,
    warm_up,
)

fractions = st.floats(0.0, 1.0)
heights = st.floats(0.01, 10.0)

POINTS: list[tuple[str, Schedule, dict[float, float]]] = [
    ("constant", constant(), {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
    ("constant 0.3", constant(0.3), {0.0: 0.3, 1.0: 0.3}),
    ("warm_up", warm_up(until=0.4), {0.0: 0.0, 0.1: 0.25, 0.2: 0.5, 0.4: 1.0, 0.7: 1.0, 1.0: 1.0}),
    ("warm_up to 2", warm_up(until=0.5, value=2.0), {0.0: 0.0, 0.25: 1.0, 0.5: 2.0, 1.0: 2.0}),
    ("warm_up at once", warm_up(until=0.0), {0.0: 1.0, 1.0: 1.0}),
    (
        "overweight",
        overweight(peak=2.0, rise=0.2, hold=0.4, settle=0.8),
        {0.0: 0.0, 0.1: 1.0, 0.2: 2.0, 0.4: 2.0, 0.6: 1.5, 0.8: 1.0, 1.0: 1.0},
    ),
    (
        "overweight at once",
        overweight(peak=3.0, rise=0.0, hold=0.5, settle=0.5, value=0.5),
        {0.0: 3.0, 0.49: 3.0, 0.5: 0.5, 1.0: 0.5},
    ),
    (
        "cyclic",
        cyclic(cycles=2, ratio=0.5),
        {0.0: 0.0, 0.125: 0.5, 0.25: 1.0, 0.49: 1.0, 0.5: 0.0, 0.625: 0.5, 0.8: 1.0, 1.0: 1.0},
    ),
    ("cyclic at once", cyclic(cycles=3, ratio=0.0), {0.0: 1.0, 0.4: 1.0, 1.0: 1.0}),
    ("cosine", cosine(hold=0.4), {0.0: 1.0, 0.4: 1.0, 0.7: 0.5, 0.55: (1 + math.cos(math.pi / 4)) / 2, 1.0: 0.0}),
    ("linear_decay", linear_decay(hold=0.5), {0.0: 1.0, 0.5: 1.0, 0.75: 0.5, 1.0: 0.0}),
]


@pytest.mark.parametrize(("schedule", "points"), [p[1:] for p in POINTS], ids=[p[0] for p in POINTS])
def test_values_at_key_points(schedule: Schedule, points: dict[float, float]) -> None:
    for t, value in points.items():
        assert schedule(t) == pytest.approx(value, abs=1e-12), t


@given(t=fractions, until=fractions, value=heights)
def test_warm_up_stays_within_its_value_and_never_falls(t: float, until: float, value: float) -> None:
    schedule = warm_up(until=until, value=value)
    assert 0.0 <= schedule(t) <= value
    assert schedule(t) <= schedule(min(1.0, t + 0.05)) + 1e-12
    assert schedule(1.0) == value


@given(
    t=fractions,
    corners=st.lists(fractions, min_size=3, max_size=3).map(sorted),
    peak=heights,
    value=heights,
)
def test_overweight_stays_between_zero_and_its_peaks(t: float, corners: list[float], peak: float, value: float) -> None:
    rise, hold, settle = corners
    schedule = overweight(peak=peak, rise=rise, hold=hold, settle=settle, value=value)
    assert -1e-9 <= schedule(t) <= max(peak, value) + 1e-9
    assert schedule(1.0) == pytest.approx(value)
    if rise < t <= hold:
        assert schedule(t) == pytest.approx(peak if t < settle else value)


@given(t=fractions, cycles=st.integers(1, 20), ratio=fractions, value=heights)
def test_cyclic_stays_within_its_value_and_repeats(t: float, cycles: int, ratio: float, value: float) -> None:
    schedule = cyclic(cycles=cycles, ratio=ratio, value=value)
    assert 0.0 <= schedule(t) <= value
    assert schedule(1.0) == value


@given(t=fractions, hold=fractions)
@pytest.mark.parametrize("make", [cosine, linear_decay])
def test_decays_never_rise_and_stay_between_0_and_1(make: type, t: float, hold: float) -> None:
    schedule = make(hold=hold)
    assert 0.0 <= schedule(t) <= 1.0
    assert schedule(min(1.0, t + 0.05)) <= schedule(t) + 1e-12
    if t < hold:
        assert schedule(t) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_has_a_name(name: str) -> None:
    schedule = named(name)
    assert all(math.isfinite(schedule(t / 10)) for t in range(11))


def test_named_passes_options() -> None:
    assert named("warm_up", until=0.5)(0.25) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: named("warmup"), "did you mean 'warm_up'"),
        (lambda: named("warm_up", untill=0.5), "warm_up.*untill"),
        (lambda: warm_up(until=1.5), "until is 1.5"),
        (lambda: overweight(rise=0.5, hold=0.4), "rise <= hold <= settle"),
        (lambda: cyclic(cycles=0), "cycles is 0"),
        (lambda: cyclic(ratio=-0.1), "ratio is -0.1"),
        (lambda: cosine(hold=2.0), "hold is 2.0"),
        (lambda: linear_decay(hold=float("nan")), "hold is nan"),
    ],
)
def test_bad_options_are_refused(make: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_closed_loop_presses_until_the_rate_and_then_lets_go() -> None:
    loop = ClosedLoop(peak=4.0, value=0.5, rate=10.0, rise=0.1, relax=0.2, latest=0.8)
    assert [loop(t) for t in (0.0, 0.05, 0.1, 0.5, 0.8)] == pytest.approx([0.0, 2.0, 4.0, 4.0, 4.0])
    assert loop(0.9) == pytest.approx(2.25)  # never released: the fall begins at `latest`
    assert loop(1.0) == pytest.approx(0.5)
    loop.observe({"progress": 0.3, "dense_rate": 9.0})
    assert loop(0.35) == pytest.approx(4.0)
    loop.observe({"progress": 0.4, "dense_rate": 10.0})
    loop.observe({"progress": 0.6, "dense_rate": 30.0})  # it lets go once
    assert [loop(t) for t in (0.4, 0.5, 0.6, 1.0)] == pytest.approx([4.0, 2.25, 0.5, 0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rise": 0.9, "latest": 0.5}, "0 <= rise <= latest"), ({"rate": 0.5}, "rate is 0.5"), ({"relax": 2.0}, "relax")],
)
def test_closed_loop_refuses(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClosedLoop(**options)


def test_rises_looks_ahead() -> None:
    warm = warm_up(until=0.5)
    assert rises(warm, 0.2)
    assert not rises(warm, 0.5)
    assert not rises(cosine(hold=0.4), 0.1)
