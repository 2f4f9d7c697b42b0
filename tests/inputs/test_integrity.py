"""Wrong files and their messages, whole: the file, what was expected, what was found, and the remedy."""

import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec
from tests.inputs.saved import ROWS, model


def refused(path: Path, **options) -> str:
    """The message for a file, with its folder left out."""
    with pytest.raises(RefusedError) as caught:
        load_checkpoint(path, **options)
    return str(caught.value).replace(f"{path.parent}/", "")


SAVE = "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file"


def test_a_zip_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}.")
        file.writestr("archive/data/0", bytes(80 << 20))
    assert refused(path) == (
        "bomb.pt: claims far more data than it holds, as a zip bomb does; nothing was unpacked\n"
        "  expected  records of about the size of the file\n"
        f"  found     a file of {path.stat().st_size} bytes whose records claim {(80 << 20) + 4}\n"
        "  remedy    do not use this file; copy it again from a source you trust."
    )


def test_a_header_that_claims_more_than_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert refused(path) == (
        "model.safetensors: its header claims more bytes than the file has: it was cut short, or made up\n"
        f"  expected  safetensors of {8 + len(header) + (1 << 42)} bytes\n"
        f"  found     {8 + len(header)} bytes\n"
        "  remedy    copy or download the file again."
    )


def test_tensors_that_claim_more_than_is_stored(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(1).expand(1 << 15, 1 << 15)}, path)
    assert refused(path) == (
        "model.pt: its tensors claim far more numbers than the file holds\n"
        "  expected  about the 4 bytes that are stored\n"
        "  found     4294967296 bytes, most of them in w (32768, 32768)\n"
        "  remedy    save the tensors themselves, not expanded views: tensor.clone() before torch.save."
    )


def test_files_without_numbers(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({}, path)
    assert refused(path) == (
        "model.pt: holds no tensors at all\n"
        "  expected  tensors by name, or a dictionary with such an entry\n"
        "  found     an empty dictionary\n"
        f"  remedy    {SAVE}."
    )
    torch.save({"w": torch.ones(0, 3), "b": torch.ones(0)}, path)
    assert refused(path) == (
        "model.pt: its tensors hold no numbers\n"
        "  expected  weights\n"
        "  found     2 tensors, all of them empty\n"
        f"  remedy    {SAVE}."
    )


def test_a_torchscript_archive_without_consent(tmp_path):
    path = ROWS["TorchScript, scripted"].write(tmp_path, model())
    assert refused(path) == (
        "script.pt: a TorchScript archive is a program, and auditing it runs that program\n"
        "  expected  your consent, for a file whose source you trust\n"
        "  found     --trust none\n"
        f"  remedy    add --trust code; or {SAVE}; or export it: torch.export.save(torch.export.export(model, inputs), "
        "'m.pt2')."
    )


class Strange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: dict[str, torch.Tensor] = {"x": x}
        return found["x"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_that_is_not_run(tmp_path):
    path = tmp_path / "strange.pt"
    torch.jit.save(torch.jit.script(Strange()), path)
    assert refused(path, trust="code") == (
        "strange.pt: the TorchScript program does something that is not audited\n"
        "  expected  torch's own operations on tensors, numbers and lists\n"
        "  found     the operation prim::DictConstruct\n"
        f"  remedy    {SAVE}; or export it: torch.export.save(torch.export.export(model, inputs), 'm.pt2')."
    )


def test_a_pickled_module_of_other_classes(tmp_path):
    path = ROWS["pickled module of other classes"].write(tmp_path, model())
    assert refused(path) == (
        "model.pt: holds a whole pickled model, not only its weights; loading it would run code from the file\n"
        "  expected  a state dict, or a module made of torch.nn's own layers\n"
        "  found     a pickled torch module that imports own_net.Net\n"
        f"  remedy    {SAVE}; or, if you trust its source with your machine, add --trust pickle."
    )


def test_a_pickled_module_with_a_replaced_method(tmp_path):
    net = model()
    net.act.forward = torch.Size
    path = tmp_path / "model.pt"
    torch.save(net, path)
    assert refused(path) == (
        "model.pt: the pickled module is more than torch.nn's layers\n"
        "  expected  layers as torch.nn defines them, without hooks or replaced methods\n"
        "  found     forward in `act`\n"
        f"  remedy    {SAVE}."
    )


def test_the_hyperparameters_of_a_lightning_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    hyper = {"data": Path("data")}
    torch.save(
        {"state_dict": {"w": torch.ones(2)}, "pytorch-lightning_version": "2.5", "hyper_parameters": hyper}, path
    )
    message = refused(path)
    assert message == (
        "last.ckpt: a Lightning checkpoint whose hyperparameters are Python objects; loading them would run code\n"
        "  expected  a pickle of tensors and plain containers only\n"
        f"  found     {type(hyper['data']).__module__}.{type(hyper['data']).__name__}\n"
        "  remedy    treat the file with suspicion unless you know where it comes from; if it is yours: where the "
        "model was trained, run torch.save(torch.load('last.ckpt', weights_only=False)['state_dict'], 'model.pt') and "
        "audit that file; or, if you trust its source with your machine, add --trust pickle."
    )


def test_shards_that_are_missing_or_do_not_agree(tmp_path):
    index = ROWS["safetensors in shards, by their index or directory"].write(tmp_path, model())
    table = json.loads(index.read_text())
    table["weight_map"]["conv.weight"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps(table))
    assert refused(index) == (
        "model.safetensors.index.json: the index and the shards do not agree\n"
        "  expected  every tensor in the file that the index names, and no others\n"
        "  found     conv.weight of model-00001-of-00002.safetensors is not in the index\n"
        "            conv.weight is not in model-00002-of-00002.safetensors\n"
        "  remedy    download the index and the shards again, all of one version."
    )
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert refused(index) == (
        "model-00001-of-00002.safetensors: not a file of weights\n"
        "  expected  safetensors, or a state dict saved by torch.save\n"
        "  found     a Git LFS pointer, not the file itself\n"
        "  remedy    run git lfs pull."
    )
    index.write_text('{"weight_map": 3}')
    assert refused(index) == (
        "model.safetensors.index.json: the index of the shards cannot be read\n"
        "  expected  JSON with a `weight_map` from tensor names to file names\n"
        "  found     no such table\n"
        "  remedy    copy or download the index again."
    )


def test_a_distributed_checkpoint_without_its_pieces(tmp_path):
    folder = ROWS["distributed checkpoint, directory"].write(tmp_path, model())
    (folder / "__0_0.distcp").write_bytes(b"short")
    message = refused(folder)
    assert message == (
        "dcp: tensor model.conv.weight cannot be put together\n"
        "  expected  pieces as the checkpoint's table describes them\n"
        "  found     __0_0.distcp: bytes that torch.save did not write, or that were damaged since\n"
        "  remedy    copy the directory again, or convert it where it was written: python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE."
    )


def test_a_timm_config_names_the_options_that_build_it(tmp_path):
    save_file({"stem.weight": torch.ones(2, 3), "norm.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "levit_128", "num_classes": 10}))
    with pytest.raises(RefusedError) as caught:
        build_model(load_checkpoint(tmp_path), ModelSpec(), spec_dir=None, arch=None, arch_kwargs={}, trust="none")
    assert str(caught.value).replace(str(tmp_path), "DIR") == (
        "DIR: holds weights only, and nothing says which architecture they belong to\n"
        "  expected  a builder, a built-in family (cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit), or "
        "an exported program\n"
        "  found     2 tensors, stem.weight (2, 3)\n"
        "  remedy    one of:\n"
        "            --arch timm:create_model --arch-kwargs model_name=levit_128    (pip install timm)\n"
        "            --arch net.py:build                    (a function that returns the model)\n"
        "            `model.builder` and `model.kwargs` in audit.yaml\n"
        "            safetensors metadata spectral_audit.architecture and spectral_audit.kwargs\n"
        "            torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')"
    )
