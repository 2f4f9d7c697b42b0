import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.checkpoint import inspect_checkpoint, load_checkpoint


class Evil:
    """Loading its pickle creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(8, 3)
        self.shift = torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1)) + self.shift


def export(path: Path, model: nn.Module, inputs: torch.Tensor, dynamic: bool = True) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    torch.export.save(torch.export.export(model, (inputs,), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def model() -> Net:
    torch.manual_seed(5)
    return Net().eval()


@pytest.fixture(scope="module")
def archive(tmp_path_factory, model) -> Path:
    return export(tmp_path_factory.mktemp("exported") / "model.pt2", model, torch.zeros(2, 1, 4, 4))


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something in a checkpoint was executed"


def changed(source: Path, target: Path, changes: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        records = {name: old.read(name) for name in old.namelist()}
        for name, blob in (records | {f"{root}/{name}": blob for name, blob in changes.items()}).items():
            new.writestr(name, blob)
    return target


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def refused(path: Path, trust: str = "code") -> str:
    with pytest.raises(RefusedError) as caught:
        load_checkpoint(path, trust=trust)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return str(caught.value)


def test_an_exported_program_computes_what_the_model_did(tmp_path, archive, model):
    by_content = tmp_path / "model.bin"
    by_content.write_bytes(archive.read_bytes())
    for path in (archive, by_content):
        checkpoint = load_checkpoint(path, trust="code")
        assert (checkpoint.format, checkpoint.notes) == ("torch.export", ())
        assert checkpoint.dtypes == ("float32", "int64")
        x = torch.randn(5, 1, 4, 4)
        torch.testing.assert_close(checkpoint.program(x), model(x))
        names = [name for name, _ in model.named_parameters()]
        assert [name for name, _ in checkpoint.program.named_parameters()] == names
        torch.testing.assert_close(checkpoint.tensors["conv.weight"], model.conv.weight.detach())
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_inspection_lists_it_without_loading(archive, model):
    inspection = inspect_checkpoint(archive)
    assert inspection.format == "torch.export"
    listed = {tensor.name: (tensor.shape, tensor.dtype) for tensor in inspection.tensors}
    assert listed["conv.weight"] == ((2, 1, 3, 3), "float32")
    assert set(listed) == set(model.state_dict())
    assert inspection.parameters == sum(p.numel() for p in model.parameters())
    assert inspection.unsafe_globals == ()
    assert inspection.architecture == "convolutional net, 1 conv layers, BatchNorm"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "record",
    ["data/sample_inputs/model.pt", "data/weights/weight_0", "data/constants/tensor_0", "data/weights/model.pt"],
)
def test_a_pickle_that_would_run_code_is_refused_in_any_record(tmp_path, canary, archive, record, legacy):
    evil = saved(Evil(canary), _use_new_zipfile_serialization=not legacy)
    path = changed(archive, tmp_path / "evil.pt2", {record: evil})
    if legacy and record.rsplit("/", 1)[1].startswith(("weight_", "tensor_")):
        # Only a record that the tables call a pickle is loaded as one.
        folder = record.rsplit("/", 1)[0]
        table = f"{folder}/model_{folder.rsplit('/', 1)[1]}_config.json"
        with zipfile.ZipFile(archive) as file:
            config = json.loads(file.read(f"{file.namelist()[0].split('/')[0]}/{table}"))
        for entry in config["config"].values():
            entry["use_pickle"] = entry["path_name"] == record.rsplit("/", 1)[1]
        path = changed(path, tmp_path / "flagged.pt2", {table: json.dumps(config).encode()})
    assert "builtins.exec" in refused(path)
    assert inspect_checkpoint(path).unsafe_globals == ("builtins.exec",)


def test_a_raw_pickle_in_a_record_is_refused(tmp_path, canary, archive):
    for protocol in (2, 4):
        path = changed(
            archive, tmp_path / "evil.pt2", {"data/sample_inputs/model.pt": pickle.dumps(Evil(canary), protocol)}
        )
        assert "builtins.exec" in refused(path)


def test_compiled_code_and_custom_objects_are_refused(tmp_path, canary, archive):
    for record in ("data/aotinductor/model/code.so", "data/constants/opaque_obj_0", "data/constants/custom_obj_0"):
        path = changed(archive, tmp_path / "evil.pt2", {record: pickle.dumps(Evil(canary))})
        message = refused(path)
        assert record in message
        assert inspect_checkpoint(path).notes[0] in message


def test_a_nested_archive_of_another_shape_is_refused(tmp_path, archive):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        file.writestr("archive/constants.pkl", pickle.dumps((), protocol=2))
    path = changed(archive, tmp_path / "script.pt2", {"data/sample_inputs/model.pt": buffer.getvalue()})
    assert "damaged" in refused(path)


def test_damaged_programs_are_refused(tmp_path, archive):
    blob = archive.read_bytes()
    path = tmp_path / "model.pt2"
    path.write_bytes(blob[: len(blob) // 2])
    assert "cut short" in refused(path)
    flipped = bytearray(blob)
    flipped[blob.index(b"graph_module") + 2] ^= 1
    path.write_bytes(flipped)
    assert "does not match its checksum" in refused(path)
    for record in ("models/model.json", "data/weights/model_weights_config.json"):
        changed(archive, path, {record: b'{"config": []}'})
        assert "cannot be" in refused(path)


def test_a_fixed_batch_and_narrow_weights_are_said(tmp_path):
    path = export(tmp_path / "model.pt2", nn.Linear(3, 2).half().eval(), torch.zeros(2, 3).half(), dynamic=False)
    checkpoint = load_checkpoint(path, trust="code")
    assert "batches of exactly 2" in checkpoint.notes[0]
    assert "float16" in checkpoint.notes[1]
    assert checkpoint.dtypes == ("float16",)
    assert checkpoint.program(torch.ones(2, 3)).dtype == torch.float32


def test_weights_that_are_not_finite_are_refused(tmp_path):
    layer = nn.Linear(3, 2).eval()
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    assert "weight: 1 NaN" in refused(export(tmp_path / "model.pt2", layer, torch.zeros(2, 3)))
