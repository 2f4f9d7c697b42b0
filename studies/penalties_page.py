"""The page of the study of penalties: paired changes over seeds, the claim tested, tables and a figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# Student's t, two-sided 95 %, by degrees of freedom.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
# What the claim's words mean here; fixed before the runs.
MODEST, SUBSTANTIAL, LITTLE = 0.01, 0.20, 0.10
GLOBAL = ("gmsi.worst", "gmsi.typical", "entropy.input_jacobian", "entropy.ntk", "entropy.hessian")
AXES = [
    f"axes.{axis}.{column}" for axis in ("input", "weights", "kernel", "curvature") for column in ("worst", "typical")
]
TITLES = {
    "quadratic": "Quadratic regression, closed form known",
    "mnist": "MNIST, GELU",
    "mnist-relu": "MNIST, ReLU",
    "cifar10": "CIFAR-10, GELU",
    "cifar100": "CIFAR-100, GELU",
}


@dataclass(frozen=True)
class Change:
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return self.low > 0 or self.high < 0


def interval(values: list[float]) -> Change:
    """The mean and Student's interval; without an interval for one value."""
    k, mean = len(values), sum(values) / len(values)
    if k == 1:
        return Change(mean, -math.inf, math.inf)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (k - 1) / k)
    return Change(mean, mean - _T[k - 1] * error, mean + _T[k - 1] * error)


class Group:
    """The runs of one penalty at one strength, each with the plain run of its seed."""

    def __init__(
        self, setting: str, penalty: str, strength: float, pairs: list[tuple[Row, Row]], short: str = ""
    ) -> None:
        self.setting, self.penalty, self.strength, self.pairs = setting, penalty, strength, pairs
        self.short = short

    def difference(self, name: str) -> Change:
        return interval([run[name] - plain[name] for run, plain in self.pairs])

    def relative(self, name: str) -> Change | None:
        """The change as a share of the plain run's figure, from logarithms; `None` where a figure does not exist."""
        pairs = [(run[name], plain[name]) for run, plain in self.pairs]
        if any(v is None or v <= 0 for pair in pairs for v in pair):
            return None
        logs = interval([math.log(run / plain) for run, plain in pairs])
        return Change(*(math.expm1(v) if v < 700 else math.inf for v in (logs.mean, logs.low, logs.high)))

    @property
    def label(self) -> str:
        return f"{self.penalty} {self.strength:g}{self.short}"

    @property
    def modest(self) -> bool:
        return self.difference("accuracy").mean >= -MODEST

    @property
    def little(self) -> bool:
        changes = [self.relative(name) for name in GLOBAL]
        return all(abs(change.mean) < LITTLE for change in changes if change)

    @property
    def steadier(self) -> bool:
        """Whether the searched drift is substantially lower, by an interval that excludes no change."""
        change = self.relative("drift.worst")
        return change is not None and change.mean <= -SUBSTANTIAL and change.high < 0


def grouped(rows: list[Row]) -> dict[str, list[Group]]:
    """Groups by setting, in the order of the rows."""
    plain = {(r["setting"], r["seed"]): r for r in rows if not r["penalty"]}
    keys = dict.fromkeys((r["setting"], r["penalty"], r["strength"]) for r in rows if r["penalty"])
    found: dict[str, list[Group]] = {setting: [] for setting in dict.fromkeys(r["setting"] for r in rows)}
    for setting, penalty, strength in keys:
        own = [r for r in rows if (r["setting"], r["penalty"], r["strength"]) == (setting, penalty, strength)]
        pairs = [(r, plain[setting, r["seed"]]) for r in own]
        seeds = sum(r["setting"] == setting and not r["penalty"] for r in rows)
        short = f" ({len(pairs)} of {seeds} seeds)" if len(pairs) < seeds else ""
        found[setting].append(Group(setting, penalty, strength, pairs, short))
    return found


def _percent(change: Change | None) -> str:
    if change is None:
        return "–"
    low, high = (f"{100 * v:+.0f}" if abs(v) < 10 else ("+∞" if v > 0 else "−∞") for v in (change.low, change.high))
    return f"{100 * change.mean:+.0f} ({low} to {high})"


def _points(change: Change) -> str:
    return f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def _plain(rows: list[Row], name: str, show: Callable[[float], str] = lambda v: f"{v:.3g}") -> str:
    values = [r[name] for r in rows if r[name] is not None]
    if not values:
        return "–"
    found = interval(values)
    return f"{show(found.mean)} ({show(found.low)} to {show(found.high)})"


def _table(headers: list[str], lines: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in [headers, ["---"] + ["--:"] * (len(headers) - 1), *lines]]


_CLAIM = ["gmsi.worst", "gmsi.typical", "entropy.input_jacobian", "entropy.ntk", "entropy.hessian"]
_MOVED = ["drift.random", "drift.worst", "score.random", "score.worst", "condition.typical"]


def section(setting: str, rows: list[Row], groups: list[Group]) -> list[str]:
    """One setting: what happened to the summaries, to the explanations, and to every axis."""
    plain = [r for r in rows if r["setting"] == setting and not r["penalty"]]
    merit = "R²" if setting == "quadratic" else "accuracy"
    share: Callable[[float], str] = lambda v: f"{100 * v:.1f}"  # noqa: E731 (a formatter, named for its use)
    lines = [f"## {TITLES[setting]}", ""]
    for names, first in ((_CLAIM, True), (_MOVED, True), (AXES, False)):
        headers = ["", *([f"{merit}, points"] if first else []), *(name.removeprefix("axes.") for name in names)]
        head = ["plain", *([_plain(plain, "accuracy", share)] if first else []), *(_plain(plain, n) for n in names)]
        body = [
            [
                g.label,
                *([_points(g.difference("accuracy"))] if first else []),
                *(_percent(g.relative(n)) for n in names),
            ]
            for g in groups
        ]
        lines += [*_table(headers, [head, *body]), ""]
    return lines


def closed_form(rows: list[Row]) -> list[str]:
    """Trained and audited against the optimum's own figures."""
    names = ("accuracy", "axes.input.typical", "condition.typical")
    own = [r for r in rows if r["setting"] == "quadratic"]
    keys = dict.fromkeys((r["penalty"], r["strength"]) for r in own)
    body = []
    for key in keys:
        part = [r for r in own if (r["penalty"], r["strength"]) == key]
        cells = []
        for name in names:
            known, found = (sum(r[k] for r in part) / len(part) for k in (f"known.{name}", name))
            cells += [f"{known:.4f}", f"{found:.4f}"]
        body.append([f"{key[0]} {key[1]:g}" if key[0] else "plain", *cells])
    headers = ["mean over seeds", "R², optimum", "trained", "input typical, optimum", "audited"]
    return [*_table([*headers, "condition typical, optimum", "audited"], body), ""]


def verdicts(groups: dict[str, list[Group]]) -> list[str]:
    """Where the claim holds: modest, little changed, and steadier; and what else happened."""
    every = [g for part in groups.values() for g in part]
    holds = [g for g in every if g.modest and g.little and g.steadier]
    loud = [g for g in every if g.modest and g.steadier and not g.little]
    worse = [g for g in every if (c := g.relative("drift.worst")) is not None and c.mean > 0 and c.clear]
    lines = [f"Of {len(every)} penalties at a strength, the claim holds for {len(holds)}:"]
    lines += [f"- {_told(g)}" for g in holds] or ["- none"]
    lines += ["", f"Substantially steadier at a modest price, but the summaries change too ({len(loud)}):"]
    lines += [f"- {_told(g)}" for g in loud] or ["- none"]
    lines += ["", f"Explanations move clearly more than without the penalty ({len(worse)}):"]
    return [*lines, *([f"- {_told(g)}" for g in worse] or ["- none"]), ""]


def _told(g: Group) -> str:
    drift, index, worst = (_percent(g.relative(n)) for n in ("drift.worst", "gmsi.typical", "gmsi.worst"))
    points = _points(g.difference("accuracy"))
    merit = "R²" if g.setting == "quadratic" else "accuracy"
    return (
        f"{g.setting}, `{g.label}`: searched drift {drift} %, GMSI typical {index} %, worst {worst} %, "
        f"{merit} {points} points"
    )


def draw(groups: dict[str, list[Group]], path: Path) -> None:
    """Change of the searched drift over that of the typical index, one panel per setting."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "penalties"
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(g.penalty for part in groups.values() for g in part))
    colours = dict(zip(names, ("#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00"), strict=False))
    figure, axes = plt.subplots(1, len(groups), figsize=(3.0 * len(groups), 3.4), squeeze=False)
    for axis, (setting, part) in zip(axes[0], groups.items(), strict=True):
        axis.axhspan(-100, -100 * SUBSTANTIAL, xmin=0, xmax=1, color="#009e73", alpha=0.06)
        axis.axvspan(-100 * LITTLE, 100 * LITTLE, color="#888888", alpha=0.12)
        axis.axhline(0, color="#888888", lw=0.6)
        for g in part:
            x, y = g.relative("gmsi.typical"), g.relative("drift.worst")
            if x is None or y is None:
                continue
            strongest = g.strength == max(other.strength for other in part if other.penalty == g.penalty)
            axis.errorbar(
                *(100 * c.mean for c in (x, y)),
                xerr=[[100 * (x.mean - x.low)], [100 * (x.high - x.mean)]],
                yerr=[[100 * (y.mean - y.low)], [100 * (y.high - y.mean)]],
                fmt="s" if strongest else "o", ms=5 if strongest else 4, lw=0.7, color=colours[g.penalty],
            )  # fmt: skip
        reach = [100 * c.mean for g in part if (c := g.relative("drift.worst"))]
        across = [100 * c.mean for g in part if (c := g.relative("gmsi.typical"))]
        axis.set_ylim(min([-60, *reach]) - 10, max([40, *reach]) + 15)
        axis.set_xlim(min([-40, *across]) - 10, max([20, *across]) + 10)
        axis.set_title(TITLES[setting].partition(",")[0] + TITLES[setting][-6:].replace(" known", ""), fontsize=9)
        axis.set_xlabel("change of GMSI typical, %", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("change of the searched drift, %", fontsize=8)
    handles = [plt.Line2D([], [], marker="o", ls="", color=colours[n], label=n) for n in names]
    figure.legend(handles=handles, loc="lower center", ncol=len(names), fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None})


def page(rows: list[Row], sizes: dict[str, str]) -> str:
    """The whole page; `sizes` says in words what each setting trained on."""
    groups = grouped(rows)
    lines = [*introduction(rows, sizes), *verdicts(groups)]
    for setting, part in groups.items():
        lines += section(setting, rows, part)
        lines += closed_form(rows) if setting == "quadratic" else []
    return "\n".join(lines).rstrip() + "\n"


def introduction(rows: list[Row], sizes: dict[str, str]) -> list[str]:
    """What was done, in which words, and how long it took."""
    settings = dict.fromkeys(r["setting"] for r in rows)
    seeds = {name: len({r["seed"] for r in rows if r["setting"] == name}) for name in settings}
    minutes = sum(r["seconds"] for r in rows) / 60
    text = f"""\
# Penalties and the stability of explanations

The claim under test: *modest spectral regularisation improves attribution stability substantially even when global
spectral summaries change little*. `make penalties DATA=folder` trains small nets without and with penalties
(`spectral_audit.regularizers`), from the same start and in the same order of batches, and audits them on held-out
samples: {len(rows)} runs, {minutes:.0f} minutes of one core, with all their figures in [penalties.csv](penalties.csv).
Strengths were chosen on another seed; what the claim's words mean was fixed before the runs:

- *modest*: at most {100 * MODEST:g} point of accuracy (of 100·R² in regression) is lost in the mean;
- *substantially*: the searched drift of the gradient attribution (radius 0.1 X) falls by at least
  {100 * SUBSTANTIAL:g} % in the mean, and its 95 % interval excludes no change;
- *little*: GMSI worst and typical and the entropies of Jacobian, kernel and Hessian change by less than
  {100 * LITTLE:g} %.

Intervals are Student's over seeds, of differences (or ratios, in percent) to the plain run of the same seed. With so
few seeds they are wide, and an interval that holds zero proves nothing either way. Nothing is corrected for the number
of comparisons: among so many, one or two may hold by chance.
"""
    return [
        text,
        "| setting | trained on | seeds |",
        "| --- | --- | --: |",
        *(f"| {TITLES[name]} | {sizes[name]} | {seeds[name]} |" for name in settings),
        "",
        "![change of drift over change of GMSI](penalties.svg)",
        "",
        f"Squares: the stronger setting of each penalty. Grey: GMSI typical changes by less than {100 * LITTLE:g} %.",
        f"Green: the drift falls by more than {100 * SUBSTANTIAL:g} %. The claim is about where the bands cross.",
        "",
        "## Where the claim holds",
        "",
    ]


def write(rows: list[Row], sizes: dict[str, str], output: Path) -> None:
    """The page, its figure, and the figures of every run as CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    output.write_text(page(rows, sizes), encoding="utf-8")
    draw(grouped(rows), output.with_suffix(".svg"))
