"""The verdict as JUnit XML: one test case for each rule, so that CI systems list and count them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from spectral_audit.gate.verdict import Judgement, Verdict
from spectral_audit.reports.verdict import phrases

# What XML 1.0 cannot hold even when escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(verdict: Verdict) -> str:
    """JUnit XML: failed rules are failures, inconclusive ones errors, warnings and rules that are off are skipped."""
    cases = [_case(verdict, judgement) for judgement in verdict.judgements]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
    }
    suites = ElementTree.Element("testsuites", {"name": "spectral-audit gate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _text(verdict.model), **counts})
    suite.extend(cases)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(verdict: Verdict, judgement: Judgement) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": _text(verdict.model), "name": _text(judgement.rule)})
    found = f"found {phrases.found(judgement)}"
    interval = phrases.span(judgement)
    detail = f"limit {phrases.limit(judgement)}, {found}{f' ({phrases.level(verdict)} {interval})' if interval else ''}"
    message = _text(f"{phrases.outcome(judgement)}; {detail}")
    tag = _tag(judgement)
    if tag:
        kind = {} if tag == "skipped" else {"type": judgement.kind}
        ElementTree.SubElement(case, tag, {"message": message, **kind})
    else:
        ElementTree.SubElement(case, "system-out").text = message
    return case


def _tag(judgement: Judgement) -> str:
    if judgement.outcome == "pass":
        return ""
    if judgement.level != "error":
        return "skipped"
    return "failure" if judgement.outcome == "fail" else "error"


def _text(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
