"""Settings are checked at the door."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrosparse.errors import ConfigError
from pyrosparse.infer.schedules import constant, warm_up
from pyrosparse.infer.settings import FitSettings, pick_device


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"shrink_every": -1}, "shrink_every is -1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr_log_var": -1.0}, "lr_log_var is -1.0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"temperature": -2.0}, "temperature is -2.0"),
        ({"teacher_weight": 1.5}, "teacher_weight is 1.5"),
        ({"freeze_at": -0.1}, "freeze_at is -0.1"),
        ({"resume": True}, "resume=True needs a folder"),
        ({"epochs": "3"}, "epochs is '3'"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"shrink_every": None}, "shrink_every is None"),
        ({"lr": None}, "lr is None"),
        ({"lr": "0.1"}, "lr is '0.1'"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr_log_var": float("nan")}, "lr_log_var is nan"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"clip": True}, "clip is True"),
        ({"freeze_at": "half"}, "freeze_at is 'half'"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": "auto"}, "threshold is 'auto'"),
        ({"teacher": "net.pt"}, "teacher is 'net.pt'; give a trained torch.nn.Module"),
        ({"kl_schedule": 0.5}, r"kl_schedule is 0.5; .*schedules.constant\(0.5\)"),
        ({"kl_schedule": "warm_up"}, r"kl_schedule is 'warm_up'; .*schedules.warm_up\("),
        ({"kl_schedule": None}, "kl_schedule is None"),
        ({"lr_schedule": 1}, r"lr_schedule is 1; .*schedules.constant\(1\)"),
        ({"site_schedules": {"fc1": 0.0}}, r"site_schedules\['fc1'\] is 0.0; .*constant\(0.0\)"),
        ({"site_schedules": [constant()]}, "give a dictionary"),
        ({"callbacks": 3}, "callbacks is 3"),
        ({"callbacks": "print"}, "callbacks is 'print'"),
        ({"callbacks": [print, None]}, "callbacks is"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FitSettings(**({"epochs": 1} | options))


def test_log_variances_learn_ten_times_faster_unless_told() -> None:
    assert FitSettings(epochs=1, lr=0.002).log_var_rate == pytest.approx(0.02)
    assert FitSettings(epochs=1, lr_log_var=0.5).log_var_rate == 0.5


def test_site_schedules_by_name_and_pattern() -> None:
    slow, off = warm_up(), constant(0.0)
    settings = FitSettings(epochs=1, site_schedules={"conv*": slow, "conv2.weight": off})
    chosen = settings.schedules_of({"conv1.weight": 0, "conv2.weight": 0, "fc.weight": 0})
    assert chosen["conv1.weight"] is slow
    assert chosen["conv2.weight"] is off
    assert chosen["fc.weight"] is settings.kl_schedule


def test_site_schedules_by_layer() -> None:
    own = warm_up()
    settings = FitSettings(epochs=1, site_schedules={"fc1": own})
    chosen = settings.schedules_of({"fc1.weight": 0, "fc10.weight": 0, "block.fc1.weight": 0})
    assert chosen == {"fc1.weight": own, "fc10.weight": settings.kl_schedule, "block.fc1.weight": settings.kl_schedule}


def test_numbers_may_be_numpys_and_counts_floats() -> None:
    settings = FitSettings(epochs=np.int64(3), lr=np.float32(0.5), shrink_every=2.0, threshold=float("inf"))
    assert (type(settings.epochs), settings.epochs, settings.shrink_every) == (int, 3, 2)


def test_unknown_site_suggests_the_nearest() -> None:
    settings = FitSettings(epochs=1, site_schedules={"cnv1.weight": constant()})
    with pytest.raises(ConfigError, match="did you mean 'conv1.weight'"):
        settings.schedules_of({"conv1.weight": 0})


def test_defaults_are_not_shared() -> None:
    assert FitSettings(epochs=1).site_schedules is not FitSettings(epochs=1).site_schedules


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="'gpu9' is not known"):
        pick_device("gpu9")
    with pytest.raises(ConfigError, match="'meta' has shapes and no numbers"):
        pick_device("meta")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_said() -> None:
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        pick_device("cuda")
