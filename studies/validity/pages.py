"""`docs/validity.md`, written from the raw table: every number in it is computed here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from studies.validity.analysis import Finding, correlation, findings, given_accuracy
from studies.validity.choices import OVERALL, Choice, choices
from studies.validity.names import BAR, CLAIMS, DAMAGES, OURS, PARTS, PEERS, RAW
from studies.validity.table import Table
from studies.validity.why import why
from studies.validity.words import grid, label, shown


def page(table: Table) -> str:
    """The whole page."""
    held = table.where(half="held-out")
    blocks = [
        "# What the score predicts, and what it does not",
        _opening(table),
        _short(table),
        "![the three claims](validity.svg)",
        _claims(findings(table)),
        *why(table),
        "## Every quantity and every damage",
        f"Spearman's ρ on the {int(held.sum())} held-out models; signs are turned so that more is expected to be "
        "worse. Intervals and partial correlations of every pair: "
        "[`correlations.csv`](../studies/validity/correlations.csv).",
        "![all correlations](validity-all.svg)",
        _best(table),
        _partial(table),
        _families(table),
        _choices(choices(table)),
        Path(__file__).with_name("method.md").read_text(encoding="utf-8").rstrip(),
    ]
    return "\n\n".join(blocks) + "\n"


def _opening(table: Table) -> str:
    counts = Counter(zip(table.text["data"], table.text["architecture"], strict=True))
    zoo = ", ".join(f"{n} {a} on {d.replace('_', ' ')}" for (d, a), n in sorted(counts.items()))
    accuracy = table.figures["test_accuracy"]
    low, middle, high = np.quantile(accuracy, [0, 0.5, 1])
    n, held = int(table.figures["n"][0]), int(table.where(half="held-out").sum())
    return (
        f"{len(table)} small models ({zoo}) were trained, audited on {n} held-out samples each, and then really "
        "damaged on other held-out samples: noise on inputs and weights, attacks, corruptions, rounding, pruning, "
        f"fine-tuning that diverges. Accuracies run from {low:.0%} to {high:.0%}, median {middle:.0%}: the nets are "
        "small, briefly trained on subsets, some on false labels, about half of them with a penalty. All figures here "
        f"are of one half of the zoo, {held} models chosen by a hash of their names before any was trained; what had "
        "to be chosen was chosen on the other half. `make validity DATA=FOLDER` runs it all; this page is computed "
        "from [the raw table](../studies/validity/zoo.csv)."
    )


def _short(table: Table) -> str:
    """What it comes to, in five sentences."""
    held = table.where(half="held-out")

    def rho(quantity: str, damage: str) -> str:
        found = correlation(table, quantity, damage, held)
        return "–" if found is None else f"{found.value:.2f}"

    weights = ", ".join(f"{DAMAGES[d]} {rho('weights.typical', d)}" for d in ("shaken", "rounded.4", "rounded.3"))
    pruned = ", ".join(rho("weights.typical", f"pruned.{share}") for share in ("0.3", "0.6", "0.8"))
    return "\n".join(
        [
            f"- Weights axis, typical: {weights}; pruning 30, 60, 80 % {pruned}.",
            f"- Input axis: typical, random input noise {rho('input.typical', 'noise')}, common corruptions "
            f"{rho('input.typical', 'corrupted')}; worst, L2-PGD {rho('input.worst', 'pgd')}.",
            "- Explanations: the searched condition number, attacked drift "
            f"{rho('secant.worst', 'attacked.0.1')}; the axes and the index say little about it (GMSI "
            f"{rho('gmsi.typical', 'attacked.0.1')}).",
            f"- The largest stable step is a matter of plain curvature: ‖H‖₂ {rho('raw.hessian', 'fine-tuning')}, the "
            f"relative curvature axis {rho('curvature.worst', 'fine-tuning')}, GMSI "
            f"{rho('gmsi.typical', 'fine-tuning')}.",
            "- One number is not enough: typical GMSI follows the weights axis, and has "
            f"{rho('gmsi.typical', 'noise')} with input noise. Rounding to 8 bits flips too few decisions to rank "
            f"({rho('weights.typical', 'rounded.8')}).",
        ]
    )


def _claims(found: list[Finding]) -> str:
    rows = []
    for f in found:
        rows.append(
            (
                f.claim.title,
                shown(f.found),
                f"{'yes' if f.reaches else '**no**'}",
                f"{label(f.rival)}: {shown(f.rival_found)}",
                f"{f.ahead.value:+.2f} ({f.ahead.low:+.2f} to {f.ahead.high:+.2f})",
                f"{'yes' if f.leads else '**no**'}",
                shown(f.partial),
            )
        )
    headers = ["claim", "ρ (95 %)", f"≥ {BAR:g}", "best of raw norms and peers", "ahead by", "interval above 0"]
    text = (
        "Each claim was named before the zoo was trained. The rival is whichever raw norm or peer quantity ranks that "
        "damage best on these models, found by looking, which favours it; the difference is of absolute values, on the "
        "same bootstrap resamples of models."
    )
    return "\n\n".join(["## The three claims", text, grid([*headers, "ρ given accuracy"], rows)])


def _best(table: Table) -> str:
    """For every damage the best figure of the audit, and the best of the others."""
    held = table.where(half="held-out")
    rows = []
    for damage, name in DAMAGES.items():
        cells = [name]
        for group in (OURS, {**RAW, **PEERS}):
            every = {q: correlation(table, q, damage, held) for q in group if q != "condition.worst"}
            found = {q: interval for q, interval in every.items() if interval is not None}
            best = max(found, key=lambda q: abs(found[q].value))
            cells.append(f"{label(best)}: {shown(found[best])}")
        cells.append(shown(correlation(table, "gmsi.typical", damage, held)))
        rows.append(cells)
    text = "For each damage, the figure of the audit and the other quantity with the largest |ρ| (found by looking)."
    return f"{text}\n\n" + grid(["damage", "best of the audit", "best of raw norms and peers", "GMSI, typical"], rows)


def _partial(table: Table) -> str:
    held = table.where(half="held-out")
    quantities = ("input.typical", "weights.typical", "kernel.worst", "curvature.worst", "gmsi.typical", "secant.worst")
    damages = ("noise", "pgd", "corrupted", "shaken", "rounded.3", "pruned.0.6", "fine-tuning", "attacked.0.1")
    rows = [
        [label(q), *(shown(given_accuracy(table, q, d, held)).replace(" (", "<br>(") for d in damages)]
        for q in quantities
    ]
    text = "Partial ρ given accuracy on the probe set: what the audit adds to knowing how good a model is."
    return f"## Beyond accuracy\n\n{text}\n\n" + grid(["", *(DAMAGES[d] for d in damages)], rows)


def _families(table: Table) -> str:
    groups = {
        "all": {},
        **{f"{a}s": {"architecture": a} for a in ("mlp", "cnn", "resnet", "transformer")},
        **{d.replace("_", " "): {"data": d} for d in ("mnist", "cifar10", "digits", "breast_cancer")},
        **{a: {"activation": a} for a in ("relu", "gelu", "tanh")},
    }
    held, rows = table.where(half="held-out"), []
    for name, values in groups.items():
        mask = held & table.where(**values)
        rows.append(
            [name, str(int(mask.sum())), *(shown(correlation(table, c.quantity, c.damage, mask)) for c in CLAIMS)]
        )
    text = "The claims within one family at a time. Few models: wide intervals."
    return f"## Where it holds\n\n{text}\n\n" + grid(["models", "n", *(c.title for c in CLAIMS)], rows)


def _choices(found: list[Choice]) -> str:
    rows = [
        [
            DAMAGES.get(c.target, c.target),
            label(c.current),
            f"{c.chosen} (of {c.candidates})",
            f"{c.tuned[0]:.3f} → {c.tuned[1]:.3f}",
            f"{c.held_out[0].value:.3f} → {c.held_out[1].value:.3f}",
            f"{c.ahead.value:+.3f} ({c.ahead.low:+.3f} to {c.ahead.high:+.3f})",
        ]
        for c in found
    ]
    better = [c for c in found if c.ahead.low > 0]
    verdict = (
        "Nothing chosen this way is better held out with an interval that excludes equality: there is no ground for "
        "another definition."
        if not better
        else "Better held out, with an interval that excludes equality: "
        + "; ".join(f"{c.chosen} for {label(c.current)} ({c.ahead.value:+.3f})" for c in better)
        + ". That is the proposal for a `gmsi/2`, and all the evidence there is: small gains, the best of "
        f"{len(found)} comparisons without a correction for their number, on damage to decisions. The curvature axis "
        "would leave the index and stay in the report, as it ranks the largest stable step. Nothing found improves the "
        "input axis beyond doubt. `gmsi/1` stays as it is; saved reports hold every axis, and give either."
    )
    text = (
        "Candidates: for an axis, the median over samples of each one's change over its own margin (`ratio`), the "
        "lower quartile of the margins in place of their median (`quartile`), each over √(C − 1) too, and the "
        "first-order share of flips at this study's own levels (`predicted`); for the index, roots of sums of squares "
        "over fewer axes, their largest, sum and geometric mean, against the mean rank over "
        f"{', '.join(DAMAGES[d] for d in OVERALL)}. Chosen on the tuning half, judged held out."
    )
    headers = ["damage", "gmsi/1", "chosen", "ρ, tuning half", "ρ, held out", "gain held out"]
    return "\n\n".join(["## Is there a better aggregation? (`gmsi/2`)", text, grid(headers, rows), verdict])


def write_correlations(table: Table, path: Path) -> None:
    """Every pair on the held-out half as CSV."""
    held = table.where(half="held-out")
    lines = ["quantity,damage,models,rho,low,high,partial,partial_low,partial_high"]
    for quantity in {**OURS, **RAW, **PEERS, **PARTS}:
        for damage in table.names("damage"):
            found, rest = (f(table, quantity, damage, held) for f in (correlation, given_accuracy))
            if found is None or rest is None:
                continue
            numbers = (found.value, found.low, found.high, rest.value, rest.low, rest.high)
            lines.append(f"{quantity},{damage},{found.n}," + ",".join(f"{v:.4f}" for v in numbers))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
