"""How to audit a checkpoint: the options that every command that audits one takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from spectral_audit.cli.choices import Aggregation, Device, DType, Regime, TrustLevel
from spectral_audit.errors import UsageError

if TYPE_CHECKING:
    from spectral_audit.opening import Request

Data = Annotated[
    str | None, typer.Option(help="Data file, folder, python:file.py:function or synthetic; overrides the spec.")
]
Arch = Annotated[str | None, typer.Option(help="Who builds the model: file.py:function, module:function or a family.")]
ArchKwargs = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the builder, in YAML.")]
Weights = Annotated[str | None, typer.Option(help="Which state dict, when the checkpoint holds several.")]
Trust = Annotated[TrustLevel, typer.Option(help="What files may run.")]
Samples = Annotated[int | None, typer.Option("--n", min=2, help="Probe samples; overrides the spec.")]


@dataclass(frozen=True)
class AuditOptions:
    """The options as they were given; `with_audit_options` adds one of each to a command."""

    spec: Annotated[Path | None, typer.Option(help="audit.yaml; by default the one beside the checkpoint.")] = None
    data: Data = None
    arch: Arch = None
    arch_kwargs: ArchKwargs = None
    weights: Weights = None
    trust: Trust = TrustLevel.none
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Load what fits; no verdict is then more than inconclusive.")
    ] = False
    n: Samples = None
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw; overrides the spec.")] = None
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto
    dtype: Annotated[DType, typer.Option(help="Precision of the passes.")] = DType.float32
    chunk: Annotated[int | None, typer.Option(min=1, help="Samples per pass; chosen by default.")] = None
    memory: Annotated[
        str | None, typer.Option(help="Memory to use: 8GB, 500MiB, or a share of what is free; 0.6 by default.")
    ] = None
    aggregation: Annotated[Aggregation, typer.Option(help="How the axes become the index.")] = Aggregation.rss
    attribution: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD", help="An explanation: gradient, smoothgrad, …, or file.py:function; repeatable."
        ),
    ] = None
    regime: Annotated[Regime, typer.Option(help="Kernels exact or by products; chosen by cost.")] = Regime.auto

    def settings(self) -> dict[str, Any]:
        """The same as keywords of `Request`, in plain values. Raises UsageError for a malformed --arch-kwargs."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain = {name: value.value if isinstance(value, Enum) else value for name, value in given.items()}
        lists = {"arch_kwargs": key_values(self.arch_kwargs or []), "attribution": tuple(self.attribution or ())}
        return plain | lists

    def request(self, checkpoint: Path) -> Request:
        """The audit of `checkpoint` that these options ask for."""
        from spectral_audit.opening import Request

        return Request(checkpoint, **self.settings())


def with_audit_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every field of `AuditOptions` as an option, in place of its parameter `options`."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    hints = get_type_hints(AuditOptions, include_extras=True)
    only = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(entry.name, only, default=entry.default, annotation=hints[entry.name])
        for entry in fields(AuditOptions)
    ]

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        command(options=AuditOptions(**{entry.name: given.pop(entry.name) for entry in fields(AuditOptions)}), **given)

    # What typer reads instead of the wrapped function's.
    parameters = [p.replace(kind=only) for p in own] + shared
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions take any attribute
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    return expanded


def key_values(items: list[str]) -> dict[str, object]:
    """`KEY=VALUE` items as a mapping, the values read as YAML; raises UsageError."""
    import yaml

    values: dict[str, object] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(
                "--arch-kwargs: not an argument with a name",
                expected="KEY=VALUE",
                found=item or "nothing",
                remedy="write it as in --arch-kwargs width=64",
            )
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(
                f"--arch-kwargs {key}", expected="a YAML value", found=text, remedy="quote it as YAML would"
            ) from error
    return values
