"""The whole text about directories with a config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec
from tests.inputs.messages import Table, check

WRONG = Table()
TRANSFORMERS = {r"takes\n  found     .+": "takes\n  found     WHAT TRANSFORMERS SAYS"}
VERSION = {rf"transformers {transformers.__version__}": "transformers VERSION"}
CONFIG = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12},
    **{"image_size": 8, "patch_size": 4, "num_channels": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


def described(folder: Path, **config: object) -> None:
    (folder / "model").mkdir()
    save_file({"vit.layernorm.weight": torch.ones(8)}, folder / "model" / "model.safetensors")
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG | config))
    checkpoint = load_checkpoint(folder / "model")
    build_model(checkpoint, ModelSpec(), spec_dir=None, arch=None, arch_kwargs={}, trust="none")


@WRONG.refused(
    "DIR/model: describes a model, but holds no weights",
    "model.safetensors, pytorch_model.bin, or an index of shards",
    "config.json",
    "download the weights into this directory.",
)
def a_description_without_weights(folder):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    load_checkpoint(folder / "model")


@WRONG.refused(
    "DIR/model/config.json: cannot be read",
    "a JSON object",
    "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "download the file again.",
)
def a_description_that_is_no_json(folder):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("no json")
    load_checkpoint(folder / "model")


@WRONG.refused("DIR/model/config.json: cannot be read", "a JSON object", "a list", "download the file again.")
def a_description_that_is_a_list(folder):
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("[]")
    load_checkpoint(folder / "model")


@WRONG.refused(
    "DIR/model: transformers VERSION has no such architecture",
    "`architectures` in config.json: a model class of the library",
    "Evil",
    "update transformers, or give the architecture with --arch.",
    vary=VERSION,
)
def an_architecture_that_the_library_does_not_have(folder):
    described(folder, architectures=["Evil"])


@WRONG.refused(
    "DIR/model: transformers VERSION has no such architecture",
    "`architectures` in config.json: a model class of the library",
    "AutoModel",
    "update transformers, or give the architecture with --arch.",
    vary=VERSION,
)
def a_class_of_the_library_that_is_no_model(folder):
    described(folder, architectures=["AutoModel"])


@WRONG.refused(
    "DIR/model: transformers VERSION has no such architecture",
    "`architectures` in config.json: a model class of the library",
    "no name",
    "update transformers, or give the architecture with --arch.",
    vary=VERSION,
)
def a_description_without_the_name_of_a_class(folder):
    described(folder, architectures=[3])


@WRONG.refused(
    "DIR/model: its config.json says that the weights are quantized, which takes code that is not run here",
    "weights as they are trained: float32, float16 or bfloat16",
    "quantization_config: {'quant_method': 'gptq'}",
    "audit the model as it was before it was quantized.",
)
def a_quantized_model(folder):
    described(folder, quantization_config={"quant_method": "gptq"})


@WRONG.refused(
    "DIR/model: its config.json asks for code that is not part of transformers; it was not run",
    "an architecture of the library",
    "_attn_implementation: someone/kernel",
    "read that code, then name the class yourself: --arch net.py:build.",
)
def kernels_from_a_repository(folder):
    described(folder, _attn_implementation="someone/kernel")


@WRONG.refused(
    "DIR/model: its architecture cannot be built",
    "a config.json and weights that ViTForImageClassification takes",
    "WHAT TRANSFORMERS SAYS",
    "correct config.json, or give the architecture with --arch.",
    vary=TRANSFORMERS,
)
def a_size_that_is_no_number(folder):
    described(folder, num_hidden_layers="many")


@WRONG.refused(
    "DIR/model: its architecture cannot be built",
    "a config.json and weights that ViTForImageClassification takes",
    "WHAT TRANSFORMERS SAYS",
    "correct config.json, or give the architecture with --arch.",
    vary=TRANSFORMERS,
)
def a_type_of_model_that_the_library_does_not_have(folder):
    described(folder, model_type="evil")


@WRONG.refused(
    "DIR/model: its weights do not fit ViTForImageClassification (transformers)",
    "the same names and shapes in the file and in the model",
    "a model of SIZE bytes for 32 bytes of weights",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
    vary={r"model of \d+ bytes": "model of SIZE bytes"},
)
def a_description_larger_than_its_weights(folder):
    described(folder, hidden_size=1 << 20, intermediate_size=1 << 20)


@WRONG.refused(
    "DIR/model: its weights do not fit ViTForImageClassification (transformers)",
    "the same names and shapes in the file and in the model",
    "7 missing from the checkpoint: classifier.bias, classifier.weight, vit.embeddings.cls_token, "
    "vit.embeddings.patch_embeddings.projection.bias, vit.embeddings.patch_embeddings.projection.weight, "
    "vit.embeddings.position_embeddings, vit.layernorm.bias",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
)
def weights_of_another_model(folder):
    described(folder, num_hidden_layers=0)


@WRONG.refused(
    "DIR/model: its weights do not fit ViTForImageClassification (transformers)",
    "the same names and shapes in the file and in the model",
    "7 missing from the checkpoint: classifier.bias, classifier.weight, vit.embeddings.cls_token, "
    "vit.embeddings.patch_embeddings.projection.bias, vit.embeddings.patch_embeddings.projection.weight, "
    "vit.embeddings.position_embeddings, vit.layernorm.bias\n"
    "            1 of another shape: vit.layernorm.weight (file (8,), model (16,))",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
)
def weights_of_another_size(folder):
    described(folder, num_hidden_layers=0, hidden_size=16)
