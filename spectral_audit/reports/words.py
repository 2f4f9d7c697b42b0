"""How a report says things: numbers, sizes and sentences, shared by the terminal and the Markdown writer."""

from __future__ import annotations

import math

from spectral_audit.results import (
    AXES,
    Axis,
    AxisName,
    Estimate,
    Finding,
    Index,
    Report,
    Severity,
    Spectrum,
)

UNDEFINED_WORD = "undefined"

PERTURBS: dict[AxisName, str] = {
    "input": "inputs",
    "weights": "weights, per sample",
    "kernel": "weights, all samples",
    "curvature": "weights, via the loss",
}

_CAUSES: dict[AxisName, tuple[str, str]] = {
    "input": ("random input noise", "the signal"),
    "weights": ("random noise on every weight tensor", "its size"),
    "kernel": ("random noise on every weight tensor", "its size"),
    "curvature": ("random noise on every weight tensor", "its size"),
}

_AGGREGATIONS = {"rss": "root sum of squares", "max": "largest axis", "sum": "sum of axes"}
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


def clean(text: str) -> str:
    """A text safe to print: control, bidirectional and unprintable characters of foreign names are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits: 0.0142, 1.00, 142, 1420, 1.42e5, 1.42e-4; `undefined` for None; raises for nan."""
    if value is None:
        return UNDEFINED_WORD
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite; a figure that does not exist is None")
    if value == 0:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    exponent = int(power)
    if not -3 <= exponent < 5:
        return f"{mantissa}e{exponent}"
    return f"{float(f'{mantissa}e{power}'):.{max(0, digits - 1 - exponent)}f}"


def interval(estimate: Estimate) -> str:
    """The 95 % interval as low–high, or nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}–{number(estimate.high)}"


def figure(estimate: Estimate) -> str:
    """The value of an estimate, marked with `!` when it did not converge."""
    return number(estimate.value) + ("!" if estimate.status == "unconverged" else "")


def with_interval(estimate: Estimate, label: str = "") -> str:
    """An estimate in running text: `14.2 worst (11.9–16.8)`."""
    span = interval(estimate)
    parts = [figure(estimate), label, f"({span})" if span else ""]
    return " ".join(part for part in parts if part)


def percent(share: float | None) -> str:
    """A share in percent: 42.3 %, <0.1 %, 0 %."""
    if share is None:
        return UNDEFINED_WORD
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def count(value: int) -> str:
    """An exact count with thousands separated."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """A count with its noun: `1 draw`, `16 draws`, `4 backward passes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count(value)} {noun if value == 1 else plural}"


def memory(size: int) -> str:
    """Bytes in the largest decimal unit that leaves a whole part."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log10(size)) // 3) if size > 0 else 0
    return f"{number(size / 1000**power) if power else size} {units[power]}"


def shape(sizes: tuple[int, ...]) -> str:
    """A tensor shape: 16×1×5×5, or `scalar`."""
    return "×".join(str(size) for size in sizes) or "scalar"


def middle(text: str, width: int) -> str:
    """A text of at most `width` characters, the middle left out: both ends of a parameter name tell where it is."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 3 // 5
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]


def abbreviate(names: list[str], width: int) -> list[str]:
    """Dotted names of at most `width` characters: first goes what all begin or end with."""
    parts = [name.split(".") for name in names]
    room = min(map(len, parts), default=1) - 1  # the shortest name keeps a part of its own
    first = _shared(parts, room)
    last = _shared([part[::-1] for part in parts], room - first)
    shown = names
    for dropped in range(1, first + last + 1) if len(names) > 1 else ():
        if max(map(len, shown)) <= width:
            break
        head, tail = min(dropped, first), max(0, dropped - first)
        marks = ["…"] if head else [], ["…"] if tail else []
        shown = [".".join([*marks[0], *part[head : len(part) - tail], *marks[1]]) for part in parts]
    return [middle(name, width) for name in shown]


def _shared(parts: list[list[str]], room: int) -> int:
    """How many leading parts all names share, at most `room`."""
    count = 0
    while count < room and len({part[count] for part in parts}) == 1:
        count += 1
    return count


def sorted_findings(findings: tuple[Finding, ...]) -> list[Finding]:
    """Errors first, then warnings, then what is good to know."""
    return sorted(findings, key=lambda finding: _ORDER[finding.severity])


def aggregation(index: Index) -> str:
    """How the axes were combined, in words, with the weights where they are not all one."""
    words = _AGGREGATIONS.get(index.aggregation, index.aggregation)
    if all(weight == 1 for weight in index.weights.values()):
        return words
    return f"{words}, weights " + " ".join(f"{name} {weight:g}" for name, weight in index.weights.items())


def headline(report: Report) -> str:
    """The index in one line."""
    index = report.gmsi
    if index.worst.value is None and index.typical.value is None:
        return f"GMSI {UNDEFINED_WORD}: {_why_undefined(report)}"
    bound = f", bound by {index.binding}" if index.binding else ""
    return f"GMSI {with_interval(index.worst, 'worst')}, {with_interval(index.typical, 'typical')}{bound}"


def _why_undefined(report: Report) -> str:
    if report.scales.output == 0:
        return "the outputs do not differ at all, so there is nothing to compare a change with"
    return "the findings below say why"


def verdict(report: Report) -> str:
    """What the binding axis means for an engineer: how large a perturbation has to be to matter."""
    index = report.gmsi
    if index.binding is None:
        return "No axis binds; the figures that do exist below still hold."
    axis: Axis = getattr(report.axes, index.binding)
    cause, size = _CAUSES[index.binding]
    effect = _effect(report, index.binding)
    where = " on the whole probe set at once" if index.binding == "kernel" else ""
    if axis.worst.value is None or axis.worst.value <= 0:
        return f"To first order, {cause} does not move the outputs."
    worst = _share(1 / axis.worst.value, size)
    if axis.typical.value is None or axis.typical.value <= 0:
        return f"To first order, {cause} of {worst}, aimed in the worst direction, {effect}{where}."
    typical = _share(1 / axis.typical.value, size)
    return f"To first order, {cause} of {typical} {effect}{where}; aimed in the worst direction, {worst} is enough."


def _share(ratio: float, size: str) -> str:
    if ratio >= 1:
        return f"{number(ratio)} times {size}"
    return f"{number(100 * ratio)} % of {size}"


def _effect(report: Report, axis: AxisName) -> str:
    if axis == "curvature":
        return "changes the loss by about 0.5"
    if report.task.type == "regression":
        return "moves the outputs by their own spread"
    return "moves the logits as far as the decision boundary is away"


def unit(report: Report) -> str:
    """What 1.0 means on this report's axes."""
    reach = "moves the logits as far as the decision boundary is away"
    if report.task.type == "regression":
        reach = "moves the outputs by their own spread over the data"
    axes = [getattr(report.axes, name) for name in AXES]
    columns = [report.gmsi, *axes]
    loose = any("unconverged" in (column.worst.status, column.typical.status) for column in columns)
    return (
        f"1.0 = a perturbation as large as the signal {reach} (curvature: changes the loss by 0.5); "
        "typical s = a random one of 1/s of that size does. Lower is more stable."
        + (" ! = not converged." if loose else "")
    )


def certificate(spectrum: Spectrum) -> str:
    """How far the spectrum's largest value can be trusted: exact, or its residual."""
    if spectrum.status == "undefined":
        return UNDEFINED_WORD
    residual = f"± {number(spectrum.residuals[0])}" if spectrum.residuals else "no residual"
    if spectrum.status == "unconverged":
        return f"{residual}, unconverged"
    return f"exact {residual}" if spectrum.exact else residual


def effective_rank(spectrum: Spectrum) -> str:
    """How many of the operator's dimensions share its energy."""
    if spectrum.effective_rank is None:
        return UNDEFINED_WORD
    return f"{number(spectrum.effective_rank)} of {count(spectrum.dimension)}"


def estimated(value: float | None, stderr: float) -> str:
    """A figure with its standard error where it has one."""
    return number(value) + (f" ± {number(stderr, 2)}" if value is not None and stderr > 0 else "")


def raw_text(report: Report) -> str:
    """The paper's operators untouched, in one line."""
    raw = report.raw
    parts = [
        ("‖J‖₂", raw.jacobian),
        ("‖G‖₂", raw.parameter_jacobian),
        ("λmax(Θ)", raw.ntk),
        ("λmax(K)/n", raw.ntk_trace),
        ("‖H‖₂", raw.hessian),
    ]
    return " · ".join(f"{name} {number(value)}" for name, value in parts)


def scales_text(report: Report) -> str:
    """What the axes are relative to, and where on the loss surface the model stands."""
    scales, task = report.scales, report.task
    parts = [
        f"X {number(scales.input)}",
        f"M {number(scales.output)} ({scales.output_kind})",
        f"{task.loss} {number(task.loss_value)}",
        f"‖∇L‖ {number(task.gradient_norm)}",
    ]
    return clean(" · ".join(parts))


def cost_text(report: Report) -> str:
    """What the audit spent."""
    cost = report.cost
    stages = ", ".join(f"{clean(name)} {number(spent)}" for name, spent in cost.stages.items())
    parts = [
        f"{number(cost.seconds)} s" + (f" ({stages})" if stages else ""),
        counted(cost.backward_passes, "backward pass"),
        counted(cost.hessian_products, "H-product"),
        counted(cost.attribution_gradients, "gradient"),
        f"peak {memory(cost.peak_memory)}",
    ]
    return " · ".join(parts)


def closing_text(report: Report) -> str:
    """What has to agree before two reports may be compared."""
    engine = report.engine
    explained = [report.attribution.score_definition] if report.attribution is not None else []
    parts = [
        report.gmsi.definition,
        *explained,
        f"{report.data.strategy} sample, seed {report.data.seed}",
        f"{engine.dtype} on {engine.device}",
        f"{engine.regime} regime",
        f"version {engine.version}, torch {engine.torch}",
        f"sha256 {report.model.sha256[:12]}, probe {report.data.probe_sha256[:12]}",
    ]
    return clean(" · ".join(parts))


def model_text(report: Report) -> str:
    """The checkpoint in one line."""
    model = report.model
    trust = f"trust {model.trust}" if model.trust != "none" else ""
    file = ", ".join([model.format, *model.dtypes])
    return clean(" · ".join(p for p in (model.architecture, f"{count(model.parameters)} parameters", file, trust) if p))


def data_text(report: Report) -> str:
    """The probe set in one line."""
    data = report.data
    taken = f"{count(data.n)} of {counted(data.available, 'sample')}"
    accuracy = [f"accuracy {percent(data.accuracy)}"] if data.accuracy is not None else []
    return clean(" · ".join([data.path, taken, shape(data.shape), *accuracy]))
