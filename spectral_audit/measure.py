"""The measurement: a model and a probe set in memory in, every figure of the report out.

subject → study → sweep → lenses → index. Nothing returns upstream, and no file is touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass

import torch
from torch import Tensor, nn

from .admission import make_subject
from .advising import advise
from .errors import InconclusiveError, RefusedError
from .findings import (
    data_findings,
    memory_finding,
    model_findings,
    no_input_gradient,
    ranks_finding,
    regime_finding,
    undefined_finding,
)
from .lenses.attribution import AttributionSettings, read_attribution
from .lenses.hessian import HessianReading, read_hessian
from .lenses.jacobian import JacobianReading, read_jacobian
from .lenses.kernel import KernelReading, read_kernel
from .lenses.krylov import FirstOrder, read_krylov
from .lenses.rounding import measured_rounding
from .lenses.sound import require_second_derivatives
from .losses import Loss
from .memory import out_of_memory, peak_memory
from .ranks import ALONE, Ranks
from .regimes import RegimeChoice, choose_regime
from .results import (
    AXES,
    Attribution,
    AxisName,
    Cost,
    Finding,
    Layer,
    Measurement,
    Raw,
    Regime,
    Samples,
    Spectra,
    Status,
)
from .stability import Aggregation, output_figures, stability
from .stages import Progress, Stages
from .subject import DTypeName, Subject, first_line
from .sweep import Study, study, sweep


@dataclass(frozen=True)
class Settings:
    """How to measure: the same settings on the same machine give the same figures.

    `chunk` samples go through the model at a time; when `None` it is chosen to fit into `memory` bytes, by default 60 %
    of what is free. `weights` and `aggregation` define the index;
    `hessian_tolerance` is the relative error at which Lanczos stops; `regime` says whether kernels are formed, chosen
    by their size when `auto`; `attribution` may be `None` to skip it. `ranks` are the processes that share the
    samples: each calls `measure` with the same arguments, and each is given the same figures.
    """

    seed: int = 0
    device: str = "cpu"
    dtype: DTypeName = "float32"
    chunk: int | None = None
    memory: int | None = None
    aggregation: Aggregation = "rss"
    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(AXES, 1.0))
    hessian_tolerance: float = 1e-3
    regime: RegimeChoice = "auto"
    attribution: AttributionSettings | None = field(default_factory=AttributionSettings)
    ranks: Ranks = ALONE


def measure(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    *,
    loss: Loss = "cross_entropy",
    settings: Settings | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Measurement:
    """Measure `model` on inputs `x` (n, *shape) and labels or targets `y`.

    The model is copied and never changed. `progress(stage, done, total)` is called as work goes on. Raises
    `RefusedError` when model and data do not fit together, `UsageError` when the settings do not, and
    `InconclusiveError` when the figures overflow.
    """
    settings = settings or Settings()
    try:
        found = _measure(model, x, y, loss, settings, progress)
    except OverflowError as error:
        raise _overflow(settings, first_line(error)) from error
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch re-exports it without saying so
        raise _overflow(settings, f"an eigenvalue solver failed: {first_line(error)}") from error
    except (RuntimeError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        raise RefusedError(
            "the model cannot be differentiated the way an audit needs",
            expected="operations with a first and a second derivative",
            found=first_line(error),
            remedy="replace it: sparse gradients, reentrant checkpoints and in-place changes of views lack them",
        ) from error
    bad = next(_non_finite(found), None)
    if bad is not None:
        raise _overflow(settings, f"{bad} is not finite")
    return found


def _overflow(settings: Settings, found: str) -> InconclusiveError:
    wider = settings.dtype == "float32"
    return InconclusiveError(
        f"the figures overflow in {settings.dtype}",
        expected="finite numbers",
        found=found,
        remedy="add --dtype float64" if wider else "check the scale of the weights and of the inputs",
    )


def _non_finite(value: object, path: str = "") -> Iterator[str]:
    """Paths of the floats in a tree of results that are NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, (tuple, list)):
        for k, item in enumerate(value):
            yield from _non_finite(item, f"{path}[{k}]")
    elif is_dataclass(value):
        for entry in fields(value):
            yield from _non_finite(getattr(value, entry.name), f"{path}.{entry.name}".lstrip("."))


def _measure(
    model: nn.Module, x: Tensor, y: Tensor | None, loss: Loss, settings: Settings, progress: Progress
) -> Measurement:
    """The street of this module; see `measure`."""
    started = time.perf_counter()
    stages = Stages(progress)
    generators = [torch.Generator().manual_seed(settings.seed + 1_000_003 * k) for k in range(4)]
    with stages.stage("model"):
        subject = make_subject(
            model,
            x,
            y,
            loss=loss,
            device=settings.device,
            dtype=settings.dtype,
            chunk=settings.chunk,
            memory=settings.memory,
            ranks=settings.ranks,
        )
        chosen = min(settings.chunk or subject.chunk, subject.n)
    plan, subject = stages.run("model", subject, generators[0], lambda s, _: _plan(s, generators[0]))
    with stages.stage("model"):
        regime = choose_regime(subject, plan, settings.regime)
    if regime == "exact":
        # The sweep holds a cotangent for every output at every layer, beside what forward and backward pass hold.
        fitting = subject.fitting(subject.outputs + 2)
        chosen = fitting.chunk if subject.chunk == chosen else chosen
        subject = fitting
    swept, subject = _first_order(subject, plan, regime, stages, generators[1])
    jacobian, kernel = swept.jacobian, swept.kernel
    hessian, subject = stages.run(
        "hessian",
        subject,
        generators[2],
        lambda s, advance: read_hessian(
            s, plan, kernel, generators[2], tolerance=settings.hessian_tolerance, advance=advance
        ),
    )
    figures, kind = output_figures(swept.outputs, loss)
    deviation = _deviation(subject.x)
    attribution, wanted = None, settings.attribution
    if wanted is not None:
        scale = float(deviation.mean().sqrt())
        attribution, subject = stages.run(
            "attribution",
            subject,
            generators[3],
            lambda s, _: read_attribution(s, wanted, scale, generators[3], flat=plan.piecewise_linear),
        )
    undefined = _undefined(subject, swept, figures, deviation, kind)
    samples = _samples(deviation, figures, subject, swept, hessian)
    with stages.stage("intervals"):
        status: Status = "unconverged" if any(f.code == "curvature.unconverged" for f in hessian.findings) else "ok"
        axes, index, scales = stability(
            samples,
            kind,
            _effective_ranks(jacobian, kernel, hessian),
            settings.seed,
            weights=settings.weights,
            aggregation=settings.aggregation,
            curvature_status=status,
            undefined=frozenset(undefined),
        )
    accuracy = accuracy_of(subject, swept.outputs)
    findings = [*hessian.findings, *data_findings(subject, swept.outputs, accuracy, predicted=y is None)]
    findings += model_findings(model, plan)
    layers = _layers(swept, subject.parameters())
    if not jacobian.spectral.any():
        findings.append(no_input_gradient())
    if subject.chunk < chosen:
        findings.append(memory_finding(chosen, subject.chunk))
    if settings.ranks.size > 1:
        findings.append(ranks_finding(settings.ranks.size))
    if regime == "krylov":
        findings.append(regime_finding(subject.n * subject.outputs))
    findings += [undefined_finding(reason) for reason in dict.fromkeys(undefined.values())]
    return Measurement(
        regime=regime,
        outputs=subject.outputs,
        accuracy=accuracy,
        loss=hessian.loss,
        gradient_norm=hessian.gradient_norm,
        scales=scales,
        axes=axes,
        gmsi=index,
        raw=Raw(jacobian.raw_norm, kernel.raw_parameter_jacobian, kernel.raw_ntk, kernel.raw_ntk_trace, hessian.top),
        spectra=Spectra(jacobian.spectrum, kernel.ntk, kernel.gauss_newton, hessian.spectrum),
        attribution=attribution,
        layers=layers,
        findings=tuple(_ordered(findings)),
        cost=_cost(started, stages, swept, hessian, attribution),
        samples=samples,
        advice=advise(index.binding, layers, loss, hessian.spectrum, hessian.gradient_norm),
    )


def _plan(subject: Subject, generator: torch.Generator) -> Study:
    """How to measure, once second derivatives have been checked."""
    plan = study(subject.alone(), generator)
    require_second_derivatives(subject, [*plan.structured, *plan.generic], generator)
    return plan


def _first_order(
    subject: Subject, plan: Study, regime: Regime, stages: Stages, generator: torch.Generator
) -> tuple[FirstOrder, Subject]:
    """Everything about J and G, by one sweep and exact kernels or by products; and the subject, its chunk as it is now.

    The kernels know nothing of chunks: for them there is no second attempt.
    """
    if regime == "krylov":
        return stages.run("products", subject, generator, lambda s, advance: read_krylov(s, plan, generator, advance))
    swept, subject = stages.run(
        "sweep", subject, generator, lambda s, advance: sweep(s, plan, advance), total=subject.n
    )

    def read() -> FirstOrder:
        rounding = measured_rounding(subject, plan, swept)
        jacobian = read_jacobian(subject, swept, rounding.jacobian)
        kernel = read_kernel(subject, swept, generator, (rounding.kernel, rounding.gauss_newton))
        return FirstOrder(swept.outputs, jacobian, kernel, swept.tensors, swept.backward_passes)

    with stages.stage("kernels"):
        return subject.ranks.once(read), subject


def _undefined(
    subject: Subject, swept: FirstOrder, figures: Tensor, deviation: Tensor, kind: str
) -> dict[AxisName, str]:
    """The axes that mean nothing here, and why."""
    found: dict[AxisName, str] = {}
    typical = figures.mean().sqrt() if kind == "rms output" else torch.quantile(figures, 0.5)
    if float(typical) <= 16 * torch.finfo(subject.x.dtype).eps * float(swept.outputs.abs().max()):
        reason = f"the output scale M ({kind}) is zero, so there is nothing to relate changes to"
        found |= dict.fromkeys(("input", "weights", "kernel"), reason)
    if not deviation.any():
        found["input"] = "all inputs of the probe set are equal, so their scale X is zero"
    if not swept.kernel.weights_typical.any() and not swept.kernel.ntk.trace:
        reason = "the gradient is zero for every weight at every sample: rounding or thresholds hide the model"
        found |= dict.fromkeys(AXES, reason)
    return found


def _deviation(x: Tensor) -> Tensor:
    """‖x_i − mean x‖² (n,) float64."""
    flat = x.flatten(1).double()
    return (flat - flat.mean(0)).square().sum(1)


def _samples(
    deviation: Tensor, output: Tensor, subject: Subject, swept: FirstOrder, hessian: HessianReading
) -> Samples:
    jacobian, kernel = swept.jacobian, swept.kernel

    def plain(t: Tensor) -> tuple[float, ...]:
        return tuple(t.detach().double().cpu().tolist())

    return Samples(
        deviation=plain(deviation),
        output=plain(output),
        input_worst=plain(jacobian.spectral),
        input_typical=plain(jacobian.frobenius_squared / subject.x[0].numel()),
        weights_worst=plain(kernel.weights_worst),
        weights_typical=plain(kernel.weights_typical),
        kernel_worst=plain(kernel.worst),
        kernel_typical=plain(kernel.typical),
        curvature_worst=plain(hessian.worst),
        curvature_typical=plain(hessian.typical),
        curvature_typical_stderr=hessian.typical_stderr,
        curvature_worst_residual=hessian.worst_residual,
        layers={t.name: tuple(float(f"{trace:.6g}") for trace in t.traces.tolist()) for t in swept.tensors},
    )


def _effective_ranks(
    jacobian: JacobianReading, kernel: KernelReading, hessian: HessianReading
) -> dict[AxisName, float | None]:
    return {
        "input": jacobian.spectrum.effective_rank,
        "weights": kernel.weights_effective_rank,
        "kernel": kernel.ntk.effective_rank,
        "curvature": hessian.spectrum.effective_rank,
    }


def accuracy_of(subject: Subject, outputs: Tensor) -> float | None:
    """The share of samples whose largest output (n, C) is their label's; `None` for regression."""
    if subject.loss == "mse":
        return None
    predicted = outputs.argmax(1) if subject.loss == "cross_entropy" else (outputs[:, 0] > 0).long()
    return float((predicted == subject.y).double().mean())


def _layers(swept: FirstOrder, parameters: dict[str, nn.Parameter]) -> tuple[Layer, ...]:
    """Every tensor's share of the three kernels' traces, largest raw share first."""

    def share(part: float, total: float) -> float:
        return part / total if total > 0 else 0.0

    sizes = {t.name: parameters[t.name].numel() for t in swept.tensors}
    raw = sum(t.trace for t in swept.tensors)
    worst = sum(t.trace * t.scale**2 for t in swept.tensors)
    typical = sum(t.trace * t.scale**2 / sizes[t.name] for t in swept.tensors)
    layers = [
        Layer(
            name=t.name,
            shape=t.shape,
            parameters=sizes[t.name],
            rule=t.rule,
            norm=t.norm,
            share=share(t.trace, raw),
            share_worst=share(t.trace * t.scale**2, worst),
            share_typical=share(t.trace * t.scale**2 / sizes[t.name], typical),
        )
        for t in swept.tensors
    ]
    return tuple(sorted(layers, key=lambda layer: -layer.share))


def _ordered(findings: list[Finding]) -> list[Finding]:
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda f: rank[f.severity])


def _cost(
    started: float, stages: Stages, swept: FirstOrder, hessian: HessianReading, attribution: Attribution | None
) -> Cost:
    return Cost(
        seconds=time.perf_counter() - started,
        stages=dict(stages.seconds),
        peak_memory=peak_memory(),
        backward_passes=swept.passes,
        hessian_products=hessian.products,
        attribution_gradients=attribution.gradients if attribution else 0,
    )


__all__ = ["Settings", "Study", "accuracy_of", "measure"]
