"""The validity study in small: every kind of damage on tiny models, its statistics, and its page from its raw table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sample_models.sources import Source
from spectral_audit.population import shipped
from spectral_audit.population.model import _explained
from studies.training import Data
from studies.validity import figures
from studies.validity.analysis import findings
from studies.validity.damages import damage
from studies.validity.damages.explanations import attacked, drifts
from studies.validity.damages.inputs import _CORRUPTIONS, adversarial
from studies.validity.damages.tuning import largest_stable_step
from studies.validity.names import DAMAGES, OURS, PARTS, PEERS, RAW
from studies.validity.pages import page
from studies.validity.peers import exponent
from studies.validity.population import population
from studies.validity.quantities import audited
from studies.validity.record import run
from studies.validity.samples import Samples
from studies.validity.statistics import partial, pearson, ranks, resamples, spearman
from studies.validity.table import read_table, write_table
from studies.validity.zoo import Entry, entries

STUDY = Path(__file__).parents[1] / "studies" / "validity"
DOCS = Path(__file__).parents[1] / "docs"


def blobs(shape: tuple[int, ...] = (1, 16, 16), count: int = 200) -> Samples:
    """Three noisy patterns as a data set of 8-bit pixels, already normalised."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.rand((3, *shape), generator=rng)
    y = torch.arange(count) % 3
    x = (centres[y] + 0.2 * torch.randn((count, *shape), generator=rng)).clamp(0, 1) * 4 - 2
    empty = np.zeros(0)
    source = Source(empty, empty, empty, empty, "classification", mean=(0.5,), std=(0.25,), classes=("a", "b", "c"))
    data = Data("blobs", x[:100], y[:100], x[100:], y[100:], 3, source)
    return Samples(data, x[100:112], y[100:112], x[112:], y[112:])


def entry(architecture: str, **changes: object) -> Entry:
    base = Entry("blobs-00", "blobs", architecture, "relu", 4, 2, 2, 3e-3, 0.0, 0.0, "", 0.0, 0)
    return replace(base, **changes)  # type: ignore[arg-type]  # names and values stand together in the tests


def test_a_model_is_trained_audited_and_damaged_the_same_way_twice(tmp_path: Path) -> None:
    model = entry("mlp", width=8, penalty="jacobian_frobenius", strength=0.01)
    first, second = (run(model, blobs()) for _ in range(2))
    times = [record.pop("seconds") for record in (first, second)]
    assert first == second and all(set(t) == {"train", "audit", "damage"} for t in times)
    assert complete(first)
    (tmp_path / f"{model.name}.json").write_text(json.dumps(first), encoding="utf-8")
    assert write_table(tmp_path, [model], tmp_path / "zoo.csv") == 1
    table = read_table(tmp_path / "zoo.csv")
    assert table.damage("noise")[0] == pytest.approx(first["damages"]["noise"], rel=1e-5)
    assert table.text["half"] == [model.half]


def test_a_transformer_has_every_figure() -> None:
    record = run(entry("transformer", width=8, depth=1, activation="gelu", label_noise=0.2), blobs())
    assert complete(record) and record["quantities"]["condition.worst"] > 0


def complete(record: dict[str, Any]) -> bool:
    """Every damage and quantity of the page is there, and shares are shares."""
    assert set(DAMAGES) <= set(record["damages"])
    assert {*OURS, *RAW, *PEERS, *PARTS} <= set(record["quantities"])
    other = ("drift", "attacked", "fine")
    return all(0 <= v <= 1 for k, v in record["damages"].items() if not k.startswith(other))


def test_a_linear_model_has_explanations_that_nothing_moves() -> None:
    model, samples = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), blobs()
    for found in (drifts(model, samples), attacked(model, samples)):
        assert all(v is not None and v < 1e-6 for v in found.values())


def test_adversarial_noise_flips_a_linear_model_exactly_where_the_boundary_is_within_reach() -> None:
    samples = blobs()
    means = torch.stack([samples.x[samples.y == k].mean(0).flatten() for k in range(3)])
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    model[1].weight.data, model[1].bias.data = means, -means.square().sum(1) / 2
    # Mixtures of two samples each lie at all distances from the boundary.
    share = torch.linspace(0, 1, len(samples.x)).view(-1, 1, 1, 1)
    samples = replace(samples, x=torch.lerp(samples.x, samples.x.roll(1, 0), share))
    f = model(samples.x).detach()
    top = f.argmax(1)
    gaps = (f.gather(1, top[:, None]) - f) / (means[top][:, None] - means[None]).norm(dim=2).clamp_min(1e-12)
    gaps[torch.arange(len(top)), top] = torch.inf
    found = adversarial(model, samples)
    for level in (0.02, 0.05, 0.1):
        expected = float((gaps.amin(1) < level * samples.scale).double().mean())
        assert expected > 0
        assert found[f"pgd.{level:g}"] == pytest.approx(expected, abs=1.5 / len(top))


def test_the_largest_stable_step_of_a_quadratic_is_two_over_its_curvature() -> None:
    """Softmax regression near zero weights: H = XᵀX/n ⊗ (I − 11ᵀ/C)/C, the biases' column among X."""
    model, samples = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), blobs()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    # Labels of the first 128 samples; small inputs keep the loss quadratic along eight steps.
    samples = replace(samples, x=samples.x * 1e-3)
    flat = torch.cat([samples.x[:128].flatten(1), torch.ones(len(samples.x[:128]), 1)], 1).double()
    top = float(torch.linalg.eigvalsh(flat.T @ flat / len(flat))[-1]) / 3
    found = largest_stable_step(model, samples)["fine-tuning"]
    assert found is not None and 0.8 < found / (top / 2) < 1.3


def test_corruptions_are_what_their_names_say() -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    flat = torch.full((1, 1, 16, 16), 0.5)
    for name, corrupt in _CORRUPTIONS.items():
        for severity in (1, 2):
            assert corrupt(x, severity).shape == x.shape
            if name not in ("brightness", "compressed"):
                assert torch.allclose(corrupt(flat, severity), flat, atol=1e-6)
    assert torch.equal(_CORRUPTIONS["shift"](x, 1)[:, :, 1:, 1:], x[:, :, :-1, :-1])
    # With steps of no size the cosine transform and its inverse are all that is left.
    error = [float((_CORRUPTIONS["compressed"](x, s) - x).abs().mean()) for s in (1, 2)]
    assert 0 < error[0] < error[1] < 0.2


def test_damage_grows_with_its_level() -> None:
    samples = blobs()
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Linear(16, 3))
    found = damage(model, samples)
    for names in (
        ("noise.0.1", "noise.0.5", "noise.1"),
        ("pgd.0.02", "pgd.0.05", "pgd.0.1"),
        ("shaken.0.05", "shaken.0.2", "shaken.0.4"),
        ("rounded.8", "rounded.3"),
        ("pruned.0.3", "pruned.0.8"),
    ):
        values = [found[name] for name in names]
        assert values == sorted(values) and values[-1] > 0, names  # type: ignore[type-var]  # all exist here


def test_exponents_of_exact_power_laws() -> None:
    for alpha in (1.5, 2.5, 4.0):
        quantiles = (np.arange(400) + 0.5) / 400
        assert exponent((1 - quantiles) ** (-1 / (alpha - 1))) == pytest.approx(alpha, rel=0.05)
    assert exponent(np.ones(3)) is None


def test_rank_statistics_of_a_resample_are_those_of_the_list_itself() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=12).round(1), rng.normal(size=12)
    counts = resamples(12)[:5]
    for row, found in zip(counts, spearman(x, y, counts), strict=True):
        index = np.repeat(np.arange(12), row.astype(int))

        def average(v: np.ndarray) -> np.ndarray:
            return np.array([(v < a).sum() + ((v == a).sum() + 1) / 2 for a in v])

        expected = np.corrcoef(average(x[index]), average(y[index]))[0, 1]
        assert found == pytest.approx(expected, abs=1e-12)
    assert np.array_equal(ranks(x, resamples(12))[:5], ranks(x, counts))


def test_partial_correlation_is_that_of_the_residuals() -> None:
    x, y, z = np.random.default_rng(1).normal(size=(3, 40))
    one = np.ones((1, 40))
    rx, ry, rz = (ranks(v, one)[0] for v in (x, y, z + x))
    left = [r - np.polyval(np.polyfit(rz, r, 1), rz) for r in (rx, ry)]
    assert partial(x, y, z + x, one)[0] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-12)
    assert pearson(np.ones((1, 40)), rx[None], one)[0] == 0


def test_the_zoo_is_fixed_by_its_names() -> None:
    zoo = entries()
    assert len(zoo) >= 200 and len({e.name for e in zoo}) == len(zoo)
    assert {e.half for e in zoo} == {"held-out", "tuning"}
    assert {e.architecture for e in zoo} == {"mlp", "cnn", "resnet", "transformer"}
    assert {"relu", "gelu", "tanh"} == {e.activation for e in zoo}


def test_the_page_and_the_population_follow_from_the_raw_table() -> None:
    table = read_table(STUDY / "zoo.csv")
    assert sorted(table.text["name"]) == sorted(e.name for e in entries())
    assert page(table) == (DOCS / "validity.md").read_text(encoding="utf-8")
    assert population(table) == shipped()


def test_the_claims_as_published_are_in_the_list_of_all_correlations() -> None:
    lines = (STUDY / "correlations.csv").read_text(encoding="utf-8").splitlines()
    rows = {tuple(line.split(",")[:2]): line.split(",")[2:] for line in lines}
    for f in findings(read_table(STUDY / "zoo.csv")):
        n, rho, low, high, *_ = map(float, rows[f.claim.quantity, f.claim.damage])
        assert (n, rho, low, high) == (f.found.n, *(round(v, 4) for v in (f.found.value, f.found.low, f.found.high)))


def test_the_shipped_population_was_measured_as_an_audit_does_by_default() -> None:
    found, _ = audited(nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3)), blobs())
    assert found.attribution is not None
    assert shipped().conditions.explained == _explained(found.attribution)
    weights = ", ".join(f"{name} {weight:g}" for name, weight in sorted(found.gmsi.weights.items()))
    assert shipped().conditions.index == f"{found.gmsi.aggregation}: {weights}"


def test_figures_are_the_same_on_every_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = read_table(STUDY / "zoo.csv")
    for name in ("a.svg", "b.svg"):
        figures.scatter(table, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
