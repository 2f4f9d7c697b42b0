"""Mutated checkpoints and specs: does every one end in an exit code, or is there a traceback, a hang, a flood?

    python studies/fuzz.py [--cases 20000] [--seed 0] [--workers 2] [--output docs/fuzzing.md]

Files of every format, written by the libraries whose formats they are, are changed at random: bytes flipped, cut,
moved; records of archives swapped, dropped or changed under a correct checksum; headers, tables, graphs and specs
edited as the trees they are. Each is inspected and scored by the command line in a worker process, with a limit on time
and memory. Case k depends on the seed and k alone. Scoring ends after one pass through the model, except in every
20th case, where the whole measurement runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import spectral_audit.audit
from spectral_audit.admission import make_subject
from spectral_audit.cli import app
from spectral_audit.errors import InconclusiveError
from spectral_audit.measure import measure
from spectral_audit.memory import peak_memory
from studies.mutations import mutate, mutate_spec
from tests.inputs.saved import ROWS, SHAPE, model

ALLOWED = (0, 2, 3, 4)
SECONDS = 60.0
MEMORY = 2 << 30
WHOLE = 20
FORMATS = tuple(name for name, row in ROWS.items() if row.trust != "pickle")


@dataclass
class Tally:
    """How the cases ended, by kind of file, and the ones that should not have ended so."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    peak: int = 0
    slowest: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How one case ended: the codes of `inspect` and `score`, the last words, the peak memory and the seconds."""

    codes: tuple[str, ...]
    said: str
    peak: int
    seconds: float


def originals(folder: Path) -> dict[str, Path]:
    """One file or directory for each format, and the checkpoint that mutated specs are about."""
    found = {}
    for k, name in enumerate(FORMATS):
        (folder / str(k)).mkdir(parents=True)
        found[name] = ROWS[name].write(folder / str(k), model())
    (folder / "spec").mkdir()
    state = {"conv.weight": torch.randn(2, 1, 3, 3), "conv.bias": torch.zeros(2)}
    torch.save({**state, "head.weight": torch.randn(3, 8), "head.bias": torch.zeros(3)}, folder / "spec" / "model.pt")
    found["audit.yaml"] = folder / "spec" / "model.pt"
    rng = np.random.default_rng(0)
    np.savez(folder / "probe.npz", x=rng.normal(size=(6, *SHAPE)).astype(np.float32), y=np.arange(6) % 3)
    (folder / "net.py").write_text(
        "from tests.inputs.saved import model\n\ndef build():\n    return model()\n", encoding="utf-8"
    )
    return found


def run_case(seed: int, k: int, files: dict[str, Path], shared: Path) -> Ended:
    """Mutate one file, inspect and score it in this process, and say how that ended."""
    rng = random.Random(f"{seed}/{k}")
    kind = rng.choice([*FORMATS, "audit.yaml", "audit.yaml"])
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(shared / "probe.npz", folder / "probe.npz")
        source = files[kind]
        shutil.copytree(source.parent if source.is_file() else source, folder / "case")
        path = folder / "case" / source.name if source.is_file() else folder / "case"
        spec = folder / "audit.yaml"
        spec.write_text("data: {path: probe.npz}\n", encoding="utf-8")
        if kind == "audit.yaml":
            spec.write_bytes(mutate_spec(rng))
        else:
            targets = sorted(p for p in (folder / "case").rglob("*") if p.is_file())
            target = rng.choice(targets) if source.is_dir() or len(targets) > 2 else path
            target.write_bytes(mutate(rng, target.read_bytes()))
        trust = rng.choice(["none", "code", "code"])
        arch = [] if kind == "audit.yaml" or ROWS[kind].brings else ["--arch", f"{shared / 'net.py'}:build"]
        arguments = ["--spec", spec, "--trust", trust, "-f", "json", *arch]
        inspected, said = command("inspect", path)
        scored, words = command("score", path, *arguments, whole=k % WHOLE == 0)
    return Ended((kind, inspected, scored), f"{said}\n{words}", peak_memory(), time.perf_counter() - started)


def command(*arguments: object, whole: bool = False) -> tuple[str, str]:
    """The exit code of a command as text, or the name of what escaped, and what it said to standard error."""
    out, err = io.StringIO(), io.StringIO()
    spectral_audit.audit.measure = measure if whole else _one_pass
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app([str(argument) for argument in arguments], prog_name="spectral-audit")
            code = "no exit"
        except SystemExit as ended:
            code = str(int(ended.code or 0))
        except BaseException as error:  # noqa: BLE001 (whatever escapes is what is looked for)
            code = type(error).__name__
    return code, err.getvalue()


def _one_pass(model: Any, x: Any, y: Any, *, loss: Any, settings: Any, progress: Any) -> Any:
    """In place of the measurement: the model runs on the data, and that is all."""
    make_subject(model, x, y, loss=loss, chunk=settings.chunk, memory=settings.memory)
    raise InconclusiveError("not measured")


# --- the campaign --------------------------------------------------------------------------------------------------


def campaign(cases: range, seed: int, workers: int, show: Callable[[Tally, int], None] | None = None) -> Tally:
    """Run the cases in worker processes; one that hangs or dies is replaced, and its case is a failure."""
    tally, done = Tally(), 0
    with tempfile.TemporaryDirectory() as name:
        shared = Path(name)
        files = originals(shared)
        todo = iter(cases)
        pool = [_Worker(seed, files, shared) for _ in range(workers)]
        busy = [worker for worker in pool if worker.give(next(todo, None))]
        while busy:
            for worker in list(busy):
                ended = worker.collect()
                if ended is None:
                    continue
                _count(tally, worker.case, ended)
                done += 1
                if show and done % 500 == 0:
                    show(tally, done)
                if not worker.give(next(todo, None)):
                    busy.remove(worker)
        for worker in pool:
            worker.stop()
    return tally


def _count(tally: Tally, case: int, ended: Ended) -> None:
    kind, *codes = ended.codes
    tally.counts.setdefault(kind, Counter()).update([codes[-1]])
    tally.peak, tally.slowest = max(tally.peak, ended.peak), max(tally.slowest, ended.seconds)
    bad = [code for code in codes if code not in map(str, ALLOWED)]
    if bad or "Traceback" in ended.said or ended.peak > MEMORY:
        what = ", ".join(bad) or ("memory" if ended.peak > MEMORY else "traceback")
        tally.failures.append(f"case {case} ({kind}): {what}: {' '.join(ended.said.split())[:300]}")


class _Worker:
    """A process that runs cases one by one."""

    def __init__(self, seed: int, files: dict[str, Path], shared: Path) -> None:
        self.arguments = (seed, files, shared)
        self.case = -1
        self._start()

    def _start(self) -> None:
        # Not forked: a copy of a process whose libraries run threads may wait for them for ever.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, case: int | None) -> bool:
        if case is None:
            return False
        self.case, self.used, self.looked = case, self._seconds(), time.monotonic()
        self.pipe.send(case)
        return True

    def collect(self) -> Ended | None:
        """The result of the case, once it is there, or what became of the process; `None` while it goes on."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            if self.pipe.poll(0.02):
                found: Ended = self.pipe.recv()
                return found
            # A process that was paused has not hung: what counts is the time it computed.
            if self._seconds() - self.used < SECONDS and time.monotonic() - self.looked < 30 * SECONDS:
                return None
        what = "hang" if self.process.is_alive() else f"died with code {self.process.exitcode}"
        self.stop()
        self._start()
        return Ended(("unknown", what, what), what, 0, SECONDS)

    def _seconds(self) -> float:
        """The processor time that the process has used."""
        try:
            used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            return 0.0
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, seed: int, files: dict[str, Path], shared: Path) -> None:
    torch.set_num_threads(1)
    # Address space beyond what is mapped now: what is asked for and never touched must not pass unseen either.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    while True:
        pipe.send(run_case(seed, pipe.recv(), files, shared))


def report(tally: Tally, cases: int, seed: int) -> str:
    """The tally as Markdown."""
    names = {"0": "0 scored", "2": "2 usage", "3": "3 refused", "4": "4 not measured"}
    others = sorted({code for counts in tally.counts.values() for code in counts} - names.keys())
    columns = [*names, *others]
    lines = [
        "# Fuzzing",
        "",
        f"`make fuzz` ({cases:,} cases, seed {seed}): mutated checkpoints and specs, inspected and scored by the",
        "command line. Scoring ends after one pass through the model (exit code 4 here), except in every 20th case.",
        "",
        "| file | " + " | ".join(names.get(code, code) for code in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for kind, counts in sorted(tally.counts.items()):
        lines.append(f"| {kind} | " + " | ".join(f"{counts[code]:,}" for code in columns) + " |")
    total = sum(tally.counts.values(), Counter())
    lines.append("| all | " + " | ".join(f"{total[code]:,}" for code in columns) + " |")
    lines += ["", f"Peak memory of a worker {tally.peak / 2**20:.0f} MiB; slowest case {tally.slowest:.1f} s.", ""]
    limits = f"a traceback, over {SECONDS:.0f} s of processor time or 2 GiB"
    lines.append(f"Failures (another exit code, {limits}): {len(tally.failures)}.")
    lines += [f"- {failure}" for failure in tally.failures[:50]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first case, to run one again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    def show(tally: Tally, done: int) -> None:
        if options.output:
            options.output.write_text(report(tally, done, options.seed), encoding="utf-8")
        sys.stderr.write(f"{done} cases, {len(tally.failures)} failures\n")

    tally = campaign(range(options.first, options.first + options.cases), options.seed, options.workers, show)
    show(tally, options.cases)
    sys.stdout.write(report(tally, options.cases, options.seed))
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
