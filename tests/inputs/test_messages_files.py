"""The whole text about checkpoint files that are missing, damaged, of no known format, or would run code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.inputs.checkpoints.archive import Archive
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from tests.inputs.messages import Table, check, said, text
from tests.inputs.saved import ROWS, model

WRONG = Table()
SIZE = {r"\d+ bytes": "SIZE bytes"}


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


class Evil:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> object:
        return exec, ("raise SystemExit",)


def load(folder: Path, content: bytes, name: str = "model.pt") -> object:
    (folder / name).write_bytes(content)
    return load_checkpoint(folder / name)


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def zipped(**records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, blob in records.items():
            file.writestr(name, blob)
    return buffer.getvalue()


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


# --- pickles -------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.pt: loading its pickle would run code outside torch's list for plain weights; nothing was loaded",
    "a pickle of tensors and plain containers only",
    "builtins.exec",
    "treat the file with suspicion unless you know where it comes from; if it is yours: where the model "
    "was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; or, if you trust "
    "its source with your machine, add --trust pickle.",
)
def a_state_dict_with_something_to_run(folder):
    load(folder, saved({"state_dict": {"w": torch.ones(2)}, "extra": Evil()}))


def names(count: int, *strings: str) -> bytes:
    """A pickle that imports so many names, and holds these strings."""
    held = [b"cevil\nf%02d\n" % k for k in range(count)] + [b"V%s\n" % text.encode() for text in strings]
    return b"\x80\x02(" + b"".join(held) + b"t."


@WRONG.refused(
    "DIR/model.pt: loading its pickle would run code outside torch's list for plain weights; nothing was loaded",
    "a pickle of tensors and plain containers only",
    "evil.f00, evil.f01, evil.f02, evil.f03, evil.f04, evil.f05, evil.f06, evil.f07, evil.f08, evil.f09, "
    "evil.f10, evil.f11 and 2 more",
    "treat the file with suspicion unless you know where it comes from; if it is yours: where the model "
    "was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; or, if you trust "
    "its source with your machine, add --trust pickle.",
)
def a_state_dict_with_many_things_to_run(folder):
    load(folder, zipped(**{"archive/data.pkl": names(14), "archive/version": b"3"}))


@WRONG.refused(
    "DIR/model.pt: holds a whole pickled model, not only its weights; loading it would run code from the file",
    "a state dict, or a module made of torch.nn's own layers",
    "a pickled torch module that imports evil.f00, evil.f01, evil.f02, evil.f03, evil.f04, evil.f05, "
    "evil.f06, evil.f07, evil.f08, evil.f09, evil.f10, evil.f11 and 2 more",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; "
    "or, if you trust its source with your machine, add --trust pickle.",
)
def a_pickled_model_of_many_classes(folder):
    load(folder, zipped(**{"archive/data.pkl": names(14, "_parameters", "_modules"), "archive/version": b"3"}))


@WRONG.refused(
    "DIR/model.pt: a Lightning checkpoint whose hyperparameters are Python objects; loading them would run code",
    "a pickle of tensors and plain containers only",
    "evil.f00, evil.f01, evil.f02, evil.f03, evil.f04, evil.f05, evil.f06, evil.f07, evil.f08, evil.f09, "
    "evil.f10, evil.f11 and 2 more",
    "treat the file with suspicion unless you know where it comes from; if it is yours: where the model "
    "was trained, run torch.save(torch.load('last.ckpt', weights_only=False)['state_dict'], 'model.pt') "
    "and audit that file; or, if you trust its source with your machine, add --trust pickle.",
)
def many_hyperparameters(folder):
    load(folder, zipped(**{"archive/data.pkl": names(14, "pytorch-lightning_version"), "archive/version": b"3"}))


@WRONG.refused(
    "DIR/model.pt: the pickled module is more than torch.nn's layers",
    "layers as torch.nn defines them, without hooks or replaced methods",
    "forward in `the module itself`",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def a_replaced_method_of_the_model_itself(folder):
    net = nn.Linear(2, 2)
    net.forward = torch.Size
    load(folder, saved(net))


@WRONG.refused(
    "DIR/model.pt: saved with pickle protocol 4 or later, which torch's weights-only loader cannot read",
    "pickle protocol 2, torch.save's default",
    "names taken from the pickle's stack",
    "save it again without pickle_protocol=, or as safetensors; or, if you trust its source with your "
    "machine, add --trust pickle.",
)
def a_newer_protocol(folder):
    load(folder, saved({"w": torch.ones(2)}, pickle_protocol=4))


@WRONG.refused(
    "DIR/model.pt: a plain Python pickle; loading it can run any code, so nothing was loaded",
    "a file written by torch.save",
    "a pickle that imports builtins.exec",
    "treat the file with suspicion unless you know where it comes from; if it is yours: where the model "
    "was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; or, if you trust "
    "its source with your machine, add --trust pickle.",
)
def a_plain_pickle(folder):
    load(folder, pickle.dumps(Evil(), protocol=2))


@WRONG.refused(
    "DIR/model.pt: a plain Python pickle; loading it can run any code, so nothing was loaded",
    "a file written by torch.save",
    "a pickle that imports nothing",
    "treat the file with suspicion unless you know where it comes from; if it is yours: where the model "
    "was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; or, if you trust "
    "its source with your machine, add --trust pickle.",
)
def a_plain_pickle_of_numbers(folder):
    load(folder, pickle.dumps({"w": [1.0]}, protocol=2))


@WRONG.refused(
    "DIR/model.pkl: its pickle names code that is not here",
    "the classes it was saved with, importable from the working directory",
    "ModuleNotFoundError: No module named 'no_such_package'",
    "run this where that code lies; or where the model was trained, run torch.save(model.state_dict(), "
    "'model.pt') and audit that file.",
)
def a_pickle_of_code_that_is_not_here(folder):
    (folder / "model.pkl").write_bytes(b"\x80\x02cno_such_package\nNet\n.")
    load_checkpoint(folder / "model.pkl", trust="pickle")


@WRONG.refused(
    "DIR/model.pkl: damaged, cut short, or not readable by this version",
    "a pickle that loads",
    "SIZE bytes; SystemExit",
    "copy or download the file again, or save it again.",
    vary=SIZE,
)
def a_trusted_pickle_that_fails(folder):
    (folder / "model.pkl").write_bytes(pickle.dumps(Evil(), protocol=2))
    load_checkpoint(folder / "model.pkl", trust="pickle")


# --- state dicts ---------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.pt: holds no state dict",
    "tensors by name, or a dictionary with such an entry",
    "a Tensor",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def a_tensor_alone(folder):
    load(folder, saved(torch.ones(3)))


@WRONG.refused(
    "DIR/model.pt: holds no state dict",
    "tensors by name, or a dictionary with such an entry",
    "a dictionary with keys epoch, loss",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def a_dictionary_without_tensors(folder):
    load(folder, saved({"epoch": 3, "loss": 0.1}))


@WRONG.refused(
    "DIR/model.pt: holds no state dict",
    "tensors by name, or a dictionary with such an entry",
    "tensors mixed with other entries: epoch",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def tensors_among_other_entries(folder):
    load(folder, saved({"w": torch.ones(2), "epoch": 3}))


@WRONG.refused(
    "DIR/model.pt: holds several state dicts",
    "one, or the name of one",
    "critic, generator",
    "choose one: --weights critic, or `model.weights` in the spec.",
)
def several_state_dicts(folder):
    load(folder, saved({"generator": {"w": torch.ones(2)}, "critic": {"w": torch.ones(2)}}))


@WRONG.refused(
    "DIR/model.pt: holds several state dicts",
    "one, or the name of one",
    "ema, net",
    "choose one: --weights ema, or `model.weights` in the spec.",
)
def several_state_dicts_under_usual_names(folder):
    load(folder, saved({"net": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}}))


@WRONG.misused(
    "DIR/model.pt: holds no state dict named `nett`",
    "one of: net, ema",
    "nett",
    "choose another name; did you mean 'net'? known: ema, net.",
)
def a_name_of_none_of_them(folder):
    (folder / "model.pt").write_bytes(saved({"net": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}}))
    load_checkpoint(folder / "model.pt", weights="nett")


@WRONG.misused(
    "DIR/model.pt: holds no state dict named `ema`",
    "no name",
    "a single state dict without a name",
    "leave out --weights, or `model.weights` in the spec.",
)
def a_name_where_there_is_nothing_to_choose(folder):
    (folder / "model.pt").write_bytes(saved({"w": torch.ones(2)}))
    load_checkpoint(folder / "model.pt", weights="ema")


@WRONG.misused(
    "DIR/model.pt: holds no state dict named `ema`",
    "no name",
    "ema",
    "leave out --weights, or `model.weights` in the spec.",
)
def a_name_where_there_are_no_tensors(folder):
    (folder / "model.pt").write_bytes(saved({"epoch": 3}))
    load_checkpoint(folder / "model.pt", weights="ema")


@WRONG.refused(
    "DIR/model.pt: 2 of 3 tensors hold NaN or infinite numbers",
    "finite weights",
    "a: 1 NaN, 1 infinite of 3\n            c: 1 NaN, 0 infinite of 1",
    "audit an earlier checkpoint, from before the training diverged.",
)
def numbers_that_are_not_finite(folder):
    load(
        folder,
        saved({"a": torch.tensor([1.0, torch.nan, torch.inf]), "b": torch.ones(2), "c": torch.tensor(torch.nan)}),
    )


@WRONG.refused(
    "DIR/model.pt: 10 of 10 tensors hold NaN or infinite numbers",
    "finite weights",
    "w0: 1 NaN, 0 infinite of 1\n"
    "            w1: 1 NaN, 0 infinite of 1\n"
    "            w2: 1 NaN, 0 infinite of 1\n"
    "            w3: 1 NaN, 0 infinite of 1\n"
    "            w4: 1 NaN, 0 infinite of 1\n"
    "            w5: 1 NaN, 0 infinite of 1\n"
    "            w6: 1 NaN, 0 infinite of 1\n"
    "            w7: 1 NaN, 0 infinite of 1\n"
    "            and 2 more",
    "audit an earlier checkpoint, from before the training diverged.",
)
def many_tensors_that_are_not_finite(folder):
    load(folder, saved({f"w{k}": torch.tensor(torch.nan) for k in range(10)}))


@WRONG.refused(
    "DIR/model.pt: tensor w is not plain numbers",
    "dense real tensors",
    "sparse_coo, float32",
    "save the model's dense, unquantized weights.",
)
def a_sparse_tensor(folder):
    load(folder, saved({"w": torch.eye(3).to_sparse()}))


@WRONG.refused(
    "DIR/model.pt: tensor w is not plain numbers",
    "dense real tensors",
    "strided, complex64",
    "save the model's dense, unquantized weights.",
)
def complex_numbers(folder):
    load(folder, saved({"w": torch.ones(2, dtype=torch.complex64)}))


@WRONG.refused(
    "DIR/model.pt: tensor w is not plain numbers",
    "dense real tensors",
    "without data",
    "save the model's dense, unquantized weights.",
)
def a_tensor_without_data(folder):
    load(folder, saved({"w": torch.ones(2, device="meta")}))


@WRONG.refused(
    "DIR/model.safetensors: tensor w cannot be read as float32",
    "a float type that torch converts",
    "float4_e2m1fn_x2: \"copy_kernel\" not implemented for 'Float4_e2m1fn_x2'",
    "save the weights as float32.",
)
def narrow_floats_that_torch_does_not_convert(folder):
    header = json.dumps({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}).encode()
    load(folder, len(header).to_bytes(8, "little") + header + bytes(2), "model.safetensors")


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
