import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.inputs.architectures.architecture import LoadedModel, build_model
from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.inputs.checkpoints.checkpoint import Checkpoint, load_checkpoint
from spectral_audit.inputs.spec import ModelSpec

KWARGS = {"inputs": 4, "hidden": [3], "outputs": 2}
NET = """
from torch import nn
from layers import hidden_width

class Net(nn.Sequential):
    pass

def build(inputs=4, outputs=2):
    width = hidden_width
    return Net(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, outputs))

def double():
    return build().double()

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

def broken():
    raise KeyError("the depth")

def leaves():
    raise SystemExit(0)

def text():
    return "no model"

constant = 3
"""


@pytest.fixture(autouse=True)
def modules_as_before():
    before, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    for name in set(sys.modules) - before:
        if name.startswith("_architecture_") or name in ("layers", "net"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text("hidden_width = 3\n")
    return tmp_path


def reference() -> nn.Sequential:
    torch.manual_seed(11)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)).eval()


def stored(folder: Path, state: dict[str, torch.Tensor], **metadata: str) -> Checkpoint:
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors", metadata or None)
    return load_checkpoint(folder / "model.safetensors")


def build(checkpoint: Checkpoint, spec: ModelSpec | None = None, **options) -> LoadedModel:
    settings = {"spec_dir": None, "arch": None, "arch_kwargs": {}, "trust": "none", **options}
    return build_model(checkpoint, spec or ModelSpec(), **settings)


def failure(kind: type, *arguments, **options) -> str:
    with pytest.raises(kind) as caught:
        build(*arguments, **options)
    assert type(caught.value) is kind
    assert caught.value.remedy
    return str(caught.value)


def test_a_builder_on_the_command_line_needs_no_trust(folder):
    model = reference()
    checkpoint = stored(folder, model.state_dict())
    before = torch.random.get_rng_state()
    loaded = build(checkpoint, arch=f"{folder / 'net.py'}:build", arch_kwargs={"inputs": 4})
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.architecture == f"{folder / 'net.py'}:build(inputs=4)"
    x = torch.randn(6, 4)
    torch.testing.assert_close(loaded.model(x), model(x), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_builder_named_in_the_spec_needs_trust(folder):
    checkpoint = stored(folder, reference().state_dict())
    for builder in ("net.py:build", "net:build"):
        spec = ModelSpec(builder=builder, kwargs={"outputs": 2})
        message = failure(RefusedError, checkpoint, spec, spec_dir=folder)
        assert "--trust code" in message
        assert f"--arch {builder}" in message
        for trust in ("code", "pickle"):
            loaded = build(checkpoint, spec, spec_dir=folder, trust=trust)
            assert loaded.architecture == f"{builder}(outputs=2)"


def test_nothing_of_an_untrusted_builder_runs(folder):
    canary = folder / "canary"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()")
    checkpoint = stored(folder, reference().state_dict())
    failure(RefusedError, checkpoint, ModelSpec(builder="evil.py:build"), spec_dir=folder)
    failure(RefusedError, checkpoint, ModelSpec(builder="evil:build"), spec_dir=folder)
    assert not canary.exists()
    failure(UsageError, checkpoint, arch=f"{folder / 'evil.py'}:build")
    assert canary.exists(), "with consent it does run"


def test_a_module_is_looked_up_from_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    loaded = build(stored(folder, reference().state_dict()), arch="net:build")
    assert loaded.architecture == "net:build()"


def test_built_in_families_need_no_trust(tmp_path):
    model = FAMILIES["mlp"](**KWARGS).eval()
    checkpoint = stored(tmp_path, model.state_dict())
    x = torch.randn(5, 4)
    for options in (
        {"spec": ModelSpec(builder="mlp", kwargs=KWARGS)},
        {"spec": ModelSpec(builder="mlp", kwargs={**KWARGS, "hidden": [9]}), "arch_kwargs": {"hidden": [3]}},
        {"arch": "mlp", "arch_kwargs": KWARGS},
        {"arch": "mlp", "spec": ModelSpec(kwargs=KWARGS)},
    ):
        loaded = build(checkpoint, **options)
        torch.testing.assert_close(loaded.model(x), model(x), rtol=0, atol=0)
        assert loaded.architecture == "mlp(inputs=4, hidden=[3], outputs=2)"


def test_a_family_in_the_metadata_is_enough(tmp_path):
    model = FAMILIES["mlp"](**KWARGS).eval()
    header = {"spectral_audit.architecture": "mlp", "spectral_audit.kwargs": json.dumps(KWARGS)}
    loaded = build(stored(tmp_path, model.state_dict(), **header))
    assert loaded.architecture == "mlp(inputs=4, hidden=[3], outputs=2)"
    # The command line and the spec come first.
    failure(UsageError, stored(tmp_path, model.state_dict(), **header), arch="mpl")


def test_a_missing_batch_counter_is_only_noted(folder):
    state = reference().state_dict()
    del state["1.num_batches_tracked"]
    loaded = build(stored(folder, state), arch=f"{folder}/net.py:build")
    assert "num_batches_tracked" in loaded.notes[0]


def test_float64_becomes_float32_and_is_said(folder):
    model = reference().double()
    loaded = build(stored(folder, model.state_dict()), arch=f"{folder}/net.py:double")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert "float64" in loaded.notes[0]
    torch.testing.assert_close(loaded.model[0].weight, model[0].weight.float(), rtol=0, atol=0)


def test_two_files_of_one_name_are_kept_apart(folder):
    other = folder / "other"
    other.mkdir()
    (other / "net.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 2)")
    first = build(stored(folder, reference().state_dict()), arch=f"{folder}/net.py:build")
    second = build(stored(folder, nn.Linear(4, 2).state_dict()), arch=f"{other}/net.py:build")
    assert isinstance(first.model, nn.Sequential)
    assert isinstance(second.model, nn.Linear)


def test_an_exported_program_is_its_own_architecture(tmp_path):
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(nn.Linear(3, 2).eval(), (torch.zeros(2, 3),)), path)
    checkpoint = load_checkpoint(path, trust="code")
    loaded = build(checkpoint, trust="code")
    assert loaded.model is checkpoint.program
    assert (loaded.architecture, loaded.notes) == ("exported program", ())
    assert "`mlp` not used" in build(checkpoint, arch="mlp").notes[0]
