"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.choices import Aggregation, Device, DType, TrustLevel
from spectral_audit.errors import UsageError

if TYPE_CHECKING:
    from spectral_audit.opening import Request

Spec = Annotated[Path | None, typer.Option(help="audit.yaml; by default the one beside the checkpoint.")]
Arch = Annotated[str | None, typer.Option(help="Who builds the model: file.py:function, module:function or a family.")]
ArchKwargs = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the builder, in YAML.")]
Trust = Annotated[TrustLevel, typer.Option(help="What files may run.")]
Samples = Annotated[int | None, typer.Option("--n", min=2, help="Probe samples; overrides the spec.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every draw; overrides the spec.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
DTypeOption = Annotated[DType, typer.Option(help="Precision of the passes.")]
AggregationOption = Annotated[Aggregation, typer.Option(help="How the axes become the index.")]
Memory = Annotated[
    str | None, typer.Option(help="Memory to use: 8GB, 500MiB, or a share of what is free; 0.6 by default.")
]


def request_for(
    checkpoint: Path,
    *,
    spec: Path | None,
    arch: str | None,
    arch_kwargs: list[str] | None,
    trust: TrustLevel,
    n: int | None,
    seed: int | None,
    device: Device,
    dtype: DType,
    memory: str | None,
    aggregation: Aggregation,
) -> Request:
    """The audit that these options ask for."""
    from spectral_audit.opening import Request

    return Request(
        checkpoint=checkpoint,
        spec=spec,
        arch=arch,
        arch_kwargs=key_values(arch_kwargs or []),
        trust=trust.value,
        n=n,
        seed=seed,
        device=device.value,
        dtype=dtype.value,
        memory=memory,
        aggregation=aggregation.value,
    )


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
