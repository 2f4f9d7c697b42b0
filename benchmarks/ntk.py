"""The full neural tangent kernel (nC × nC) of n samples: this engine against torch.func's per-sample Jacobians.

    python benchmarks/ntk.py [--samples 128] [--rounds 3] [--output docs/benchmarks-ntk.md]

Every contender runs in a process of its own, the contenders of a net in turn, round after round, so that a drift of
the machine's speed meets all of them; times are medians over rounds, and ratios are taken round by round. The peer is
torch.func's contraction: vmap(jacrev) in chunks, then one product per parameter tensor. It computes its Jacobian once
and uses it on both sides, and is credited with its best chunk size. Errors are against a float64 run of the peer.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from nets import NETS, problem
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

OURS = "spectral-audit"
CHUNKS = (8, 16, 32, 64)


def ours(name: str, samples: int) -> tuple[float, Tensor]:
    """Seconds and the kernel in the basis of the raw outputs."""
    from spectral_audit.subject import make_subject
    from spectral_audit.sweep import study, sweep

    model, x, y = problem(name, samples)
    subject = make_subject(model, x, y, loss="cross_entropy")
    start = time.perf_counter()
    plan = study(subject, torch.Generator().manual_seed(0))
    kernel = sweep(subject, plan).kernel
    seconds = time.perf_counter() - start
    c = subject.outputs
    basis = subject.basis.double()
    turned = torch.einsum("ck,ikjl,dl->icjd", basis, kernel.view(samples, c, samples, c), basis)
    return seconds, turned.reshape(samples * c, samples * c)


def torch_func(name: str, samples: int, chunk: int, dtype: torch.dtype = torch.float32) -> tuple[float, Tensor]:
    """Seconds and the kernel by vmap(jacrev) and one contraction per tensor."""
    model, x, _ = problem(name, samples)
    model, x = model.to(dtype), x.to(dtype)
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def single(p: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(model, p, (one[None],))[0]

    start = time.perf_counter()
    jacobian = vmap(jacrev(single), (None, 0), chunk_size=chunk)(parameters, x)
    kernel = sum(j.flatten(2).flatten(0, 1) @ j.flatten(2).flatten(0, 1).T for j in jacobian.values())
    return time.perf_counter() - start, kernel.double()


def worker(name: str, samples: int, contender: str, reference: Path) -> None:
    """One measurement in this process, printed as JSON."""
    if contender == "reference":
        torch.save(torch_func(name, samples, 16, torch.float64)[1], reference)
        return
    seconds, kernel = ours(name, samples) if contender == OURS else torch_func(name, samples, int(contender))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    truth = torch.load(reference, weights_only=True)
    error = float((kernel - truth).norm() / truth.norm())
    print(json.dumps({"seconds": seconds, "peak": peak, "error": error}))


def run(name: str, samples: int, contender: str, reference: Path) -> dict[str, float]:
    """A worker process and what it printed."""
    command = [sys.executable, __file__, "--worker", name, contender, str(reference), "--samples", str(samples)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out) if out else {}


def compare(name: str, samples: int, rounds: int) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "kernel.pt"
        run(name, samples, "reference", reference)
        contenders = [OURS, *(str(c) for c in CHUNKS if c <= samples)]
        results: dict[str, list[dict[str, float]]] = {c: [] for c in contenders}
        for _ in range(rounds):
            for contender in contenders:
                results[contender].append(run(name, samples, contender, reference))
                print(f"{name} {contender}: {results[contender][-1]}", file=sys.stderr)
    seconds = {c: statistics.median(r["seconds"] for r in rows) for c, rows in results.items()}
    best = min(contenders[1:], key=seconds.__getitem__)
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(results[OURS], results[best], strict=True)]
    peak = {c: max(r["peak"] for r in results[c]) for c in (OURS, best)}
    error = {c: max(r["error"] for r in results[c]) for c in (OURS, best)}
    ratio = f"**{statistics.median(ratios):.1f}×** ({min(ratios):.1f}–{max(ratios):.1f})"
    return (
        f"| {name} | {seconds[OURS]:.2f} | {seconds[best]:.2f} (chunk {best}) | {ratio} "
        f"| {peak[OURS]:.2f} | {peak[best]:.2f} | {error[OURS]:.1e} | {error[best]:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", nargs=3, metavar=("NET", "CONTENDER", "REFERENCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, contender, reference = options.worker
        worker(name, options.samples, contender, Path(reference))
        return
    lines = [
        f"n = {options.samples}, C = 10, float32, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"Python {platform.python_version()}, medians of {options.rounds} rounds.",
        "",
        "| net | spectral-audit, s | torch.func, s | ratio (range) | peak GiB | peer's | error | peer's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [compare(name, options.samples, options.rounds) for name in NETS]
    print("\n".join(lines))
    if options.output:
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text("\n".join(["# The exact neural tangent kernel", "", *lines, ""]))


if __name__ == "__main__":
    main()
