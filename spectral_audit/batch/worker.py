"""A worker process: jobs in, one JSON line each; results out, one JSON line each. It alone imports torch."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from spectral_audit.errors import AuditError
from spectral_audit.loading import load_engine


def serve() -> None:
    """Audit what comes in on standard input until it ends; whatever the models print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch decides what an interrupt means
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    load_engine()  # not part of any model's time
    try:
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
            answers.flush()
    except BrokenPipeError:
        return  # the batch is gone


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The fields of the entry of one job."""
    started = time.perf_counter()
    try:
        found = _audited(job)
    except AuditError as error:
        found = {"outcome": "failed", "message": str(error)}
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 — one model's defect must not end the others
        summary = " ".join(str(error).split())[:300]
        found = {"outcome": "failed", "message": f"internal error: {type(error).__name__}: {summary}"}
    return {**found, "seconds": time.perf_counter() - started}


def _audited(job: dict[str, Any]) -> dict[str, Any]:
    from spectral_audit.audit import audit
    from spectral_audit.batch.figures import figures_of
    from spectral_audit.opening import Request
    from spectral_audit.reports.artifact import to_json

    path, spec, methods = job.pop("path"), job.pop("spec"), tuple(job.pop("attribution"))
    report = audit(Request(Path(path), Path(spec) if spec else None, attribution=methods, **job))
    return {"outcome": "ok", "figures": figures_of(report), "report": to_json(report)}


if __name__ == "__main__":
    serve()
