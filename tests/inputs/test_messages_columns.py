"""The whole text about parquet files, and about datasets saved to disk."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectral_audit.inputs.data.columns import _values as values
from tests.inputs.kinds import probe_of
from tests.inputs.messages import Table, check

WRONG = Table()


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


# --- parquet -------------------------------------------------------------------------------------------------------


def parquet(folder: Path, named: str = "x", **columns: object) -> None:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    probe_of(folder, f"data: {{path: t.parquet, x: {named}, y: null}}")


@WRONG.refused(
    "DIR/t.parquet: the file is cut short or damaged",
    "a parquet file",
    "ArrowInvalid: Parquet magic bytes not found in footer. Either the file is corrupted or this is not "
    "a parquet file.",
    "copy or download the file again.",
)
def a_parquet_file_cut_short(folder):
    (folder / "t.parquet").write_bytes(b"PAR1 and no more")
    probe_of(folder, "data: {path: t.parquet}")


@WRONG.refused(
    "DIR/t.parquet: the table cannot be used", "at least one sample", "no rows", "save a data set with samples in it."
)
def no_rows(folder):
    parquet(folder, x=pa.array([], pa.float64()))


@WRONG.refused(
    "DIR/t.parquet: column `x` cannot be used", "lists of the same length", "lengths from 1 to 2", "pad or cut them."
)
def lists_of_several_lengths(folder):
    parquet(folder, x=[[1.0], [1.0, 2.0], [3.0]])


@WRONG.refused("DIR/t.parquet: column `x` cannot be used", "a value for every sample", "1 nulls", "fill them.")
def a_value_that_is_missing(folder):
    parquet(folder, x=[[1.0], [None]])


@WRONG.refused(
    "DIR/t.parquet: column `x` cannot be used",
    "numbers, lists of numbers, or text",
    "type date32[day]",
    "name another one.",
)
def dates(folder):
    parquet(folder, x=pa.array([1, 2], pa.date32()))


@WRONG.refused(
    "DIR/t.parquet: column `b` cannot be used",
    "one number for each sample",
    "shape (2,), dtype <U1",
    "list the columns of numbers, or one column of arrays, in `data.x`.",
)
def text_among_the_inputs(folder):
    parquet(folder, "[a, b]", a=[1, 2], b=["u", "v"])


@WRONG.refused(
    "DIR/t.parquet: image 0 is not in the table",
    "the bytes of the encoded image",
    "a path only",
    "save the data set with its images embedded.",
)
def an_image_by_its_path_only(folder):
    parquet(
        folder, x=pa.array([{"bytes": None, "path": "1.png"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    )


@WRONG.refused(
    "DIR/t.parquet: image 0 is not in the table",
    "the bytes of the encoded image",
    "a str",
    "save the data set with its images embedded.",
)
def an_image_that_is_text(folder):
    parquet(folder, x=pa.array([{"bytes": "1"}], pa.struct({"bytes": pa.string()})))


@WRONG.refused("DIR/t.parquet: column `x` cannot be used", "a name of its own", "its name twice", "rename one of them.")
def two_columns_of_one_name(folder):
    column = pa.array([1.0, 2.0])
    pq.write_table(pa.Table.from_arrays([column, column], names=["x", "x"]), folder / "t.parquet")
    probe_of(folder, "data: {path: t.parquet, y: null}")


class Large:
    """A column as pyarrow gives it where one piece cannot hold all of it."""

    num_chunks = 3

    def __len__(self) -> int:
        return 9

    def combine_chunks(self) -> None:
        raise pa.ArrowInvalid("offset overflow while concatenating arrays")


@WRONG.refused(
    "DIR/t.parquet: column `x` cannot be used",
    "a column that fits one piece of 2 GB",
    "9 samples in 3 pieces",
    "save fewer samples.",
)
def a_column_too_large_for_one_piece(folder):
    values(folder / "t.parquet", "x", Large())


# --- datasets saved to disk ----------------------------------------------------------------------------------------


def dataset(folder: Path, **changes: dict[str, object]) -> Path:
    """A saved dataset, with keys of its descriptions replaced."""
    datasets.Dataset.from_dict({"x": [[1.0], [2.0]], "y": [0, 1]}).save_to_disk(folder / "saved")
    for name, keys in changes.items():
        path = folder / "saved" / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder / "saved"


def read(folder: Path, split: str = "") -> None:
    probe_of(folder, f"data: {{path: saved{split}}}")


@WRONG.refused(
    "DIR/saved: the dataset is a selection of rows of its files",
    "files that hold the rows in order",
    "`_indices_data_files` in state.json",
    "save it with dataset.flatten_indices().save_to_disk(...).",
)
def a_selection_of_rows(folder):
    dataset(folder, state={"_indices_data_files": [{"filename": "indices.arrow"}]})
    read(folder)


@WRONG.refused(
    "DIR/saved/state.json: the file is cut short or damaged",
    "a directory written by datasets' save_to_disk",
    "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "copy or download the file again.",
)
def a_description_that_is_no_json(folder):
    (dataset(folder) / "state.json").write_text("no json")
    read(folder)


@WRONG.refused(
    "DIR/saved/dataset_info.json: the file is cut short or damaged",
    "a directory written by datasets' save_to_disk",
    "no JSON object",
    "copy or download the file again.",
)
def a_description_that_is_a_list(folder):
    (dataset(folder) / "dataset_info.json").write_text("[]")
    read(folder)


@WRONG.refused(
    "DIR/saved/state.json: the file is cut short or damaged",
    "a directory written by datasets' save_to_disk",
    "no list of files or splits",
    "copy or download the file again.",
)
def a_description_without_files(folder):
    dataset(folder, state={"_data_files": []})
    read(folder)


@WRONG.refused(
    "DIR/saved: the dataset is cut short or damaged",
    "a directory written by datasets' save_to_disk",
    "FileNotFoundError: [Errno 2] Failed to open local file 'DIR/saved/gone.arrow'. Detail: [errno 2] No "
    "such file or directory",
    "copy or download the file again.",
)
def a_file_that_is_gone(folder):
    dataset(folder, state={"_data_files": [{"filename": "gone.arrow"}]})
    read(folder)


def splits(folder: Path, *names: object) -> None:
    (folder / "saved").mkdir()
    (folder / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": names}))


@WRONG.refused(
    "DIR/saved: holds several splits",
    "`data.split`, the name of one",
    "splits train, test; `data.split: validation`",
    "set `data.split`; known: test, train.",
)
def a_split_that_is_not_there(folder):
    splits(folder, "train", "test")
    read(folder, ", split: validation")


@WRONG.refused(
    "DIR/saved: holds several splits",
    "`data.split`, the name of one",
    "splits train, test",
    "set `data.split`; did you mean 'test'? known: test, train.",
)
def a_split_that_is_not_named(folder):
    splits(folder, "train", "test")
    read(folder)


@WRONG.refused(
    "DIR/saved: holds several splits", "`data.split`, the name of one", "splits (none)", "save the dataset again."
)
def splits_without_names(folder):
    splits(folder, 1)
    read(folder)


@WRONG.refused(
    "DIR/saved: holds several splits",
    "`data.split`, the name of one",
    "splits (none); `data.split: test`",
    "save the dataset again.",
)
def a_split_of_splits_without_names(folder):
    splits(folder, 1)
    read(folder, ", split: test")
