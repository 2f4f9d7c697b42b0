"""Tables of typed columns, read with pyarrow: parquet files, and Hugging Face datasets saved to disk.

A column is one number a sample, a (nested) list of numbers of the same shape for all, or an encoded image, which the
Hugging Face libraries store as its bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spectral_audit.errors import RefusedError, nearest
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.data.images import lazily
from spectral_audit.inputs.data.stored import (
    Array,
    Ask,
    Source,
    Stored,
    bad,
    damaged,
    digest_of,
    missing_extra,
    whole,
)
from spectral_audit.inputs.data.tables import columns_of

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_SAVED = "a directory written by datasets' save_to_disk"


def is_parquet(source: Source) -> bool:
    """Parquet's magic."""
    return source.start.startswith(b"PAR1")


def read_parquet(ask: Ask) -> Stored:
    """The columns named by the spec, from one parquet file."""
    table = _parquet(ask.path)
    metadata = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = json.loads(metadata)["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):
        features = {}
    return _stored(ask, table, features, sha256_of(ask.path))


def parquet_names(ask: Ask) -> list[str]:
    """The names of its columns."""
    return list(_parquet(ask.path).column_names)


def _parquet(path: Path) -> Any:
    pyarrow = _pyarrow(path)
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise damaged(path, "the file", "a parquet file", error) from None
    return table


def is_saved_dataset(source: Source) -> bool:
    """A folder with the files that describe a dataset, or several splits of one."""
    return source.folder and any((source.path / name).is_file() for name in (_STATE, _SPLITS))


def read_saved_dataset(ask: Ask) -> Stored:
    """The columns named by the spec, from the arrow files that the dataset's own description lists."""
    folder = _split(ask.path, ask.spec.data.split)
    files = _files(folder)
    table, features = _arrow(folder, files), _json(folder / _INFO).get("features")
    sha256 = digest_of([folder / _STATE, folder / _INFO, *files])
    return _stored(ask, table, features if isinstance(features, dict) else {}, sha256)


def saved_names(ask: Ask) -> list[str]:
    """The names of its columns."""
    folder = _split(ask.path, ask.spec.data.split)
    return list(_arrow(folder, _files(folder)).column_names)


def _files(folder: Path) -> list[Path]:
    state = _json(folder / _STATE)
    if state.get("_indices_data_files"):
        raise RefusedError(
            f"{folder}: the dataset is a selection of rows of its files",
            expected="files that hold the rows in order",
            found="`_indices_data_files` in state.json",
            remedy="save it with dataset.flatten_indices().save_to_disk(...).",
        )
    return [_inside(folder, entry) for entry in _list(folder / _STATE, state.get("_data_files"))]


def _arrow(folder: Path, files: list[Path]) -> Any:
    pyarrow = _pyarrow(folder)
    try:
        table = pyarrow.concat_tables([_stream(pyarrow, file) for file in files])
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise damaged(folder, "the dataset", _SAVED, error) from None
    return table


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise missing_extra(path, "pyarrow", "parquet") from None
    return pyarrow


def _stream(pyarrow: Any, file: Path) -> Any:
    from pyarrow import ipc

    with pyarrow.memory_map(str(file)) as source:
        return ipc.open_stream(source).read_all()


def _split(path: Path, split: str | None) -> Path:
    """The folder of one split, where the dataset has several."""
    if not (path / _SPLITS).is_file():
        return path
    known = [name for name in _list(path / _SPLITS, _json(path / _SPLITS).get("splits")) if isinstance(name, str)]
    if split not in known:
        raise RefusedError(
            f"{path}: holds several splits",
            expected="`data.split`, the name of one",
            found=f"splits {', '.join(known) or '(none)'}" + (f"; `data.split: {split}`" if split else ""),
            remedy=f"set `data.split`; {nearest(split or 'test', known)}." if known else "save the dataset again.",
        )
    return _inside(path, {"filename": split})


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, "the file", _SAVED, error) from None
    if not isinstance(found, dict):
        raise damaged(path, "the file", _SAVED, "no JSON object")
    return found


def _list(path: Path, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise damaged(path, "the file", _SAVED, "no list of files or splits")
    return value


def _inside(folder: Path, entry: Any) -> Path:
    """A file of the dataset, which must lie in its folder."""
    name = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(name, str) or "\0" in name or name in ("", "..") or Path(name).name != name:
        raise RefusedError(
            f"{folder}: the dataset names a file outside its folder",
            expected="file names without a folder",
            found=repr(name)[:80],
            remedy="treat it with suspicion; if it is yours, save it again with save_to_disk.",
        )
    return folder / name


def _stored(ask: Ask, table: Any, features: dict[str, Any], sha256: str) -> Stored:
    """Inputs and labels from the columns the spec names."""
    path, y_name = ask.path, ask.spec.data.y
    inputs = columns_of(path, table.column_names, ask.spec.data.x, y_name)
    for name in (*inputs, y_name):
        if table.column_names.count(name) > 1:
            raise bad(path, f"column `{name}`", "a name of its own", "its name twice", "rename one of them.")
    if not table.num_rows:
        raise bad(path, "the table", "at least one sample", "no rows", "save a data set with samples in it.")
    y = None if y_name is None else _values(path, y_name, table.column(y_name))
    label = features.get(y_name) if y_name else None
    names = label.get("names") if isinstance(label, dict) else None
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    first = table.column(inputs[0])
    if len(inputs) == 1 and _is_image(first.type):
        images = first.combine_chunks().field("bytes")
        return lazily(ask, [f"{inputs[0]}[{k}]" for k in range(len(images))], lambda k: _bytes(path, images, k), y,
                      sha256, names=classes, y_name=f"column `{y_name}`")  # fmt: skip
    arrays = [_values(path, name, table.column(name)) for name in inputs]
    x = arrays[0] if len(arrays) == 1 and arrays[0].ndim > 1 else _side_by_side(path, inputs, arrays)
    named = f"column `{inputs[0]}`" if len(inputs) == 1 else "the table"
    stored = whole(path, x, y, sha256, named, f"column `{y_name}`")
    return Stored(**{**vars(stored), "names": classes})


def _side_by_side(path: Path, names: list[str], arrays: list[Array]) -> Array:
    for name, values in zip(names, arrays, strict=True):
        if values.ndim != 1 or values.dtype.kind not in "biuf":
            found = f"shape {values.shape}, dtype {values.dtype}"
            remedy = "list the columns of numbers, or one column of arrays, in `data.x`."
            raise bad(path, f"column `{name}`", "one number for each sample", found, remedy)
    return np.stack(arrays, axis=1)


def _is_image(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind)) and kind.get_field_index("bytes") >= 0


def _bytes(path: Path, images: Any, k: int) -> bytes:
    value = images[k].as_py()
    if isinstance(value, bytes):
        return value
    raise RefusedError(
        f"{path}: image {k} is not in the table",
        expected="the bytes of the encoded image",
        found="a path only" if value is None else f"a {type(value).__name__}",
        remedy="save the data set with its images embedded.",
    )


def _values(path: Path, name: str, column: Any) -> Array:
    """A column as one rectangular array (n, *shape) of numbers, or (n,) of text."""
    import pyarrow

    try:
        values = column.combine_chunks()
    except pyarrow.ArrowException:  # the places in a piece are numbers of 32 bits
        values = column
    if isinstance(values, type(column)):
        found = f"{len(column)} samples in {column.num_chunks} pieces"
        raise bad(path, f"column `{name}`", "a column that fits one piece of 2 GB", found, "save fewer samples.")
    return _rectangular(path, name, values, (len(column),))


def _rectangular(path: Path, name: str, values: Any, outer: tuple[int, ...]) -> Array:
    import pyarrow
    from pyarrow import types

    if isinstance(values, pyarrow.ExtensionArray):
        values = values.storage
    kind = values.type
    if values.null_count:
        raise bad(path, f"column `{name}`", "a value for every sample", f"{values.null_count} nulls", "fill them.")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lengths = values.value_lengths().unique().to_pylist()
        if len(lengths) > 1:
            found = f"lengths from {min(lengths)} to {max(lengths)}"
            raise bad(path, f"column `{name}`", "lists of the same length", found, "pad or cut them.")
        return _rectangular(path, name, values.flatten(), (*outer, *lengths))
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(values.to_pylist(), dtype=str).reshape(outer)
    if types.is_dictionary(kind):
        return _rectangular(path, name, values.dictionary_decode(), outer)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise bad(path, f"column `{name}`", "numbers, lists of numbers, or text", f"type {kind}", "name another one.")
    array: Array = values.to_numpy(zero_copy_only=False).reshape(outer)
    return array
