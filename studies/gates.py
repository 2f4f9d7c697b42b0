"""How often does a gate pass what it should not? Simulated gates at the limit, on samples drawn from one report.

    python studies/gates.py REPORT.json [--n 256] [--runs 500] [--output docs/gates.md]

The report's samples are the pool: each run draws n of them with replacement, and the truth is the figure of the pool.
A rule whose limit is the truth itself must be passed in at most 5 % of the runs; other limits show how soon an adaptive
gate stops. Intervals, schedule and decisions are those of `gate`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from spectral_audit.gate.adaptive import Look, level_of, look_at, schedule, settle
from spectral_audit.gate.paths import find_figure
from spectral_audit.gate.rules import Rule
from spectral_audit.index import COLUMNS, Columns, Figures, combine
from spectral_audit.reports.artifact import load_report
from spectral_audit.results import AXES, Axes, Axis, Estimate, Report, Samples

PATHS = ("gmsi.typical", "gmsi.worst", "axes.input.typical", "axes.input.worst")
LIMITS = (0.7, 0.85, 1.0, 1.15, 1.3)


def drawn(pool: Report, rows: np.ndarray, seed: int) -> Report:
    """The pool's report as an audit of these samples would give it, with points but no intervals of its own."""
    assert pool.samples is not None
    columns = {
        entry.name: tuple(np.asarray(getattr(pool.samples, entry.name))[rows].tolist())
        for entry in fields(Samples)
        if isinstance(getattr(pool.samples, entry.name), tuple)
    }
    samples = replace(pool.samples, **columns, layers={})
    found = Figures.of(samples, regression=pool.scales.output_kind == "rms output").everything()
    axes = Axes(**{axis: Axis(*(point(found.axes[axis, c]) for c in COLUMNS), None) for axis in AXES})
    gmsi = replace(pool.gmsi, **{c: point(index(pool, found, c)) for c in COLUMNS})
    return replace(pool, samples=samples, axes=axes, gmsi=gmsi, data=replace(pool.data, n=len(rows), seed=seed))


def index(pool: Report, found: Columns, column: str) -> np.ndarray:
    return combine(found, column, pool.gmsi.weights, pool.gmsi.aggregation)


def point(value: np.ndarray) -> Estimate:
    return Estimate(float(value[0]), float(value[0]), float(value[0]))


def simulate(pool: Report, n: int, runs: int) -> list[tuple[Look, list[Look]]]:
    """For every run the look of a fixed gate at n, and those of an adaptive one, whose samples grow."""
    sizes = schedule(n)
    level = level_of(len(sizes))
    out = []
    for seed in range(runs):
        rows = np.random.default_rng([seed, 99]).integers(0, pool.data.n, n)
        looks = [look_at(drawn(pool, rows[:size], seed), level) for size in sizes]
        out.append((look_at(drawn(pool, rows, seed), 0.95), looks))
        print(f"\r{seed + 1}/{runs}", end="", file=sys.stderr)
    return out


def table(pool: Report, simulated: list[tuple[Look, list[Look]]]) -> list[str]:
    """Markdown rows: how often each gate passed, failed and stayed open, and the samples it took."""
    lines = []
    for path in PATHS:
        truth = find_figure(drawn(pool, np.arange(pool.data.n), 0), path).value
        assert truth is not None
        for share in LIMITS:
            rule = Rule(path, "<=", share * truth)
            fixed = [settle([look], [rule]) for look, _ in simulated]
            adaptive = [settle(looks, [rule]) for _, looks in simulated]
            cells = [
                rate(found, outcome) for found in (fixed, adaptive) for outcome in ("pass", "fail", "inconclusive")
            ]
            samples = statistics.mean(look.n for look, _, _ in adaptive)
            lines.append(f"| {path} | {share:g} | {' | '.join(cells)} | {samples:.0f} |")
    return lines


def rate(found: list[tuple[Look, list, tuple[int, ...]]], outcome: str) -> str:
    return f"{statistics.mean(judgements[0].outcome == outcome for _, judgements, _ in found):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    pool = load_report(options.report)
    sizes = schedule(options.n)
    rows = table(pool, simulate(pool, options.n, options.runs))
    text = [
        "# Gates at and around the limit",
        "",
        f"{options.runs} gates on samples drawn with replacement from the {pool.data.n} of {pool.model.path}",
        f"(`make gates`): fixed at n = {options.n} with 95 % intervals, adaptive at {', '.join(map(str, sizes))}",
        f"samples with {100 * level_of(len(sizes)):g} % intervals. The limit is a share of the pool's own figure:",
        "at 1 and below it a pass is false, above it a failure is. The per-sample figures of kernel and curvature are",
        "those at the pool's top eigenvectors.",
        "",
        "| figure | limit | fixed: pass | fail | open | adaptive: pass | fail | open | mean n |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    print("\n".join(text))
    if options.output:
        options.output.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
