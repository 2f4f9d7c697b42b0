import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn
from torch._weights_only_unpickler import _get_allowed_globals

from spectral_audit.errors import ExitCode, RefusedError
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.checkpoints.checkpoint import Checkpoint, inspect_checkpoint, load_checkpoint
from spectral_audit.inputs.checkpoints.pickles import ALLOWED, scan_pickle


class Evil:
    """Loading its pickle creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


class Custom(nn.Sequential):
    pass


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def refused(path: Path, **options) -> str:
    with pytest.raises(RefusedError) as caught:
        load_checkpoint(path, **options)
    error = caught.value
    assert error.exit_code == ExitCode.REFUSED
    assert str(path) in error.message
    assert error.remedy
    return str(error)


def assert_same(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    assert checkpoint.tensors is not None
    assert list(checkpoint.tensors) == list(state)
    for name, tensor in state.items():
        torch.testing.assert_close(checkpoint.tensors[name], tensor, rtol=0, atol=0)


def rewritten(source: Path, target: Path, **changes: bytes) -> Path:
    """The zip with some records replaced, added, or dropped (empty bytes)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        records = {name: old.read(name) for name in old.namelist()}
        records |= {f"{root}/{name}": blob for name, blob in changes.items()}
        for name, blob in records.items():
            if blob:
                new.writestr(name, blob)
    return target


# --- formats -------------------------------------------------------------------------------------------------------


def test_the_same_weights_come_out_of_every_format(tmp_path):
    state = net().state_dict()
    torch.save(state, tmp_path / "a.bin")
    torch.save(state, tmp_path / "b.safetensors", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "c.pt", metadata={"who": "us"})
    formats = ["torch.save", "torch.save (legacy)", "safetensors"]
    for name, kind in zip(["a.bin", "b.safetensors", "c.pt"], formats, strict=True):
        checkpoint = load_checkpoint(tmp_path / name)
        assert checkpoint.format == kind
        assert checkpoint.program is None
        assert checkpoint.dtypes == ("float32",)
        assert checkpoint.sha256 == sha256_of(tmp_path / name)
        assert checkpoint.notes == ()
        assert checkpoint.metadata == ({"who": "us"} if kind == "safetensors" else {})
        assert_same(checkpoint, dict(sorted(state.items())) if kind == "safetensors" else state)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_torch_file_is_refused(tmp_path, legacy):
    path = tmp_path / "model.pt"
    torch.save(net().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    blob = path.read_bytes()
    for size in (len(blob) - 1, len(blob) // 2, 300):
        path.write_bytes(blob[:size])
        assert "cut short" in refused(path)


def test_a_truncated_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(net().state_dict(), path)
    blob = path.read_bytes()
    for size in (len(blob) - 1, 40):
        path.write_bytes(blob[:size])
        assert "cut short" in refused(path)


# --- pickles -------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something in a checkpoint was executed"


def test_the_fixture_is_truly_malicious(tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Evil(canary)))
    assert canary.exists()


@pytest.mark.parametrize("trust", ["none", "code"])
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_plain_malicious_pickle_is_refused(tmp_path, canary, protocol, trust):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Evil(canary), protocol=protocol))
    assert "builtins.exec" in refused(path, trust=trust)
    inspection = inspect_checkpoint(path)
    assert inspection.format == "pickle"
    assert inspection.unsafe_globals == ("builtins.exec",)
    assert inspection.tensors == ()
    assert any("cannot be listed" in note for note in inspection.notes)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_checkpoint_is_refused(tmp_path, canary, legacy, protocol):
    path = tmp_path / "model.pt"
    stored = {"state_dict": net().state_dict(), "extra": {"deep": [Evil(canary)]}}
    torch.save(stored, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    message = refused(path, trust="code")
    assert "builtins.exec" in message
    assert "nothing was loaded" in message
    inspection = inspect_checkpoint(path)
    assert inspection.unsafe_globals == ("builtins.exec",)
    assert "torch._utils._rebuild_tensor_v2" in inspection.globals


def test_globals_before_damage_are_still_listed(tmp_path, canary):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Evil(canary), protocol=2)[:-1] + b"\xff\xff")
    assert "builtins.exec" in refused(path)
    assert inspect_checkpoint(path).unsafe_globals == ("builtins.exec",)


def test_a_name_computed_on_the_stack_is_not_trusted():
    # Fetches its two strings through the memo, in the wrong order for whoever only looks at the last two strings.
    stream = b"\x80\x04\x8c\x08builtins\x94\x8c\x04exec\x94\x8c\x0bcollections\x8c\x0bOrderedDict00h\x00h\x01\x93."
    scan = scan_pickle(io.BytesIO(stream))
    assert scan.globals == ("builtins.exec",)
    joined = b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93."
    assert scan_pickle(io.BytesIO(joined)).unsafe == ()
    assert not scan_pickle(io.BytesIO(joined)).safe
    assert not scan_pickle(io.BytesIO(b"\x80\x02\x82\x01.")).safe


def test_a_whole_pickled_model_of_other_classes_is_told_what_to_do(tmp_path):
    for legacy in (False, True):
        path = tmp_path / "model.pt"
        torch.save(Custom(), path, _use_new_zipfile_serialization=not legacy)
        message = refused(path, trust="code")
        assert "a whole pickled model" in message
        assert f"imports {Custom.__module__}.Custom" in message
        assert "torch.save(model.state_dict()" in message
        assert inspect_checkpoint(path).unsafe_globals == (f"{Custom.__module__}.Custom",)


def test_the_allow_list_is_part_of_torchs():
    assert not ALLOWED - set(_get_allowed_globals())


# --- which state dict ----------------------------------------------------------------------------------------------


def test_a_nested_state_dict_is_unwrapped(tmp_path):
    state = net().state_dict()
    path = tmp_path / "model.pt"
    for name in ("state_dict", "model_state_dict", "model_state", "model", "ema", "net", "weights"):
        torch.save({name: state, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}}, path)
        checkpoint = load_checkpoint(path)
        assert_same(checkpoint, state)
        assert f"`{name}`" in checkpoint.notes[0]
        assert_same(load_checkpoint(path, weights=name), state)


def test_several_state_dicts_need_a_name(tmp_path):
    path = tmp_path / "model.pt"
    first, second = net().state_dict(), {"w": torch.ones(2)}
    torch.save({"model": first, "ema": second, "epoch": 1}, path)
    refused(path)
    assert_same(load_checkpoint(path, weights="ema"), second)
    inspection = inspect_checkpoint(path)
    assert "model.0.weight" in [tensor.name for tensor in inspection.tensors]
    assert "ema.w" in [tensor.name for tensor in inspection.tensors]


def test_state_dicts_are_found_one_level_deeper(tmp_path):
    path = tmp_path / "model.pt"
    state, shadow = net().state_dict(), {"w": torch.ones(2)}
    torch.save({"model": state, "ema": {"shadow": shadow, "decay": 0.9}}, path)
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint, state)
    assert "it also holds ema.shadow" in checkpoint.notes[0]
    assert_same(load_checkpoint(path, weights="ema.shadow"), shadow)
    torch.save({"state": {"model": state, "optimizer": {"m": torch.ones(2)}}, "optimizer": shadow, "rng": {}}, path)
    assert_same(load_checkpoint(path), state)
    torch.save({"a": {"b": state, "c": shadow}}, path)
    assert "a.b, a.c" in refused(path)
    torch.save({"a": {"b": {"c": state}}}, path)
    assert "holds no state dict" in refused(path)


def test_a_module_inside_a_checkpoint_is_one_of_its_candidates(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": net().half(), "epoch": 3}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.brings == "pickled Sequential"
    assert checkpoint.dtypes == ("float16",)
    assert [note.split("`")[1] for note in checkpoint.notes if "`" in note] == ["model"]
    assert all(p.dtype == torch.float32 for p in checkpoint.program.parameters())
    assert [t.name for t in inspect_checkpoint(path).tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("stored", [torch.ones(3), [1, 2], {"epoch": 3, "loss": 0.1}, {"w": torch.ones(2), "epoch": 3}])
def test_a_file_without_a_state_dict_lists_no_tensors(tmp_path, stored):
    path = tmp_path / "model.pt"
    torch.save(stored, path)
    assert inspect_checkpoint(path).tensors == ()


def test_the_traces_of_wrappers_are_removed(tmp_path):
    state = net().state_dict()
    path = tmp_path / "model.pt"
    averaged = torch.optim.swa_utils.AveragedModel(net()).state_dict()
    assert "n_averaged" in averaged
    torch.save(averaged, path)
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint, state)
    assert [note.split("`")[1] for note in checkpoint.notes] == ["n_averaged", "module."]
    torch.save({f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}, path)
    assert_same(load_checkpoint(path), state)
    partly = {"module.a": torch.ones(1), "b": torch.ones(1)}
    torch.save(partly, path)
    assert_same(load_checkpoint(path), partly)


# --- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_narrow_floats_are_upcast_and_said(tmp_path, dtype):
    state = {"w": torch.arange(4.0).to(dtype), "b": torch.ones(2), "k": torch.ones(1, dtype=torch.int64)}
    torch.save(state, tmp_path / "model.pt")
    checkpoint = load_checkpoint(tmp_path / "model.pt")
    assert_same(checkpoint, {**state, "w": torch.arange(4.0)})
    name = str(dtype).removeprefix("torch.")
    assert checkpoint.dtypes == tuple(sorted([name, "float32", "int64"]))
    assert checkpoint.notes == (f"1 tensors upcast from {name} to float32",)


def test_an_attention_mask_is_no_broken_weight(tmp_path):
    mask = torch.full((3, 3), -torch.inf).triu(1)
    torch.save({"w": torch.ones(2), "mask": mask}, tmp_path / "model.pt")
    assert_same(load_checkpoint(tmp_path / "model.pt"), {"w": torch.ones(2), "mask": mask})


# --- inspection ----------------------------------------------------------------------------------------------------


def test_inspection_lists_tensors_and_guesses_the_architecture(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": net().half().state_dict()}, path)
    inspection = inspect_checkpoint(path)
    assert (inspection.format, inspection.bytes) == ("torch.save", path.stat().st_size)
    assert inspection.sha256 == sha256_of(path)
    assert [(t.name, t.shape, t.dtype) for t in inspection.tensors[:2]] == [
        ("0.weight", (3, 4), "float16"),
        ("0.bias", (3,), "float16"),
    ]
    assert inspection.parameters == 4 * 3 + 3 + 3 * 2 + 2
    assert inspection.dtypes == ("float16",)
    assert inspection.architecture == "mlp 4-3-2"
    assert inspection.unsafe_globals == ()
    assert "collections.OrderedDict" in inspection.globals


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_architectures_are_guessed_from_names_and_shapes(tmp_path):
    path = tmp_path / "m.safetensors"
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    for model, line in [
        (conv, "convolutional net, 2 conv layers, BatchNorm"),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8), 2), "transformer, 2 attention layers"),
        (nn.Linear(5, 2), "linear model 5-2"),
    ]:
        save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, path)
        inspection = inspect_checkpoint(path)
        assert inspection.architecture == line
        assert inspection.parameters == sum(p.numel() for p in model.parameters())
    save_file(nn.Linear(5, 2).state_dict(), path, metadata={"spectral_audit.architecture": "mlp"})
    assert inspect_checkpoint(path).architecture == "mlp (named in the file)"


# --- mutations -----------------------------------------------------------------------------------------------------

WEIGHTS = {"w": torch.ones(3, 2), "b": torch.zeros(3, dtype=torch.float16)}


def saved(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(OrderedDict(state), buffer)
    return buffer.getvalue()


FILES = {"zip": saved(WEIGHTS), "safetensors": save(WEIGHTS)}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FILES)),
    start=st.floats(0, 1),
    cut=st.integers(0, 4),
    blob=st.binary(max_size=4),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_a_mutated_file_is_loaded_or_refused(tmp_path, kind, start, cut, blob, keep):
    original = FILES[kind]
    place = int(start * len(original))
    mutated = original[:place] + blob + original[place + cut :]
    path = tmp_path / "mutated"
    path.write_bytes(mutated[: int(keep * len(mutated))])
    for action in (load_checkpoint, inspect_checkpoint):
        try:
            result = action(path)
        except RefusedError as error:
            assert error.remedy
        else:
            assert result.sha256 == sha256_of(path)
