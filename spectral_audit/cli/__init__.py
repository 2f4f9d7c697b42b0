"""The command line: the only printer and the only exit.

One file for each command. Torch is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from spectral_audit import __version__
from spectral_audit.cli.baseline import baseline
from spectral_audit.cli.batch import batch
from spectral_audit.cli.calibrate import calibrate
from spectral_audit.cli.compare import compare
from spectral_audit.cli.gate import gate
from spectral_audit.cli.init import init
from spectral_audit.cli.inspect import inspect
from spectral_audit.cli.ledgers import history, leaderboard
from spectral_audit.cli.score import score
from spectral_audit.cli.validate import validate

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


for _command in (score, gate, compare, batch, leaderboard, history, calibrate, inspect, validate, init):
    app.command()(_command)
app.add_typer(baseline, name="baseline")


def main() -> None:
    """Entry point of the `spectral-audit` command."""
    app()
