"""The command; see the package."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# One thread for each process: sums come out the same, and processes do not fight over cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from studies.validity.running import collect  # noqa: E402 (torch reads the variable when it is loaded)
from studies.validity.zoo import entries  # noqa: E402

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.validity", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz and cifar10.npz; trains what has no record")
    parser.add_argument("--only", nargs="*", help="names of models, or beginnings of names")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "validity", help="folder of the records")
    asked = parser.parse_args()
    chosen = [e for e in entries() if not asked.only or e.name.startswith(tuple(asked.only))]
    if asked.data:
        collect(chosen, asked.data, asked.build, asked.jobs)


if __name__ == "__main__":
    main()
