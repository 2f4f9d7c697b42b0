"""The verdict as SARIF 2.1.0: what did not pass, as results at the model's file."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from spectral_audit import __version__
from spectral_audit.gate.verdict import Judgement, Verdict
from spectral_audit.reports.verdict import phrases

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warn": "warning", "off": "none"}
_KINDS = {"pass": "pass", "fail": "fail", "inconclusive": "review", "off": "notApplicable"}


def to_sarif(verdict: Verdict) -> str:
    """SARIF 2.1.0 with one rule and one result for each rule of the gate; `kind` tells what passed from what failed."""
    rules = [
        {
            "id": judgement.rule,
            "shortDescription": {"text": f"{phrases.subject(judgement)} {phrases.limit(judgement)}"},
            "defaultConfiguration": {"level": _LEVELS[judgement.level], "enabled": judgement.level != "off"},
        }
        for judgement in verdict.judgements
    ]
    driver = {"name": "spectral-audit", "version": __version__, "rules": rules}
    results = [_result(verdict, index, judgement) for index, judgement in enumerate(verdict.judgements)]
    run = {
        "tool": {"driver": driver},
        "results": results,
        "invocations": [{"executionSuccessful": True, "exitCode": verdict.exit_code}],
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _result(verdict: Verdict, index: int, judgement: Judgement) -> dict[str, Any]:
    interval = phrases.span(judgement)
    found = f"found {phrases.found(judgement)}{f' ({phrases.level(verdict)} {interval})' if interval else ''}"
    failed = judgement.outcome == "fail"
    return {
        "ruleId": judgement.rule,
        "ruleIndex": index,
        # The standard has levels for failures only.
        "level": _LEVELS[judgement.level] if failed else "none",
        "kind": _KINDS[judgement.outcome],
        "message": {"text": f"{judgement.rule}: {phrases.outcome(judgement)}; {found}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(verdict.model)}}}],
        "partialFingerprints": {"rule/v1": f"{judgement.path}:{judgement.kind}:{judgement.operator}"},
    }


def _uri(path: str) -> str:
    return quote(PurePath(path).as_posix(), safe="/:", errors="surrogatepass")
