"""A folder of tiny checkpoints with one spec and one probe set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SPEC = """
model: {builder: mlp, kwargs: {inputs: 4, hidden: [8], outputs: 3}}
data: {path: probe.npz}
sample: {n: 16}
"""


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"linear1.weight": (8, 4), "linear1.bias": (8,), "head.weight": (3, 8), "head.bias": (3,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def make_zoo(folder: Path, count: int) -> Path:
    """`count` models step-0.pt, step-1.pt, …"""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 4)).astype(np.float32)
    np.savez(folder / "probe.npz", x=x, y=generator.integers(0, 3, 40))
    (folder / "audit.yaml").write_text(SPEC, encoding="utf-8")
    for seed in range(count):
        torch.save(weights(seed), folder / f"step-{seed}.pt")
    return folder
