"""docs/benchmarks.md from the records of a build folder."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.core import OURS, Contender, Work
from benchmarks.harness import ONCE, Record, load
from benchmarks.works import WORKS

METHOD = f"""`make bench` makes an environment of its own with the pinned peers (`benchmarks/requirements.txt`), runs
everything below and writes this file; `make bench WORKS='ntk jacobian' ROUNDS=3` runs a part of it.

- Every measurement is a process of its own. The contenders of a net run one after another, round after round; seconds
  and errors are medians over rounds, memory is the largest peak of a process (`ru_maxrss`, imports included).
- Ratios are taken round by round, a contender's seconds over spectral-audit's in the same round: the median, and the
  range in brackets.
- Peers get their best setting (chunk, batch, tolerance), found in the first round. What takes longer than {ONCE:.0f} s
  is run once, which the table says.
- Every process first answers the same question for 4 samples, unmeasured: torch.func, for one, takes seconds for what
  it imports at its first call. The clock starts after that, after conversion of the model and after spectral-audit's
  `make_subject`, and stops before anything is compared. A peer's operator is built, and spectral-audit's `study` is
  made, within the clock.
- Nets named *trained* are fitted to the 300 images of a sample probe set; the others have random weights and inputs
  from one seed. Random starts and probes differ between rounds. BLAS chooses
  its own kernels (`OPENBLAS_CORETYPE` and `OPENBLAS_L2_SIZE` are unset), and `OMP_NUM_THREADS` is the number of cores,
  for all alike.
"""


def document(folder: Path) -> str:
    """The whole page: how it was made, then a section for every work that has records."""
    sections = [part for work in WORKS.values() for part in _section(work, folder)]
    return "\n".join(["# Benchmarks", "", METHOD, *sections])


def _section(work: Work, folder: Path) -> list[str]:
    records = {net: r for net in work.nets if (r := load(folder, work.name, net))}
    if not records:
        return []
    head = ["net", "contender", "s", "ratio (range)", "peak GiB", *work.columns, *work.facts]
    lines = [f"## {work.title}", "", work.text, "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for net, record in records.items():
        lines += _rows(work, net, record)
    lines += _notes(work, records)
    for net in records:
        own = {w: r for w in WORKS if (r := load(folder, w, net))}
        lines += work.extra(net, own)
    return [*lines, "", *_environment(records), ""]


def _rows(work: Work, net: str, record: Record) -> list[str]:
    lines, seen = [], set()
    for contender in work.contenders(net):
        family = contender.family
        if family in seen or family in work.hidden:
            continue
        key = record.get("chosen", {}).get(family)
        if key is not None:
            seen.add(family)
            lines.append(_row(work, net, record, family, key))
        elif contender.key in record["failed"] and _all_failed(work.contenders(net), family, record):
            seen.add(family)
            lines.append(f"| {net} | {family} | failed: {record['failed'][contender.key]} |" + _empty(work))
    return lines


def _empty(work: Work) -> str:
    return " |" * (2 + len(work.columns) + len(work.facts))


def _all_failed(contenders: list[Contender], family: str, record: Record) -> bool:
    return all(c.key in record["failed"] for c in contenders if c.family == family)


def _row(work: Work, net: str, record: Record, family: str, key: str) -> str:
    runs = record["runs"][key]
    variant = key.removeprefix(family).removeprefix(" | ")
    seconds = f"{median(r['seconds'] for r in runs):.2f}"
    if len(runs) == 1 and _rounds(record) > 1:
        seconds += " (once)"
    cells = [net, f"{family} ({variant})" if variant else family, seconds, _ratio(record, key), f"{_peak(runs):.2f}"]
    for name in work.columns:
        values = [r["errors"][name] for r in runs if name in r["errors"]]
        cells.append(f"{median(values):.1e}" if values else "—")
    for name in work.facts:
        told = [r["facts"][name] for r in runs if name in r["facts"]]
        cells.append(f"{median(told):.0f}" if told else "—")
    return "| " + " | ".join(f"**{c}**" if family == OURS and k == 1 else c for k, c in enumerate(cells)) + " |"


def _rounds(record: Record) -> int:
    return max((len(runs) for runs in record["runs"].values()), default=0)


def _peak(runs: list[dict[str, Any]]) -> float:
    return max(r["peak"] for r in runs)


def _ratio(record: Record, key: str) -> str:
    own = record.get("chosen", {}).get(OURS)
    if own is None:
        return "—"
    pairs = zip(record["runs"][own], record["runs"][key], strict=False)
    ratios = [peer["seconds"] / ours["seconds"] for ours, peer in pairs]
    if key == own:
        return "1"
    return f"{median(ratios):.1f}× ({min(ratios):.1f}–{max(ratios):.1f})"


def _notes(work: Work, records: dict[str, Record]) -> list[str]:
    """What a reader must know of a contender, and which variants did not run."""
    notes: dict[str, None] = {}
    for net, record in records.items():
        contenders = work.contenders(net)
        for c in contenders:
            if c.note and c.key in record["runs"]:
                notes[f"- {c.family}: {c.note}."] = None
            if c.key in record["failed"] and not _all_failed(contenders, c.family, record):
                notes[f"- {net}, {c.key.replace(' | ', ', ')}: failed ({record['failed'][c.key]})."] = None
    return ["", *notes] if notes else []


def _environment(records: dict[str, Record]) -> list[str]:
    """Machines, versions and rounds of a section's records, each combination once."""
    lines: dict[str, list[str]] = {}
    for net, record in records.items():
        m, v = record["machine"], record["versions"]
        packages = ", ".join(f"{name} {number}" for name, number in v.items())
        host = f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, {m['memory']} GiB, {m['system']}"
        text = f"{host}; {packages}; rounds: {_rounds(record)}."
        lines.setdefault(text, []).append(net)
    return [f"<sub>{', '.join(nets)}: {text}</sub>" for text, nets in lines.items()]
