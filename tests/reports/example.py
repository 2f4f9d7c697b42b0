"""Reports made by hand, with numbers a MNIST network could have: what the writers' tests print."""

from __future__ import annotations

import math
from dataclasses import replace

from spectral_audit.advising import advise
from spectral_audit.explanations import (
    SCORE_DEFINITION,
    Attribution,
    Curvature,
    CurvePoint,
    Drift,
    Explanation,
    Link,
    Piecewise,
    PresetReading,
    Sensitivity,
)
from spectral_audit.results import (
    AXES,
    DEFINITION,
    SCHEMA,
    UNDEFINED,
    Axes,
    Axis,
    Cost,
    DataInfo,
    Density,
    Engine,
    Estimate,
    Finding,
    Index,
    Inspection,
    Layer,
    ModelInfo,
    Raw,
    Report,
    Samples,
    Scales,
    Spectra,
    Spectrum,
    TaskInfo,
    TensorInfo,
)

SHA = "3f2a9c41d07be8855a1c6e90b7d2f4a3380c9be17d56a2f0e4419c8db7a60512"
PROBE_SHA = "b81d0e5577c24fa39610ea7cc2d9481ef05b3a6d9e7214c88f3b50a1d67e92c4"


def spectrum(operator: str, kind: str, values: list[float], *, dimension: int, eps: float = 3e-7) -> Spectrum:
    """An exactly known spectrum with its measures computed from the values."""
    energies = [value**2 if kind == "singular values" else value for value in values]
    total = sum(energies)
    entropy = -sum(energy / total * math.log(energy / total) for energy in energies)
    return Spectrum(
        operator=operator,
        kind=kind,
        dimension=dimension,
        values=tuple(values),
        residuals=tuple(eps * values[0] for _ in values),
        exact=True,
        entropy=entropy,
        normalized_entropy=entropy / math.log(len(values)),
        effective_rank=math.exp(entropy),
        stable_rank=total / energies[0],
        condition=values[0] / values[-1],
        trace=total,
        frobenius=math.sqrt(sum(value**2 for value in values)),
    )


def power_law(top: float, count: int, slope: float, cut: float) -> list[float]:
    """A power law with an exponential end, the usual look of a trained network's spectra."""
    return [top * rank**-slope * math.exp(-((rank / count) ** 2) * cut) for rank in range(1, count + 1)]


def bell(centre: float, width: float, at: float) -> float:
    return math.exp(-(((at - centre) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))


def hessian() -> Spectrum:
    outliers = [41.3, 27.8, 22.1, 17.0, 13.9, 10.2, 8.41, 6.07, 4.45]
    smallest = [-0.184, -0.377, -0.912]
    grid = tuple(-1.5 + 43.4 * step / 255 for step in range(256))
    values = tuple(0.9991 * bell(0.02, 0.18, at) + 1e-4 * sum(bell(o, 0.18, at) for o in outliers) for at in grid)
    area = sum(values) * (grid[1] - grid[0])
    return Spectrum(
        operator="loss Hessian",
        kind="eigenvalues",
        dimension=206_922,
        values=(*outliers, *smallest),
        residuals=tuple(3.1e-4 * (1 + 0.7 * rank) for rank in range(12)),
        exact=False,
        entropy=5.83,
        normalized_entropy=0.476,
        effective_rank=340.0,
        stable_rank=2.31,
        condition=None,
        trace=214.0,
        frobenius=62.8,
        trace_stderr=0.0,
        entropy_stderr=0.11,
        density=Density(grid, tuple(value / area for value in values), probes=8, steps=64, width=0.18),
    )


def axes() -> Axes:
    return Axes(
        input=Axis(Estimate(6.21, 5.74, 6.83), Estimate(0.182, 0.174, 0.191), 52.4),
        weights=Axis(Estimate(9.87, 8.93, 11.2), Estimate(0.312, 0.298, 0.327), 21.6),
        kernel=Axis(Estimate(7.45, 6.60, 8.21), Estimate(0.209, 0.187, 0.229), 38.1),
        curvature=Axis(Estimate(3.12, 2.46, 3.66), Estimate(0.0513, 0.0448, 0.0571), 340.0),
    )


def rss(axes: Axes, column: str) -> Estimate:
    parts = [getattr(getattr(axes, name), column) for name in AXES]
    combined = [math.sqrt(sum(getattr(part, end) ** 2 for part in parts)) for end in ("value", "low", "high")]
    return Estimate(*combined)


def layers() -> tuple[Layer, ...]:
    rows = [
        ("features.0.weight", (16, 1, 5, 5), "pairwise", 4.87, 0.047, 0.058, 0.131),
        ("features.0.bias", (16,), "bias", 0.61, 0.018, 0.0, 0.0),
        ("features.3.weight", (32, 16, 5, 5), "per-sample", 11.2, 0.236, 0.342, 0.168),
        ("features.3.bias", (32,), "bias", 0.48, 0.0212, 0.0, 0.0),
        ("classifier.1.weight", (128, 1568), "outer", 14.9, 0.531, 0.442, 0.213),
        ("classifier.1.bias", (128,), "bias", 0.39, 0.0093, 0.0, 0.0),
        ("classifier.3.weight", (64, 128), "outer", 7.02, 0.091, 0.102, 0.224),
        ("classifier.3.bias", (64,), "bias", 0.33, 0.0041, 0.0, 0.0),
        ("classifier.5.weight", (10, 64), "outer", 3.91, 0.0421, 0.056, 0.264),
        ("classifier.5.bias", (10,), "bias", 0.12, 0.0003, 0.0, 0.0),
    ]
    return tuple(Layer(n, s, math.prod(s), rule, norm, a, b, c) for n, s, rule, norm, a, b, c in rows)


def attribution() -> Attribution:
    random = Drift(Estimate(0.118, 0.111, 0.125), 0.224, 0.413, 0.991, 0.963, 0.884, 0.0, 0.118)
    worst = Drift(Estimate(0.642, 0.611, 0.674), 1.02, 1.87, 0.788, 0.701, 0.513, 0.0469, 0.633)
    sensitivity = Sensitivity(
        Estimate(0.171, 0.162, 0.180), Estimate(0.118, 0.111, 0.125), Estimate(1.42, 1.31, 1.53),
        Estimate(2.14, 2.02, 2.31), None,
    )  # fmt: skip
    curve = tuple(
        CurvePoint(radius, 9.27 * radius, random_rms, None, worst_rms, None)
        for radius, random_rms, worst_rms in ((0.001, 0.0031, 0.021), (0.01, 0.0198, 0.148), (0.1, 0.123, 0.661))
    )
    score, worst_score = Estimate(0.459, 0.441, 0.477), Estimate(0.135, 0.126, 0.144)
    own = Explanation("gradient", score, worst_score, 0.001, random, worst, sensitivity, curve, 0, 6912)
    return Attribution(
        method="gradient",
        target="predicted",
        sign="signed",
        channels="kept",
        norm="l2",
        space="input",
        radius=0.1,
        radius_absolute=0.927,
        top_k=20,
        draws=16,
        search_steps=10,
        restarts=2,
        gradients=6912,
        excluded=0,
        piecewise_linear=True,
        score_definition=SCORE_DEFINITION,
        score=score,
        score_worst=worst_score,
        score_radius=0.001,
        random=random,
        worst=worst,
        sensitivity=sensitivity,
        curve=curve,
        parts_at=None,
        curvature=None,
        piecewise=Piecewise(64, 9472, 0.021, 0.047, None),
        links=(Link("loss gradient, inside a linear region", 2.18, 0.0741, 0.0, True, 58, ""),),
        preset=None,
        methods={"gradient": own},
    )


def samples(scale: float = 1.0) -> Samples:
    """Figures of 256 samples, the second half of them twice as sensitive."""
    wave = tuple(scale * (1 + (i % 16) / 16) * (1 + i // 128) for i in range(256))
    return Samples(
        *[wave] * 10, curvature_typical_stderr=0.0, curvature_worst_residual=0.0,
        layers={layer.name: tuple(layer.share * figure for figure in wave) for layer in layers()},
    )  # fmt: skip


def example() -> Report:
    """A ReLU network for MNIST, 256 samples, everything measured."""
    measured = axes()
    weights = dict.fromkeys(AXES, 1.0)
    piecewise = "ReLU and max pooling: input curvature is zero almost everywhere."
    saturated = "Median largest probability 0.9997: a small Hessian says confident here, not stable."
    spectra = Spectra(
        spectrum("input Jacobian", "singular values", power_law(3.52, 784, 0.62, 3.0), dimension=784),
        spectrum("NTK", "eigenvalues", power_law(402.0, 2304, 0.91, 4.0), dimension=2304),
        spectrum("Gauss-Newton", "eigenvalues", power_law(40.8, 2304, 1.34, 6.0), dimension=2304),
        hessian(),
    )
    return Report(
        schema=SCHEMA,
        model=ModelInfo(
            "models/mnist_cnn.safetensors", "safetensors", SHA, 222_826, "cnn 1-16-32, 128-64-10, relu",
            ("float32",), "none",
        ),
        data=DataInfo(
            "data/mnist_test.npz", SHA[::-1], PROBE_SHA, 256, 10_000, 0, "stratified", (1, 28, 28), 0.98828125
        ),
        task=TaskInfo("classification", "cross_entropy", 10, 0.0412, 0.0874, tuple("0123456789")),
        engine=Engine("0.1.0", "2.13.0", "cpu", "float32", "exact"),
        scales=Scales(9.27, 5.83, "median margin"),
        axes=measured,
        gmsi=Index(DEFINITION, "rss", weights, "weights", rss(measured, "worst"), rss(measured, "typical")),
        raw=Raw(3.11, 31.4, 418.0, 121.0, 41.3),
        spectra=spectra,
        attribution=attribution(),
        layers=layers(),
        findings=(
            Finding("batchnorm-eval", "info", "No BatchNorm layer; the model ran in eval mode."),
            Finding("piecewise-linear", "info", piecewise),
            Finding("saturated-softmax", "warning", saturated),
        ),
        cost=Cost(
            4.318, {"sweep": 1.42, "spectra": 0.871, "hessian": 1.304, "attribution": 0.723}, 412_300_000, 9, 164, 6912
        ),
        samples=samples(),
        advice=advise("weights", layers(), "cross_entropy", spectra.hessian, 0.0874),
    )  # fmt: skip


def smooth() -> Report:
    """A GELU network: the explanation has a curvature everywhere."""
    base = example()
    curvature = Curvature(
        Estimate(2.87, 2.61, 3.15),
        Estimate(4.02, 3.71, 4.36),
        Estimate(21.3, 19.4, 23.8),
        Estimate(1.06, 0.978, 1.15),
        Estimate(1.96, 1.81, 2.13),
        Estimate(4.71, 4.55, 4.87),
        32,
        4.2e-4,
        0.013,
    )
    base_curve = attribution().curve
    curve = tuple(replace(p, random_predicted=0.9 * p.random, worst_predicted=0.9 * p.worst) for p in base_curve)
    others = {
        name: replace(attribution().methods["gradient"], method=name)
        for name in ("gradient", "integrated_gradients", "explain.py:occlusion")
    }
    explained = replace(
        attribution(),
        piecewise_linear=False,
        piecewise=None,
        links=(Link("SmoothGrad", 31.4, 2.93, 0.21, True, 1, "the largest gradient seen is the supremum"),),
        curvature=curvature,
        curve=curve,
        parts_at=0.927,
        excluded=2,
        preset=PresetReading("captum", Estimate(0.083, 0.079, 0.087), 0.02, 10, "|gradient|"),
        methods=others,
    )
    return replace(
        base,
        model=replace(base.model, path="models/mnist_gelu.safetensors", architecture="cnn 1-16-32, 128-64-10, gelu"),
        attribution=explained,
        findings=base.findings[:1],
    )


def undefined() -> Report:
    """A softmax regression at zero weights: no margin to measure against, so no index."""
    base = example()
    axis = Axis(UNDEFINED, UNDEFINED, None)
    curved = Axis(Estimate(1.71, 1.42, 1.96), Estimate(0.0, 0.0, 0.0), 90.2)
    nothing = replace(
        base.spectra.input_jacobian,
        values=(), residuals=(), entropy=None, normalized_entropy=None, effective_rank=None, stable_rank=None,
        condition=None, trace=None, frobenius=None, status="undefined",
    )  # fmt: skip
    still = Drift(UNDEFINED, None, None, None, None, None, 0.0, None)
    dead = replace(
        attribution(),
        random=still, worst=still, excluded=256, score=UNDEFINED, score_worst=UNDEFINED, score_radius=None, curve=(),
        sensitivity=Sensitivity(UNDEFINED, UNDEFINED, UNDEFINED, None, None), links=(), methods={},
    )  # fmt: skip
    return replace(
        base,
        scales=Scales(9.27, 0.0, "median margin"),
        axes=Axes(axis, axis, axis, curved),
        gmsi=Index(DEFINITION, "rss", dict.fromkeys(AXES, 1.0), None, UNDEFINED, UNDEFINED),
        raw=Raw(0.0, 28.0, 120.0, None, None),
        spectra=replace(base.spectra, input_jacobian=nothing),
        attribution=dead,
        findings=(
            Finding("at-chance", "warning", "Accuracy 10.2 % on the probe set is at chance level (10 %)."),
            Finding("zero-margin", "error", "The logits do not differ: M = 0, and the index is undefined."),
        ),
    )


def unconverged() -> Report:
    """The Hessian's largest eigenvalue did not settle, and no attribution was asked for."""
    base = example()
    loose = replace(base.spectra.hessian, residuals=tuple([2.9] * 12), status="unconverged", density=None)
    curved = Axis(Estimate(3.12, 2.46, 3.66, "unconverged"), Estimate(0.0513, 0.0448, 0.0571), 340.0)
    message = "λmax of the Hessian: residual 2.9 after 200 products, asked for 0.041."
    return replace(
        base,
        spectra=replace(base.spectra, hessian=loose),
        axes=replace(base.axes, curvature=curved),
        gmsi=replace(base.gmsi, worst=replace(base.gmsi.worst, status="unconverged")),
        attribution=None,
        findings=(*base.findings, Finding("hessian-unconverged", "error", message)),
    )


def deep() -> Report:
    """Many tensors with long names, figures of extreme size, a path that does not fit on a line."""
    base = example()
    names = [f"backbone.encoder.stage_{i // 8}.blocks.{i}.attention.output_projection.parametrizations.weight.original0"
             for i in range(48)]  # fmt: skip
    tensors = tuple(
        Layer(n, (1024, 256, 3, 3), 2_359_296, "per-sample", 31.0, 2 / 48 * (48 - i) / 49, 1 / 48, 1 / 48)
        for i, n in enumerate(names)
    )
    extreme = Axis(Estimate(123_456.0, 98_765.4, 234_567.0), Estimate(0.000123, 0.0000987, 0.000234), 12_345.6)
    measured = replace(base.axes, weights=extreme)
    weights = dict(zip(AXES, (1.0, 0.5, 2.0, 1.0), strict=True))
    return replace(
        base,
        model=replace(base.model, path="/srv/artifacts/" + "very-long-directory-name/" * 5 + "checkpoint_000123.pt"),
        axes=measured,
        gmsi=Index(DEFINITION, "rss", weights, "weights", rss(measured, "worst"), rss(measured, "typical")),
        layers=tensors,
        cost=replace(base.cost, stages={f"stage-{i}": 12_345.678 for i in range(9)}, peak_memory=139_000_000_000),
    )


def regression() -> Report:
    """A small regression network with the index bound by the input."""
    base = example()
    measured = replace(base.axes, input=Axis(Estimate(12.4, 11.1, 14.0), Estimate(1.83, 1.71, 1.96), 3.07))
    return replace(
        base,
        model=replace(base.model, path="housing.pt", format="torch zip", architecture="mlp 8-64-64-1, relu"),
        data=replace(base.data, path="housing.csv", shape=(8,), accuracy=None, strategy="random"),
        task=TaskInfo("regression", "mse", 1, 0.214, 0.0312, ()),
        scales=Scales(2.81, 0.917, "rms output"),
        axes=measured,
        gmsi=replace(base.gmsi, binding="input", worst=rss(measured, "worst"), typical=rss(measured, "typical")),
        findings=(),
    )


VARIANTS = {
    "example": example,
    "smooth": smooth,
    "undefined": undefined,
    "unconverged": unconverged,
    "deep": deep,
    "regression": regression,
}


def inspection() -> Inspection:
    """A pickle checkpoint that would import what it should not."""
    tensors = tuple(
        TensorInfo(f"layer{i // 6}.{i % 6 // 2}.{('weight', 'bias')[i % 2]}", (64, 64, 3, 3) if i % 2 == 0 else (64,),
                   "float32")
        for i in range(36)
    )  # fmt: skip
    return Inspection(
        path="downloads/resnet_best.pt",
        format="torch zip (pickle)",
        bytes=2_671_104,
        sha256=SHA,
        tensors=tensors,
        parameters=664_704,
        dtypes=("float32",),
        architecture="resnet: 3 stages of 64 channels",
        metadata={"epoch": "120", "best_accuracy": "0.931"},
        globals=("collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "posix.system"),
        unsafe_globals=("posix.system",),
        notes=("Holds a state dict under 'model'.", "Nothing was unpickled to find this out."),
    )
