"""A command run by several processes at once, as `torchrun` starts them: the first one speaks for all."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spectral_audit.cli.running import ending
from spectral_audit.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from spectral_audit.ranks import Ranks

# How long a process waits in an exchange for the others, who may have more samples or slower processors.
_PATIENCE = timedelta(hours=2)
# Seconds in which the first process may come to the same error by itself, and in which the others let it speak.
_GRACE, _HEARING = 2.0, 10.0


def together(command: Callable[[Ranks], None]) -> None:
    """Run a command with the processes that WORLD_SIZE counts, or alone.

    Whatever ends one of them ends all, with its message, told once, and its exit code: none is left waiting.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        from spectral_audit.loading import load_engine

        load_engine()

        from spectral_audit.ranks import ALONE

        command(ALONE)
        return
    rank, local = _number("RANK", 0), _number("LOCAL_WORLD_SIZE", size)
    if rank:
        # Not the descriptor: what a library says before it takes the process down goes on to standard error.
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 — open to the end
    if not os.environ.get("SPECTRAL_AUDIT_DEBUG"):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the first process says what has happened
    ranks, store = _join(rank, size, local)
    failures = _Failures(store, rank)
    threading.Thread(target=failures.watch, daemon=True).start()
    try:
        command(ranks)
        _part()
    except (typer.Exit, BrokenPipeError):
        raise  # the first process has said all there is to say, or nobody listens any more
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 — every way to end is told to the others
        message, code = ending(error)
        failures.end(message, code)
    finally:
        failures.over.set()


def _join(rank: int, size: int, local: int) -> tuple[Ranks, Any]:
    """The process group, over NCCL where every process has a GPU to itself, and a store to tell of failures."""
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from spectral_audit.ranks import Ranks

    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(_number("LOCAL_RANK", 0) % gpus)
    backend = "nccl" if gpus >= local else "gloo"
    try:
        met, _, _ = next(rendezvous("env://"))
        dist.init_process_group(backend, timeout=_PATIENCE, store=met, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the {size} processes of this audit do not find each other",
            expected="processes started by torchrun, or its variables MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE",
            found=" ".join(str(error).split())[:160],
            remedy="start them with torchrun, or unset WORLD_SIZE to audit in one process",
        ) from error
    sharing = -(-local // gpus) if gpus else local
    # A connection of its own: an exchange may wait on the other one.
    return Ranks(rank, size, sharing, "cuda" if backend == "nccl" else "cpu"), met.clone()


def _part() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()


class _Failures:
    """The first failure of any process, known to all through the store that they met at."""

    def __init__(self, store: Any, rank: int) -> None:
        self._store, self._rank = store, rank
        self._telling = threading.Lock()
        self.over = threading.Event()

    def end(self, message: str, code: ExitCode) -> None:
        """Say why this process ends, and end it."""
        self._put("failed", f"{self._rank} {int(code)} {message}")
        self._leave(message, code)

    def watch(self) -> None:
        """End this process when another one has failed, even if it waits in an exchange that never comes."""
        while not self.over.wait(0.2):
            try:
                if not self._store.check(["failed"]):
                    continue
                rank, code, message = self._store.get("failed").decode("utf-8", "replace").split(" ", 2)
            except RuntimeError:
                continue  # the store is gone, and so are the exchanges, which say so
            if not self.over.wait(_GRACE):
                self._leave(f"process {rank}: {message}", ExitCode(int(code)))

    def _leave(self, message: str, code: ExitCode) -> None:
        if self._rank == 0:
            self._telling.acquire()  # never released: one of the two threads speaks, and ends the process
            typer.echo(message, err=True)
            self._put("told", "")
        else:
            self._wait_until_told()
        sys.stderr.flush()
        os._exit(int(code))  # other threads may wait in an exchange

    def _wait_until_told(self) -> None:
        deadline = time.monotonic() + _HEARING
        while time.monotonic() < deadline:
            try:
                if self._store.check(["told"]):
                    return
            except RuntimeError:
                return
            time.sleep(0.1)

    def _put(self, key: str, value: str) -> None:
        try:
            if key == "told" or not self._store.check([key]):
                self._store.set(key, value)
        except RuntimeError:
            pass  # nobody is left to be told


def _number(name: str, default: int) -> int:
    """A whole number that the launcher put into the environment."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"{name}: not a number", expected="a whole number", found=text, remedy=f"unset {name}")
    return int(text)
