"""The whole text of what is said about files that lead elsewhere, twice, or to somebody's code."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.checkpoints.huggingface import described_model

AGAIN = "do not use this file; copy it again from a source you trust."
SAVE = "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file"


def refused(path: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        load_checkpoint(path, trust="code")
    return str(caught.value).replace(f"{path.parent}/", "")


def state_dict(path: Path) -> Path:
    torch.save({"weight": torch.ones(2, 2)}, path)
    return path


def added(path: Path, name: str, content: bytes) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
        warnings.simplefilter("ignore")  # of a name that is there already
        file.writestr(name, content)
    return path


def test_a_name_that_leads_out_of_the_archive(tmp_path: Path) -> None:
    path = added(state_dict(tmp_path / "model.pt"), "model/../../evil.py", b"x")
    assert refused(path) == (
        "model.pt: holds records whose names lead out of the archive\n"
        "  expected  names below the archive's root\n"
        "  found     ../../evil.py\n"
        f"  remedy    {AGAIN}"
    )


def test_a_record_that_is_there_twice(tmp_path: Path) -> None:
    path = added(state_dict(tmp_path / "model.pt"), "model/data.pkl", b"\x80\x02}.")
    assert refused(path) == (
        "model.pt: holds a record twice, and readers disagree on which of the two counts\n"
        "  expected  every record once\n"
        "  found     data.pkl\n"
        "  remedy    do not use this file; copy it again from a source you trust."
    )


def test_a_record_that_torchscript_does_not_write(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces what becomes of TorchScript
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    path = tmp_path / "model.pt"
    path.write_bytes(buffer.getvalue())
    with zipfile.ZipFile(path) as file:
        root = file.namelist()[0].partition("/")[0]
    assert refused(added(path, f"{root}/payload.bin", b"x")) == (
        "model.pt: the TorchScript archive holds records that are not read here\n"
        "  expected  what torch.jit.save writes: code, constants and tensors\n"
        "  found     payload.bin\n"
        f"  remedy    {SAVE}; or export it: torch.export.save(torch.export.export(model, inputs), 'm.pt2')."
    )


def test_an_index_that_names_files_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"weight": "../secret.safetensors"}}))
    assert refused(path) == (
        "model.safetensors.index.json: the index names files outside its own directory\n"
        "  expected  file names beside the index\n"
        "  found     ../secret.safetensors\n"
        "  remedy    do not use this checkpoint; download it again from a source you trust."
    )


def test_a_directory_that_asks_for_code() -> None:
    with pytest.raises(RefusedError) as caught:
        described_model(Path("DIR"), {"auto_map": {"AutoModel": "evil.Model"}, "architectures": ["Evil"]})
    assert str(caught.value) == (
        "DIR: its config.json asks for code that is not part of transformers; it was not run\n"
        "  expected  an architecture of the library\n"
        "  found     auto_map: {'AutoModel': 'evil.Model'}\n"
        "  remedy    read that code, then name the class yourself: --arch net.py:build."
    )


def test_a_directory_that_holds_an_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    save_file({"weight": torch.ones(2)}, folder / "model.safetensors")
    assert refused(folder) == (
        "adapter: holds an adapter for another model\n"
        "  expected  a whole model\n"
        "  found     adapter_config.json\n"
        "  remedy    merge the adapter where it was trained, with model.merge_and_unload(), and save the result."
    )
