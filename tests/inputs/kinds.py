"""The same twelve grey images, written by the library of every kind, under the names of docs/data.md."""

from __future__ import annotations

import csv
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.numpy import save_file

from spectral_audit.inputs.data.dataset import Probe, load_probe
from spectral_audit.inputs.spec import load_spec

CLASSES = ("bird", "cat", "dog")
LOADER = "import numpy as np\ndef load():\n    held = np.load({!r})\n    return held['x'], held['y']\n"


def samples() -> tuple[np.ndarray, np.ndarray]:
    """x uint8 (12, 4, 4) and y (12,), sorted by class as folders are."""
    return np.random.default_rng(0).integers(0, 256, (12, 4, 4), dtype=np.uint8), np.repeat(np.arange(3), 4)


def write_all(folder: Path) -> None:
    x, y = samples()
    np.savez(folder / "probe.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    save_file({"x": x, "y": y}, folder / "probe.safetensors")
    with (folder / "probe.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"p{k}" for k in range(16)), "label"])
        writer.writerows([*image.ravel(), label] for image, label in zip(x, y, strict=True))
    pq.write_table(pa.table({"pixels": x.tolist(), "label": y}), folder / "probe.parquet")
    images = [Image.fromarray(image) for image in x]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    saved = datasets.Dataset.from_dict({"image": images, "label": y.tolist()}, features=features)
    datasets.DatasetDict({"train": saved.select(range(2)).flatten_indices(), "test": saved}).save_to_disk(
        folder / "saved"
    )
    for k, (image, label) in enumerate(zip(images, y, strict=True)):
        home = folder / "images" / CLASSES[label]
        home.mkdir(parents=True, exist_ok=True)
        image.save(home / f"{k:02d}.png")
    (folder / "loader.py").write_text(LOADER.format(str(folder / "probe.npz")), encoding="utf-8")


def probe_of(folder: Path, text: str, *, consent: bool = False) -> Probe:
    """The probe of a spec with this text, in that folder."""
    path = folder / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    return load_probe(load_spec(path), consent=consent)
