"""`audit.yaml`: how to audit a checkpoint, read strictly.

Every section is a table from key to reader; a reader turns one YAML value into one plain value or raises `UsageError`
naming the file, the key, what was expected and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from spectral_audit.explanations import METHODS
from spectral_audit.inputs.readers import (
    Place,
    Reader,
    class_numbers,
    free,
    names,
    number,
    numbers,
    one_of,
    optional,
    parse,
    parse_text,
    table,
    text,
    whole,
    wholes,
)

Task = Literal["classification", "regression"]
LossName = Literal["cross_entropy", "bce", "mse"]
Strategy = Literal["stratified", "random", "first"]
NormName = Literal["l2", "linf"]
SpaceName = Literal["input", "pixel"]

LOSSES: dict[str, tuple[LossName, ...]] = {"classification": ("cross_entropy", "bce"), "regression": ("mse",)}
LAYOUTS = ("NHWC", "NHW", "NCHW", "NLC", "NCL")
# What `data.path` may be besides a path.
SYNTHETIC = "synthetic"
FUNCTION = "python:"
# Where a safetensors checkpoint may carry its own spec.
SPEC_KEY = "spectral_audit.spec"


@dataclass(frozen=True)
class ModelSpec:
    """Who builds the architecture, and which state dict of the checkpoint fills it."""

    builder: str | None = None
    kwargs: dict[str, object] = field(default_factory=dict)
    weights: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """The data and the names of its inputs and labels; `y` is `None` where there are none.

    `source` says what `path` is: a file or folder, a `function` of the user's (`path` is then its name, looked up from
    `folder`), or `synthetic` noise. `x` names one array or column, or several columns. `labels` maps stored labels, as
    text, to class numbers. `consent` is true where the user named the data on the command line.
    """

    path: Path
    x: str | tuple[str, ...] = "x"
    y: str | None = "y"
    source: Literal["path", "function", "synthetic"] = "path"
    split: str | None = None
    labels: dict[str, int] | None = None
    folder: Path = Path()
    consent: bool = False


@dataclass(frozen=True)
class InputSpec:
    """From stored values to model inputs: channels first, then (value · scale − mean) / std, per channel or once.

    Tokens are whole numbers that enter an embedding; they are taken as stored. `size` (height, width) resizes images,
    `shape` is that of one synthetic sample as the model takes it.
    """

    layout: str | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None
    type: Literal["values", "tokens"] | None = None

    @property
    def normalises(self) -> bool:
        """Whether values are changed on the way to the model."""
        return (self.scale, self.mean, self.std) != (1.0, (0.0,), (1.0,))


@dataclass(frozen=True)
class TaskSpec:
    """What the model is for, the loss behind its curvature, and the names of its classes."""

    type: Task = "classification"
    loss: LossName = "cross_entropy"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleSpec:
    """How many samples are drawn, from which seed, and how; regression treats `stratified` as `random`."""

    n: int = 256
    seed: int = 0
    strategy: Strategy = "stratified"


@dataclass(frozen=True)
class RadiusSpec:
    """How far the attribution is probed: relative to the input scale X, or absolute in a norm and a space."""

    value: float = 0.1
    relative: bool = True
    norm: NormName = "l2"
    space: SpaceName = "input"


@dataclass(frozen=True)
class AttributionSpec:
    """Which explanations are measured, of which output, at which radius; the first method is the primary one.

    A method is built in or `file.py:function`. `sign` takes absolute values, `channels` sums over the channels; `draws`
    and `search_steps` are the effort, `surrogate` the β of a softplus surrogate of ReLU models, `preset` a library
    whose max-sensitivity is measured by its own definition as well.
    """

    methods: tuple[str, ...] = ("gradient",)
    target: Literal["predicted", "label"] | int = "predicted"
    radius: RadiusSpec = field(default_factory=RadiusSpec)
    sign: Literal["signed", "absolute"] = "signed"
    channels: Literal["kept", "pooled"] = "kept"
    draws: int = 10
    search_steps: int = 8
    ig_steps: int = 16
    smooth_draws: int = 16
    smooth_noise: float = 0.15
    surrogate: float | None = None
    preset: Literal["captum", "quantus"] | None = None


@dataclass(frozen=True)
class AuditSpec:
    """Everything needed to audit one checkpoint; `source` is the file it came from: YAML, or the checkpoint itself."""

    data: DataSpec
    model: ModelSpec = field(default_factory=ModelSpec)
    input: InputSpec = field(default_factory=InputSpec)
    task: TaskSpec = field(default_factory=TaskSpec)
    sample: SampleSpec = field(default_factory=SampleSpec)
    attribution: AttributionSpec = field(default_factory=AttributionSpec)
    source: Path | None = None


def _target(value: Any, place: Place) -> str | int:
    if isinstance(value, int):
        return int(whole(0)(value, place))
    if value not in ("predicted", "label"):
        raise place.wrong("predicted, label, or the number of an output", value)
    return str(value)


def method(value: Any, place: Place) -> str:
    """The name of an attribution method: a built-in one, or a function of the user's."""
    if isinstance(value, str) and ":" in value:
        return value
    return one_of(*METHODS, "file.py:function")(value, place)


def _methods(value: Any, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise place.wrong("a list of methods", value)
    return tuple(method(item, place.at(str(i))) for i, item in enumerate(value))


def _version(value: Any, place: Place) -> int:
    if isinstance(value, bool) or value != 1:
        raise place.wrong("1", value, "set `version: 1`, the only one that this release reads.")
    return 1


def _columns(value: Any, place: Place) -> str | tuple[str, ...]:
    if isinstance(value, list) and not value:
        raise place.wrong("the name of an array or a column, or a list of columns", value)
    return names(value, place) if isinstance(value, list) else text(value, place)


def _size(value: Any, place: Place) -> tuple[int, ...]:
    """Height and width; one number stands for both."""
    sides = wholes(1)(value, place)
    if len(sides) > 2:
        raise place.wrong("a height and a width, or one number for both", value)
    return sides if len(sides) == 2 else sides * 2


_DATA = table(
    {
        "path": text,
        "x": _columns,
        "y": optional(text),
        "split": optional(text),
        "labels": optional(class_numbers),
    },
    ("path",),
)


def _data(value: Any, place: Place) -> dict[str, Any]:
    """Inputs in a `.npy` file of their own are their own path."""
    named = value.get("x") if isinstance(value, dict) and "path" not in value else None
    if isinstance(named, str) and named.endswith(".npy"):
        value = {**value, "path": named}
    return dict(_DATA(value, place))


_ABSOLUTE = table(
    {"value": number(above=0), "norm": one_of("l2", "linf"), "space": one_of("input", "pixel")}, ("value",)
)


def _radius(value: Any, place: Place) -> dict[str, Any]:
    """A number relative to X, or `{value, norm, space}` in absolute units."""
    if isinstance(value, dict):
        return {**_ABSOLUTE(value, place), "relative": False}
    return {"value": number(above=0)(value, place), "relative": True}


_SECTIONS: dict[str, Reader] = {
    "version": _version,
    "model": table({"builder": optional(text), "kwargs": free, "weights": optional(text)}),
    "data": _data,
    "input": table(
        {
            "type": optional(one_of("values", "tokens")),
            "layout": optional(one_of(*LAYOUTS)),
            "scale": number(above=0),
            "mean": numbers(),
            "std": numbers(above=0),
            "size": optional(_size),
            "shape": optional(wholes(1)),
        }
    ),
    "task": table(
        {
            "type": one_of("classification", "regression"),
            "loss": one_of("cross_entropy", "bce", "mse"),
            "classes": names,
        }
    ),
    "sample": table({"n": whole(2), "seed": whole(0), "strategy": one_of("stratified", "random", "first")}),
    "attribution": table(
        {
            "method": method,
            "methods": _methods,
            "target": _target,
            "radius": _radius,
            "norm": one_of("l2", "linf"),
            "space": one_of("input", "pixel"),
            "sign": one_of("signed", "absolute"),
            "channels": one_of("kept", "pooled"),
            "draws": whole(1),
            "search_steps": whole(0),
            "ig_steps": whole(1),
            "smooth_draws": whole(1),
            "smooth_noise": number(above=0),
            "surrogate": optional(number(above=0)),
            "preset": optional(one_of("captum", "quantus")),
        }
    ),
}
_DOCUMENT = table(_SECTIONS, ("data",))


def load_spec(path: Path) -> AuditSpec:
    """The audit described by a YAML file, with the paths in `data` taken relative to that file.

    Raises `UsageError` for a file that cannot be read, is not YAML, repeats a key, or holds an unknown key or a bad
    value.
    """
    return _spec(parse(path), path)


def spec_in_metadata(text: str, checkpoint: Path) -> AuditSpec:
    """The audit described in a checkpoint's own metadata, which may leave out `data`; raises as `load_spec` does."""
    document = parse_text(text, checkpoint)
    if isinstance(document, dict):
        document = {"data": {"path": SYNTHETIC}, **document}
    return _spec(document, checkpoint)


def read_text(text: str, path: Path) -> AuditSpec:
    """The audit described by a text that is to stand at `path`; raises as `load_spec` does."""
    return _spec(parse_text(text, path), path)


def data_at(data: DataSpec, text: str, folder: Path) -> DataSpec:
    """The same arrays and labels, taken from what `text` names, looked up from `folder`."""
    if text == SYNTHETIC:
        return replace(data, path=Path(text), source="synthetic", folder=folder)
    if text.startswith(FUNCTION):
        return replace(data, path=Path(text.removeprefix(FUNCTION)), source="function", folder=folder)
    return replace(data, path=folder / text, source="path", folder=folder)


def _spec(document: Any, source: Path) -> AuditSpec:
    place = Place(source)
    keys = _DOCUMENT(document, place)
    data = keys["data"]
    return AuditSpec(
        data=data_at(DataSpec(**{**data, "path": Path()}), data["path"], source.parent),
        model=ModelSpec(**keys.get("model", {})),
        input=InputSpec(**keys.get("input", {})),
        task=_task(keys.get("task", {}), place.at("task")),
        sample=SampleSpec(**keys.get("sample", {})),
        attribution=_attribution(keys.get("attribution", {}), place.at("attribution")),
        source=source,
    )


def find_spec(checkpoint: Path) -> Path | None:
    """The spec beside a checkpoint: `<stem>.audit.yaml`, else `audit.yaml`, else `None`."""
    candidates = (checkpoint.with_name(f"{checkpoint.stem}.audit.yaml"), checkpoint.with_name("audit.yaml"))
    return next((path for path in candidates if path.is_file()), None)


def _task(keys: dict[str, Any], place: Place) -> TaskSpec:
    kind = keys.get("type", "classification")
    allowed = LOSSES[kind]
    loss = keys.get("loss", allowed[0])
    if loss not in allowed:
        raise place.at("loss").wrong(f"{' or '.join(allowed)} for {kind}", loss)
    return TaskSpec(**{**keys, "loss": loss})


def _attribution(keys: dict[str, Any], place: Place) -> AttributionSpec:
    """`norm` and `space` may stand beside a relative radius, or inside an absolute one; in both, nobody knows which.

    `method: NAME` is short for a list of one.
    """
    if "method" in keys and "methods" in keys:
        raise place.at("method").wrong("either `method` or `methods`", keys["method"])
    if "method" in keys:
        keys["methods"] = (keys.pop("method"),)
    around = {key: keys.pop(key) for key in ("norm", "space") if key in keys}
    inside = keys.pop("radius", {})
    for key in around.keys() & inside.keys():
        if around[key] != inside[key]:
            raise place.at(key).wrong(f"the same as `{place.at('radius').at(key).key}`: {inside[key]}", around[key])
    return AttributionSpec(**keys, radius=RadiusSpec(**{**around, **inside}))
