"""The command line: the only printer and the only exit.

Torch is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from . import __version__
from .errors import AuditError, ExitCode, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from .audit import Request

_Result = TypeVar("_Result")


class Format(str, Enum):
    """What goes to standard output."""

    rich = "rich"
    json = "json"
    yaml = "yaml"
    md = "md"


class TrustLevel(str, Enum):
    """What a file may do: `none` runs nothing from it, `code` admits exported programs and builders from a spec."""

    none = "none"
    code = "code"


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class DType(str, Enum):
    """Precision of the passes through the model; sums over samples are float64 in any case."""

    float32 = "float32"
    float64 = "float64"


class Aggregation(str, Enum):
    """How the four axes become one index: root of the sum of squares, the largest, or the sum."""

    rss = "rss"
    max = "max"
    sum = "sum"


class Regime(str, Enum):
    """Kernels formed and solved exactly, or only multiplied with; chosen by their size."""

    auto = "auto"
    exact = "exact"
    krylov = "krylov"


app = typer.Typer(
    name="spectral-audit",
    help="Audit trained PyTorch models: how far their outputs and explanations move when inputs or weights do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"spectral-audit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def score(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to audit.", show_default=False)],
    spec: Annotated[Path | None, typer.Option(help="audit.yaml; by default the one beside the checkpoint.")] = None,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="What to print.")] = Format.rich,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the report in every format.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Who builds the model: file.py:function, module:function or a family.")
    ] = None,
    arch_kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the builder, in YAML.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Which state dict, when the checkpoint holds several.")] = None,
    trust: Annotated[TrustLevel, typer.Option(help="What files may run.")] = TrustLevel.none,
    n: Annotated[int | None, typer.Option("--n", min=2, help="Probe samples; overrides the spec.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw; overrides the spec.")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    dtype: Annotated[DType, typer.Option(help="Precision of the passes.")] = DType.float32,
    chunk: Annotated[int | None, typer.Option(min=1, help="Samples per pass; chosen by default.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to use: 8GB, 500MiB, or a share of what is free; 0.6 by default.")
    ] = None,
    aggregation: Annotated[Aggregation, typer.Option(help="How the axes become the index.")] = Aggregation.rss,
    regime: Annotated[Regime, typer.Option(help="Kernels exact or by products; chosen by size.")] = Regime.auto,
) -> None:
    """Audit a checkpoint on real data and print the report."""

    def run() -> None:
        from .audit import Request

        request = Request(
            checkpoint=checkpoint,
            spec=spec,
            arch=arch,
            arch_kwargs=_key_values(arch_kwargs or []),
            weights=weights,
            trust=trust.value,
            n=n,
            seed=seed,
            device=device.value,
            dtype=dtype.value,
            chunk=chunk,
            memory=memory,
            aggregation=aggregation.value,
            regime=regime.value,
        )
        _score(request, output_format, output)

    _guarded(run)


def _score(request: Request, output_format: Format, output: Path | None) -> None:
    from rich.console import Console

    from .audit import audit
    from .reports import WRITERS, require_writable, write_all
    from .reports.look import Look
    from .reports.terminal import render_report

    if output:
        require_writable(output)
    report = _with_progress(lambda progress: audit(request, progress))
    written = write_all(report, output) if output else []
    if output_format is Format.rich:
        typer.echo(render_report(report, Look.of(Console())), nl=False)
    else:
        typer.echo(WRITERS[output_format.value](report).rstrip("\n"))
    if written:
        typer.echo(f"wrote {', '.join(str(path) for path in written)}", err=True)


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to look into.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a checkpoint holds, running nothing from it."""

    def run() -> None:
        from rich.console import Console

        from .inputs.inspection import inspect_checkpoint
        from .reports.artifact import to_json
        from .reports.inspection import render_inspection
        from .reports.look import Look

        found = inspect_checkpoint(checkpoint)
        typer.echo(to_json(found) if as_json else render_inspection(found, Look.of(Console())), nl=False)

    _guarded(run)


def _key_values(items: list[str]) -> dict[str, object]:
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


def _with_progress(work: Callable[[Callable[[str, int, int | None], None]], _Result]) -> _Result:
    """Run `work` with a progress bar on a terminal's standard error, and silently elsewhere."""
    if not sys.stderr.isatty():
        return work(lambda stage, done, total: None)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[count]:>9}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            count = f"{done}/{total}" if total else str(done or "")
            if stage not in tasks:
                _finish(bar, tasks)
                tasks[stage] = bar.add_task(stage, total=total, count=count)
            bar.update(tasks[stage], completed=done, count=count)

        return work(show)


def _finish(bar: Bar, tasks: dict[str, TaskID]) -> None:
    for task in tasks.values():
        bar.remove_task(task)
    tasks.clear()


def _guarded(command: Callable[[], None]) -> None:
    """Run a command; every way it can end becomes one message and one exit code."""
    try:
        with warnings.catch_warnings():
            if not os.environ.get("SPECTRAL_AUDIT_DEBUG"):
                # Libraries announce their own future here, which the user of this command cannot act on.
                for category in (FutureWarning, DeprecationWarning):
                    warnings.simplefilter("ignore", category)
            command()
    except AuditError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output left; nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 — the last line of defence: other exit codes mean a verdict
        _internal(error)


def _internal(error: BaseException) -> None:
    if "allocate memory" in str(error) or "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        shortage = UsageError(
            "out of memory",
            expected="memory for the passes and for kernels of (samples × outputs)² float64 numbers",
            found=" ".join(str(error).split())[:120] or type(error).__name__,
            remedy="lower --memory or --chunk, then --n",
        )
        typer.echo(f"error: {shortage}", err=True)
        raise typer.Exit(ExitCode.REFUSED)
    if os.environ.get("SPECTRAL_AUDIT_DEBUG"):
        traceback.print_exception(error)
    summary = " ".join(str(error).split())[:300]
    typer.echo(
        f"internal error: {type(error).__name__}: {summary}\n"
        "  this is a defect of spectral-audit, not of your files\n"
        "  remedy    set SPECTRAL_AUDIT_DEBUG=1 for the details and report them",
        err=True,
    )
    raise typer.Exit(ExitCode.INTERNAL)


def main() -> None:
    """Entry point of the `spectral-audit` command."""
    app()


if __name__ == "__main__":
    main()
