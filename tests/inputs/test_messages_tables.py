"""The whole text about tables in text files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inputs.kinds import probe_of
from tests.inputs.messages import Table, check

WRONG = Table()


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


# --- text ----------------------------------------------------------------------------------------------------------


def table(folder: Path, *lines: str, name: str = "t.csv") -> None:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    probe_of(folder, f"data: {{path: {name}}}")


@WRONG.refused(
    "DIR/t.csv: line 3 does not have one field for each column",
    "3 fields: a, b, y",
    "2 fields",
    "complete or remove that line.",
)
def a_line_too_short(folder):
    table(folder, "a,b,y", "1,2,0", "1,2")


@WRONG.refused(
    "DIR/t.csv: line 2 does not have one field for each column",
    "10 fields: a0, a1, a2, a3, a4, a5, a6, a7, …",
    "2 fields",
    "complete or remove that line.",
)
def a_line_too_short_for_many_columns(folder):
    table(folder, ",".join(f"a{k}" for k in range(9)) + ",y", "1,2")


@WRONG.refused(
    "DIR/t.csv: line 3, column `b` holds no number",
    "a finite number",
    "'cat'",
    "repair that line, or list the columns of numbers in `data.x`.",
)
def a_number_that_is_none(folder):
    table(folder, "a,b,y", "1,2,0", "1,cat,1")


@WRONG.refused(
    "DIR/t.csv: the first line does not name the columns",
    "a different name for every column",
    "numbers only",
    "add a first line with column names.",
)
def no_header(folder):
    table(folder, "1,2,3", "4,5,6")


@WRONG.refused(
    "DIR/t.csv: the first line does not name the columns",
    "a different name for every column",
    "`a` twice",
    "add a first line with column names.",
)
def a_column_twice(folder):
    table(folder, "a,a,y", "4,5,6")


@WRONG.refused(
    "DIR/t.csv: the first line does not name the columns",
    "a different name for every column",
    "a column without a name",
    "add a first line with column names.",
)
def a_column_without_a_name(folder):
    table(folder, "a,,y", "4,5,6")


@WRONG.refused(
    "DIR/t.csv: the first line does not name the columns",
    "a different name for every column",
    "no text",
    "add a first line with column names.",
)
def an_empty_table(folder):
    (folder / "t.csv").touch()
    probe_of(folder, "data: {path: t.csv}")


@WRONG.refused(
    "DIR/t.csv: the table cannot be used", "at least one sample", "a header only", "save a data set with samples in it."
)
def a_header_only(folder):
    table(folder, "a,y")


@WRONG.refused(
    "DIR/t.csv: line 3, column `y` holds no label",
    "numbers in every line, or names in every line",
    "''",
    "repair that line.",
)
def a_label_that_is_missing(folder):
    table(folder, "a,y", "1,cat", "2,")


@WRONG.refused(
    "DIR/t.csv: the table cannot be used", "columns of inputs beside the labels", "column y only", "add the inputs."
)
def labels_only(folder):
    table(folder, "y", "1")


@WRONG.refused(
    "DIR/t.csv: holds no column `y`",
    "the column named by `data.y`",
    "columns a, b",
    "correct `data.y`; known: a, b. With no labels, set `data.y: null`.",
)
def no_column_of_labels(folder):
    table(folder, "a,b", "1,2")


@WRONG.refused(
    "DIR/t.csv: not readable as a table",
    "UTF-8 text with one row a line, separated by commas",
    "unexpected end of data",
    "save the table again.",
)
def a_quote_that_does_not_end(folder):
    table(folder, "a,y", '1,"2')


@WRONG.refused(
    "DIR/t.tsv: not readable as a table",
    "UTF-8 text with one row a line, separated by tabs",
    "'utf-8' codec can't decode byte 0xe9 in position 9: invalid continuation byte",
    "save the table again.",
)
def another_encoding(folder):
    (folder / "t.tsv").write_bytes(b"a\ty\n1\tcaf\xe9\n")
    probe_of(folder, "data: {path: t.tsv}")
