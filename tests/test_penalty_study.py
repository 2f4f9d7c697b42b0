"""The study of penalties: its closed form, a tiny part of it run twice, and its page from the published figures."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from studies import penalties, quadratic
from studies.penalties import SETTINGS, Run, collect, perform, runs, sizes
from studies.penalties_page import Change, Group, interval, page
from studies.training import PENALTIES, Data, make_penalty, train

DOCS = Path(__file__).parents[1] / "docs"
TINY = replace(SETTINGS["quadratic"], train=200, epochs=3, probe=12)


@pytest.mark.parametrize(
    ("penalty", "shrink"), [("jacobian_frobenius", (3.0, 2.0)), ("attribution_curvature", (3.0, 1.0))]
)
def test_the_penalised_optimum_is_the_teacher_shrunk_as_derived(penalty, shrink):
    """For symmetric B without diagonal, normal inputs and strength 1, E(f − f*)² = 2‖B − B*‖² + ‖w − w*‖², the Jacobian
    penalty is 4‖B‖² + ‖w‖² and ‖A‖² is 4‖B‖²: B* over 1 + 2·1, and w* over 1 + 1 or 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, quadratic.D, generator=generator, dtype=torch.float64)
    theta = torch.randn(len(quadratic.features(x[:1])[0]), 1, generator=generator, dtype=torch.float64)
    squares = torch.tensor([i == j for i, j in quadratic._PAIRS] + [False] * quadratic.D)
    theta[squares] = 0
    data = quadratic.Problem(x, quadratic.features(x) @ theta, x[:2], x[:2, :1])
    found, _ = quadratic.optimum(data, penalty, 1.0)
    slope = torch.arange(len(theta)) >= len(quadratic._PAIRS)
    expected = theta[:, 0] / torch.where(slope, shrink[1], shrink[0])
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_without_a_penalty_the_optimum_is_least_squares_and_leaves_the_noise():
    data = quadratic.problem(0)
    figures = quadratic.known(data, data.x_test[:20], data.y_test[:20], None, 0.0)
    assert figures["accuracy"] == pytest.approx(0.9, abs=0.03)  # noise is a tenth of the variance: (1/3)²/(1 + (1/3)²)


def test_a_tiny_run_gives_every_figure_and_the_same_ones_again():
    run = Run("quadratic", "attribution_curvature", 0.1, 0)
    first, again = (perform(run, TINY, None) for _ in range(2))
    assert {key: first[key] for key in first if "seconds" not in key} == {
        key: again[key] for key in again if "seconds" not in key
    }
    assert first["gmsi.worst"] > 0
    assert first["drift.worst"] > 0
    assert perform(replace(run, seed=1), TINY, None)["drift.worst"] != first["drift.worst"]


def test_training_reaches_the_closed_form_and_the_audit_agrees_with_it():
    row = perform(Run("quadratic", "jacobian_frobenius", 0.1, 0), SETTINGS["quadratic"], None)
    assert row["accuracy"] == pytest.approx(row["known.accuracy"], abs=0.005)
    assert row["axes.input.typical"] == pytest.approx(row["known.axes.input.typical"], rel=0.01)
    assert row["condition.typical"] == pytest.approx(row["known.condition.typical"], rel=0.03)


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    wanted = runs(["quadratic"], 1)[:2]
    monkeypatch.setitem(SETTINGS, "quadratic", TINY)
    collect(wanted[:1], None, tmp_path)
    done = wanted[0].record(tmp_path)
    done.write_text(json.dumps({"marked": True}), encoding="utf-8")
    rows = collect(wanted, None, tmp_path)
    assert rows[0] == {"marked": True}
    assert rows[1]["penalty"] == "jacobian_frobenius"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json"]


@pytest.mark.parametrize("name", PENALTIES)
def test_every_penalty_by_name_is_a_number_that_trains_a_classifier(name):
    x, y = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    data = Data("noise", x, y, x, y, 3, None)  # type: ignore[arg-type]  # not from a source
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    before = model[0].weight.detach().clone()
    train(model, data, epochs=1, batch=3, penalty=make_penalty(name, 0.1, data))
    assert model[0].weight.isfinite().all()
    assert not torch.equal(model[0].weight, before)


def test_student_interval_of_three_known_values():
    assert interval([1.0, 2.0, 3.0]) == Change(2.0, *(pytest.approx(2 + s * 4.303 / 3**0.5) for s in (-1, 1)))


def test_the_claims_words_are_read_as_stated():
    def made(drift: float, index: float, accuracy: float) -> Group:
        plain = {"gmsi.worst": 1.0, "gmsi.typical": 1.0, "drift.worst": 1.0, "accuracy": 0.9}
        names = ("entropy.input_jacobian", "entropy.ntk", "entropy.hessian")
        plain |= dict.fromkeys(names, 1.0)
        pairs = [
            ({**plain, "drift.worst": drift * wobble, "gmsi.worst": index, "accuracy": accuracy}, plain)
            for wobble in (0.99, 1.0, 1.01)
        ]
        return Group("mnist", "any", 1.0, pairs)

    good = made(0.7, 1.05, 0.895)
    assert (good.modest, good.little, good.steadier) == (True, True, True)
    assert not made(0.85, 1.0, 0.9).steadier
    assert not made(0.7, 0.85, 0.9).little
    assert not made(0.7, 1.0, 0.88).modest


def parsed(key: str, text: str) -> float | str | None:
    if key in ("setting", "penalty"):
        return text
    return float(text) if text else None


def test_the_published_page_is_that_of_the_published_figures():
    with (DOCS / "penalties.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: parsed(key, value) for key, value in row.items()} for row in csv.DictReader(file)]
    published = (DOCS / "penalties.md").read_text(encoding="utf-8")
    assert page(rows, {name: sizes(setting) for name, setting in penalties.SETTINGS.items()}) == published
