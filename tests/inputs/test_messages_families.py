"""The whole text about arguments that the built-in architectures do not take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec
from tests.inputs.messages import Table, check

WRONG = Table()


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


def build(folder: Path, family: str, **kwargs: object) -> None:
    save_file({"weight": torch.ones(2, 2)}, folder / "model.safetensors")
    settings = {"spec_dir": None, "trust": "none", "arch_kwargs": kwargs}
    build_model(load_checkpoint(folder / "model.safetensors"), ModelSpec(), arch=family, **settings)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `mlp`: bad value for `inputs`",
    "a positive integer",
    "'many'",
    "correct `inputs` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_number_that_is_text(folder):
    build(folder, "mlp", inputs="many", outputs=2)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `mlp`: bad value for `hidden[1]`",
    "a positive integer",
    "0",
    "correct `hidden[1]` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_width_below_one(folder):
    build(folder, "mlp", inputs=4, outputs=2, hidden=[3, 0])


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `mlp`: bad value for `hidden`",
    "a list of positive integers",
    "3",
    "correct `hidden` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_width_that_is_no_list(folder):
    build(folder, "mlp", inputs=4, outputs=2, hidden=3)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `mlp`: bad value for `activation`",
    "one of: relu, leaky_relu, elu, gelu, silu, softplus, tanh, sigmoid",
    "'tanj'",
    "correct `activation` in --arch-kwargs, or in `model.kwargs` of the spec; did you mean 'tanh'? "
    "known: elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh.",
)
def an_activation_that_is_not_there(folder):
    build(folder, "mlp", inputs=4, outputs=2, activation="tanj")


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `cnn`: bad value for `pooling`",
    "one of: max, average",
    "'median'",
    "correct `pooling` in --arch-kwargs, or in `model.kwargs` of the spec; known: average, max.",
)
def a_pooling_that_is_not_there(folder):
    build(folder, "cnn", channels=1, outputs=2, pooling="median")


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `cnn`: bad value for `size`",
    "at least 4, which two poolings take to 1",
    "3",
    "correct `size` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def images_too_small(folder):
    build(folder, "cnn", channels=1, outputs=2, size=3)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `resnet`: bad value for `depth`",
    "6k + 2 with k at least 1, up to 1202: 8, 14, 20, ...",
    "21",
    "correct `depth` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_depth_that_no_resnet_has(folder):
    build(folder, "resnet", channels=1, outputs=2, depth=21)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `resnet`: bad value for `shortcut`",
    "'A' (zero padding) or 'B' (1x1 convolution)",
    "'C'",
    "correct `shortcut` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_shortcut_that_is_not_there(folder):
    build(folder, "resnet", channels=1, outputs=2, shortcut="C")


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `torchvision_resnet`: bad value for `blocks`",
    "a list of one to eight positive integers",
    "3",
    "correct `blocks` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def blocks_that_are_no_list(folder):
    build(folder, "torchvision_resnet", blocks=3)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `torchvision_resnet`: bad value for `blocks`",
    "at most 256 blocks in a stage",
    "300",
    "correct `blocks` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def too_many_blocks(folder):
    build(folder, "torchvision_resnet", blocks=[2, 300])


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `torchvision_resnet`: bad value for `stem`",
    "3 or 7",
    "5",
    "correct `stem` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_stem_that_is_not_there(folder):
    build(folder, "torchvision_resnet", stem=5)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `vit`: bad value for `depth`",
    "at most 256",
    "300",
    "correct `depth` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def too_many_layers(folder):
    build(folder, "vit", depth=300)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `vit`: bad value for `heads`",
    "a divisor of the width, 384",
    "5",
    "correct `heads` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def heads_that_do_not_divide_the_width(folder):
    build(folder, "vit", heads=5)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `vit`: bad value for `patch`",
    "a divisor of the size, 224",
    "15",
    "correct `patch` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def patches_that_do_not_divide_the_size(folder):
    build(folder, "vit", patch=15)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `lenet`: bad value for `padding`",
    "a whole number, at most 16",
    "17",
    "correct `padding` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_padding_too_large(folder):
    build(folder, "lenet", convolutions=[], layers=[], padding=17)


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `linear_stack`: bad value for `layers`",
    "a list of one to 256 layers",
    "[]",
    "correct `layers` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def no_layers(folder):
    build(folder, "linear_stack", layers=[])


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `linear_stack`: bad value for `layers`",
    "a name and 3 numbers for each layer",
    "['0', 4]",
    "correct `layers` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_layer_without_its_numbers(folder):
    build(folder, "linear_stack", layers=[["0", 4]])


@WRONG.misused(
    "DIR/model.safetensors: built-in architecture `linear_stack`: bad value for `layers`",
    "names that a module can have",
    "\"attribute 'forward' already exists\"",
    "correct `layers` in --arch-kwargs, or in `model.kwargs` of the spec.",
)
def a_name_that_no_module_can_have(folder):
    build(folder, "linear_stack", layers=[["forward", 4, 3, True]])
