"""One model of the zoo: trained, audited, damaged, and written down as one JSON file."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spectral_audit.results import Measurement
from studies.training import accuracy, make_penalty, train
from studies.validity.damages import damage
from studies.validity.models import build
from studies.validity.quantities import audited
from studies.validity.samples import N, Samples
from studies.validity.zoo import Entry


def run(entry: Entry, parts: Samples) -> dict[str, Any]:
    """Everything about one model as plain values. Only `seconds` differ from run to run on one machine."""
    clock = [time.process_time()]
    model = build(entry, tuple(parts.x.shape[1:]), parts.train.classes)
    penalty = make_penalty(entry.penalty, entry.strength, parts.train, entry.seed) if entry.penalty else None
    train(
        model,
        parts.train,
        epochs=entry.epochs,
        lr=entry.lr,
        weight_decay=entry.weight_decay,
        label_noise=entry.label_noise,
        penalty=penalty,
        seed=entry.seed,
    )
    clock.append(time.process_time())
    found, quantities = audited(model, parts)
    clock.append(time.process_time())
    damages = damage(model, parts)
    clock.append(time.process_time())
    return {
        "entry": asdict(entry),
        "half": entry.half,
        "n": N,
        "definition": found.gmsi.definition,
        "parameters": sum(p.numel() for p in model.parameters()),
        "test_accuracy": accuracy(model, parts.x, parts.y),
        "quantities": quantities,
        "damages": damages,
        "samples": _per_sample(found),
        "seconds": {
            k: round(b - a, 2) for k, a, b in zip(("train", "audit", "damage"), clock, clock[1:], strict=False)
        },
    }


def _per_sample(found: Measurement) -> dict[str, list[float]]:
    """The audit's figures of every sample: other aggregations follow from them without another audit."""
    assert found.samples is not None
    names = ("output", "deviation", "input_worst", "input_typical", "weights_worst", "weights_typical")
    return {name: [float(f"{v:.6g}") for v in getattr(found.samples, name)] for name in names}


def path_of(entry: Entry, folder: Path) -> Path:
    """Where the record of an entry is kept."""
    return folder / f"{entry.name}.json"


def keep(record: dict[str, Any], path: Path) -> None:
    """Write a record whole, or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
