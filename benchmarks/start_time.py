"""Seconds until `pyrosparse --help` has answered, over several calls.

python benchmarks/start_time.py [--calls 15]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import time

from common import environment, write


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=15)
    options = parser.parse_args()
    command = shutil.which("pyrosparse")
    if command is None:
        raise SystemExit("pyrosparse is not on the PATH: activate the environment that it is installed in")
    seconds = []
    for _ in range(options.calls + 1):
        started = time.perf_counter()
        subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    seconds = seconds[1:]  # the first call fills the file cache
    result = {
        "claim": "pyrosparse --help",
        "calls": options.calls,
        "median_seconds": statistics.median(seconds),
        "low": min(seconds),
        "high": max(seconds),
    }
    print(result)
    write("start_time.json", {**result, **environment()})


if __name__ == "__main__":
    main()
