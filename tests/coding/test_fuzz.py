"""A few thousand damaged files; tools/fuzz_psz.py tries as many as one likes."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pyrosparse.coding.container import unpack

ROOT = Path(__file__).parents[2]
CASES = 2000


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("fuzz_psz")


def test_damaged_files_are_refused_or_read(fuzzer: ModuleType, tmp_path: Path) -> None:
    files = fuzzer.seeds()
    assert {"g", "k", "p", "r", "a", "x", "u", "h", "i", "w"} <= {k for f in files for k in unpack(f, "").header["k"]}
    usual = fuzzer.honest(files, tmp_path / "net.psz", fuzzer.read)
    tally = fuzzer.Tally()
    for case in range(1_000_000, 1_000_000 + CASES):  # none of those in the results
        tally.add(case, *fuzzer.attempt(case, files, tmp_path, usual))
    slow = [fault for fault in tally.faults if fault.endswith(" s")]  # a busy machine's clock is no fault of the reader
    assert [fault for fault in tally.faults if fault not in slow] == []
    assert tally.slowest_ms < 5000
    assert tally.outcomes["CorruptFileError"] > CASES / 2
    assert tally.outcomes["decoded"] > 0
    assert all(kind["measured"] == CASES // 10 for kind in tally.memory.values())
    assert set(tally.memory) == set(usual)
    assert set(tally.ways) == {way.__name__ for way in fuzzer.WAYS}


def test_a_fault_would_be_seen(fuzzer: ModuleType) -> None:
    tally = fuzzer.Tally()
    tally.add(0, "cut", "KeyError: 'k'", 0.1, None)
    tally.add(1, "cut", "decoded", 1.5, None)
    tally.add(2, "cut", "decoded", 0.1, fuzzer.Memory("traced", 2500, 2.5))
    tally.add(3, "cut", "CorruptFileError", 0.1, fuzzer.Memory("resident", 500, 0.5))
    assert [fault.split(" ")[1] for fault in tally.faults] == ["0", "1", "2"]
    assert json.loads(json.dumps(tally.to_dict()))["faults"] == tally.faults


def test_cases_depend_on_their_number_alone(fuzzer: ModuleType) -> None:
    files = fuzzer.seeds()
    torch.manual_seed(1)
    random.seed(1)
    assert fuzzer.seeds() == files
    assert [fuzzer.make(case, files) for case in range(50)] == [fuzzer.make(case, files) for case in range(50)]


def test_what_torch_allocates_is_measured(fuzzer: ModuleType) -> None:
    """Python's account has nothing of it, the operating system's has."""
    memory = importlib.import_module("psz_memory")

    def allocate() -> None:
        torch.ones(10_000_000)

    assert memory.traced(allocate) < 1_000_000
    if "resident" not in memory.MEASURES:
        pytest.skip("this operating system does not tell")
    assert 38_000_000 < memory.resident(allocate) < 60_000_000
    assert memory.Honest(1000.0, 2.0).ratio(4000, 500) == 2.0
