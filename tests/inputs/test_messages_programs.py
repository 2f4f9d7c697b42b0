"""The whole text about exported programs and TorchScript that are damaged, need consent, or are not audited."""

from __future__ import annotations

import io
import warnings
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from tests.inputs.messages import Table, check

WRONG = Table()
TORCH = {r"torch \d\S+ reads\n  found     .+": "torch VERSION reads\n  found     WHAT TORCH SAYS"}


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


@cache
def written(how: str) -> bytes:
    """A linear layer of seven inputs as a program."""
    layer, buffer = nn.Linear(7, 1).eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces what becomes of TorchScript
        if how == "script":
            torch.jit.save(torch.jit.script(layer), buffer)
        else:
            torch.export.save(torch.export.export(layer, (torch.zeros(2, 7),)), buffer)
    return buffer.getvalue()


def changed(folder: Path, how: str, trust: str = "code", **changes: bytes) -> None:
    """Load the program with some records replaced or added."""
    with zipfile.ZipFile(io.BytesIO(written(how))) as old, zipfile.ZipFile(folder / "model.pt", "w") as new:
        root = old.namelist()[0].split("/")[0]
        records = {name: old.read(name) for name in old.namelist()}
        for name, blob in (records | {f"{root}/{name}": blob for name, blob in changes.items()}).items():
            new.writestr(name, blob)
    load_checkpoint(folder / "model.pt", trust=trust)


# --- exported programs ---------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.pt: loading an exported program builds and runs Python generated from the file",
    "your consent, for a file whose source you trust",
    "--trust none",
    "add --trust code; or audit a state dict, which needs no trust.",
)
def an_exported_program_without_consent(folder):
    changed(folder, "export", trust="none")


@WRONG.refused(
    "DIR/model.pt2: an exported program in the format of torch 2.7 or earlier",
    "the format written since torch 2.8",
    "record serialized_exported_program.json",
    "export it again with a current torch.",
)
def an_export_of_older_torch(folder):
    with zipfile.ZipFile(folder / "model.pt2", "w") as file:
        file.writestr("serialized_exported_program.json", "{}")
        file.writestr("version", "8.2")
    load_checkpoint(folder / "model.pt2", trust="code")


@WRONG.refused(
    "DIR/model.pt: the exported program holds records that are not read here",
    "graph, tensors and sample inputs (no compiled libraries, no custom objects)",
    "data/aotinductor/model/code.so",
    "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2').",
)
def compiled_code_in_an_exported_program(folder):
    changed(folder, "export", **{"data/aotinductor/model/code.so": b"\x7fELF"})


@WRONG.refused(
    "DIR/model.pt: holds a record twice, and readers disagree on which of the two counts",
    "every record once",
    "data/sample_inputs/MODEL.pt",
    "do not use this file; copy it again from a source you trust.",
)
def a_record_twice_in_an_exported_program(folder):
    changed(folder, "export", **{"data/sample_inputs/MODEL.pt": b""})


@WRONG.refused(
    "DIR/model.pt: the table of tensors in record data/weights/model_weights_config.json cannot be read",
    "JSON written by torch.export.save",
    "AttributeError: 'list' object has no attribute 'items'",
    "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2').",
)
def a_table_of_tensors_that_is_none(folder):
    changed(folder, "export", **{"data/weights/model_weights_config.json": b'{"config": []}'})


@WRONG.refused(
    "DIR/model.pt: the exported program cannot be loaded",
    "a program that torch VERSION reads",
    "WHAT TORCH SAYS",
    "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2').",
    vary=TORCH,
)
def a_graph_that_is_none(folder):
    changed(folder, "export", **{"models/model.json": b"{}"})


@WRONG.refused(
    "DIR/model.pt2: the program was exported in training mode, and that cannot be changed afterwards",
    "a program exported after model.eval()",
    "aten.dropout.default with training=True at `dropout`",
    "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2').",
)
def a_program_exported_in_training_mode(folder):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3),)), folder / "model.pt2")
    load_checkpoint(folder / "model.pt2", trust="code")


@WRONG.refused(
    "DIR/model.pt2: the program was exported in training mode, and that cannot be changed afterwards",
    "a program exported after model.eval()",
    "aten.batch_norm.default with training=True at `batch_norm`",
    "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2').",
)
def statistics_of_a_program_exported_in_training_mode(folder):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3),)), folder / "model.pt2")
    load_checkpoint(folder / "model.pt2", trust="code")


# --- TorchScript ---------------------------------------------------------------------------------------------------


def table_of_script() -> bytes:
    with zipfile.ZipFile(io.BytesIO(written("script"))) as file:
        return next(file.read(name) for name in file.namelist() if name.endswith("/data.pkl"))


@WRONG.refused(
    "DIR/model.pt: the TorchScript archive is damaged: its tensors do not lie inside its records",
    "records as large as the numbers in them",
    "data.pkl: 65535 numbers of FloatStorage in record data/0 of 28 bytes",
    "copy or download the file again, or where the model was trained, run torch.save(model.state_dict(), "
    "'model.pt') and audit that file; or export it: torch.export.save(torch.export.export(model, "
    "inputs), 'm.pt2').",
)
def a_storage_larger_than_its_record(folder):
    changed(folder, "script", **{"data.pkl": table_of_script().replace(b"K\x07t", b"M\xff\xfft")})


@WRONG.refused(
    "DIR/model.pt: the TorchScript archive is damaged: its tensors do not lie inside its records",
    "records as large as the numbers in them",
    "data.pkl: a tensor of shape (65535, 7) in 7 numbers",
    "copy or download the file again, or where the model was trained, run torch.save(model.state_dict(), "
    "'model.pt') and audit that file; or export it: torch.export.save(torch.export.export(model, "
    "inputs), 'm.pt2').",
)
def a_tensor_larger_than_its_storage(folder):
    changed(folder, "script", **{"data.pkl": table_of_script().replace(b"(K\x01K\x07t", b"(M\xff\xffK\x07t")})


@WRONG.refused(
    "DIR/model.pt: the TorchScript program cannot be loaded",
    "a program that torch VERSION reads",
    "WHAT TORCH SAYS",
    "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file; or "
    "export it: torch.export.save(torch.export.export(model, inputs), 'm.pt2').",
    vary=TORCH,
)
def code_that_does_not_compile(folder):
    with zipfile.ZipFile(io.BytesIO(written("script"))) as file:
        name = next(name for name in file.namelist() if "/code/" in name)
    changed(folder, "script", **{name.partition("/")[2]: b"class Linear(:"})
