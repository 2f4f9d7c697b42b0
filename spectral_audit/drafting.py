"""The first draft of an `audit.yaml`: what a checkpoint and its data tell of each other, and comments on the rest."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from .errors import RefusedError, UsageError
from .inputs.architectures.architecture import build_model
from .inputs.architectures.builders import is_builtin
from .inputs.checkpoints.checkpoint import load_checkpoint
from .inputs.data import names_in, open_data
from .inputs.data.dataset import load_probe
from .inputs.data.shapes import channels_in, first_layer
from .inputs.data.stored import Array, Ask, Stored
from .inputs.data.tokens import from_embedding
from .inputs.spec import FUNCTION, SYNTHETIC, AuditSpec, DataSpec, InputSpec, LossName, TaskSpec, data_at, read_text
from .opening import Request

_X = ("x", "images", "image", "inputs", "input", "features", "data", "X", "input_ids", "tokens", "text")
_Y = ("y", "labels", "label", "targets", "target", "classes", "class", "Y")
_LOOKED_AT = 256


@dataclass(frozen=True)
class _Seen:
    """What was inferred: the spec as far as it goes, the model where it could be built, and the stored labels.

    `data` is what `data.path` will say, for a spec in `folder`.
    """

    spec: AuditSpec
    kind: str
    model: nn.Module | None
    y: Array | None
    data: str
    folder: Path


def draft(request: Request, output: Path) -> str:
    """The text of a spec for a checkpoint and its data, to stand at `output`, which may not exist yet.

    It has been read back, and its data drawn. Raises what an audit would raise for a checkpoint or data that cannot be
    used, and `UsageError` without data.
    """
    if request.data is None:
        raise UsageError(
            "init: nothing says which data the spec is for",
            expected="--data FILE, a folder, python:file.py:function or synthetic",
            found="no --data",
            remedy="add --data.",
        )
    seen = _see(request, request.data, output)
    spec, outputs = _task(seen)
    text = _text(request, replace(seen, spec=spec), outputs)
    again = read_text(text, output)
    load_probe(replace(again, data=replace(again.data, consent=True)), model=seen.model)
    return text


def _see(request: Request, named: str, output: Path) -> _Seen:
    model = _model(request)
    data = _named(data_at(DataSpec(Path()), named, Path()), named)
    spec = AuditSpec(data=replace(data, consent=True))
    kind, stored = open_data(Ask(spec, True, model))
    x = stored.take(np.arange(min(stored.samples, _LOOKED_AT)))
    spec = replace(spec, input=_input(kind, stored, x, model))
    return _Seen(spec, kind, model, stored.y, _relative(data, named, output.parent), output.parent)


def _model(request: Request) -> nn.Module | None:
    """The checkpoint's model, where its architecture is known."""
    checkpoint = load_checkpoint(request.checkpoint, trust=request.trust, weights=request.weights)
    spec = AuditSpec(DataSpec(Path())).model
    try:
        return build_model(
            checkpoint, spec, spec_dir=None, arch=request.arch, arch_kwargs=request.arch_kwargs, trust=request.trust
        ).model
    except RefusedError:
        if request.arch is not None:
            raise
        return None


def _named(data: DataSpec, named: str) -> DataSpec:
    """The names of inputs and labels in the data: usual ones, or the only one left."""
    if data.source != "path":
        return data
    if named.endswith(".npy"):
        beside = [data.path.with_name(f"{name}.npy") for name in _Y]
        return replace(data, y=next((str(path) for path in beside if path.is_file() and path != data.path), None))
    names = names_in(Ask(AuditSpec(data)))
    if names is None:
        return data
    y = next((name for name in _Y if name in names), None)
    x = next((name for name in _X if name in names), None)
    rest = [name for name in names if name != y]
    return replace(data, x=x or (rest[0] if len(rest) == 1 else "x"), y=y)


def _relative(data: DataSpec, named: str, folder: Path) -> str:
    """The data as the spec will name it, from its own folder."""
    if data.source == "synthetic":
        return SYNTHETIC
    if data.source == "function":
        file, colon, function = str(data.path).rpartition(":")
        return FUNCTION + (_from(folder, Path(file)) if file.endswith(".py") else file) + colon + function
    far = Path(named).is_absolute() and not Path(named).is_relative_to(folder.absolute())
    return named if far else _from(folder, data.path)


def _from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _input(kind: str, stored: Stored, x: Array, model: nn.Module | None) -> InputSpec:
    """Layout and scale."""
    if kind == "synthetic":
        return InputSpec()
    layer = first_layer(model) if model is not None else None
    if isinstance(layer, nn.Embedding) and (x == np.floor(x)).all():
        return InputSpec(type="tokens")
    layout = stored.layout or _layout(x.shape[1:], channels_in(layer))
    pixels = layout is not None and "H" in layout and x.min() >= 0 and 1.5 < x.max() <= 255
    return InputSpec(layout=layout, scale=1 / 255 if pixels else 1.0)


def _layout(shape: tuple[int, ...], takes: tuple[int, int] | None) -> str | None:
    """From the shape of a stored sample, and the channels and axes the first convolution takes."""
    channels, axes = takes or (0, len(shape) - 1)
    if len(shape) == 3 and axes == 2:
        few = (channels,) if channels else (1, 3)
        return "NHWC" if shape[2] in few and shape[0] not in few else "NCHW" if shape[0] in few else None
    if len(shape) == 2 and takes is not None and axes == 1:
        return "NCL" if shape[0] == channels else "NLC" if shape[1] == channels else None
    square = len(shape) == 2 and shape[0] == shape[1]
    return "NHW" if len(shape) == 2 and (channels == 1 if axes == 2 else square) else None


def _task(seen: _Seen) -> tuple[AuditSpec, int | None]:
    """The spec with task and loss, from labels and outputs; and the number of outputs, where it is known."""
    spec, y = seen.spec, seen.y
    blind = replace(spec, data=replace(spec.data, y=None))
    outputs = _outputs(load_probe(blind, model=seen.model).x[:2], seen.model) if seen.model is not None else None
    real = y is not None and y.dtype.kind in "biuf"
    numbers = y.astype(np.float64) if y is not None and real else np.zeros(0)
    fractions = bool(numbers.size) and bool((numbers != np.floor(numbers)).any())
    many = numbers.size > 0 and (numbers.ndim > 1 and numbers.shape[1] > 1)
    binary = not numbers.size or bool(np.isin(numbers, (0, 1)).all())
    if fractions or many or (outputs == 1 and not binary):
        return replace(spec, task=TaskSpec("regression", "mse")), outputs
    loss: LossName = "bce" if outputs == 1 else "cross_entropy"
    return replace(spec, task=TaskSpec("classification", loss, _classes(seen))), outputs


def _outputs(x: Tensor, model: nn.Module) -> int | None:
    try:
        if not x.is_floating_point():
            model, x, _ = from_embedding(model, x)
        with torch.no_grad():
            out = model(x)
    except (Exception, SystemExit):  # noqa: BLE001 (validate says why the model does not run on this data)
        return None
    return None if not isinstance(out, Tensor) else 1 if out.ndim == 1 else int(out.shape[-1])


def _classes(seen: _Seen) -> tuple[str, ...]:
    """Names that stand as labels, in alphabetical order: a guess, and marked as one."""
    if seen.y is None or seen.y.dtype.kind not in "US":
        return ()
    return tuple(sorted({str(label) for label in seen.y}))


def _text(request: Request, seen: _Seen, outputs: int | None) -> str:
    spec = seen.spec
    lines = [
        f"# How to audit {request.checkpoint.name}; spectral-audit validate checks this file.",
        "version: 1",
        *_model_lines(request, seen),
        *_data_lines(seen),
        *_input_lines(seen),
        "task:",
        f"  type: {spec.task.type}",
        f"  loss: {spec.task.loss}" + (f"  # the model has {outputs} output{'s' * (outputs != 1)}" if outputs else ""),
    ]
    if spec.task.classes:
        listed = json.dumps(list(spec.task.classes), ensure_ascii=False)
        lines += [
            "  # In alphabetical order; it must be the order of the model's outputs:",
            f"  classes: {listed}",
        ]
    elif spec.task.type == "classification":
        lines.append("  # classes: [cat, dog]  # their names, in the order of the model's outputs")
    lines.append("sample: {n: 256, seed: 0, strategy: stratified}")
    return "\n".join(lines) + "\n"


def _model_lines(request: Request, seen: _Seen) -> list[str]:
    if request.arch is None and seen.model is not None:
        return []  # the checkpoint says it itself
    if request.arch is None:
        return ["# model: {builder: 'net.py:build', kwargs: {}}  # who builds the architecture: the file does not say"]
    consent = "" if is_builtin(request.arch) else "  # runs code: score needs --trust code, or --arch"
    lines = ["model:", f"  builder: {_quoted(request.arch)}{consent}"]
    return lines + ([f"  kwargs: {json.dumps(request.arch_kwargs)}"] if request.arch_kwargs else [])


def _data_lines(seen: _Seen) -> list[str]:
    data = seen.spec.data
    lines = ["data:", f"  path: {_quoted(seen.data)}  # {seen.kind}"]
    if seen.kind in ("npz", "safetensors", "parquet", "saved dataset", "table") and data.x != "x":
        lines.append(f"  x: {_quoted(str(data.x))}")
    if data.y is None:
        lines.append("  y: null  # no labels were found: the predicted class stands in")
    elif seen.kind not in ("synthetic", "image folder", "function"):
        y = _from(seen.folder, Path(data.y)) if seen.kind == "npy" else data.y
        lines.append(f"  y: {_quoted(y)}")
    return lines


def _input_lines(seen: _Seen) -> list[str]:
    given = seen.spec.input
    if given.type == "tokens":
        return ["input:", "  type: tokens"]
    if seen.kind == "synthetic":
        return []
    lines = ["input:"]
    if given.layout is not None:
        lines.append(f"  layout: {given.layout}  # as stored; the model sees channels first")
    if given.scale != 1:
        lines.append("  scale: 1/255  # the stored values go up to 255")
    return [
        *lines,
        "  # Those of the training set, per channel, if the model was trained on normalised inputs:",
        "  mean: 0",
        "  std: 1",
    ]


def _quoted(text: str) -> str:
    """Text as YAML, in quotes only where it would be read as something else."""
    return yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=10**6)[1:-2]
