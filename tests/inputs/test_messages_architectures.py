"""The whole text about architectures: names, arguments, builders, metadata, and weights that do not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec
from tests.inputs.messages import Table, check

WRONG = Table()
STATE = {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3), "1.weight": torch.ones(2, 3)}
NET = """
from torch import nn

def build(inputs=4, *, outputs=2):
    return nn.Sequential(nn.Linear(inputs, 3), nn.Linear(3, outputs, bias=False))

def lazy():
    return nn.Sequential(nn.LazyLinear(3))

def broken():
    raise KeyError("the depth")

def leaves():
    raise SystemExit

def text():
    return "no model"

constant = 3
"""


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("_architecture_") or name == "failing":
            del sys.modules[name]


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


def build(
    folder: Path, arch: str | None = None, state: dict[str, torch.Tensor] = STATE, **options: object
) -> nn.Module:
    """Build the model of a file with these tensors; `metadata` goes into its header, `kwargs` into the spec."""
    (folder / "net.py").write_text(NET)
    metadata = {f"spectral_audit.{key}": value for key, value in options.pop("metadata", {}).items()}
    save_file(state, folder / "model.safetensors", metadata or None)
    spec = ModelSpec(builder=options.pop("builder", None), kwargs=options.pop("kwargs", {}))
    settings = {"spec_dir": folder, "arch_kwargs": {}, "trust": "none", **options}
    return build_model(load_checkpoint(folder / "model.safetensors"), spec, arch=arch, **settings).model


# --- which architecture --------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.safetensors: holds weights only, and nothing says which architecture they belong to",
    "a builder, a built-in family (cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit), or "
    "an exported program",
    "2 tensors, none with two or more axes",
    "one of:\n"
    "            --arch net.py:build                    (a function that returns the model)\n"
    "            `model.builder` and `model.kwargs` in audit.yaml\n"
    "            safetensors metadata spectral_audit.architecture and spectral_audit.kwargs\n"
    "            torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')",
)
def nothing_says_which(folder):
    build(folder, state={"a": torch.ones(3), "b": torch.ones(3)})


@WRONG.refused(
    "DIR/model.safetensors: holds weights only, and nothing says which architecture they belong to",
    "a builder, a built-in family (cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit), or "
    "an exported program",
    "4 tensors, 0.weight (3, 4) to 1.weight (2, 3)",
    "one of:\n"
    "            --arch net.py:build                    (a function that returns the model)\n"
    "            `model.builder` and `model.kwargs` in audit.yaml\n"
    "            safetensors metadata spectral_audit.architecture and spectral_audit.kwargs\n"
    "            torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')",
)
def nothing_says_which_of_several_matrices(folder):
    build(folder, state=STATE | {"2.running_mean": torch.ones(3)})


@WRONG.refused(
    "DIR/model.safetensors: its spec names a builder, which runs Python code",
    "your consent: the spec may have come with the checkpoint",
    "`model.builder: net.py:build` and --trust none",
    "read that code, then add --trust code, or name it yourself: --arch net.py:build.",
)
def a_builder_named_by_a_spec(folder):
    build(folder, builder="net.py:build")


@WRONG.refused(
    "DIR/model.safetensors: its metadata names an architecture that is not built in",
    "one of: cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit",
    "spectral_audit.architecture = 'net.py:build'",
    "give the architecture with --arch; known: cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit.",
)
def metadata_that_name_code(folder):
    build(folder, metadata={"architecture": "net.py:build"})


@WRONG.refused(
    "DIR/model.safetensors: its metadata names an architecture that is not built in",
    "one of: cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit",
    "spectral_audit.architecture = 'mpl'",
    "give the architecture with --arch; did you mean 'mlp'? known: cnn, lenet, linear_stack, mlp, "
    "resnet, torchvision_resnet, vit.",
)
def metadata_that_name_another_family(folder):
    build(folder, metadata={"architecture": "mpl"})


@WRONG.refused(
    "DIR/model.safetensors: the architecture's arguments in its metadata cannot be read",
    "spectral_audit.kwargs = a JSON object",
    "[1]",
    "give the architecture with --arch, or write the metadata again.",
)
def arguments_in_the_metadata_that_are_no_mapping(folder):
    build(folder, metadata={"architecture": "mlp", "kwargs": "[1]"})


@WRONG.refused(
    "DIR/model.safetensors: the architecture in its metadata cannot be built: mlp: its arguments do not "
    "fit: missing a required argument: 'inputs'",
    "mlp(*, inputs: 'int', outputs: 'int', hidden: 'list[int] | tuple[int, ...]' = (), activation: 'str' "
    "= 'relu') -> 'nn.Module'",
    "mlp(wdith=3)",
    "give the architecture with --arch, or write the metadata again.",
)
def arguments_in_the_metadata_that_the_family_does_not_take(folder):
    build(folder, metadata={"architecture": "mlp", "kwargs": '{"wdith": 3}'})


@WRONG.refused(
    "DIR/model.safetensors: the architecture in its metadata cannot be built: built-in architecture "
    "`mlp`: bad value for `inputs`",
    "a positive integer",
    "mlp(inputs='many', outputs=2)",
    "give the architecture with --arch, or write the metadata again.",
)
def arguments_in_the_metadata_that_cannot_be(folder):
    build(folder, metadata={"architecture": "mlp", "kwargs": '{"inputs": "many", "outputs": 2}'})


@WRONG.refused(
    "DIR/model.safetensors: the architecture's arguments in its metadata cannot be read",
    "spectral_audit.kwargs = a JSON object",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "give the architecture with --arch, or write the metadata again.",
)
def arguments_in_the_metadata_nested_too_deeply(folder):
    build(folder, metadata={"architecture": "mlp", "kwargs": "[" * 100_000})


# --- builders ------------------------------------------------------------------------------------------------------


@WRONG.misused(
    "DIR/model.safetensors: no built-in architecture is called `mpl`",
    "a built-in name, file.py:function or package.module:function",
    "mpl",
    "correct the name; did you mean 'mlp'? known: cnn, lenet, linear_stack, mlp, resnet, torchvision_resnet, vit.",
)
def a_family_that_is_not_there(folder):
    build(folder, "mpl")


@WRONG.misused(
    "DIR/model.safetensors: no built-in architecture is called `net.py`",
    "a built-in name, file.py:function or package.module:function",
    "net.py",
    "add the function: net.py:build.",
)
def a_file_without_its_function(folder):
    build(folder, "net.py")


@WRONG.misused(
    "DIR/nett.py: no such file",
    "a Python file",
    "--arch or `model.builder`: DIR/nett.py:build",
    "give an absolute path, or one relative to the working directory.",
)
def a_file_that_is_not_there(folder):
    build(folder, f"{folder}/nett.py:build")


@WRONG.misused(
    "DIR/nett.py: no such file",
    "a Python file",
    "--arch or `model.builder`: nett.py:build",
    "give an absolute path, or one relative to DIR.",
)
def a_file_that_is_not_beside_the_spec(folder):
    build(folder, builder="nett.py:build", trust="code")


@WRONG.misused(
    "no_such_package.net:build: there is no module `no_such_package.net`",
    "an installed module, or one in the folder it is looked up from",
    "No module named 'no_such_package'",
    "install it, or name a file: path/to/net.py:function.",
)
def a_module_that_is_not_there(folder):
    build(folder, "no_such_package.net:build")


@WRONG.refused(
    "DIR/lost.py: importing it failed",
    "a module that imports without errors",
    "ModuleNotFoundError: No module named 'no_such_package'",
    "run it with Python, and correct it.",
)
def a_file_that_cannot_be_imported(folder):
    (folder / "lost.py").write_text("import no_such_package")
    build(folder, f"{folder}/lost.py:build")


@WRONG.refused(
    "failing: importing it failed",
    "a module that imports without errors",
    "SystemExit",
    "run it with Python, and correct it.",
)
def a_module_that_cannot_be_imported(folder):
    (folder / "failing.py").write_text("raise SystemExit")
    build(folder, builder="failing:build", trust="code")


@WRONG.misused(
    "DIR/net.py: holds no function `biuld`",
    "a function that returns the model",
    "nothing of that name",
    "correct the name; did you mean 'build'? known: broken, build, lazy, leaves, text.",
)
def a_function_that_is_not_there(folder):
    build(folder, f"{folder}/net.py:biuld")


@WRONG.misused(
    "DIR/net.py: holds no function `constant`",
    "a function that returns the model",
    "a int",
    "correct the name; known: broken, build, lazy, leaves, text.",
)
def a_number_for_a_function(folder):
    build(folder, f"{folder}/net.py:constant")


@WRONG.misused(
    "DIR/empty.py: holds no function `build`",
    "a function that returns the model",
    "nothing of that name",
    "define it there.",
)
def a_file_without_functions(folder):
    (folder / "empty.py").write_text("width = 3")
    build(folder, f"{folder}/empty.py:build")


@WRONG.misused(
    "DIR/net.py:build: its arguments do not fit: got an unexpected keyword argument 'input'",
    "build(inputs=4, *, outputs=2)",
    "input",
    "set `model.kwargs` or --arch-kwargs accordingly; did you mean 'inputs'? known: inputs, outputs.",
)
def an_argument_that_the_builder_does_not_take(folder):
    build(folder, f"{folder}/net.py:build", arch_kwargs={"input": 4})


@WRONG.misused(
    "DIR/model.safetensors: mlp: its arguments do not fit: missing a required argument: 'outputs'",
    "mlp(*, inputs: 'int', outputs: 'int', hidden: 'list[int] | tuple[int, ...]' = (), activation: 'str' "
    "= 'relu') -> 'nn.Module'",
    "inputs",
    "set `model.kwargs` or --arch-kwargs accordingly; known: inputs, outputs, hidden, activation.",
)
def an_argument_that_is_missing(folder):
    build(folder, "mlp", arch_kwargs={"inputs": 4})


@WRONG.misused(
    "DIR/model.safetensors: mlp: its arguments do not fit: missing a required argument: 'inputs'",
    "mlp(*, inputs: 'int', outputs: 'int', hidden: 'list[int] | tuple[int, ...]' = (), activation: 'str' "
    "= 'relu') -> 'nn.Module'",
    "no arguments",
    "set `model.kwargs` or --arch-kwargs accordingly; known: inputs, outputs, hidden, activation.",
)
def no_arguments_where_some_are_needed(folder):
    build(folder, "mlp")


@WRONG.refused(
    "DIR/net.py:broken: the builder failed",
    "a function that returns the model",
    "KeyError: 'the depth'",
    "call it in Python with the same arguments, and correct it or the arguments.",
)
def a_builder_that_fails(folder):
    build(folder, f"{folder}/net.py:broken")


@WRONG.refused(
    "DIR/net.py:leaves: the builder failed",
    "a function that returns the model",
    "SystemExit",
    "call it in Python with the same arguments, and correct it or the arguments.",
)
def a_builder_that_leaves(folder):
    build(folder, f"{folder}/net.py:leaves")


@WRONG.misused(
    "DIR/net.py:text: the builder returned no model", "a torch.nn.Module", "a str", "return the module itself."
)
def a_builder_that_returns_text(folder):
    build(folder, f"{folder}/net.py:text")


@WRONG.refused(
    "DIR/typo.py: importing it failed",
    "a module that imports without errors",
    "SyntaxError: WHAT PYTHON SAYS",
    "run it with Python, and correct it.",
    vary={"SyntaxError: .+": "SyntaxError: WHAT PYTHON SAYS"},
)
def a_file_that_is_no_python(folder):
    (folder / "typo.py").write_text("def build(:")
    build(folder, f"{folder}/typo.py:build")


# --- weights -------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/model.safetensors: its weights do not fit DIR/net.py:build()",
    "the same names and shapes in the file and in the model",
    "1 missing from the checkpoint: 1.weight\n"
    "            10 unknown to the model: extra0, extra1, extra2, extra3, extra4, extra5, extra6, "
    "extra7, and 2 more\n"
    "            1 of another shape: 0.weight (file (3, 5), model (3, 4))\n"
    "            1 stored as whole numbers: 0.bias (int8)",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
)
def weights_of_another_architecture(folder):
    state = {f"extra{k}": torch.ones(1) for k in range(10)} | {"0.weight": torch.ones(3, 5)}
    build(folder, f"{folder}/net.py:build", state | {"0.bias": torch.ones(3, dtype=torch.int8)})


@WRONG.refused(
    "DIR/model.safetensors: its weights do not fit DIR/net.py:lazy()",
    "the same names and shapes in the file and in the model",
    "layers without a shape yet: 0.weight, 0.bias",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
)
def layers_without_a_shape(folder):
    build(folder, f"{folder}/net.py:lazy")


@WRONG.refused(
    "DIR/model.safetensors: its weights do not fit mlp(inputs=10000, outputs=10000)",
    "the same names and shapes in the file and in the model",
    "a model of 400040000 bytes for 84 bytes of weights",
    "correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
)
def an_architecture_far_larger_than_the_file(folder):
    build(folder, metadata={"architecture": "mlp", "kwargs": '{"inputs": 10000, "outputs": 10000}'})
