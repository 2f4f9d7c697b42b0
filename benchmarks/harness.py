"""Runs a work: every contender in a process of its own, one after another, round after round, stored as it goes.

A drift of the machine's speed meets all contenders of a round alike. The first round runs every variant of a family
(a chunk size, a batch size, a number of steps); the work chooses one, and only that goes on. What takes longer than
`ONCE` seconds is run once. Records are JSON files in a build folder: an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.core import Contender, Work, middle
from benchmarks.worker import MARK, reference_path

ROOT = Path(__file__).resolve().parent.parent
ONCE = 150.0
TIMEOUT = 1800.0
LATE = "not finished"
PACKAGES = (
    "spectral-audit torch numpy scipy backpack-for-pytorch nngeometry hessian-eigenthings curvlinops-for-pytorch "
    "pyhessian"
).split()

Record = dict[str, Any]


def record_path(folder: Path, work: str, net: str) -> Path:
    return folder / f"{work}-{net}.json"


def load(folder: Path, work: str, net: str) -> Record | None:
    """The record of a work on a net, if there is one."""
    path = record_path(folder, work, net)
    return json.loads(path.read_text()) if path.exists() else None


def run_work(work: Work, net: str, rounds: int, folder: Path, keep: Callable[[Contender], bool], fresh: bool) -> Record:
    """Fill the record of `work` on `net` up to `rounds` rounds, for the contenders that `keep` admits."""
    record = (None if fresh else load(folder, work.name, net)) or {"runs": {}, "failed": {}}
    record.update(machine=machine(), versions=versions(), samples=work.samples)
    contenders = [c for c in work.contenders(net) if keep(c)]
    # What failed is tried again, unless it took too long.
    record["failed"] = {k: why for k, why in record["failed"].items() if why.startswith(LATE)}
    for name in work.references(net):
        if not reference_path(folder, work.name, net, name).exists():
            _say(f"{work.name} {net} reference {name}", _spawn(work, net, f"reference:{name}", 0, folder))
    for turn in range(rounds):
        if turn > 0:
            _choose(work, contenders, record)
        for contender in contenders:
            if _due(work, contender, record, turn):
                _measure(work, net, contender, turn, folder, record)
    _choose(work, contenders, record)
    _store(folder, work, net, record)
    return record


def _choose(work: Work, contenders: list[Contender], record: Record) -> None:
    """The variant of each family that goes on; families that are not run now keep theirs."""
    first = {key: middle(runs) if work.every_variant else runs[0] for key, runs in record["runs"].items() if runs}
    record["chosen"] = {**record.get("chosen", {}), **work.choose(contenders, first)}


def _due(work: Work, contender: Contender, record: Record, turn: int) -> bool:
    runs = record["runs"].get(contender.key, [])
    if contender.key in record["failed"] or len(runs) > turn:
        return False
    if turn == 0:
        return True
    chosen = work.every_variant or record["chosen"].get(contender.family) == contender.key
    return chosen and len(runs) == turn and runs[0]["seconds"] <= ONCE


def _measure(work: Work, net: str, contender: Contender, turn: int, folder: Path, record: Record) -> None:
    result = _spawn(work, net, contender.key, turn, folder)
    if "failed" in result:
        record["failed"][contender.key] = result["failed"]
    else:
        record["runs"].setdefault(contender.key, []).append(result)
    _say(f"{work.name} {net} round {turn + 1} {contender.key}", result)
    _store(folder, work, net, record)


def _store(folder: Path, work: Work, net: str, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record_path(folder, work.name, net).write_text(json.dumps(record, indent=1))


def _spawn(work: Work, net: str, key: str, turn: int, folder: Path) -> Record:
    """A worker process and what it printed, or the last line of what it said when it failed."""
    command = [sys.executable, "-m", "benchmarks.worker", work.name, net, key, str(turn), str(folder.resolve())]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, env=worker_environment(), cwd=ROOT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"{LATE} after {TIMEOUT:.0f} s"}
    marked = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode == 0 and marked:
        return json.loads(marked[-1].removeprefix(MARK))
    if done.returncode < 0:
        return {"failed": f"ended by signal {-done.returncode}: out of memory, most likely"}
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"failed": said[-1][:300] if said else f"exit code {done.returncode}"}


def worker_environment() -> dict[str, str]:
    """The same for all contenders: BLAS chooses its own kernels, and every core is used."""
    dropped = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    return {**kept, "OMP_NUM_THREADS": str(threads()), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def threads() -> int:
    """Threads of every worker: the cores this process may use, or fewer for a trial (`BENCHMARK_THREADS`)."""
    if "BENCHMARK_THREADS" in os.environ:
        return int(os.environ["BENCHMARK_THREADS"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    name = facts.get("model name", platform.processor() or platform.machine())
    detail = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": name + detail,
        "cores": os.cpu_count(),
        "threads": threads(),
        "memory": round(memory, 1),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Versions of everything that takes part."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "missing"
    return out


def _say(what: str, result: Record) -> None:
    print(f"{what}: {json.dumps(result)}", file=sys.stderr, flush=True)
