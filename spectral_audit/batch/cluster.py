"""The same audits on a Ray cluster: Ray places the tasks, and runs those again whose worker or node died.

Every node needs spectral-audit in this version, and the files under the same paths.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectral_audit import __version__
from spectral_audit.batch.jobs import Job
from spectral_audit.batch.ledger import Entry
from spectral_audit.batch.work import thread_variables
from spectral_audit.errors import UsageError

# How often Ray runs a task again whose process died: a model that takes its process down does so each time.
_RETRIES = 2
# Seconds between looks at what has started and what is late.
_LOOK = 0.2


class RayCluster:
    """Runs jobs on the cluster at `address`, on what RAY_ADDRESS names, or on one of this machine's own.

    `jobs` at a time share the processors of the cluster; one for two of them by default, one for each GPU where there
    are any. Raises UsageError where Ray is missing or the cluster cannot be reached.
    """

    def __init__(self, address: str | None, jobs: int | None, timeout: float | None, *, device: str = "auto") -> None:
        self._ray = _connected(address)
        self._timeout = timeout
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cores = [int(node.get("CPU", 0)) for node in nodes]
        gpus = 0 if device == "cpu" else int(sum(node.get("GPU", 0) for node in nodes))
        wanted = jobs or gpus or max(1, sum(cores) // 2)
        # A task runs on one node.
        self.threads = max(1, min(sum(cores) // wanted, max(cores, default=1)))
        self.workers = min(wanted, max(1, sum(count // self.threads for count in cores)))
        self.per_machine = max(1, min(self.workers, max(cores, default=1) // self.threads))
        self._gpus = min(1, gpus)

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Entry | None], None, None]:
        """Every job twice: with `None` when it starts, with its entry when it ends; to close it ends them all."""
        from ray.util.queue import Queue

        started = Queue(actor_options={"num_cpus": 0})
        environment = {"env_vars": thread_variables(self.threads)}
        task = self._ray.remote(_audit_one).options(
            num_cpus=self.threads, num_gpus=self._gpus, max_retries=_RETRIES, runtime_env=environment
        )
        pending = {task.remote(index, asdict(job), str(Path.cwd()), __version__, started): index
                   for index, job in enumerate(jobs)}  # fmt: skip
        since: dict[int, float] = {}
        with ExitStack() as ending:
            # Ray tells of lost workers on standard output, where the table belongs.
            ending.enter_context(redirect_stdout(sys.stderr))
            ending.callback(self._ray.shutdown)
            ending.callback(self._cancel, pending)
            while pending:
                done, _ = self._ray.wait(list(pending), timeout=_LOOK)
                for index in started.get_nowait_batch(started.qsize()):
                    if index not in since:
                        yield jobs[index], None
                    since[index] = time.monotonic()  # again, where it is run again
                late = [ref for ref, index in pending.items() if self._is_late(since.get(index))]
                for ref in dict.fromkeys([*done, *late]):
                    index = pending.pop(ref)
                    if index not in since:
                        yield jobs[index], None
                    yield jobs[index], self._entry(ref) if ref in done else self._too_late(ref)

    def _cancel(self, refs: Iterable[Any]) -> None:
        for ref in refs:
            self._ray.cancel(ref, force=True)

    def _is_late(self, began: float | None) -> bool:
        return self._timeout is not None and began is not None and time.monotonic() - began > self._timeout

    def _too_late(self, ref: Any) -> Entry:
        self._cancel([ref])
        seconds = self._timeout or 0.0
        return Entry("timeout", f"not finished after {seconds:g} s", seconds=seconds)

    def _entry(self, ref: Any) -> Entry:
        try:
            return Entry(**self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Entry("crashed", f"the worker process ended, {1 + _RETRIES} times: {first[:200]}")


def _audit_one(index: int, job: dict[str, Any], folder: str, version: str, started: Any) -> dict[str, Any]:
    """The audit of one job in a worker of the cluster, which has the working directory of the batch."""
    from spectral_audit.batch.worker import answer
    from spectral_audit.loading import load_engine

    if version != __version__:
        message = f"a node of the cluster has spectral-audit {__version__}, and this batch {version}"
        return {"outcome": "failed", "message": message}
    os.chdir(folder)
    load_engine()
    started.put(index)
    return answer(job)


def _connected(address: str | None) -> Any:
    """Ray, connected; it sends no usage statistics and starts no dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UsageError(
            "--engine ray needs another package",
            expected="ray",
            found="nothing of that name",
            remedy="run pip install 'spectral-audit[ray]', or leave out --engine",
        ) from None
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--engine ray: no cluster at {where}",
            expected="the address of a running cluster, such as 10.0.0.1:6379",
            found=" ".join(str(error).split())[:160],
            remedy="start it with `ray start --head`, or leave out --ray-address for one of this machine's own",
        ) from None
    return ray
