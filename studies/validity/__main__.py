"""The command; see the package."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# One thread for each process: sums come out the same, and processes do not fight over cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


from studies.validity.figures import heatmap, scatter
from studies.validity.pages import page, write_correlations
from studies.validity.population import write_population
from studies.validity.running import collect
from studies.validity.table import read_table, write_table
from studies.validity.zoo import entries

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.validity", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with mnist.npz and cifar10.npz; trains what has no record")
    parser.add_argument("--only", nargs="*", help="names of models, or beginnings of names")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "validity", help="folder of the records")
    parser.add_argument("--table", type=Path, help="the raw table: zoo.csv here, with --only that of the build folder")
    parser.add_argument("--pages", type=Path, help="folder to write the page and its figures into, from the raw table")
    parser.add_argument("--population", type=Path, help="write the reference population there, from the raw table")
    asked = parser.parse_args()
    chosen = [e for e in entries() if not asked.only or e.name.startswith(tuple(asked.only))]
    table = asked.table or (asked.build if asked.only else Path(__file__).parent) / "zoo.csv"
    if asked.data:
        collect(chosen, asked.data, asked.build, asked.jobs)
        print(f"{table}: {write_table(asked.build, chosen, table)} models", file=sys.stderr)
    if asked.pages:
        write_pages(table, asked.pages)
    if asked.population:
        write_population(read_table(table), asked.population)


def write_pages(table: Path, folder: Path) -> None:
    """The page, its two figures, and beside the table every correlation."""
    found = read_table(table)
    (folder / "validity.md").write_text(page(found), encoding="utf-8")
    write_correlations(found, table.with_name("correlations.csv"))
    scatter(found, folder / "validity.svg")
    heatmap(found, folder / "validity-all.svg")


if __name__ == "__main__":
    main()
