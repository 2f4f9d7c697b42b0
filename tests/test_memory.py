"""The memory budget: what is asked for, what the machine says, what fits, and halving."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spectral_audit import memory
from spectral_audit.errors import UsageError
from spectral_audit.memory import (
    free_memory,
    halving,
    memory_budget,
    out_of_memory,
    samples_within,
    vectors_within,
)


@pytest.mark.parametrize(
    ("text", "budget"),
    [("8GB", 8e9), ("500MiB", 500 * 2**20), ("1.5 gb", 1.5e9), ("64k b", None), ("2048B", 2048), (".5", 5000),
     ("1", 10000), ("0.25", 2500), (None, 6000), ("0", None), ("0GB", None), ("8", None), ("-1GB", None),
     ("GB", None), ("nan", None), ("1e3", None), ("8 elephants", None), ("", None), ("1.5", None)],
)  # fmt: skip
def test_sizes_and_shares_and_nonsense(text: str | None, budget: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 10_000)
    if budget is not None:
        assert memory_budget(text, "cpu") == budget
        return
    with pytest.raises(UsageError) as refused:
        memory_budget(text, "cpu")
    assert refused.value.expected and refused.value.remedy and refused.value.message.startswith("--memory")


def test_a_number_without_a_unit_is_told_which_is_missing() -> None:
    with pytest.raises(UsageError, match="write 8GB"):
        memory_budget("8", "cpu")


def test_this_machine_has_some_memory_free() -> None:
    assert 2**20 < free_memory("cpu") < 2**50


def test_the_tightest_of_what_is_known_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_system_free", lambda: [700])
    monkeypatch.setattr(memory, "_control_group_free", lambda: [900, 300])
    assert free_memory("cpu") == 300
    monkeypatch.setattr(memory, "_control_group_free", list)
    assert free_memory("cpu") == 700
    monkeypatch.setattr(memory, "_system_free", list)
    assert free_memory("cpu") == memory._FALLBACK


def test_meminfo_or_pages(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  99 kB\nMemAvailable:   16 kB\n")
    assert list(memory._system_free(meminfo)) == [16 * 1024]
    assert all(2**20 < pages < 2**50 for pages in memory._system_free(tmp_path / "none"))


def group(folder: Path, names: tuple[str, str], limit: str, used: int, stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(stat)


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    own, names = tmp_path / "own", ("memory.max", "memory.current")
    own.write_text("0::/outer/inner\n")
    group(tmp_path / "outer" / "inner", names, "max", 10, "anon 1\ninactive_file 5\n")
    group(tmp_path / "outer", names, "1000", 600, "inactive_file 100\n")
    assert list(memory._control_group_free(tmp_path, own)) == [500]
    own.write_text("0::/elsewhere/in/the/host\n")
    group(tmp_path, names, "800", 900, "inactive_file 1\n")
    assert list(memory._control_group_free(tmp_path, own)) == [0]


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    own, names = tmp_path / "own", ("memory.limit_in_bytes", "memory.usage_in_bytes")
    own.write_text("9:name=systemd:/\n8:cpu,memory:/box\n0::/\n")
    group(tmp_path / "memory" / "box", names, "1000", 600, "inactive_file 7\ntotal_inactive_file 100\n")
    assert list(memory._control_group_free(tmp_path, own)) == [500]
    assert list(memory._control_group_free(tmp_path, tmp_path / "none")) == []


def test_what_fits() -> None:
    assert (samples_within(100, 30), samples_within(10, 30), samples_within(10, 0)) == (3, 1, 10)
    assert (vectors_within(100, 5, 4), vectors_within(10, 5, 4)) == (5, 0)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_mean_too_little_memory(error: Exception, short: bool) -> None:
    assert out_of_memory(error) is short


def test_halving_goes_on_until_it_fits_or_nothing_is_left() -> None:
    tried: list[int] = []

    def above(limit: int, error: Exception) -> object:
        def work(chunk: int) -> int:
            tried.append(chunk)
            if chunk > limit:
                raise error
            return 10 * chunk

        return halving(13, work)

    assert above(4, MemoryError()) == (30, 3)
    assert tried == [13, 6, 3]
    with pytest.raises(MemoryError):
        above(0, MemoryError())
    assert tried[3:] == [13, 6, 3, 1]
    with pytest.raises(RuntimeError, match="shapes"):
        above(4, RuntimeError("shapes differ"))
    assert tried[7:] == [13]


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited and read as on Linux")
def test_a_real_shortage_is_recognised_and_what_was_held_is_given_back() -> None:
    """64 tensors of 40 MiB do not fit into 560 MiB of address space; 8 do, once the others are gone."""
    code = """
import resource, torch
from spectral_audit.memory import halving
torch.ones(10).sum()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 560 * 2**20, resource.RLIM_INFINITY))
print(halving(64, lambda chunk: len([torch.ones(10 * 2**20) for _ in range(chunk)])))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "(8, 8)", ran.stderr


def test_the_peak_is_that_of_this_process_and_not_of_who_started_it(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t     700 kB\nVmRSS:\t 600 kB\n")
    assert memory.peak_memory(tmp_path / "status") == 700 * 1024
    held = torch.ones(2**26)  # 256 MiB
    assert memory.peak_memory() > held.nbytes
    code = "from spectral_audit import memory; print(memory.peak_memory())"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    if sys.platform == "linux":
        assert int(started) < memory.peak_memory()
    assert memory.peak_memory(tmp_path / "nothing") > held.nbytes


FAULTS = """
import resource, torch
from spectral_audit.memory import keep_freed_memory
keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(2**24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


GIVEN_BACK = """
import re
from pathlib import Path
import torch
from spectral_audit.memory import give_back_freed_memory, keep_freed_memory
keep_freed_memory()
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
blocks = [torch.ones(2**22) for _ in range(64)]
held = resident()
last = blocks[-1]
del blocks
kept = resident()
give_back_freed_memory()
print(held, kept, resident())
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_what_was_kept_is_given_back_between_stages() -> None:
    said = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True).stdout
    held, kept, left = map(int, said.split())
    assert held - kept < 100  # of 1,024 MiB
    assert kept - left > 900


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="a setting of glibc's")
def test_freed_memory_is_used_again() -> None:
    said = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    # Mapped anew, twenty tensors of 64 MiB take 16,384 pages of 4 KiB each.
    assert int(said) < 16_384
