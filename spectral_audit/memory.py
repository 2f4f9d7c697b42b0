"""How much memory an audit may use, what fits into it, and what to do when it runs out.

The only module that asks the machine. The rest are pure functions of a budget in bytes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from .errors import UsageError

# Of what is free: the rest is for torch's own caches, and for whoever else is on the machine.
DEFAULT_SHARE = 0.6
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# Assumed free where the machine does not say.
_FALLBACK = 4 * 2**30

# glibc's mallopt: from which size a block gets a mapping of its own, how much may stay free at the end of the heap,
# and by how much the heap grows; the values are C ints. Older versions take no larger blocks than the last.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_LARGE_BLOCKS = (2**27, 2**25)
_MOST = 2**31 - 1

_Result = TypeVar("_Result")


def memory_budget(asked: str | None, device: str) -> int:
    """Bytes an audit on `device` may use: a size such as 8GB or 500MiB, or a fraction (0.5) of what is free there.

    Raises `UsageError` for anything else.
    """
    text = str(DEFAULT_SHARE) if asked is None else asked.strip()
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(?:([KMGT]I?)?B)?", text.upper())
    number = float(found[1]) if found else 0.0
    has_unit = text.upper().endswith("B")
    budget = number * _UNITS[found[2] or ""] if found and has_unit else number * free_memory(device)
    if budget < 1 or (number > 1 and not has_unit):
        raise UsageError(
            f"--memory {text!r}: not an amount of memory",
            expected="a size with its unit, as in 8GB or 500MiB, or a fraction of what is free from 0 to 1",
            found=text or "nothing",
            remedy=f"write {text}GB" if number > 1 else "leave it out to use 60 % of what is free",
        )
    return int(budget)


def free_memory(device: str) -> int:
    """Bytes free on `device`: what its driver says on CUDA; elsewhere what the system and our control group leave."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    known = [*_system_free(), *_control_group_free()]
    return min(known, default=_FALLBACK)


def peak_memory(status: Path = Path("/proc/self/status")) -> int:
    """The most bytes that this process has held at once.

    On Linux it is what the process itself held: the figure of `getrusage` begins with that of whoever started it.
    """
    found = _status("VmHWM", status)
    if found:
        return found
    # macOS counts bytes, others kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next allocation of this process, where it can.

    By default every large tensor is mapped anew from the system, page by page, and given back: on glibc this costs as
    much as the arithmetic of a backward pass. The largest blocks still are: between them, others would leave gaps that
    fit nothing.
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return
    any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGE_BLOCKS)
    mallopt(_TRIM_THRESHOLD, _MOST)
    mallopt(_TOP_PAD, 2**26)


def give_back_freed_memory(keep: int = 0) -> None:
    """Give the system what `keep_freed_memory` has kept so far, if this process holds more than `keep` bytes."""
    trim = _c_function("malloc_trim")
    if trim is not None and _status("VmRSS") > keep:
        trim(0)


def samples_within(memory: int, per_sample: int) -> int:
    """How many samples of `per_sample` bytes fit into `memory`; at least one."""
    return max(1, memory // max(1, per_sample))


def vectors_within(memory: int, entries: int, itemsize: int) -> int:
    """How many vectors of `entries` numbers fit into `memory`, as for a Lanczos basis; may be none."""
    return memory // max(1, entries * itemsize)


def out_of_memory(error: BaseException) -> bool:
    """True for every way in which torch and Python say that an allocation failed."""
    said = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and ("allocate memory" in said or "out of memory" in said)
    )


def halving(chunk: int, work: Callable[[int], _Result], *, least: int = 1) -> tuple[_Result, int]:
    """`work(chunk)`, tried again with half the chunk when memory runs out, and the chunk that went through.

    The error of chunk `least` is raised.
    """
    while True:
        try:
            return work(chunk), chunk
        except (RuntimeError, MemoryError) as error:
            if chunk <= least or not out_of_memory(error):
                raise
        # Only here, after the handler, are the frames of the failed attempt and their tensors gone.
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        chunk //= 2


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, where that is one that has it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return found


def _status(field: str, status: Path = Path("/proc/self/status")) -> int:
    """Bytes that Linux states for a process; 0 where it does not."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0


def _system_free(meminfo: Path = Path("/proc/meminfo")) -> Iterator[int]:
    """MemAvailable on Linux; elsewhere the free pages, or all of them where the system does not count these."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        yield int(found[1]) * 1024
        return
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        if pages in os.sysconf_names:
            yield os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
            return


def _control_group_free(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What the memory limits of our control group (v2 or v1) and of those around it leave."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if controllers == "":
            names, top = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), root / "memory"
        else:
            continue
        # In a container the path is that of the host, and the group itself is mounted at the top.
        here = top / path.lstrip("/")
        for group in (here, *here.parents):
            yield from _group_free(group, *names)
            if group == top:
                break


def _group_free(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Limit less usage, where files that are only cached do not count as used."""
    try:
        allowed, used = ((group / name).read_text(encoding="ascii").strip() for name in (limit, usage))
        statistics = (group / "memory.stat").read_text(encoding="ascii")
    except OSError:
        return
    cached = re.search(rf"^{cache} (\d+)$", statistics, re.MULTILINE)
    if allowed != "max":
        yield max(0, int(allowed) - int(used) + (int(cached[1]) if cached else 0))
