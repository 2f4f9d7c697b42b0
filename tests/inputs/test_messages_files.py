"""The whole text about checkpoint files that are missing, damaged, or of no known format."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spectral_audit.inputs.checkpoints.archive import Archive
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from tests.inputs.messages import Table, check, said, text
from tests.inputs.saved import ROWS, model
from tests.inputs.written import Evil, load, saved, zipped

WRONG = Table()
SIZE = {r"\d+ bytes": "SIZE bytes"}


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


# --- files ---------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.pt: no such file", "a checkpoint file", "nothing of that name", "check the path and the spelling."
)
def no_such_file(folder):
    load_checkpoint(folder / "model.pt")


@WRONG.refused(
    "DIR/model.pt/weights: cannot be read",
    "a checkpoint file",
    "[Errno 20] Not a directory: 'DIR/model.pt/weights'",
    "give a readable file.",
)
def a_file_below_a_file(folder):
    (folder / "model.pt").touch()
    load_checkpoint(folder / "model.pt" / "weights")


@WRONG.refused("DIR/model.pt: the file is empty", "a checkpoint", "0 bytes", "copy or save it again.")
def an_empty_file(folder):
    load(folder, b"")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a file that starts with b'just some wo'",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def text_for_a_checkpoint(folder):
    load(folder, b"just some words")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "an HTML or XML page",
    "download the file itself, not the page about it.",
)
def a_page_about_the_file(folder):
    load(folder, b"<!DOCTYPE html>")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a Git LFS pointer, not the file itself",
    "run git lfs pull.",
)
def a_pointer_of_git_lfs(folder):
    load(folder, b"version https://git-lfs.github.com/spec/v1\n")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "an HDF5 file, as Keras writes",
    "save the weights of the PyTorch model instead.",
)
def a_file_of_keras(folder):
    load(folder, b"\x89HDF\r\n\x1a\n")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a NumPy array",
    "give the model's checkpoint; data goes into the spec.",
)
def an_array_of_numpy(folder):
    load(folder, b"\x93NUMPY\x01\x00")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a gzip file",
    "unpack it first.",
)
def a_gzip_file(folder):
    load(folder, b"\x1f\x8b\x08\x00")


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a zip archive of readme.txt, more.txt",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def another_zip(folder):
    load(folder, zipped(**{"readme.txt": b"hello", "more.txt": b""}))


@WRONG.refused(
    "DIR/model.pt: not a checkpoint format that is known here",
    "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
    "a zip archive of nothing",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def a_zip_of_folders_only(folder):
    load(folder, zipped(**{"a/": b"", "b/": b""}))


@WRONG.refused(
    "DIR/model: not a checkpoint format that is known here",
    "a directory with a config.json, an index of shards, or the .metadata of a distributed checkpoint",
    "a directory of notes.txt",
    "name one file in it.",
)
def a_directory_of_other_files(folder):
    (folder / "model").mkdir()
    (folder / "model" / "notes.txt").touch()
    load_checkpoint(folder / "model")


@WRONG.refused(
    "DIR/model: not a checkpoint format that is known here",
    "a directory with a config.json, an index of shards, or the .metadata of a distributed checkpoint",
    "a directory of nothing",
    "give the path of the checkpoint itself.",
)
def an_empty_directory(folder):
    (folder / "model").mkdir()
    load_checkpoint(folder / "model")


# --- damage --------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.pt: a zip archive that is cut short or damaged",
    "a complete archive, with its table of contents at the end",
    "SIZE bytes; File is not a zip file",
    "copy or download the file again.",
    vary=SIZE,
)
def a_zip_cut_short(folder):
    load(folder, saved(model().state_dict())[:-1])


@WRONG.refused(
    "DIR/model.pt: record archive/data/0 does not match its checksum",
    "the bytes that were saved",
    "other bytes: the file was damaged or changed after it was saved",
    "copy or download the file again.",
)
def a_flipped_byte(folder):
    blob = bytearray(saved({"w": torch.tensor([1.0, 2.0])}))
    blob[blob.index(torch.tensor([1.0, 2.0]).numpy().tobytes())] ^= 1
    assert torch.load(io.BytesIO(blob), weights_only=True), "torch itself does not notice"
    load(folder, bytes(blob))


@WRONG.refused(
    "DIR/model.safetensors: damaged, cut short, or not readable by this version",
    "safetensors, complete to the last byte",
    "SIZE bytes; SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "copy or download the file again, or save it again.",
    vary=SIZE,
)
def safetensors_with_more_at_the_end(folder):
    save_file({"w": torch.ones(2)}, folder / "honest.safetensors")
    load(folder, (folder / "honest.safetensors").read_bytes() + b"more", "model.safetensors")


@WRONG.refused(
    "DIR/model.safetensors: damaged, cut short, or not readable by this version",
    "tensors of a type this torch knows",
    "SIZE bytes; SafetensorError: Dtype not understood: F6_E2M3",
    "copy or download the file again, or save it again.",
    vary=SIZE,
)
def safetensors_of_a_type_torch_does_not_have(folder):
    header = json.dumps({"w": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}).encode()
    load(folder, len(header).to_bytes(8, "little") + header + bytes(3), "model.safetensors")


@WRONG.refused(
    "DIR/model.pt: damaged, cut short, or not readable by this version",
    "a file that torch.load reads with weights_only=True",
    "SIZE bytes; RuntimeError: record size (SIZE bytes) does not match expected size (SIZE bytes = "
    "262140 elements * SIZE bytes/element) for dtype Byte",
    "copy or download the file again, or save it again.",
    vary=SIZE,
)
def a_storage_that_claims_more_than_its_record(folder):
    with zipfile.ZipFile(io.BytesIO(saved({"w": torch.ones(7)}))) as old:
        records = {name: old.read(name) for name in old.namelist()}
    # Seven numbers become 65,535, in the storage and in the tensor.
    told = {
        n: b.replace(b"K\x07tq", b"M\xff\xfftq").replace(b"K\x07\x85", b"M\xff\xff\x85") for n, b in records.items()
    }
    load(folder, zipped(**told))


@WRONG.refused(
    "DIR/model.pt: its pickle is damaged or cut short",
    "a pickle that ends where it says",
    "bytes that are no pickle",
    "copy or download the file again.",
)
def a_legacy_file_cut_short(folder):
    load(folder, saved(model().state_dict(), _use_new_zipfile_serialization=False)[:300])


@WRONG.refused(
    "DIR/model-00001-of-00002.safetensors: not a file of weights",
    "safetensors, or a state dict saved by torch.save",
    "a file that starts with b'just some wo'",
    "download this file again.",
)
def an_index_of_shards_that_is_no_file_of_weights(folder):
    index = ROWS["safetensors in shards, by their index or directory"].write(folder, model())
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"just some words")
    load_checkpoint(index)


@WRONG.refused(
    "DIR/model.safetensors.index.json: the index and the shards do not agree",
    "every tensor in the file that the index names, and no others",
    "extra0 is not in model-00001-of-00002.safetensors\n"
    "            extra1 is not in model-00001-of-00002.safetensors\n"
    "            extra2 is not in model-00001-of-00002.safetensors\n"
    "            extra3 is not in model-00001-of-00002.safetensors\n"
    "            extra4 is not in model-00001-of-00002.safetensors\n"
    "            extra5 is not in model-00001-of-00002.safetensors\n"
    "            extra6 is not in model-00001-of-00002.safetensors\n"
    "            extra7 is not in model-00001-of-00002.safetensors\n"
    "            and 2 more",
    "download the index and the shards again, all of one version.",
)
def many_shards_that_do_not_agree(folder):
    index = ROWS["safetensors in shards, by their index or directory"].write(folder, model())
    table = json.loads(index.read_text())
    table["weight_map"] |= {f"extra{k}": "model-00001-of-00002.safetensors" for k in range(10)}
    index.write_text(json.dumps(table))
    load_checkpoint(index)


@WRONG.refused(
    "DIR/dcp/.metadata: the checkpoint's table is a pickle that is damaged or would run code; nothing was loaded",
    "names, shapes and places of tensors, as torch.distributed.checkpoint writes them",
    "bytes that are no pickle",
    "treat the file with suspicion unless you know where it comes from; if it is yours: save it again "
    "with torch.distributed.checkpoint.",
)
def a_damaged_table_of_a_distributed_checkpoint(folder):
    home = ROWS["distributed checkpoint, directory"].write(folder, model())
    (home / ".metadata").write_bytes((home / ".metadata").read_bytes()[:-40])
    load_checkpoint(home)


@WRONG.refused(
    "DIR/dcp/.metadata: the checkpoint's table is a pickle that is damaged or would run code; nothing was loaded",
    "names, shapes and places of tensors, as torch.distributed.checkpoint writes them",
    "builtins.exec",
    "treat the file with suspicion unless you know where it comes from; if it is yours: save it again "
    "with torch.distributed.checkpoint.",
)
def a_table_that_would_run_code(folder):
    home = ROWS["distributed checkpoint, directory"].write(folder, model())
    (home / ".metadata").write_bytes(pickle.dumps(Evil()))
    load_checkpoint(home)


@WRONG.refused(
    "DIR/dcp/.metadata: the checkpoint's table cannot be read",
    "names, shapes and places of tensors, as torch.distributed.checkpoint writes them",
    "AttributeError: 'dict' object has no attribute 'storage_data'",
    "copy the directory again, or convert it where it was written: python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE.",
)
def another_pickle_for_the_table(folder):
    home = ROWS["distributed checkpoint, directory"].write(folder, model())
    (home / ".metadata").write_bytes(pickle.dumps({}, protocol=2))
    load_checkpoint(home)


def test_a_record_too_large_for_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The true limit is 256 MB.
    monkeypatch.setattr(Archive.read, "__defaults__", (4,))
    (tmp_path / "model.pt").write_bytes(zipped(**{"archive/data.pkl": b"\x80\x02}q\x00."}))
    assert said(tmp_path, lambda folder: load_checkpoint(folder / "model.pt")) == text(
        "DIR/model.pt: damaged, cut short, or not readable by this version",
        "a record data.pkl that can be read",
        "136 bytes; BadZipFile: record data.pkl claims 6 bytes",
        "copy or download the file again, or save it again.",
    )
