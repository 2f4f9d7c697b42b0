"""Directories written by transformers: built by the library's own classes, filled strictly, and scored."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from spectral_audit.audit import Request, audit
from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.checkpoint import inspect_checkpoint
from spectral_audit.inputs.checkpoints.huggingface import described_model
from tests.inputs.test_formats import figures

NET = """
import transformers
from transformers import ViTConfig

class Net(transformers.ViTForImageClassification):
    def forward(self, x):
        return super().forward(x).logits

def build(**kwargs):
    return Net(ViTConfig(**kwargs, attn_implementation="eager"))
"""
KWARGS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "image_size": 8}
KWARGS |= {"patch_size": 4, "num_channels": 1, "num_labels": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    torch.manual_seed(2)
    net = transformers.ViTForImageClassification(transformers.ViTConfig(**KWARGS))
    net.save_pretrained(folder / "model")
    torch.save(net.state_dict(), folder / "model.pt")

    (folder / "net.py").write_text(NET)
    np.savez(folder / "probe.npz", x=np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32))
    (folder / "audit.yaml").write_text("data: {path: probe.npz, y: null}\n")
    return folder


def test_a_directory_gives_the_report_of_its_state_dict(folder):
    spec = folder / "audit.yaml"
    found = audit(Request(checkpoint=folder / "model", spec=spec))
    assert found.model.format == "model directory"
    assert found.model.architecture == "ViTForImageClassification (transformers)"
    arch = f"{folder / 'net.py'}:build"
    plain = audit(Request(checkpoint=folder / "model.pt", spec=spec, arch=arch, arch_kwargs=KWARGS))
    assert figures(found) == figures(plain)
    inspection = inspect_checkpoint(folder / "model")
    assert inspection.parameters == found.model.parameters
    assert inspection.sha256 == found.model.sha256


def test_without_the_library_the_message_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(RefusedError) as caught:
        described_model(Path("DIR"), {"architectures": ["ViTForImageClassification"], "model_type": "vit"})
    assert str(caught.value) == (
        "DIR: its architecture is one of the transformers library, which is not installed\n"
        "  expected  ViTForImageClassification (transformers)\n"
        "  found     no module `transformers`\n"
        "  remedy    pip install 'spectral-audit[hf]'; or give the architecture with --arch."
    )


def test_a_model_of_tokens_is_measured_from_its_embedding_on(tmp_path):
    torch.manual_seed(2)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=9, num_labels=3, **sizes)
    net = transformers.BertForSequenceClassification(config).eval()
    net.save_pretrained(tmp_path / "model")
    x = np.random.default_rng(0).integers(0, 20, (6, 5))
    np.savez(tmp_path / "probe.npz", x=x)
    (tmp_path / "audit.yaml").write_text("data: {path: probe.npz, y: null}\n")
    found = audit(Request(checkpoint=tmp_path / "model", spec=tmp_path / "audit.yaml"))
    assert found.data.shape == (5, 8)
    said = {f.code: f.message for f in found.findings}
    assert "`bert.embeddings.word_embeddings` (5×8)" in said["input.tokens"]
    with torch.no_grad():
        logits = net(torch.from_numpy(x)).logits
    top = logits.topk(2).values
    assert found.scales.output == pytest.approx(float((top[:, 0] - top[:, 1]).quantile(0.5)) / 2**0.5, rel=1e-4)
