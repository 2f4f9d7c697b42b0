"""What a training step costs with each penalty, in plain steps: rewrites the end of docs/regularizers.md.

    python studies/penalty_costs.py [--rounds 15] [--output docs/regularizers.md]

Forward pass, loss, backward pass and AdamW on one thread, in processor time. A round is one plain step and one step of
every penalty, so that a slow minute slows all alike; the table holds medians of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from sample_models.training import objective
from spectral_audit.inputs.architectures.families import FAMILIES
from studies.training import PENALTIES, Data, make_penalty

ROOT = Path(__file__).parents[1]
HEADING = "## Cost per step"
BATCH = 64
NETS = {
    "MLP 784-256-256-10": ("mlp", {"inputs": 784, "outputs": 10, "hidden": [256, 256]}),
    "CNN, 13,818 parameters": ("cnn", {"channels": 1, "outputs": 10, "width": 4, "hidden": 32}),
    "CNN, 100 classes": ("cnn", {"channels": 1, "outputs": 100, "width": 4, "hidden": 32}),
}


def step_of(name: str, net: tuple[str, dict[str, object]]) -> Callable[[], None]:
    """One training step with a penalty, or a plain one for ''."""
    family, arguments = net
    torch.manual_seed(0)
    model: nn.Module = FAMILIES[family](**arguments, activation="gelu")
    x, y = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    outputs = model(x).shape[1]
    data = Data("noise", x, y, x, y, outputs, None)  # type: ignore[arg-type]  # not from a source
    penalty = make_penalty(name, 1e-3, data) if name else None
    optimizer = torch.optim.AdamW(model.parameters())
    index, rng = torch.arange(BATCH), torch.Generator().manual_seed(0)

    def step() -> None:
        value = objective(model, x, y, index, "cross_entropy", penalty, rng)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def ratios(net: tuple[str, dict[str, object]], rounds: int) -> tuple[float, dict[str, float]]:
    """Milliseconds of a plain step, and the multiple of it that each penalty's step takes."""
    steps = {name: step_of(name, net) for name in ("", *PENALTIES)}
    for step in steps.values():
        for _ in range(3):
            step()
    taken = [{name: seconds(step) for name, step in steps.items()} for _ in range(rounds)]
    found = {name: statistics.median(t[name] / t[""] for t in taken) for name in PENALTIES}
    return 1000 * statistics.median(t[""] for t in taken), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "regularizers.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: ratios(net, asked.rounds) for name, net in NETS.items()}
    lines = [
        HEADING,
        "",
        f"A step on a batch of {BATCH}, one thread, as a multiple of the plain step (`make penalty-costs`).",
    ]
    lines += ["", "| penalty | " + " | ".join(NETS) + " |", "| --- |" + " --: |" * len(NETS)]
    lines.append("| plain step | " + " | ".join(f"{plain:.1f} ms" for plain, _ in found.values()) + " |")
    lines += [f"| `{p}` | " + " | ".join(f"{times[p]:.1f}×" for _, times in found.values()) + " |" for p in PENALTIES]
    text = asked.output.read_text(encoding="utf-8").partition(HEADING)[0]
    asked.output.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
