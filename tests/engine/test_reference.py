"""The engine against the dense float64 reference, on every case: same numbers, honest residuals, nothing disturbed."""

from __future__ import annotations

import copy
import math
from dataclasses import astuple
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spectral_audit.measure import Settings, measure
from spectral_audit.results import AXES, Estimate, Measurement
from tests.cases import CASES, PIECEWISE_LINEAR, Problem
from tests.reference import Reference, reference, spectrum_measures

EXACT = 1e-9
LANCZOS = 1e-3
every_case = pytest.mark.parametrize("name", CASES)


@cache
def problem(name: str) -> Problem:
    return CASES[name]()


@cache
def expected(name: str) -> Reference:
    return reference(*problem(name))


@cache
def measured(name: str, dtype: str = "float64", chunk: int | None = None) -> Measurement:
    model, x, y, loss = problem(name)
    return measure(model, x, y, loss=loss, settings=Settings(dtype=dtype, chunk=chunk, attribution=None))


def value(estimate: Estimate) -> float:
    """The figure of an estimate that is defined and lies in its own interval."""
    assert estimate.status == "ok"
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    slack = 1e-12 * abs(estimate.value)
    assert estimate.low - slack <= estimate.value <= estimate.high + slack
    return estimate.value


def same_spectrum(found: tuple[float, ...], truth: Tensor, tolerance: float) -> None:
    """All nonzero values agree relative to the largest; a spectrum may or may not list its zeros."""
    length = max(len(found), len(truth))
    padded = [torch.zeros(length, dtype=torch.float64) for _ in range(2)]
    padded[0][: len(found)] = torch.tensor(found, dtype=torch.float64)
    padded[1][: len(truth)] = truth
    found_sorted, true_sorted = (values.sort(descending=True).values for values in padded)
    assert list(found) == sorted(found, reverse=True)
    assert (found_sorted - true_sorted).abs().max() <= tolerance * truth.abs().max()


# ---- float64: the numbers -----------------------------------------------------------------------------------------


@every_case
def test_scales_loss_and_accuracy(name: str) -> None:
    m, r = measured(name), expected(name)
    assert m.scales.input == pytest.approx(r.X, rel=EXACT)
    assert m.scales.output == pytest.approx(r.M, rel=EXACT)
    assert m.loss == pytest.approx(r.loss, rel=EXACT)
    assert m.gradient_norm == pytest.approx(r.gradient_norm, rel=EXACT)
    assert m.accuracy == (None if r.accuracy is None else pytest.approx(r.accuracy, abs=1e-12))
    assert m.outputs == r.f.shape[1]


@every_case
@pytest.mark.parametrize("axis", ["input", "weights", "kernel"])
def test_axes_from_the_sweep(name: str, axis: str) -> None:
    found, (worst, typical) = getattr(measured(name).axes, axis), getattr(expected(name), axis)
    assert value(found.worst) == pytest.approx(worst, rel=EXACT)
    assert value(found.typical) == pytest.approx(typical, rel=EXACT)


@every_case
def test_worst_curvature(name: str) -> None:
    assert value(measured(name).axes.curvature.worst) == pytest.approx(expected(name).curvature[0], rel=LANCZOS)


@every_case
def test_typical_curvature(name: str) -> None:
    """Exact where every output is linear in every single weight; else within four standard errors."""
    found, truth = measured(name).axes.curvature.typical, expected(name).curvature[1]
    stderr = measured(name).spectra.hessian.trace_stderr
    if name in PIECEWISE_LINEAR:
        assert stderr == 0
        assert value(found) == pytest.approx(truth, rel=EXACT)
    elif stderr == 0:
        assert value(found) == pytest.approx(truth, rel=1e-6)
    else:
        assert found.low is not None and found.high is not None
        assert abs(value(found) - truth) <= 4 * (found.high - found.low) / (2 * 1.96)


@every_case
def test_raw_figures(name: str) -> None:
    found, truth = measured(name).raw, expected(name).raw
    assert found.jacobian == pytest.approx(truth.jacobian, rel=EXACT)
    assert found.parameter_jacobian == pytest.approx(truth.parameter_jacobian, rel=EXACT)
    assert found.ntk == pytest.approx(truth.ntk, rel=EXACT)
    assert found.ntk_trace == pytest.approx(truth.ntk_trace, rel=EXACT)
    assert found.hessian == pytest.approx(truth.hessian, rel=LANCZOS)


@every_case
def test_index(name: str) -> None:
    """The root of the sum of squares of the axes; it names the axis that binds."""
    m, r = measured(name), expected(name)
    for column, truth in zip(("worst", "typical"), r.gmsi, strict=True):
        axes = [value(getattr(getattr(m.axes, axis), column)) for axis in AXES]
        index = value(getattr(m.gmsi, column))
        assert index == pytest.approx(math.hypot(*axes), rel=1e-12)
        if column == "worst" or name in PIECEWISE_LINEAR:
            assert index == pytest.approx(truth, rel=LANCZOS)
    binds = {max(AXES, key=lambda axis: getattr(r, axis)[k]) for k in range(2)}
    assert m.gmsi.binding in binds


@every_case
def test_kernel_spectrum(name: str) -> None:
    found, truth = measured(name).spectra.ntk, expected(name).ntk
    same_spectrum(found.values, truth, EXACT)
    assert found.exact
    assert found.dimension == len(truth)
    assert found.trace == pytest.approx(truth.sum().item(), rel=EXACT)
    assert found.frobenius == pytest.approx(truth.norm().item(), rel=EXACT)
    assert (found.entropy, found.effective_rank, found.stable_rank) == pytest.approx(spectrum_measures(truth), rel=1e-8)


@every_case
def test_gauss_newton_spectrum(name: str) -> None:
    found, truth = measured(name).spectra.gauss_newton, expected(name).gauss_newton
    same_spectrum(found.values, truth, EXACT)
    assert found.trace == pytest.approx(truth.sum().item(), rel=EXACT)
    assert (found.entropy, found.effective_rank, found.stable_rank) == pytest.approx(spectrum_measures(truth), rel=1e-8)


@every_case
def test_input_jacobian_spectrum(name: str) -> None:
    """values[k]: rms over samples of the k-th singular value; entropy and ranks: means over samples with J_i ≠ 0."""
    found, J = measured(name).spectra.input_jacobian, expected(name).J
    squares = torch.linalg.svdvals(J).square()
    same_spectrum(found.values, squares.mean(dim=0).sqrt(), EXACT)
    per_sample = [spectrum_measures(s) for s in squares if s.max() > 0]
    figures = [found.entropy, found.effective_rank, found.stable_rank]
    if per_sample:
        assert figures == pytest.approx(np.mean(per_sample, axis=0).tolist(), rel=1e-8, abs=1e-10)
    else:
        assert figures == [None, None, None]


@every_case
def test_hessian_extremes_and_residuals(name: str) -> None:
    """Both ends to the Lanczos tolerance, and a true eigenvalue within the residual of every value."""
    found, truth = measured(name).spectra.hessian, expected(name).hessian
    size = truth.abs().max().item()
    assert found.dimension == sum(p.numel() for p in problem(name).model.parameters())
    assert found.status == "ok"
    assert abs(found.values[0] - truth[0].item()) <= LANCZOS * size
    assert abs(found.values[-1] - truth[-1].item()) <= LANCZOS * size
    assert list(found.values) == sorted(found.values, reverse=True)
    assert len(found.residuals) == len(found.values)
    for ritz, residual in zip(found.values, found.residuals, strict=True):
        assert (truth - ritz).abs().min().item() <= residual + EXACT * size


@every_case
def test_hessian_trace(name: str) -> None:
    found, truth = measured(name).spectra.hessian, expected(name).hessian
    size = truth.abs().sum().item()
    assert found.trace is not None
    tolerance = {True: EXACT, False: 1e-6}[name in PIECEWISE_LINEAR] * size
    assert abs(found.trace - truth.sum().item()) <= (4 * found.trace_stderr if found.trace_stderr else tolerance)


@every_case
def test_every_tensor_has_its_share_of_the_kernel(name: str) -> None:
    found = {layer.name: layer for layer in measured(name).layers}
    truth = {tensor.name: tensor for tensor in expected(name).tensors}
    assert found.keys() <= truth.keys()
    for missing in truth.keys() - found.keys():
        assert truth[missing].share == 0
    for key, layer in found.items():
        assert layer.shape == truth[key].shape
        assert layer.parameters == math.prod(layer.shape)
        assert layer.norm == pytest.approx(truth[key].norm, rel=EXACT)
        assert layer.share == pytest.approx(truth[key].share, rel=EXACT, abs=1e-12)
        assert layer.share_worst == pytest.approx(truth[key].share_worst, rel=EXACT, abs=1e-12)
        assert layer.share_typical == pytest.approx(truth[key].share_typical, rel=EXACT, abs=1e-12)


# ---- float32, chunks ----------------------------------------------------------------------------------------------


def gates(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Signs of everything that a layer puts out or a rectifier takes in."""
    model, seen = copy.deepcopy(model).to(dtype).eval(), []
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm1d, nn.BatchNorm2d)):
            module.register_forward_hook(lambda m, i, out: seen.append((out > 0).flatten()))
        elif isinstance(module, (nn.ReLU, nn.PReLU, nn.LeakyReLU, nn.MaxPool2d)):
            module.register_forward_pre_hook(lambda m, i: seen.append((i[0] > 0).flatten()))
    with torch.enable_grad():  # keeps fused inference kernels, which skip the hooks, out of it
        model(x.to(dtype))
    return torch.cat(seen) if seen else torch.zeros(0, dtype=torch.bool)


@every_case
def test_float32(name: str) -> None:
    """1e-4 in float32; 2e-3 where rounding opens or closes a gate, and the message says how many."""
    model, x, _, _ = problem(name)
    flips = int((gates(model, x, torch.float32) != gates(model, x, torch.float64)).sum())
    tolerance, why = (2e-3 if flips else 1e-4), f"{name}: {flips} gates flip between float32 and float64"
    m, r = measured(name, "float32"), expected(name)
    for axis in ("input", "weights", "kernel"):
        found = getattr(m.axes, axis)
        assert (value(found.worst), value(found.typical)) == pytest.approx(getattr(r, axis), rel=tolerance), why
    assert value(m.axes.curvature.worst) == pytest.approx(r.curvature[0], rel=2e-3), why
    if name in PIECEWISE_LINEAR:
        assert value(m.axes.curvature.typical) == pytest.approx(r.curvature[1], rel=max(tolerance, 1e-3)), why
    assert astuple(m.raw)[:4] == pytest.approx(astuple(r.raw)[:4], rel=tolerance), why
    assert m.raw.hessian == pytest.approx(r.raw.hessian, rel=2e-3), why
    assert (m.scales.input, m.scales.output) == pytest.approx((r.X, r.M), rel=tolerance), why
    same_spectrum(m.spectra.ntk.values, r.ntk, tolerance)


# One of each way in which a layer can meet a chunk.
CHUNKED = (
    *("mlp", "cnn", "grouped_strided_dilated", "resnet_with_batchnorm", "same_layer_twice", "embedding", "attention"),
    *(
        "decoder_is_encoder_transposed",
        "bilinear_and_raw_parameters",
        "frozen_first_layer",
        "folded_batch",
        "one_logit",
    ),
    *("sequence_first", "sequence_first_as_long_as_the_batch", "as_many_positions_as_samples"),
    *("gru_both_ways", "vision_transformer", "decoder", "raw_products"),
)


@pytest.mark.parametrize("name", CHUNKED)
@pytest.mark.parametrize("chunk", [1, 7, "all"])
def test_chunks_change_nothing(name: str, chunk: int | str) -> None:
    """One by one, in chunks of seven with a shorter last one, or all at once."""
    x = problem(name).x
    assert len(x) % 7 != 0
    m, whole = measured(name, chunk=len(x) if chunk == "all" else int(chunk)), measured(name)
    for axis in ("input", "weights", "kernel"):
        found, truth = getattr(m.axes, axis), getattr(whole.axes, axis)
        assert found.worst.value == pytest.approx(truth.worst.value, rel=1e-12)
        assert found.typical.value == pytest.approx(truth.typical.value, rel=1e-12)
    assert astuple(m.raw)[:4] == pytest.approx(astuple(whole.raw)[:4], rel=1e-12)
    assert (m.loss, m.gradient_norm) == pytest.approx((whole.loss, whole.gradient_norm), rel=1e-12)
    assert astuple(m.scales)[:2] == pytest.approx(astuple(whole.scales)[:2], rel=1e-12)
    same_spectrum(m.spectra.ntk.values, torch.tensor(whole.spectra.ntk.values, dtype=torch.float64), 1e-12)
    # Lanczos stops at its tolerance: rounding may move what it stops at, by less than that
    assert m.axes.curvature.worst.value == pytest.approx(whole.axes.curvature.worst.value, rel=1e-6)
    assert m.axes.curvature.typical.value == pytest.approx(whole.axes.curvature.typical.value, rel=1e-9)


# ---- nothing disturbed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet_with_batchnorm", "inplace_relu_with_dropout", "transformer_layer", "lstm"])
def test_a_model_in_train_mode_is_measured_in_eval_mode_and_left_as_it_was(name: str) -> None:
    model, x, y, loss = CASES[name]()
    model.train()
    next(iter(model.children())).eval()
    modes = {key: module.training for key, module in model.named_modules()}
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    inputs = x.clone()
    m = measure(model, x, y, loss=loss, settings=Settings(dtype="float64", attribution=None))
    assert value(m.axes.input.worst) == pytest.approx(expected(name).input[0], rel=EXACT)
    assert {key: module.training for key, module in model.named_modules()} == modes
    assert torch.equal(x, inputs)
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == state[key].dtype
        assert torch.equal(tensor, state[key])
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks


@pytest.mark.parametrize("name", ["frozen_first_layer", "two_layers_one_weight", "lstm", "scale_invariant_weights"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_and_frozen_flags_are_left_alone(name: str, dtype: str) -> None:
    model, x, y, loss = CASES[name]()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen = {key: p.requires_grad for key, p in parameters.items()}
    for key, p in parameters.items():
        p.grad = torch.full_like(p, 3.0) if frozen[key] else None
    measure(model, x, y, loss=loss, settings=Settings(dtype=dtype, attribution=None))
    after = dict(model.named_parameters(remove_duplicate=False))
    assert {key: id(p) for key, p in after.items()} == {key: id(p) for key, p in parameters.items()}
    assert {key: p.requires_grad for key, p in after.items()} == frozen
    for key, p in after.items():
        assert (p.grad is None) == (not frozen[key])
        assert p.grad is None or bool((p.grad == 3.0).all())


def test_two_runs_are_identical_and_leave_the_global_generator_alone() -> None:
    model, x, y, loss = problem("mlp")
    settings = Settings(dtype="float64")
    before = torch.get_rng_state()
    first, second = (measure(model, x, y, loss=loss, settings=settings) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.axes == second.axes
    assert first.spectra == second.spectra
    assert first.attribution == second.attribution


@pytest.mark.parametrize("aggregation", ["max", "sum"])
def test_other_aggregations(aggregation: str) -> None:
    model, x, y, loss = problem("relu_mlp")
    m = measure(model, x, y, loss=loss, settings=Settings(dtype="float64", aggregation=aggregation, attribution=None))
    axes = [value(getattr(m.axes, axis).worst) for axis in AXES]
    assert value(m.gmsi.worst) == pytest.approx({"max": max(axes), "sum": sum(axes)}[aggregation], rel=1e-12)


# ---- the explained output -----------------------------------------------------------------------------------------

SMOOTH = ["mlp", "conv1d", "layernorm_and_groupnorm", "attention", "lstm", "one_logit", "regression_on_one_output"]


@pytest.mark.parametrize("name", SMOOTH)
def test_attribution_curvature(name: str) -> None:
    """Medians over samples of ‖A‖₂, ‖A‖₂ X/‖a‖ and, with their sampling error, of the Frobenius figures."""
    model, x, y, loss = problem(name)
    attribution = measure(model, x, y, loss=loss, settings=Settings(dtype="float64")).attribution
    r = expected(name)
    assert attribution is not None and attribution.curvature is not None
    found, d, a = attribution.curvature, r.A.shape[1], r.saliency.norm(dim=1)
    spectral, frobenius = torch.linalg.matrix_norm(r.A, 2), torch.linalg.matrix_norm(r.A)
    assert not attribution.piecewise_linear
    assert value(found.spectral) == pytest.approx(spectral.quantile(0.5).item(), rel=LANCZOS)
    assert value(found.condition_worst) == pytest.approx((spectral * r.X / a).quantile(0.5).item(), rel=LANCZOS)
    for estimate, truth in (
        (found.frobenius, frobenius.quantile(0.5).item()),
        (found.condition_typical, (frobenius * r.X / (math.sqrt(d) * a)).quantile(0.5).item()),
    ):
        exact = value(estimate) == pytest.approx(truth, rel=1e-6)
        assert exact or estimate.low <= truth <= estimate.high


@pytest.mark.parametrize("name", ["relu_mlp", "cnn", "resnet_with_batchnorm", "prelu"])
def test_piecewise_linear_attributions_say_so(name: str) -> None:
    model, x, y, loss = problem(name)
    attribution = measure(model, x, y, loss=loss, settings=Settings(dtype="float64")).attribution
    assert attribution is not None
    assert attribution.piecewise_linear
    assert attribution.curvature is None
