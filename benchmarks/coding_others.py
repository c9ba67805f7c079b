"""ISO NNC (the reference software `nncodec`) and zstd, in an environment of their own; coding_table.py calls it.

python -m venv others && others/bin/pip install torch "numpy<2" zstandard h5py pandas scikit-learn tqdm click
others/bin/pip install --no-deps nncodec torchmetrics ptflops lightning-utilities opencv-python-headless
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

OPTIONS = [{"row_skipping": skip, "scan_order": order} for skip in (False, True) for order in (0, 1)]
LARGE = 500_000  # entries: beyond it only the first and the third of the options are tried


def import_nnc() -> Any:
    """The coder alone: its package also imports data sets of pictures from torchvision, which coding does not touch."""
    for name in ("", ".datasets", ".transforms", ".transforms.functional", ".models", ".io", ".utils", ".ops"):
        sys.modules[f"torchvision{name}"] = MagicMock()
    with contextlib.redirect_stdout(io.StringIO()):
        from nncodec import nnc
    return nnc


def nnc_bytes(nnc: Any, arrays: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """The shortest stream of the integers over the options, decoded and compared."""
    large = sum(a.size for a in arrays.values()) > LARGE
    best: dict[str, Any] = {}
    for options in OPTIONS[::2] if large else OPTIONS:
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            path = str(folder / "stream.nnc")
            stream = nnc.compress(arrays, bitstream_path=path, return_bitstream=True, **options)
            encoded = time.process_time()
            again = nnc.decompress(stream)
        decoded = time.process_time()
        for name, array in arrays.items():
            assert np.array_equal(again[name], array), (name, options)
        if not best or len(stream) < best["bytes"]:
            seconds = {"encode_s": round(encoded - start, 3), "decode_s": round(decoded - encoded, 3)}
            best = {"bytes": len(stream), "options": options} | seconds
    return best


def main(folder: Path) -> None:
    """Print JSON: bytes by source."""
    sources: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "integers.npz") as integers:
        for key in integers.files:
            source, _, number = key.partition("|")
            sources.setdefault(source, {})[f"w{number}"] = integers[key]
    found: dict[str, Any] = {}
    try:
        import zstandard

        packer = zstandard.ZstdCompressor(level=22)
        found["zstd"] = {s: {k: len(packer.compress((folder / f"{s}.{k}").read_bytes())) for k in ("csr", "dense")}
                         for s in sources}  # fmt: skip
        found["zstandard"] = version("zstandard")
    except ImportError as error:
        found["zstd"] = {"missing": str(error)}
    try:
        nnc = import_nnc()
        found["ISO NNC"] = {source: nnc_bytes(nnc, arrays, folder) for source, arrays in sources.items()}
        found["nncodec"] = version("nncodec")
    except ImportError as error:
        found["ISO NNC"] = {"missing": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
