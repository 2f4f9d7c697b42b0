"""Shared by the tests of whole commands: the command line in this process and in its own, and a small case to spoil."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from spectral_audit.cli import app

ROOT = Path(__file__).parents[1]
# They would colour what is printed, or print tracebacks.
LOUD = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "SPECTRAL_AUDIT_DEBUG")


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def quiet():
    with pytest.MonkeyPatch.context() as patch:
        for name in LOUD:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def cli(quiet) -> Callable[..., Ran]:
    """Run a command in this process, which has torch already."""

    def run(*args: object) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            app([str(arg) for arg in args], prog_name="spectral-audit")
        return Ran(ended.value.code or 0, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def spawn(quiet) -> Callable[..., subprocess.Popen]:
    """Start `python ARGS` in the repository, in a process group of its own, with pipes for its output."""
    # A shell's background jobs ignore interrupts, and so would what they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*args: object, **options: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *map(str, args)],
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            **options,
        )

    return start


@pytest.fixture(scope="session")
def process(spawn) -> Callable[..., Ran]:
    """Run a command in its own process, and wait for it."""

    def run(*args: object) -> Ran:
        with spawn("-m", "spectral_audit", *args) as started:
            out, err = started.communicate(timeout=120)
        return Ran(started.returncode, out, err)

    return run


class Case:
    """A folder with a small classifier, 30 samples for it and its spec: everything fits until a test spoils it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.pt"
        self.data = folder / "probe.npz"
        self.spec = folder / "model.audit.yaml"
        self.net = folder / "net.py"
        generator = np.random.default_rng(0)
        self.keys: dict[str, dict[str, object]] = {
            "model": {"builder": "mlp", "kwargs": {"inputs": 4, "hidden": [5], "outputs": 3}},
            "data": {"path": self.data.name},
        }
        self.x = generator.normal(size=(30, 4)).astype(np.float32)
        self.y = generator.integers(0, 3, 30)
        torch.manual_seed(1)
        self.state = {
            "linear1.weight": torch.randn(5, 4),
            "linear1.bias": torch.randn(5),
            "head.weight": torch.randn(3, 5),
            "head.bias": torch.randn(3),
        }
        self.save()

    def save(self) -> None:
        """Write the weights, the data and the spec as they are now."""
        torch.save(self.state, self.model)
        np.savez(self.data, x=self.x, y=self.y)
        self.spec.write_text(yaml.safe_dump(self.keys, sort_keys=False), encoding="utf-8")

    def built_by(self, code: str, state: dict[str, torch.Tensor]) -> list[str]:
        """Have a Python file build the model, for these weights; return the arguments that name it."""
        self.net.write_text(code, encoding="utf-8")
        self.state = state
        self.keys.pop("model", None)
        self.save()
        return ["--arch", f"{self.net}:build"]


@pytest.fixture
def case(tmp_path) -> Case:
    folder = tmp_path / "case"
    folder.mkdir()
    return Case(folder)
