"""A batch: jobs become entries of a ledger; what is there already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spectral_audit.batch.jobs import Job
from spectral_audit.batch.key import Hashes, key_of
from spectral_audit.batch.ledger import Entry, Ledger
from spectral_audit.batch.work import Engine

# Told about a job when it starts (without an entry) and when it ends.
Report = Callable[[Job, Entry | None], None]


@dataclass(frozen=True)
class Plan:
    """What there is to do: the jobs in order, their keys, and those whose results are missing."""

    jobs: tuple[Job, ...]
    keys: dict[str, str]
    missing: tuple[Job, ...]


def plan(jobs: Sequence[Job], ledger: Ledger, *, retry_failed: bool = False) -> Plan:
    """Compare jobs with the ledger; contents that several paths share are audited once."""
    hashes = Hashes()
    keys = {job.path: key_of(job, hashes) for job in jobs}
    outcomes = ledger.outcomes()
    done = {key for key, outcome in outcomes.items() if outcome == "ok" or not retry_failed}
    missing: dict[str, Job] = {}
    for job in jobs:
        if keys[job.path] not in done:
            missing.setdefault(keys[job.path], job)
    return Plan(tuple(jobs), keys, tuple(missing.values()))


def run(found: Plan, ledger: Ledger, engine: Engine, report: Report) -> None:
    """Audit what is missing, one transaction for each finished model.

    An interrupt ends the workers and passes on; what was finished is in the ledger. Raises UsageError when the ledger
    cannot be written.
    """
    # Models whose results are there already count from now on, also where this run does not get far.
    missing = {found.keys[job.path] for job in found.missing}
    ledger.link({path: key for path, key in found.keys.items() if key not in missing})
    # Every worker would take 60 % of the free memory; those of one machine do together.
    share = f"{0.6 / engine.per_machine:.3f}"
    asked = [job if job.memory else replace(job, memory=share) for job in found.missing]
    results = engine.run(asked)
    try:
        for job, entry in results:
            if entry is not None:
                key = found.keys[job.path]
                ledger.record(job.path, key, entry)
                ledger.link({path: own for path, own in found.keys.items() if own == key})
            report(job, entry)
    finally:
        results.close()  # ends the workers
