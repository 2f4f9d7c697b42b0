"""The whole text about data files that are missing, damaged, of no known kind, or of another kind than asked for."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.inputs.data.dataset import load_probe
from spectral_audit.inputs.spec import load_spec
from tests.inputs.kinds import probe_of
from tests.inputs.messages import Table, check

WRONG = Table()


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


def data(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    probe_of(folder, f"data: {{path: {name}}}")


# --- files ---------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/probe.npz: no such data file",
    "the file named by `data.path`, relative to the spec",
    "nothing of that name",
    "correct `data.path`, or fetch the data.",
)
def no_such_file(folder):
    probe_of(folder, "data: {path: probe.npz}")


@WRONG.refused(
    "DIR/probe.npz/x: cannot be read",
    "the file or folder named by `data.path`, relative to the spec",
    "[Errno 20] Not a directory: 'DIR/probe.npz/x'",
    "name a readable one in `data.path`.",
)
def a_file_below_a_file(folder):
    (folder / "probe.npz").touch()
    probe_of(folder, "data: {path: probe.npz/x}")


@WRONG.refused(
    "DIR/probe.npz: not a data file that is known here",
    "one of: synthetic, function, npz, npy, safetensors, parquet, table, saved dataset, image folder",
    "an empty file (0 bytes)",
    "save the arrays with numpy.savez(path, x=x, y=y).",
)
def an_empty_file(folder):
    data(folder, "probe.npz", b"")


@WRONG.refused(
    "DIR/probe.npz: not a data file that is known here",
    "one of: synthetic, function, npz, npy, safetensors, parquet, table, saved dataset, image folder",
    "a file that starts with b'\\x80\\x02}q\\x00X\\x01\\x00\\x00\\x00xq'",
    "save the arrays with numpy.savez(path, x=x, y=y).",
)
def a_pickle(folder):
    data(folder, "probe.npz", pickle.dumps({"x": 1}, protocol=2))


# --- arrays --------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/probe.npz: the archive is cut short or damaged",
    "an .npz file written by numpy.savez",
    "BadZipFile: File is not a zip file",
    "copy or download the file again.",
)
def an_archive_cut_short(folder):
    np.savez(folder / "probe.npz", x=np.zeros((4, 2)), y=np.zeros(4))
    data(folder, "probe.npz", (folder / "probe.npz").read_bytes()[:-1])


@WRONG.refused(
    "DIR/probe.npz: holds no array `x`", "the array named by `data.x`", "arrays (none)", "save arrays in it."
)
def an_archive_without_arrays(folder):
    np.savez(folder / "probe.npz")
    probe_of(folder, "data: {path: probe.npz}")


@WRONG.refused(
    "DIR/probe.npz: holds no array `image`",
    "the array named by `data.x`",
    "arrays images, y",
    "correct `data.x`; did you mean 'images'? known: images, y.",
)
def an_array_by_another_name(folder):
    np.savez(folder / "probe.npz", images=np.zeros((4, 2)), y=np.zeros(4))
    probe_of(folder, "data: {path: probe.npz, x: image}")


@WRONG.refused(
    "DIR/probe.npz: holds no array `label`",
    "the array named by `data.y`",
    "arrays x, labels",
    "correct `data.y`; did you mean 'labels'? known: labels, x. With no labels, set `data.y: null`.",
)
def labels_by_another_name(folder):
    np.savez(folder / "probe.npz", x=np.zeros((4, 2)), labels=np.zeros(4))
    probe_of(folder, "data: {path: probe.npz, y: label}")


@WRONG.refused(
    "DIR/probe.npz: holds no array `x`",
    "the array named by `data.x`",
    "arrays a00, a01, a02, a03, a04, a05, a06, a07, a08, a09, a10, a11 and 2 more",
    "correct `data.x`; known: a00, a01, a02, a03, a04, a05, a06, a07, a08, a09, a10, a11, a12, a13.",
)
def one_of_many_arrays_by_another_name(folder):
    np.savez(folder / "probe.npz", **{f"a{k:02d}": np.zeros((4, 2)) for k in range(14)})
    probe_of(folder, "data: {path: probe.npz, y: null}")


@WRONG.refused(
    "DIR/probe.npz: `data.x` lists columns, and this is no table",
    "the name of one array",
    "a, b",
    "name one array in `data.x`.",
)
def several_arrays(folder):
    np.savez(folder / "probe.npz", a=np.zeros((4, 2)), b=np.zeros((4, 2)))
    probe_of(folder, "data: {path: probe.npz, x: [a, b], y: null}")


@WRONG.refused(
    "DIR/x.npy: the array is cut short or damaged",
    "an .npy file written by numpy.save",
    "ValueError: EOF: reading array header, expected 118 bytes got 50",
    "copy or download the file again.",
)
def an_npy_file_cut_short(folder):
    np.save(folder / "x.npy", np.zeros((4, 2)))
    data(folder, "x.npy", (folder / "x.npy").read_bytes()[:60])


@WRONG.refused(
    "DIR/x.npy: the labels of a .npy file are in another one, and `data.y` names none",
    "`data.y: FILE.npy`, relative to the spec",
    "DIR/labels.npy: no such file",
    "name that file in `data.y`. With no labels, set `data.y: null`.",
)
def labels_in_a_npy_file_that_is_not_there(folder):
    np.save(folder / "x.npy", np.zeros((4, 2)))
    probe_of(folder, "data: {path: x.npy, y: labels.npy}")


@WRONG.refused(
    "DIR/y.npy: the array is cut short or damaged",
    "an .npy file written by numpy.save",
    "a NpzFile",
    "copy or download the file again.",
)
def an_archive_for_labels(folder):
    np.save(folder / "x.npy", np.zeros((4, 2)))
    np.savez(folder / "probe.npz", y=np.zeros(4))
    (folder / "probe.npz").rename(folder / "y.npy")
    probe_of(folder, "data: {path: x.npy, y: y.npy}")


@WRONG.refused(
    "DIR/probe.safetensors: the file is cut short or damaged",
    "a safetensors file",
    "SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "copy or download the file again.",
)
def safetensors_cut_short(folder):
    save_file({"x": torch.zeros(4, 2)}, folder / "probe.safetensors")
    data(folder, "probe.safetensors", (folder / "probe.safetensors").read_bytes()[:-1])


# --- keys that do not apply ----------------------------------------------------------------------------------------


def arrays(folder: Path, spec: str) -> None:
    np.savez(folder / "probe.npz", x=np.zeros((4, 2)), y=np.zeros(4))
    probe_of(folder, spec)


@WRONG.misused(
    "DIR/audit.yaml: `input.size` does not apply to this data", "images", "DIR/probe.npz: npz", "remove `input.size`."
)
def a_size_for_arrays(folder):
    arrays(folder, "data: {path: probe.npz}\ninput: {size: 3}")


@WRONG.misused(
    "DIR/audit.yaml: `input.shape` does not apply to this data",
    "synthetic data",
    "DIR/probe.npz: npz",
    "remove `input.shape`.",
)
def a_shape_for_arrays(folder):
    arrays(folder, "data: {path: probe.npz}\ninput: {shape: [3]}")


@WRONG.misused(
    "DIR/audit.yaml: `data.split` does not apply to this data",
    "datasets with splits",
    "DIR/probe.npz: npz",
    "remove `data.split`.",
)
def a_split_of_arrays(folder):
    arrays(folder, "data: {path: probe.npz, split: test}")


# --- no data -------------------------------------------------------------------------------------------------------


def noise(folder: Path, spec: str, model: nn.Module) -> None:
    (folder / "audit.yaml").write_text("data: {path: synthetic}\n" + spec)
    load_probe(load_spec(folder / "audit.yaml"), model=model)


@WRONG.refused(
    "DIR/audit.yaml: the shape of the model's input cannot be inferred",
    "a model whose first layer tells it, and that then runs",
    "none that the model runs on",
    "give data with --data FILE or `data.path`, or set `input.shape` to that of one sample.",
)
def a_model_that_does_not_tell_its_input(folder):
    noise(folder, "", nn.Sequential(nn.Conv1d(3, 2, 3), nn.Flatten(), nn.Linear(999, 2)))


@WRONG.refused(
    "DIR/audit.yaml: the shape of the model's input cannot be inferred",
    "a model whose first layer tells it, and that then runs",
    "`input.shape: [3]`, with which it does not run",
    "give data with --data FILE or `data.path`, or set `input.shape` to that of one sample.",
)
def a_shape_that_the_model_does_not_take(folder):
    noise(folder, "input: {shape: [3]}", nn.Linear(4, 2))
