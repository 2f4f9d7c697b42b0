"""One measurement in a process of its own: `python -m benchmarks.worker WORK NET KEY ROUND FOLDER` prints it as JSON.

KEY is a contender's key, or `reference:NAME`, whose result goes to FOLDER. The clock runs around the contender's work
only; the peak of the resident memory is read before anything is compared with the references.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import torch

from benchmarks.core import Problem
from benchmarks.works import WORKS

MARK = "RESULT "
WARM = 4


def reference_path(folder: Path, work: str, net: str, name: str) -> Path:
    return folder / "references" / f"{work}-{net}-{name}.pt"


def measure(work_name: str, net: str, key: str, seed: int, folder: Path) -> dict[str, object]:
    work = WORKS[work_name]
    contender = next(c for c in work.contenders(net) if c.key == key)
    # Lazy imports and first calls are nobody's arithmetic: torch.func alone takes seconds for them.
    contender.prepare(Problem.of(net, WARM, seed))()
    run = contender.prepare(Problem.of(net, work.samples, seed))
    start = time.perf_counter()
    shape = run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    outcome = shape()
    paths = {name: reference_path(folder, work_name, net, name) for name in work.references(net)}
    truths = {name: torch.load(path, weights_only=True) for name, path in paths.items()}
    return {"seconds": seconds, "peak": peak, "errors": work.errors(outcome.value, truths), "facts": outcome.facts}


def refer(work_name: str, net: str, name: str, folder: Path) -> dict[str, object]:
    work = WORKS[work_name]
    start = time.perf_counter()
    value = work.references(net)[name](Problem.of(net, work.samples))
    path = reference_path(folder, work_name, net, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and moved: an interrupted run leaves no half of a reference.
    torch.save(value, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    work, net, key, seed, folder = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if key.startswith("reference:"):
        result = refer(work, net, key.removeprefix("reference:"), Path(folder))
    else:
        result = measure(work, net, key, int(seed), Path(folder))
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
