"""The whole text about folders of images, and about functions that load data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.inputs.kinds import probe_of
from tests.inputs.messages import Table, check, said, text

WRONG = Table()


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


# --- images --------------------------------------------------------------------------------------------------------


def image(folder: Path, mode: str = "L", spec: str = "") -> None:
    (folder / "images" / "a").mkdir(parents=True)
    Image.new(mode, (3, 3)).save(folder / "images" / "a" / "1.png")
    probe_of(folder, "data: {path: images}\n" + spec)


@WRONG.refused(
    "DIR/images: cannot be read",
    "one subfolder of images for each class",
    "[Errno 2] No such file or directory: 'DIR/images/a/1.png'",
    "make the folder and all images in it readable.",
)
def an_image_that_is_gone(folder):
    (folder / "images" / "a").mkdir(parents=True)
    (folder / "images" / "a" / "1.png").symlink_to(folder / "gone.png")
    probe_of(folder, "data: {path: images}")


@WRONG.refused(
    "DIR/images: image a/1.png does not have 8 bits for each channel",
    "grey, palette or colour images of 8 bits",
    "mode I;16",
    "convert it, or save the pixels with numpy.savez.",
)
def an_image_of_sixteen_bits(folder):
    image(folder, "I;16")


@WRONG.refused(
    "DIR/images: image a/1.png cannot be decoded",
    "one of: PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM",
    "UnidentifiedImageError: cannot identify image file 'DIR/images/a/1.png'",
    "repair or remove that image.",
)
def an_image_of_no_bytes(folder):
    (folder / "images" / "a").mkdir(parents=True)
    (folder / "images" / "a" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    probe_of(folder, "data: {path: images}")


@WRONG.refused(
    "DIR/images: images have another layout than the spec says",
    "`input.layout: NHW` for grey images, NHWC for colour",
    "`input.layout: NLC`",
    "correct `input.layout`, or leave it out.",
)
def images_with_a_layout_for_sequences(folder):
    image(folder, spec="input: {layout: NLC}")


# --- functions -----------------------------------------------------------------------------------------------------


def function(folder: Path, body: str, name: str = "load") -> None:
    (folder / "loader.py").write_text(f"def load():\n    {body}\n")
    probe_of(folder, f'data: {{path: "python:loader.py:{name}"}}', consent=True)


@WRONG.refused(
    "python:loader.py:load: the function does not return a data set",
    "(x, y): inputs and labels as arrays or tensors; y may be None",
    "a list",
    "return a pair of arrays from it.",
)
def a_function_that_returns_a_list(folder):
    function(folder, "return [1]")


@WRONG.refused(
    "python:loader.py:load: the function does not return a data set",
    "(x, y): inputs and labels as arrays or tensors; y may be None",
    "a tuple of 3",
    "return a pair of arrays from it.",
)
def a_function_that_returns_three(folder):
    function(folder, "return 1, 2, 3")


@WRONG.refused(
    "python:loader.py:load: the function does not return a data set",
    "(x, y): inputs and labels as arrays or tensors; y may be None",
    "x: ValueError",
    "return a pair of arrays from it.",
)
def a_function_that_returns_rows_of_several_lengths(folder):
    function(folder, "return [[1], [2, 3]], None")


@WRONG.refused(
    "python:loader.py:load: the function does not return a data set",
    "(x, y): inputs and labels as arrays or tensors; y may be None",
    "x is a dict of Python objects",
    "return a pair of arrays from it.",
)
def a_function_that_returns_objects(folder):
    function(folder, "return {}, None")


@WRONG.misused(
    "loader.py: holds no function `laod`",
    "a function that returns a pair of arrays",
    "nothing of that name",
    "correct the name; did you mean 'load'? known: load.",
)
def a_function_that_is_not_there(folder):
    function(folder, "return [1]", "laod")


@WRONG.misused(
    "DIR/loader.py: no such file",
    "a Python file",
    "`data.path`: loader.py:load",
    "give an absolute path, or one relative to DIR.",
)
def a_file_of_functions_that_is_not_there(folder):
    probe_of(folder, 'data: {path: "python:loader.py:load"}', consent=True)


# --- libraries -----------------------------------------------------------------------------------------------------


def test_images_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").touch()
    assert said(tmp_path, lambda folder: probe_of(folder, "data: {path: images}")) == text(
        "DIR/images: reading it needs Pillow",
        "Pillow installed beside spectral-audit",
        "no such package",
        "pip install 'spectral-audit[images]'",
    )


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "probe.parquet").write_bytes(b"PAR1")
    assert said(tmp_path, lambda folder: probe_of(folder, "data: {path: probe.parquet}")) == text(
        "DIR/probe.parquet: reading it needs pyarrow",
        "pyarrow installed beside spectral-audit",
        "no such package",
        "pip install 'spectral-audit[parquet]'",
    )
