"""The raw table: one row for each model, everything known about it and everything that was done to it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studies.validity.statistics import Array
from studies.validity.zoo import Entry

_RECORD = ("half", "n", "definition", "parameters", "test_accuracy")
_KNOWN, _DONE = "known.", "damage."


def write_table(folder: Path, chosen: list[Entry], path: Path) -> int:
    """All records of a folder as one CSV, six significant digits, in the order of the zoo; how many there are."""
    found = [folder / f"{entry.name}.json" for entry in chosen]
    records = [json.loads(record.read_text(encoding="utf-8")) for record in found if record.exists()]
    rows = []
    for record in records:
        row = dict(record["entry"]) | {key: record[key] for key in _RECORD}
        row |= {_KNOWN + key: value for key, value in record["quantities"].items()}
        row |= {_DONE + key: value for key, value in record["damages"].items()}
        rows.append({key: _cell(value) for key, value in row.items()})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


@dataclass(frozen=True)
class Table:
    """The raw table in memory: text columns, and figures with NaN where there is none."""

    text: dict[str, list[str]]
    figures: dict[str, Array]

    def __len__(self) -> int:
        return len(self.text["name"])

    def known(self, name: str) -> Array:
        """A quantity known before the damage (n,)."""
        return self.figures[_KNOWN + name]

    def damage(self, name: str) -> Array:
        """A damage (n,)."""
        return self.figures[_DONE + name]

    def names(self, kind: str) -> list[str]:
        """All `known` or all `damage` names."""
        return [key.removeprefix(f"{kind}.") for key in self.figures if key.startswith(f"{kind}.")]

    def where(self, **values: str) -> Array:
        """Which models have these values in text columns, as a mask (n,)."""
        mask = np.ones(len(self), bool)
        for key, value in values.items():
            mask &= np.array(self.text[key]) == value
        return mask


_TEXT = ("name", "data", "architecture", "activation", "penalty", "half", "definition")


def read_table(path: Path) -> Table:
    """The table in a CSV file that `write_table` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    figures = {k: np.array([float(v) if v else np.nan for v in c]) for k, c in columns.items() if k not in _TEXT}
    return Table({key: columns[key] for key in _TEXT}, figures)
