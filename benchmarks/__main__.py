"""The command line: `python -m benchmarks [--works NAME ...] [--nets NAME ...] [--rounds 3] [--output FILE]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.core import Contender
from benchmarks.harness import run_work
from benchmarks.nets import NETS, TRAINED
from benchmarks.tables import document
from benchmarks.works import WORKS


def main() -> None:
    options = _options()
    words = [word.lower() for word in options.only]

    def keep(contender: Contender) -> bool:
        return not words or any(word in contender.key.lower() for word in words)

    for name in options.works if options.rounds else ():
        work = WORKS[name]
        for net in work.nets:
            if net in options.nets:
                run_work(work, net, options.rounds, options.folder, keep, options.fresh)
    text = document(options.folder)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
    else:
        sys.stdout.write(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare spectral-audit with its peers.")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS), help="default: all")
    parser.add_argument("--nets", nargs="+", choices=[*NETS, *TRAINED], default=[*NETS, *TRAINED], help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="0 writes the page from the records there are")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="contenders with a word in their name")
    parser.add_argument("--fresh", action="store_true", help="forget the records of the chosen works and nets")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"), help="where records are kept")
    parser.add_argument("--output", type=Path, help="the page; standard output by default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
