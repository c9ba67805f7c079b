"""Reading data: what comes out, and what is refused, one trouble at a time."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrosparse.data import load
from pyrosparse.errors import DataError


def write_idx(path: Path, array: np.ndarray, *, kind: int = 0x08, keep: int | None = None) -> None:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()[:keep]))


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 12)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 6, 5)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 4)
    return tmp_path


def npz(path: Path, **changes: object) -> Path:
    rng = np.random.default_rng(1)
    arrays: dict[str, object] = {
        "x_train": rng.normal(size=(30, 7)),
        "y_train": np.arange(30) % 3,
        "x_test": rng.normal(size=(9, 7)),
        "y_test": np.arange(9) % 3,
    }
    arrays.update(changes)
    np.savez(path / "data.npz", **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    return path / "data.npz"


def test_digits_are_split_by_class_and_do_not_overlap() -> None:
    data = load("digits", seed=3)
    assert data.x_train.shape[1:] == (1, 8, 8)
    assert data.x_train.dtype == torch.float32
    assert data.y_train.dtype == torch.int64
    assert sum(len(y) for _, _, y in data.splits()) == 1797
    assert float(data.x_train.max()) == 1.0 and float(data.x_train.min()) == 0.0
    for _, _, y in data.splits():
        shares = torch.bincount(y, minlength=10) / len(y)
        assert shares.min() > 0.08 and shares.max() < 0.12
    seen = torch.cat([x.flatten(1) for _, x, _ in data.splits()])
    assert len(seen.unique(dim=0)) == 1797


def test_a_seed_decides_the_split() -> None:
    first, again, other = load(seed=1), load(seed=1), load(seed=2)
    assert torch.equal(first.x_test, again.x_test)
    assert not torch.equal(first.y_test, other.y_test)


@pytest.mark.parametrize(("validation", "count"), [(0.25, 359), (100, 100)])
def test_validation_is_a_share_or_a_count(validation: float, count: int) -> None:
    assert len(load(validation=validation).y_val) == count


def test_idx_takes_the_last_training_images_for_validation(idx: Path) -> None:
    data = load("idx", idx, validation=8)
    assert [len(y) for _, _, y in data.splits()] == [32, 8, 12]
    assert data.y_val.tolist() == [(32 + i) % 4 for i in range(8)]
    assert data.input_shape == (1, 6, 5)
    assert data.num_classes == 4
    raw = gzip.decompress((idx / "train-images-idx3-ubyte.gz").read_bytes())
    assert float(data.x_train[0, 0, 0, 0]) == pytest.approx(raw[16] / 255)


def test_mnist(mnist_dir: Path) -> None:
    data = load("idx", mnist_dir)
    assert [len(y) for _, _, y in data.splits()] == [55_000, 5_000, 10_000]
    assert data.num_classes == 10


def test_npz_real_and_complex(tmp_path: Path) -> None:
    real = load("npz", npz(tmp_path), validation=0.2, seed=4)
    assert [len(y) for _, _, y in real.splits()] == [24, 6, 9]
    assert real.x_train.dtype == torch.float32
    z = np.random.default_rng(0).normal(size=(30, 7)) * 1j
    path = npz(tmp_path, x_train=z, x_test=z[:9])
    assert load("npz", path).x_train.dtype == torch.complex64


def test_npz_takes_whole_floats_as_labels(tmp_path: Path) -> None:
    assert load("npz", npz(tmp_path, y_test=np.arange(9.0) % 3)).y_test.dtype == torch.int64


# --- what is refused ---------------------------------------------------------------------------


def test_unknown_source_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'digit'; did you mean 'digits'\?"):
        load("digit")


@pytest.mark.parametrize("source", ["idx", "npz"])
def test_a_missing_path_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a path"):
        load(source)
    with pytest.raises(DataError, match="there is no .*absent"):
        load(source, tmp_path / "absent")


def test_digits_take_no_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes no path"):
        load("digits", tmp_path)


def test_idx_folder_lacks_a_file(idx: Path) -> None:
    (idx / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte.gz"):
        load("idx", idx, validation=8)


def test_truncated_gzip(idx: Path) -> None:
    path = idx / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz is truncated"):
        load("idx", idx, validation=8)


def test_damaged_gzip(idx: Path) -> None:
    path = idx / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match="not a whole gzip file"):
        load("idx", idx, validation=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 100}, "is truncated: its header promises 1200 values, it holds 100"),
        ({"kind": 0x0D}, "type 0x0d"),
    ],
)
def test_idx_header_and_length_must_agree(idx: Path, change: dict[str, int], message: str) -> None:
    write_idx(idx / "train-images-idx3-ubyte.gz", np.zeros((40, 6, 5)), **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        load("idx", idx, validation=8)


def test_idx_with_the_wrong_magic_or_swapped_files(idx: Path) -> None:
    path = idx / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(b"\x01\x02\x08\x03rest"))
    with pytest.raises(DataError, match="not an idx file"):
        load("idx", idx, validation=8)
    path.write_bytes(gzip.compress(b"\x00\x00\x08\x03\x00"))
    with pytest.raises(DataError, match="truncated inside its header"):
        load("idx", idx, validation=8)
    (idx / "train-labels-idx1-ubyte.gz").write_bytes(whole)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="3 dimensions where 1"):
        load("idx", idx, validation=8)


def test_images_and_labels_must_be_as_many(idx: Path) -> None:
    write_idx(idx / "train-labels-idx1-ubyte.gz", np.zeros(39))
    with pytest.raises(DataError, match="40 train images and 39 train labels"):
        load("idx", idx, validation=8)


def test_idx_test_label_out_of_range(idx: Path) -> None:
    labels = np.arange(12) % 4
    labels[5] = 9
    write_idx(idx / "t10k-labels-idx1-ubyte.gz", labels)
    with pytest.raises(DataError, match=r"y_test\[5\] is 9, and labels must lie in 0 … 3"):
        load("idx", idx, validation=8)


def test_train_and_test_images_of_two_sizes(idx: Path) -> None:
    write_idx(idx / "t10k-images-idx3-ubyte.gz", np.zeros((12, 7, 5)))
    with pytest.raises(DataError, match="train images are"):
        load("idx", idx, validation=8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("split", ["train", "test"])
def test_values_that_are_not_finite(tmp_path: Path, split: str, value: float) -> None:
    x = np.zeros((30 if split == "train" else 9, 7))
    x[4, 2] = value
    with pytest.raises(DataError, match=rf"x_{split} has 1 values .* at x_{split}\[4, 2\]"):
        load("npz", npz(tmp_path, **{f"x_{split}": x}))


def test_not_finite_complex(tmp_path: Path) -> None:
    x = np.zeros((30, 7), dtype=complex)
    x[3, 6] = complex(0.0, np.nan)
    with pytest.raises(DataError, match=r"at x_train\[3, 6\]"):
        load("npz", npz(tmp_path, x_train=x, x_test=np.zeros((9, 7), dtype=complex)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.arange(30) % 3 - 1}, r"y_train\[0\] is -1"),
        ({"y_test": np.arange(9)}, r"y_test\[3\] is 3, and labels must lie in 0 … 2"),
        ({"y_train": np.arange(30) / 2}, r"y_train\[1\] is 0.5"),
        ({"y_train": np.array(["a"] * 30)}, r"y_train\[0\] is a"),
        ({"y_train": np.zeros((30, 3))}, r"y_test has shape \(9,\) and y_train \(30, 3\)"),
        ({"y_train": np.zeros((30, 3, 2))}, r"y_train has shape \(30, 3, 2\)"),
        ({"y_train": np.zeros(29, int)}, "30 examples and y_train 29"),
        ({"x_test": np.zeros((9, 6))}, r"x_test has examples of shape \(6,\)"),
        ({"x_test": np.zeros((9, 7), dtype=complex)}, "complex64"),
        ({"x_train": np.zeros(30)}, r"x_train has shape \(30,\)"),
        ({"x_test": np.zeros((8, 7))}, "x_test has 8 examples"),
        ({"x_test": np.zeros((0, 7))}, "test split has no examples"),
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": np.array([None] * 30)}, "not a whole .npz file of plain arrays"),
    ],
)
def test_npz_that_does_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load("npz", npz(tmp_path, **changes))


def test_npz_that_is_cut_or_something_else(tmp_path: Path) -> None:
    path = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a whole .npz file"):
        load("npz", path)
    path.write_text("x, y\n1, 2\n")
    with pytest.raises(DataError, match="not a whole .npz file"):
        load("npz", path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="not a whole .npz file"):
        load("npz", path)


def test_npz_packed_by_a_method_that_nobody_knows(tmp_path: Path) -> None:
    path = npz(tmp_path)
    data = bytearray(path.read_bytes())
    for header, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):  # of each member, and in the directory
        start = data.find(header)
        while start >= 0:
            data[start + place] = 99
            start = data.find(header, start + 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"not a whole .npz file.*compression method"):
        load("npz", path)


@pytest.mark.parametrize("validation", [0, 0.0, 1.0, 1.5, -1, 40, 100, True])
def test_validation_out_of_range(idx: Path, validation: float) -> None:
    with pytest.raises(DataError, match="validation = "):
        load("idx", idx, validation=validation)
