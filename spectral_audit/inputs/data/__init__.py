"""DATASETS: every kind of data, how it is recognised and how it is read. A new kind is one function and one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.data.arrays import is_npy, is_npz, is_safetensors, read_npy, read_npz, read_safetensors
from spectral_audit.inputs.data.code import is_function, read_function
from spectral_audit.inputs.data.columns import is_parquet, is_saved_dataset, read_parquet, read_saved_dataset
from spectral_audit.inputs.data.images import is_image_folder, read_image_folder
from spectral_audit.inputs.data.stored import Ask, Source, Stored
from spectral_audit.inputs.data.synthetic import is_synthetic, read_synthetic
from spectral_audit.inputs.data.tables import is_table, read_table

_START = 64


@dataclass(frozen=True)
class Kind:
    """How a kind of data is recognised, and read."""

    matches: Callable[[Source], bool]
    read: Callable[[Ask], Stored]


# The first that matches: what the spec names comes before what a file starts with, and any folder may hold images.
DATASETS: dict[str, Kind] = {
    "synthetic": Kind(is_synthetic, read_synthetic),
    "function": Kind(is_function, read_function),
    "npz": Kind(is_npz, read_npz),
    "npy": Kind(is_npy, read_npy),
    "safetensors": Kind(is_safetensors, read_safetensors),
    "parquet": Kind(is_parquet, read_parquet),
    "table": Kind(is_table, read_table),
    "saved dataset": Kind(is_saved_dataset, read_saved_dataset),
    "image folder": Kind(is_image_folder, read_image_folder),
}


def open_data(ask: Ask) -> tuple[str, Stored]:
    """The name of the kind, and the data as stored.

    Raises `RefusedError` for data that is missing, damaged, of no known kind, or that would run code without consent.
    """
    source = _source(ask)
    for name, kind in DATASETS.items():
        if kind.matches(source):
            return name, kind.read(ask)
    start = source.start
    raise RefusedError(
        f"{ask.path}: not a data file that is known here",
        expected=f"one of: {', '.join(DATASETS)}",
        found=f"a file that starts with {start[:12]!r}" if start else "an empty file (0 bytes)",
        remedy="save the arrays with numpy.savez(path, x=x, y=y).",
    )


def _source(ask: Ask) -> Source:
    path = ask.path
    if ask.spec.data.source != "path":
        return Source(ask.spec, path, b"", folder=False)
    try:
        if path.is_dir():
            return Source(ask.spec, path, b"", folder=True)
        with path.open("rb") as file:
            return Source(ask.spec, path, file.read(_START), folder=False)
    except FileNotFoundError:
        raise RefusedError(
            f"{path}: no such data file",
            expected="the file named by `data.path`, relative to the spec",
            found="nothing of that name",
            remedy="correct `data.path`, or fetch the data.",
        ) from None
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path}: cannot be read", found=str(error), remedy="give a readable file.") from None
