"""Every command that audits a checkpoint takes the same options, and a batch keeps them all."""

import inspect
from dataclasses import fields

import pytest

from spectral_audit.batch.jobs import Job
from spectral_audit.cli.baseline import update
from spectral_audit.cli.batch import batch
from spectral_audit.cli.compare import compare
from spectral_audit.cli.gate import gate
from spectral_audit.cli.options import AuditOptions
from spectral_audit.cli.score import score
from spectral_audit.opening import Request

SHARED = {entry.name for entry in fields(AuditOptions)}


@pytest.mark.parametrize("command", [score, gate, compare, batch, update])
def test_a_command_that_audits_takes_every_option_of_an_audit(command):
    taken = inspect.signature(command).parameters
    assert taken.keys() >= SHARED
    assert "options" not in taken


def test_a_request_and_a_job_hold_what_the_options_say():
    assert {entry.name for entry in fields(Request)} == SHARED | {"checkpoint"}
    assert {entry.name for entry in fields(Job)} == SHARED | {"path"}


def test_settings_are_plain_values():
    chosen = AuditOptions(arch_kwargs=["width=64", "act=gelu"], attribution=["smoothgrad"]).settings()
    assert chosen["arch_kwargs"] == {"width": 64, "act": "gelu"}
    assert (chosen["attribution"], chosen["trust"], chosen["regime"]) == (("smoothgrad",), "none", "auto")
