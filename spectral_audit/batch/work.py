"""Worker processes that audit one model at a time, each replaced when it dies or takes too long."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

from spectral_audit.batch.jobs import Job
from spectral_audit.batch.ledger import Entry

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Budget:
    """How many workers, how many threads and which device each, and how long one model may take, in seconds."""

    workers: int
    threads: int
    gpus: int = 0
    timeout: float | None = None

    @staticmethod
    def of(workers: int | None, timeout: float | None, *, device: str = "auto") -> Budget:
        """One worker for each GPU, else one for two cores; together they have as many threads as there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        gpus = 0 if device == "cpu" else count_gpus()
        chosen = workers or gpus or max(1, cores // 2)
        return Budget(chosen, max(1, cores // chosen), gpus, timeout)


def thread_variables(threads: int) -> dict[str, str]:
    """The environment of a worker of so many threads.

    They soon sleep where they wait for each other: with fewer cores free than threads, a small audit whose threads spin
    takes 36 s instead of 0.2 s, and on an idle machine one whose threads sleep at once takes twice as long.
    """
    return dict.fromkeys(_THREADS, str(threads)) | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000")}


def count_gpus() -> int:
    """How many NVIDIA devices this process may use, found out without torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


class Engine(Protocol):
    """Where audits run: `workers` of `threads` each at a time, at most `per_machine` of them on one machine."""

    workers: int
    threads: int
    per_machine: int

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Entry | None], None, None]:
        """Every job twice: with `None` when it starts, with its entry when it ends; to close it ends them all."""


class Pool:
    """Runs jobs; iterate over `run` for the results as they come, and `stop` to end every worker at once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.workers = self.per_machine = budget.workers
        self.threads = budget.threads
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._results: queue.Queue[tuple[Job, Entry | None]] = queue.Queue()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Entry | None], None, None]:
        """Every job twice: with `None` when it starts, with its entry when it ends."""
        for job in jobs:
            self._waiting.put(job)
        count = min(self._budget.workers, len(jobs))
        threads = [threading.Thread(target=self._work, args=(slot,), daemon=True) for slot in range(count)]
        for thread in threads:
            thread.start()
        left = len(jobs)
        try:
            while left:
                job, entry = self._results.get()
                left -= entry is not None
                yield job, entry
        finally:
            self.stop()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """End every worker; what they were at is dropped."""
        with self._lock:
            self._stopped = True
            for process in self._processes.values():
                process.kill()

    def _work(self, slot: int) -> None:
        process: subprocess.Popen[str] | None = None
        while not self._stopped:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            try:
                process = process if process is not None and process.poll() is None else self._start(slot)
            except OSError as error:
                self._results.put((job, Entry("crashed", f"no worker process could be started: {error.strerror}")))
                continue
            if process is None:
                return
            self._results.put((job, None))
            self._results.put((job, self._ask(process, job)))
        if process is not None:
            process.kill()
            process.wait()

    def _start(self, slot: int) -> subprocess.Popen[str] | None:
        """A new worker with its share of threads, and a device of its own where there are several."""
        environment = os.environ | thread_variables(self._budget.threads)
        if self._budget.gpus > 1:
            names = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(self._budget.gpus)))).split(",")
            environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)].strip()
        with self._lock:
            if self._stopped:
                return None
            process = self._processes[slot] = subprocess.Popen(
                [sys.executable, "-m", "spectral_audit.batch.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is for the batch alone
            )
        assert process.stdout is not None
        process.stdout.readline()  # it has loaded what it needs, or has died, which shows when it is asked
        return process

    def _ask(self, process: subprocess.Popen[str], job: Job) -> Entry:
        """One job to one worker; a worker that dies or is killed at the deadline becomes the entry's message."""
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def expire() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._budget.timeout, expire) if self._budget.timeout else None
        if timer:
            timer.start()
        line = ""
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if timer:
            timer.cancel()
        if line.endswith("\n"):
            return Entry(**json.loads(line))
        code = process.wait()
        if late.is_set():
            seconds = self._budget.timeout or 0.0
            return Entry("timeout", f"not finished after {seconds:g} s", seconds=seconds)
        how = f"signal {-code}, perhaps out of memory" if code < 0 else f"exit code {code}"
        return Entry("crashed", f"the worker process ended: {how}")
