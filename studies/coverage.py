"""Do the 95 % intervals cover? Many probe sets drawn from one large pool, each audited on its own.

    python studies/coverage.py --data mnist.npz [--n 64 128] [--runs 300] [--output docs/intervals.md]

Two truths are asked about. `same n`: the mean of the figure over all probe sets of this size, which is what two reports
with the same n compare. `pool`: the figure of the whole pool, which maxima and λmax only approach as n grows (the mean
of a largest eigenvalue falls with n). The data file is an npz with `x_test` (images) and `y_test`, as MNIST.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec, load_spec
from spectral_audit.measure import Settings, measure
from spectral_audit.regimes import MAX_ROWS
from spectral_audit.results import AXES, Estimate, Measurement

MODELS = ("mnist_mlp", "mnist_cnn_relu")
FOLDER = Path(__file__).parent.parent / "sample_models"


@dataclass(frozen=True)
class Pool:
    """A model and all samples that probe sets are drawn from."""

    model: nn.Module
    x: Tensor
    y: Tensor


def pool(name: str, data: Path) -> Pool:
    """The first samples of the data file that one exact audit can hold."""
    checkpoint = load_checkpoint(FOLDER / f"{name}.safetensors")
    loaded = build_model(checkpoint, ModelSpec(), spec_dir=None, arch=None, arch_kwargs={}, trust="none")
    spec = load_spec(FOLDER / f"{name}.audit.yaml")
    with np.load(data, allow_pickle=False) as arrays:
        size = MAX_ROWS // 10
        x = torch.from_numpy(arrays["x_test"][:size]).float()[:, None] * spec.input.scale
        y = torch.from_numpy(arrays["y_test"][:size])
    return Pool(loaded.model, (x - spec.input.mean[0]) / spec.input.std[0], y)


def audit(p: Pool, rows: Tensor) -> Measurement:
    return measure(p.model, p.x[rows], p.y[rows], settings=Settings(attribution=None))


def figures(found: Measurement) -> dict[str, Estimate]:
    """Every interval of a report, by name."""
    out = {f"{a}.{c}": getattr(getattr(found.axes, a), c) for a in AXES for c in ("worst", "typical")}
    return out | {"gmsi.worst": found.gmsi.worst, "gmsi.typical": found.gmsi.typical}


def simulate(p: Pool, n: int, runs: int) -> dict[str, list[Estimate]]:
    """Audits of `runs` probe sets of n samples, drawn from the pool with replacement."""
    generator = torch.Generator().manual_seed(n)
    out: dict[str, list[Estimate]] = {}
    for run in range(runs):
        rows = torch.randint(0, len(p.x), (n,), generator=generator)
        for name, estimate in figures(audit(p, rows)).items():
            out.setdefault(name, []).append(estimate)
        print(f"\r{run + 1}/{runs}", end="", file=sys.stderr)
    return out


def coverage(estimates: list[Estimate], truth: float) -> float:
    return statistics.mean(e.low <= truth <= e.high for e in estimates)


def table(name: str, p: Pool, n: int, runs: int) -> list[str]:
    """Markdown rows: figure, truth, mean, width, and how often the interval holds each truth."""
    whole = figures(audit(p, torch.arange(len(p.x))))
    lines = []
    for key, estimates in simulate(p, n, runs).items():
        mean = statistics.mean(e.value for e in estimates)
        width = statistics.mean((e.high - e.low) / e.value for e in estimates if e.value)
        same, pooled = coverage(estimates, mean), coverage(estimates, whole[key].value)
        lines.append(
            f"| {name} | {n} | {key} | {whole[key].value:.3g} | {mean:.3g} | {width:.0%} | {same:.1%} | {pooled:.1%} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--n", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    lines = [
        "| model | n | figure | pool | mean | width | covers same n | covers pool |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in options.models:
        p = pool(name, options.data)
        for n in options.n:
            lines += table(name, p, n, options.runs)
            print("\n" + "\n".join(lines), file=sys.stderr)
    print("\n".join(lines))
    if options.output:
        heading = ["# Coverage of the 95 % intervals", "", f"{options.runs} probe sets each.", ""]
        options.output.write_text("\n".join([*heading, *lines, ""]))


if __name__ == "__main__":
    main()
