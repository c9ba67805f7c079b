"""``python -m pyrosparse``: the command line."""

from __future__ import annotations

from pyrosparse.cli import main

if __name__ == "__main__":
    main()
