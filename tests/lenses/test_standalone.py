"""Single figures against the dense float64 reference, and against their own stated errors."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from spectral_audit.admission import make_subject
from spectral_audit.lenses.standalone import hessian_density, hessian_trace, input_spectra, ntk, top_eigenvalues
from spectral_audit.subject import Subject
from spectral_audit.sweep import Study, study
from tests.cases import CASES
from tests.reference import Reference, reference

NAMES = ("mlp", "relu_mlp", "one_logit", "cnn", "resnet_with_batchnorm", "same_layer_twice", "lstm", "attention")
every = pytest.mark.parametrize("name", NAMES)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@cache
def case(name: str) -> tuple[Subject, Study, Reference]:
    model, x, y, loss = CASES[name]()
    subject = make_subject(model, x, y, loss=loss, dtype="float64")
    return subject, study(subject, generator()), reference(model, x, y, loss)


@every
def test_top_eigenvalues_lie_within_their_errors(name: str) -> None:
    subject, _, truth = case(name)
    found = top_eigenvalues(subject, count=3, tolerance=1e-6, generator=generator())
    assert found.converged
    for value, error, true in zip(found.values, found.errors, truth.hessian[:3].tolist(), strict=True):
        assert abs(value - true) <= error + 1e-9 * float(truth.hessian[0])


@every
def test_the_trace_is_exact_or_within_four_standard_errors(name: str) -> None:
    subject, plan, truth = case(name)
    found, true = hessian_trace(subject, plan, generator=generator()), float(truth.hessian.sum())
    few = sum(p.numel() for p in subject.parameters().values()) <= 64  # every diagonal entry is taken
    assert (found.stderr == 0) == (plan.multilinear or few)
    assert abs(found.trace - true) <= 4 * found.stderr + 1e-9 * float(truth.hessian.abs().sum())


@every
def test_the_kernel_has_the_spectrum_of_the_reference(name: str) -> None:
    subject, plan, truth = case(name)
    values = torch.linalg.eigvalsh(ntk(subject, plan) / subject.n).flip(0)
    torch.testing.assert_close(values[: len(truth.ntk)], truth.ntk[: len(values)], rtol=1e-8, atol=1e-9 * values[0])


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_input_spectra(name: str, dtype: str) -> None:
    model, x, y, loss = CASES[name]()
    found = input_spectra(make_subject(model, x, y, loss=loss, dtype=dtype))
    subject, _, _ = case(name)
    flat = subject.x.clone().requires_grad_(True)
    turned = subject.forward(flat) @ subject.basis[:, : subject.rank]
    rows = [torch.autograd.grad(turned[:, k].sum(), flat, retain_graph=True)[0].flatten(1) for k in range(subject.rank)]
    truth = torch.linalg.svdvals(torch.stack(rows, 1))
    tolerance = {"float32": 1e-4, "float64": 1e-9}[dtype]
    torch.testing.assert_close(found, truth, rtol=0, atol=tolerance * float(truth.max()))


def test_a_density_integrates_to_the_trace_within_its_probes() -> None:
    subject, _, truth = case("relu_mlp")
    found = hessian_density(subject, steps=20, probes=40, generator=generator())
    size = len(truth.hessian)
    traces = torch.stack([size * (run.weights @ run.nodes) for run in found.runs])
    assert abs(float(traces.mean()) - float(truth.hessian.sum())) <= 4 * float(traces.std()) / 40**0.5
