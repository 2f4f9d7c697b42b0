"""The whole text about pickles that would run code, and about what a file holds instead of plain weights."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from tests.inputs.messages import Table, check
from tests.inputs.written import Evil, load, saved, zipped

WRONG = Table()
SIZE = {r"\d+ bytes": "SIZE bytes"}


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


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
    "DIR/model.pt: holds no state dict",
    "tensors by name, or a dictionary with such an entry",
    "a Sequential that lacks parts of a module",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def a_pickled_module_without_its_buffers(folder):
    module = nn.Sequential(nn.Linear(2, 2))
    del module[0].__dict__["_buffers"]
    load(folder, saved(module))


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


@WRONG.refused(
    "DIR/model.pt: tensor w is not plain numbers",
    "dense real tensors",
    "strided, qint8",
    "save the model's dense, unquantized weights.",
)
def quantized_numbers(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces what becomes of them
        load(folder, saved({"w": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)}))


@WRONG.refused(
    "DIR/model.safetensors: holds no tensors at all",
    "tensors by name, or a dictionary with such an entry",
    "an empty dictionary",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file.",
)
def safetensors_without_tensors(folder):
    save_file({}, folder / "model.safetensors")
    load_checkpoint(folder / "model.safetensors")
