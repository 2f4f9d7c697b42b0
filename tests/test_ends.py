"""How commands end that do not come to a report: interrupted, out of memory, unheard, or by a defect of our own."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

import spectral_audit.audit
from tests.commands import LINEAR

SAMPLES = Path(__file__).parents[1] / "sample_models"

SLOW = """
import time
from pathlib import Path
import torch
class build(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def forward(self, x):
        Path(__file__).with_name("started").touch()
        time.sleep(60)
        return super().forward(x)
"""


def test_an_interrupted_audit_says_so_and_leaves_nothing_behind(spawn, case, tmp_path):
    arguments = case.built_by(SLOW, LINEAR)
    out = tmp_path / "out"
    with spawn("-m", "spectral_audit", "score", case.model, "-o", out, "-f", "json", *arguments) as started:
        while not (case.folder / "started").exists():
            assert started.poll() is None, started.stderr.read()
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        printed, said = started.communicate(timeout=30)
    assert (started.returncode, printed, said) == (130, "", "interrupted\n")
    assert not out.exists()


def raising(error: BaseException):
    def audit(*args: object) -> None:
        raise error

    return audit


def test_an_internal_error_has_its_own_code_and_no_traceback(cli, case, tmp_path, monkeypatch):
    monkeypatch.setattr(spectral_audit.audit, "audit", raising(RuntimeError("a\nbroken   promise")))
    ran = cli("score", case.model, "-o", tmp_path / "out")
    assert (ran.code, ran.out) == (101, "")
    assert ran.err.startswith("internal error: RuntimeError: a broken promise\n")
    assert "Traceback" not in ran.err and "SPECTRAL_AUDIT_DEBUG=1" in ran.err
    assert not (tmp_path / "out").exists()


def test_an_internal_error_shows_its_traceback_when_asked(cli, case, monkeypatch):
    monkeypatch.setenv("SPECTRAL_AUDIT_DEBUG", "1")
    monkeypatch.setattr(spectral_audit.audit, "audit", raising(RuntimeError("a broken promise")))
    ran = cli("score", case.model)
    assert ran.code == 101
    assert "Traceback" in ran.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        RuntimeError("can't allocate memory: you tried"),
    ],
    ids=["python", "cuda", "cpu"],
)
def test_too_little_memory_is_no_defect(cli, case, monkeypatch, error):
    monkeypatch.setattr(spectral_audit.audit, "audit", raising(error))
    ran = cli("score", case.model)
    assert (ran.code, ran.out) == (3, "")
    assert "out of memory" in ran.err and "--chunk" in ran.err and "Traceback" not in ran.err


def test_a_reader_that_leaves_is_no_error(spawn):
    with spawn("-m", "spectral_audit", "inspect", SAMPLES / "cifar10_resnet.pt") as started:
        started.stdout.close()
        said = started.stderr.read()
    assert (started.returncode, said) == (0, "")
