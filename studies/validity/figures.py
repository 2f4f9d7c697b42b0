"""Two figures of the study, as SVG that is the same on every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from studies.validity.analysis import correlation
from studies.validity.names import CLAIMS, DAMAGES, OURS, PEERS, RAW
from studies.validity.table import Table

_COLOURS = {"mlp": "#0072b2", "cnn": "#d55e00", "resnet": "#009e73", "transformer": "#cc79a7"}
_MARKERS = {"mnist": "o", "cifar10": "s", "digits": "^", "breast_cancer": "D"}
_LABELS = {"input.typical": "input axis, typical", "weights.typical": "weights axis, typical"}


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "validity"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.size"] = 8
    from matplotlib import pyplot

    return pyplot


def scatter(table: Table, path: Path) -> None:
    """Each claim as a cloud of all held-out models: the figure of the audit against the damage."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(CLAIMS), figsize=(3.4 * len(CLAIMS), 3.3))
    held = table.where(half="held-out")
    for axis, claim in zip(axes, CLAIMS, strict=True):
        for architecture, colour in _COLOURS.items():
            for data, marker in _MARKERS.items():
                mask = held & table.where(architecture=architecture, data=data)
                x, y = table.known(claim.quantity)[mask], table.damage(claim.damage)[mask]
                axis.scatter(x, y, s=14, c=colour, marker=marker, linewidths=0, alpha=0.75)
        explained = claim.quantity.startswith("secant")
        axis.set_xscale("log")
        axis.set_yscale("log" if explained else "linear")
        axis.set_xlabel("attribution condition number, 0.1 X" if explained else _LABELS[claim.quantity])
        axis.set_ylabel("relative drift under attack" if explained else f"decisions flipped by {DAMAGES[claim.damage]}")
        found = correlation(table, claim.quantity, claim.damage, held)
        assert found is not None
        axis.set_title(f"ρ = {found.value:.2f}  ({found.low:.2f} to {found.high:.2f}), {found.n} models", fontsize=8)
    handles = [plt.Line2D([], [], color=c, marker="o", ls="", ms=4, label=a) for a, c in _COLOURS.items()]
    handles += [
        plt.Line2D([], [], color="#666666", marker=m, ls="", ms=4, label=d.replace("_", " "))
        for d, m in _MARKERS.items()
    ]
    figure.legend(handles=handles, ncol=len(handles), loc="lower center", frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def heatmap(table: Table, path: Path) -> None:
    """ρ of every quantity with every damage on the held-out half."""
    plt = _pyplot()
    held = table.where(half="held-out")
    rows, columns = {**OURS, **RAW, **PEERS}, DAMAGES
    found = [[correlation(table, q, d, held) for d in columns] for q in rows]
    values = np.array([[np.nan if cell is None else cell.value for cell in row] for row in found])
    figure, axis = plt.subplots(figsize=(8.2, 7.6))
    axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axis.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color="w" if abs(value) > 0.7 else "k"
            )
    axis.set_xticks(range(len(columns)), list(columns.values()), rotation=40, ha="right")
    axis.set_yticks(range(len(rows)), list(rows.values()))
    for edge in (len(OURS), len(OURS) + len(RAW)):
        axis.axhline(edge - 0.5, color="k", lw=0.8)
    axis.set_title(f"Spearman's ρ with damage, {int(held.sum())} held-out models")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
