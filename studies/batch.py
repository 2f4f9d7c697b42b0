"""Does a batch survive being killed, and do two workers help? Random small models in a folder of their own.

    python studies/batch.py [--models 200] [--kills 20] [--output docs/batch.md]

Kills: the batch is sent SIGKILL at random moments of its work and started again each time; the ledger must end as one
from an undisturbed run. Workers: seconds of one and of two processes on 20 models, alternating, and of a run with
nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spectral_audit.inputs.architectures.families import FAMILIES


@dataclass(frozen=True)
class Zoo:
    """Models of one family with random weights, the shape of their inputs, and how many samples an audit takes."""

    title: str
    builder: str
    kwargs: dict[str, object]
    shape: tuple[int, ...]
    samples: int


TINY = Zoo("tiny", "mlp", {"inputs": 4, "hidden": [8], "outputs": 3}, (4,), 16)
WIDE = {"inputs": 64, "hidden": [128, 128], "outputs": 10}
ZOOS = (
    Zoo("MLP 30-32-32-2", "mlp", {"inputs": 30, "hidden": [32, 32], "outputs": 2}, (30,), 256),
    Zoo("MLP 64-128-128-10", "mlp", WIDE, (64,), 64),
    Zoo("CNN of 26,000 parameters", "cnn", {"channels": 1, "outputs": 10}, (1, 28, 28), 64),
    Zoo("MLP 64-128-128-10", "mlp", WIDE, (64,), 256),
)
FIGURES = "SELECT path, key, outcome, figures FROM models JOIN audits USING (key) ORDER BY path"


def make(folder: Path, count: int, zoo: Zoo) -> Path:
    """`count` models and their probe set."""
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(max(40, zoo.samples), *zoo.shape)).astype(np.float32)
    np.savez(folder / "probe.npz", x=x, y=np.arange(len(x)) % zoo.kwargs["outputs"])
    spec = {
        "model": {"builder": zoo.builder, "kwargs": zoo.kwargs},
        "data": {"path": "probe.npz"},
        "sample": {"n": zoo.samples},
    }
    (folder / "audit.yaml").write_text(json.dumps(spec), encoding="utf-8")
    for seed in range(count):
        torch.manual_seed(seed)
        torch.save(FAMILIES[zoo.builder](**zoo.kwargs).state_dict(), folder / f"model-{seed:03}.pt")
    return folder


def start(folder: Path, ledger: Path, jobs: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "spectral_audit",
        "batch",
        str(folder),
        "--ledger",
        str(ledger),
        "--jobs",
        str(jobs),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, ledger: Path, jobs: int) -> tuple[str, float]:
    """The table of a run to its end, and its seconds."""
    began = time.perf_counter()
    process = start(folder, ledger, jobs)
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"batch ended with {process.returncode}:\n{err}")
    return out, time.perf_counter() - began


def rows(ledger: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(ledger) as connection:
        return connection.execute(query).fetchall()


def finished(ledger: Path) -> int:
    """Models in the ledger, asked from outside while a batch may be writing."""
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM models").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def kills(work: Path, models: int, count: int) -> list[str]:
    folder = make(work / "zoo", models, TINY)
    calm, _ = finish(folder, work / "calm.db", 2)
    generator = random.Random(0)
    ledger, found = work / "killed.db", []
    for number, moment in enumerate(sorted(generator.sample(range(1, models), count))):
        process = start(folder, ledger, 2)
        while finished(ledger) < moment and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found.append(str(finished(ledger)))
        print(f"\rkill {number + 1}/{count}: {found[-1]} finished", end="", file=sys.stderr)
    end, _ = finish(folder, ledger, 2)
    once = rows(ledger, "SELECT count(*), count(DISTINCT path), count(DISTINCT key) FROM models") == [(models,) * 3]
    facts = {
        f"every one of {models} models exactly once": once,
        "integrity check": rows(ledger, "PRAGMA integrity_check") == [("ok",)],
        "figures equal to those of an undisturbed run": rows(ledger, FIGURES) == rows(work / "calm.db", FIGURES),
        "printed table equal to that of an undisturbed run": end == calm,
    }
    lines = [f"SIGKILL at {count} random moments of the work; models finished after each: {', '.join(found)}.", ""]
    return lines + [f"- {name}: {'yes' if held else 'NO'}" for name, held in facts.items()]


def workers(work: Path, rounds: int) -> list[str]:
    """One process with all cores against two with half of them each, on zoos of four kinds.

    A process takes some seconds to load torch: what a batch of one model takes is subtracted in the last column.
    """
    lines = [
        "| models | samples | one model | one worker | two workers | faster | without the start |",
        "|---|---|---|---|---|---|---|",
    ]
    for k, zoo in enumerate(ZOOS):
        folder = make(work / f"twenty-{k}", 20, zoo)
        seconds: dict[str, list[float]] = {"start": [], "one": [], "two": []}
        for number in range(rounds):
            for name, target, jobs in (("start", folder / "model-000.pt", 1), ("one", folder, 1), ("two", folder, 2)):
                seconds[name].append(finish(target, work / f"speed-{k}-{number}-{name}.db", jobs)[1])
                print(f"{zoo.title}, {zoo.samples} samples, {name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
        start, one, two = (statistics.median(seconds[name]) for name in ("start", "one", "two"))
        ratios = f"{one / two:.2f} | {(one - start) / max(two - start, 1e-9):.2f}"
        lines.append(f"| {zoo.title} | {zoo.samples} | {start:.1f} s | {one:.1f} s | {two:.1f} s | {ratios} |")
    again = finish(folder, work / f"speed-{k}-0-one.db", 2)[1]
    return [
        f"20 models each; medians of {rounds} alternating rounds. One worker has all {os.cpu_count()} cores for its",
        "threads, two have half of them each: a second one gains most where threads help one audit least. One model is",
        f"what a batch of it alone takes, most of it loading torch. A run with nothing changed: {again:.2f} s.",
        "",
        *lines,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    lines = ["# Batches", "", "`make batch-study` makes this page.", ""]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.kills:
            lines += ["## Killed and restarted", "", *kills(work, options.models, options.kills), ""]
        if options.rounds:
            lines += ["## Workers", "", *workers(work, options.rounds), ""]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
