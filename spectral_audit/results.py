"""What an audit finds, as frozen plain values: no tensors, no behaviour, nothing undefined disguised as a number.

A figure that does not exist is `None`, with a status beside it that says why. Every class here is one object of the
JSON report; the JSON Schema that ships with the package is generated from these definitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .advice import Advice as Advice
from .estimates import UNDEFINED as UNDEFINED
from .estimates import AxisName as AxisName
from .estimates import Estimate as Estimate
from .estimates import Status as Status
from .explanations import Attribution as Attribution
from .standing import Reference as Reference
from .standing import Standing as Standing

SCHEMA = "spectral-audit/report/1"
DEFINITION = "gmsi/1"

Regime = Literal["exact", "krylov"]
Severity = Literal["info", "warning", "error"]
AXES: tuple[AxisName, ...] = ("input", "weights", "kernel", "curvature")


@dataclass(frozen=True)
class Axis:
    """One axis of the index: relative output change per relative perturbation, for the worst and the typical one.

    `effective_rank` is e^entropy of the operator behind it: how many directions share its energy.
    """

    worst: Estimate
    typical: Estimate
    effective_rank: float | None


@dataclass(frozen=True)
class Axes:
    """The four axes of the index."""

    input: Axis
    weights: Axis
    kernel: Axis
    curvature: Axis


@dataclass(frozen=True)
class Index:
    """The Global Matrix Stability Index, its definition, and the axis that binds (the largest weighted one)."""

    definition: str
    aggregation: str
    weights: dict[str, float]
    binding: AxisName | None
    worst: Estimate
    typical: Estimate


@dataclass(frozen=True)
class Raw:
    """The operators untouched: no output basis, no scales.

    `jacobian`: mean of ‖∂f/∂x‖₂; `parameter_jacobian`: mean of ‖∂f/∂θ‖₂; `ntk`: λmax of the full kernel over n;
    `ntk_trace`: λmax of the n×n trace-style kernel over n; `hessian`: ‖H‖₂.
    """

    jacobian: float | None
    parameter_jacobian: float | None
    ntk: float | None
    ntk_trace: float | None
    hessian: float | None


@dataclass(frozen=True)
class Density:
    """A smoothed spectral density: `values[k]` per unit of eigenvalue at `grid[k]`, integrating to one."""

    grid: tuple[float, ...]
    values: tuple[float, ...]
    probes: int
    steps: int
    width: float


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one operator.

    `values` descend; `residuals` has one entry for each: there is a true value within it. When `exact`, all nonzero
    values are listed and the residual is the rounding level; otherwise only those at the ends, and entropy, ranks and
    trace are estimates with `trace_stderr` and `entropy_stderr`.
    """

    operator: str
    kind: Literal["singular values", "eigenvalues"]
    dimension: int
    values: tuple[float, ...]
    residuals: tuple[float, ...]
    exact: bool
    entropy: float | None
    normalized_entropy: float | None
    effective_rank: float | None
    stable_rank: float | None
    condition: float | None
    trace: float | None
    frobenius: float | None
    trace_stderr: float = 0.0
    entropy_stderr: float = 0.0
    density: Density | None = None
    status: Status = "ok"


@dataclass(frozen=True)
class Spectra:
    """The spectra behind the axes."""

    input_jacobian: Spectrum
    ntk: Spectrum
    gauss_newton: Spectrum
    hessian: Spectrum


@dataclass(frozen=True)
class Layer:
    """One parameter tensor's share of the kernel's trace: raw, relative worst-case and relative typical scaling.

    `rule` names the contraction that measured it; `norm` is ‖θ‖_F.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    rule: str
    norm: float
    share: float
    share_worst: float
    share_typical: float


@dataclass(frozen=True)
class Samples:
    """Figures of every probe sample, in the order of the probe set: what intervals and paired comparisons resample.

    `deviation` ‖x_i − mean x‖²; `output` the margin or |logit|, or ‖f_i − mean f‖² for regression; `input_worst`
    ‖J_i‖₂; `input_typical` ‖J_i‖_F²/d; `weights_worst` ‖G_iT‖₂; `weights_typical` ‖G_iτ‖_F²; `kernel_*` ‖G_iv‖² at the
    top direction of the scaled kernel; `curvature_worst` vᵀ(T∇²ℓ_iT)v; `curvature_typical` tr(τ∇²ℓ_iτ).
    `curvature_typical_stderr` and `curvature_worst_residual` are the errors of their means beyond sampling. `layers`
    are ‖G_i‖_F² tensor by tensor, to six digits.
    """

    deviation: tuple[float, ...]
    output: tuple[float, ...]
    input_worst: tuple[float, ...]
    input_typical: tuple[float, ...]
    weights_worst: tuple[float, ...]
    weights_typical: tuple[float, ...]
    kernel_worst: tuple[float, ...]
    kernel_typical: tuple[float, ...]
    curvature_worst: tuple[float, ...]
    curvature_typical: tuple[float, ...]
    curvature_typical_stderr: float
    curvature_worst_residual: float
    layers: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Finding:
    """Something a reader must know before believing a figure."""

    code: str
    severity: Severity
    message: str


@dataclass(frozen=True)
class Scales:
    """X (input) and M (output) of the index; `output_kind` says how M was taken."""

    input: float
    output: float
    output_kind: Literal["median margin", "median |logit|", "rms output"]


@dataclass(frozen=True)
class Cost:
    """What the audit spent; `seconds`, `stages` and `peak_memory` are the only figures that vary between runs."""

    seconds: float
    stages: dict[str, float]
    peak_memory: int
    backward_passes: int
    hessian_products: int
    attribution_gradients: int


@dataclass(frozen=True)
class Measurement:
    """Everything measured on one model and one probe set, before files come into it."""

    regime: Regime
    outputs: int
    accuracy: float | None
    loss: float
    gradient_norm: float
    scales: Scales
    axes: Axes
    gmsi: Index
    raw: Raw
    spectra: Spectra
    attribution: Attribution | None
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    cost: Cost
    samples: Samples | None = None
    advice: Advice | None = None


@dataclass(frozen=True)
class ModelInfo:
    """The audited checkpoint.

    `trust` is what the user allowed; `globals` are all that the file's pickles import. `partial`: not all weights of
    the model are from the file, so that no verdict on it can be more than inconclusive.
    """

    path: str
    format: str
    sha256: str
    parameters: int
    architecture: str
    dtypes: tuple[str, ...]
    trust: str
    partial: bool = False
    globals: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataInfo:
    """The probe set: the data, its hash, and the hash of the n samples as the model saw them.

    `kind` names the kind of data. When `synthetic`, the samples are noise: no figure is about the user's data, and no
    verdict may rest on them. `accuracy` is `None` without labels.
    """

    path: str
    sha256: str
    probe_sha256: str
    n: int
    available: int
    seed: int
    strategy: str
    shape: tuple[int, ...]
    accuracy: float | None
    kind: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class TaskInfo:
    """What the model is for."""

    type: Literal["classification", "regression"]
    loss: str
    outputs: int
    loss_value: float
    gradient_norm: float
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Engine:
    """How it was measured: what `gate` and `compare` need to know before comparing two reports."""

    version: str
    torch: str
    device: str
    dtype: str
    regime: Regime


@dataclass(frozen=True)
class Report:
    """The audit of one checkpoint: the JSON report is this object.

    Reports of earlier versions have no `samples` and no `advice`; `reference` is `None` where nobody asked where the
    model stands.
    """

    schema: str
    model: ModelInfo
    data: DataInfo
    task: TaskInfo
    engine: Engine
    scales: Scales
    axes: Axes
    gmsi: Index
    raw: Raw
    spectra: Spectra
    attribution: Attribution | None
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    cost: Cost
    samples: Samples | None = None
    advice: Advice | None = None
    reference: Reference | None = None


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds, found out without running anything from it."""

    path: str
    format: str
    bytes: int
    sha256: str
    tensors: tuple[TensorInfo, ...]
    parameters: int
    dtypes: tuple[str, ...]
    architecture: str
    metadata: dict[str, str] = field(default_factory=dict)
    globals: tuple[str, ...] = ()
    unsafe_globals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Values:
    """Numbers in a few words: dtype, shape of one sample, smallest and largest, mean and standard deviation."""

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Validation:
    """What a spec says, tried on one draw of its data and, where there is one, on a model.

    `stored` are the drawn inputs as they are in the data, `inputs` as the model takes them; `classes` counts the
    samples of each class in the draw, and is empty without class labels. The last four are `None` without a model;
    `accuracy` is so without labels too.
    """

    spec: str
    data: str
    kind: str
    available: int
    n: int
    stored: Values
    inputs: Values
    labels: str
    classes: dict[str, int]
    probe_sha256: str
    model: str | None
    architecture: str | None
    outputs: int | None
    accuracy: float | None
    findings: tuple[Finding, ...]
