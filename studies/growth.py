"""How cost and memory grow: with parameters, with rows of the exact kernels, with samples, and two large models.

    python studies/growth.py [--only WORD…] [--output docs/growth.md]

Every point is a whole `measure` in a process of its own, so that its peak memory is its own; nets are untrained and
inputs random, which changes no cost but the number of Lanczos steps: that is why products are listed beside seconds,
and Hessian seconds are given per product. Points stay in build/growth, and a run goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "build" / "growth"


@dataclass(frozen=True)
class Point:
    """One measurement: a series, the quantity that grows, and how to make it."""

    series: str
    size: int
    net: str
    n: int
    regime: str = "auto"
    memory: str = "8GB"

    @property
    def record(self) -> Path:
        return RECORDS / f"{self.series}-{self.size}.json"


@dataclass(frozen=True)
class Series:
    """What a series shows: a title, what grows, and the exponent that is claimed at most."""

    title: str
    grows: str
    stage: str
    claim: str
    exponent: int = 1


SERIES = {
    "parameters": Series("Parameters, n = 64", "parameters", "all", "1"),
    "rows": Series("Rows nC' of the exact kernels", "rows", "sweep + kernels", "2, and 3 for all eigenvalues", 2),
    "samples": Series("Samples in the Krylov regime", "samples", "per product", "1"),
    "memory": Series(
        "Samples under --memory 400MB", "samples", "memory", "0 beside the probe set and its perturbed copies", 0
    ),
    "large": Series("Two large models under --memory 4GB", "", "all", ""),
}
POINTS = [
    *(Point("parameters", w, f"mlp:256:{w}", 64) for w in (128, 256, 512, 1024, 2048, 4096)),
    *(Point("rows", n * 9, "mlp:256:256", n, "exact") for n in (32, 64, 128, 256, 512)),
    *(Point("samples", n, "cnn:10", n, "krylov") for n in (128, 256, 512, 1024)),
    *(Point("memory", n, "cnn:10", n, "krylov", "400MB") for n in (128, 256, 512, 1024)),
    Point("large", 1, "encoder:14", 8, "auto", "4GB"),
    Point("large", 2, "resnet:1000", 32, "auto", "4GB"),
]


def build(net: str) -> tuple[Any, tuple[int, ...]]:
    """A net by name, and the shape of its inputs."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    kind, *numbers = net.split(":")
    sizes = [int(number) for number in numbers]
    if kind == "mlp":
        d, width = sizes
        layers = (nn.Linear(d, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10))
        return nn.Sequential(*layers), (d,)
    if kind == "encoder":
        return Encoder(sizes[0]), (17, 768)

    def stage(i: int, o: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

    if kind == "cnn":
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, sizes[0]))
        return nn.Sequential(stage(3, 16, 1), stage(16, 32, 2), stage(32, 32, 2), *head), (3, 32, 32)
    widths = (64, 64, 128, 256, 512)
    body = [stage(i, o, 2) for i, o in pairwise(widths)]
    return nn.Sequential(stage(3, 64, 2), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, sizes[0])), (
        3,
        64,
        64,
    )


def Encoder(layers: int) -> Any:  # noqa: N802 (torch is imported late: the driver needs none)
    """A transformer encoder of width 768 on 17 tokens: 7.1 million parameters a layer."""
    import torch
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(768, 768)
            self.position = nn.Parameter(0.02 * torch.randn(1, 17, 768))
            layer = nn.TransformerEncoderLayer(768, 12, 3072, 0.0, "gelu", batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(768), enable_nested_tensor=False)
            self.head = nn.Linear(768, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.embed(x) + self.position).mean(1))

    return Net()


def run(point: Point) -> dict[str, Any]:
    """Measure one point in this process."""
    import torch

    from spectral_audit.measure import Settings, measure
    from spectral_audit.memory import memory_budget

    net, shape = build(point.net)
    x = torch.randn(point.n, *shape)
    y = torch.cat([net.eval()(part).detach().argmax(1) for part in x.split(32)])
    settings = Settings(regime=point.regime, memory=memory_budget(point.memory, "cpu"))  # type: ignore[arg-type]  # from a literal above
    found = measure(net, x, y, settings=settings)
    return {
        "point": asdict(point),
        "parameters": sum(p.numel() for p in net.parameters()),
        "regime": found.regime,
        **asdict(found.cost),
    }


def collect(points: list[Point]) -> None:
    """Run what has no record yet, one process each."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    for point in points:
        if point.record.exists():
            continue
        print(f"{point.series} {point.size}: {point.net}, n = {point.n}", file=sys.stderr)
        command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        point.record.write_text(ran.stdout, encoding="utf-8")


def seconds(record: dict[str, Any], stage: str) -> float:
    stages = record["stages"]
    if stage == "sweep + kernels":
        return stages["sweep"] + stages["kernels"]
    if stage == "per product":
        return stages["hessian"] / record["hessian_products"] + stages["products"]
    return record["seconds"]


def quantity(record: dict[str, Any], grows: str) -> float:
    return record["parameters"] if grows == "parameters" else record["point"]["size"]


def slope(xs: list[float], ys: list[float]) -> float:
    """The exponent between the last two points."""
    return math.log(ys[-1] / ys[-2]) / math.log(xs[-1] / xs[-2])


def table(name: str, records: list[dict[str, Any]]) -> list[str]:
    series = SERIES[name]
    lines = [
        f"## {series.title}",
        "",
        "| net | n | parameters | regime | seconds | sweep + kernels | Hessian | products | peak GiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in records:
        stages = r["stages"]
        first = stages.get("sweep", 0) + stages.get("kernels", 0) + stages.get("products", 0)
        lines.append(
            f"| {r['point']['net']} | {r['point']['n']} | {r['parameters']:,} | {r['regime']} | {r['seconds']:.1f} "
            f"| {first:.2f} | {stages['hessian']:.1f} | {r['hessian_products']} | {r['peak_memory'] / 2**30:.2f} |"
        )
    if series.grows and len(records) > 1:
        xs = [quantity(r, series.grows) for r in records]
        ys = [r["peak_memory"] if series.stage == "memory" else seconds(r, series.stage) for r in records]
        what = "peak memory" if series.stage == "memory" else f"seconds ({series.stage})"
        lines += ["", f"Exponent of {what} between the last two points: {slope(xs, ys):.2f}; claimed: {series.claim}."]
    return [*lines, ""]


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot as plt

    shown = [name for name in found if SERIES[name].grows and len(found[name]) > 1]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.2 * len(shown), 3.0), squeeze=False)
    for axis, name in zip(axes[0], shown, strict=True):
        series = SERIES[name]
        xs = [quantity(r, series.grows) for r in found[name]]
        memory = series.stage == "memory"
        ys = [r["peak_memory"] / 2**30 if memory else seconds(r, series.stage) for r in found[name]]
        axis.loglog(xs, ys, "o-", color="#0072b2")
        axis.loglog(xs, [ys[0] * (x / xs[0]) ** series.exponent for x in xs], ":", color="#888888")
        axis.xaxis.set_minor_formatter("")
        axis.set_xticks(xs, [f"{x:,.0f}" if x < 1e4 else f"{x:.0e}" for x in xs], fontsize=6)
        axis.set(title=series.title, xlabel=series.grows, ylabel="GiB" if memory else f"seconds, {series.stage}")
        axis.title.set_fontsize(9)
        if memory:
            axis.set_ylim(0.1, 10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def report(output: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for point in POINTS:
        if point.record.exists():
            found.setdefault(point.series, []).append(json.loads(point.record.read_text(encoding="utf-8")))
    lines = [
        "# How cost and memory grow",
        "",
        "`make growth` writes this page: whole measurements, attribution included, on 2 CPU cores, each in its own",
        "process. Nets are untrained, inputs random. Peak memory is that of the process, of which torch itself takes",
        "0.3 GiB. Dotted lines: the growth that is claimed, from the first point on.",
        "",
        f"![growth]({output.stem}.svg)",
        "",
    ]
    for name, records in found.items():
        lines += table(name, records)
    output.write_text("\n".join(lines), encoding="utf-8")
    draw(found, output.with_suffix(".svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=SERIES, help="these series")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "growth.md")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(run(Point(**json.loads(asked.point)))))
        return
    collect([p for p in POINTS if not asked.only or p.series in asked.only])
    report(asked.output)


if __name__ == "__main__":
    main()
