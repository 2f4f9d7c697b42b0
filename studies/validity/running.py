"""Running the zoo: what has no record yet, in one or two processes."""

from __future__ import annotations

import functools
import json
import multiprocessing
import sys
from pathlib import Path

import torch

from studies.validity.record import keep, path_of, run
from studies.validity.samples import Samples, samples
from studies.validity.zoo import Entry


def collect(chosen: list[Entry], data: Path, folder: Path, jobs: int) -> None:
    """Run the entries that have no record in `folder` yet, and say how each ended."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [entry for entry in chosen if not path_of(entry, folder).exists()]
    work = functools.partial(_one, data=data, folder=folder)
    if jobs == 1:
        _say(map(work, missing), len(missing))
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        _say(pool.imap_unordered(work, missing), len(missing))


def _say(lines, total: int) -> None:
    for done, line in enumerate(lines, 1):
        print(f"{done}/{total} {line}", file=sys.stderr, flush=True)


def _one(entry: Entry, data: Path, folder: Path) -> str:
    torch.set_num_threads(1)
    try:
        record = run(entry, _samples(entry.data, data))
    except Exception as error:  # noqa: BLE001 (one model that fails is said, and the rest goes on)
        return f"{entry.name} FAILED {type(error).__name__}: {error}"
    keep(record, path_of(entry, folder))
    figures = {k: record["damages"][k] for k in ("noise", "shaken", "attacked.0.1")}
    return f"{entry.name} accuracy {record['test_accuracy']:.2f} {json.dumps(record['seconds'])} {json.dumps(figures)}"


@functools.cache
def _samples(name: str, folder: Path) -> Samples:
    return samples(name, folder)
