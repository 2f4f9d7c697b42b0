"""DATASETS: every kind of data, how it is recognised and how it is read. A new kind is one function and one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.data.arrays import (
    is_npy,
    is_npz,
    is_safetensors,
    npz_names,
    read_npy,
    read_npz,
    read_safetensors,
    safetensors_names,
)
from spectral_audit.inputs.data.code import is_function, read_function
from spectral_audit.inputs.data.columns import (
    is_parquet,
    is_saved_dataset,
    parquet_names,
    read_parquet,
    read_saved_dataset,
    saved_names,
)
from spectral_audit.inputs.data.images import is_image_folder, read_image_folder
from spectral_audit.inputs.data.stored import Ask, Source, Stored
from spectral_audit.inputs.data.synthetic import is_synthetic, read_synthetic
from spectral_audit.inputs.data.tables import is_table, read_table, table_names

_START = 64


@dataclass(frozen=True)
class Kind:
    """How a kind of data is recognised and read, and the names in it that `data.x` and `data.y` choose from."""

    matches: Callable[[Source], bool]
    read: Callable[[Ask], Stored]
    names: Callable[[Ask], list[str]] | None = None


# The first that matches: what the spec names comes before what a file starts with, and any folder may hold images.
DATASETS: dict[str, Kind] = {
    "synthetic": Kind(is_synthetic, read_synthetic),
    "function": Kind(is_function, read_function),
    "npz": Kind(is_npz, read_npz, npz_names),
    "npy": Kind(is_npy, read_npy),
    "safetensors": Kind(is_safetensors, read_safetensors, safetensors_names),
    "parquet": Kind(is_parquet, read_parquet, parquet_names),
    "table": Kind(is_table, read_table, table_names),
    "saved dataset": Kind(is_saved_dataset, read_saved_dataset, saved_names),
    "image folder": Kind(is_image_folder, read_image_folder),
}


def open_data(ask: Ask) -> tuple[str, Stored]:
    """The name of the kind, and the data as stored.

    Raises `RefusedError` for data that is missing, damaged, of no known kind, or that would run code without consent.
    """
    name = _recognised(ask)
    return name, DATASETS[name].read(ask)


def names_in(ask: Ask) -> list[str] | None:
    """The names of arrays or columns; `None` for data without names. Raises as `open_data` does."""
    names = DATASETS[_recognised(ask)].names
    return None if names is None else names(ask)


def _recognised(ask: Ask) -> str:
    source = _source(ask)
    found = next((name for name, kind in DATASETS.items() if kind.matches(source)), None)
    if found is not None:
        return found
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
        if path.exists() and not path.is_file():
            raise RefusedError(
                f"{path}: no regular file",
                expected="a file or a folder",
                found="a pipe or a device",
                remedy="name the data itself in `data.path`.",
            )
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
        raise RefusedError(
            f"{path}: cannot be read",
            expected="the file or folder named by `data.path`, relative to the spec",
            found=str(error),
            remedy="name a readable one in `data.path`.",
        ) from None
