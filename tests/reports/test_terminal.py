"""What the terminal report and the Markdown report must say, at every width, in every look."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from spectral_audit.reports import WRITERS, Look, render_inspection, render_report, words
from spectral_audit.results import AXES, Axis, Estimate, Finding, Report
from tests.reports import example

ANSI = re.compile(r"\x1b\[[0-9;]*m")
BLOCKS = re.compile("[\u2500-\u25ff\u2700-\u27bf\u2800-\u28ff]")
LOOKS = [Look(width, colour, unicode) for width in (80, 120) for colour, unicode in [(True, True), (False, False)]]


def plain(text: str) -> str:
    """A rendering without colour and line breaks, as a reader's eye joins it."""
    return re.sub(r"\s+", " ", ANSI.sub("", text))


def estimates(report: Report) -> list[Estimate]:
    axes = [getattr(report.axes, name) for name in AXES]
    return [
        report.gmsi.worst,
        report.gmsi.typical,
        *(estimate for axis in axes for estimate in (axis.worst, axis.typical)),
    ]


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("variant", example.VARIANTS)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(variant: str, look: Look) -> None:
    report = example.VARIANTS[variant]()
    text = ANSI.sub("", render_report(report, look))
    assert max(map(cell_len, text.splitlines())) <= look.width
    assert not re.search(r"\bundefine\b|\bunconverge\b", plain(text))
    for estimate in estimates(report):
        assert words.number(estimate.value) in text
        assert words.interval(estimate) in text


@pytest.mark.parametrize("width", [1, 20, 40, 60, 200])
@pytest.mark.parametrize("variant", example.VARIANTS)
def test_an_unusual_width_still_renders(variant: str, width: int) -> None:
    assert render_report(example.VARIANTS[variant](), Look(width, False, True)).startswith("s")


@pytest.mark.parametrize("variant", example.VARIANTS)
@pytest.mark.parametrize("writer", ["rich", "md"])
def test_each_axis_has_its_figures_in_its_own_row(variant: str, writer: str) -> None:
    report = example.VARIANTS[variant]()
    text = WRITERS[writer](report)
    for name in AXES:
        axis = getattr(report.axes, name)
        row = next(line for line in text.splitlines() if re.match(rf"[|>\s]*\**{name}\**[ |(]", line))
        for estimate in (axis.worst, axis.typical):
            assert words.number(estimate.value) in row
            assert words.interval(estimate) in row
        assert words.number(axis.effective_rank) in row


@pytest.mark.parametrize("variant", example.VARIANTS)
@pytest.mark.parametrize("writer", ["rich", "md"])
def test_nothing_undefined_is_disguised(variant: str, writer: str) -> None:
    text = WRITERS[writer](example.VARIANTS[variant]())
    assert not re.search(r"\b(nan|None|inf)\b(?!\.)", text.replace("Findings", ""))
    assert ("undefined" in text) == (variant == "undefined")


@pytest.mark.parametrize("writer", ["rich", "md"])
def test_an_undefined_index_is_undefined_in_the_headline(writer: str) -> None:
    text = WRITERS[writer](example.undefined())
    assert "GMSI undefined" in plain(text)
    assert "binds)" not in text
    assert not re.search(r"^>", text, re.MULTILINE)


@pytest.mark.parametrize("variant", example.VARIANTS)
@pytest.mark.parametrize("writer", ["rich", "md"])
def test_all_findings_appear_errors_first(variant: str, writer: str) -> None:
    report = example.VARIANTS[variant]()
    text = plain(WRITERS[writer](report))
    for finding in report.findings:
        assert finding.code in text
        assert finding.message in text
    places = [text.index(f.message) for f in sorted(report.findings, key=lambda f: "ewi".index(f.severity[0]))]
    assert places == sorted(places)


def test_a_pipe_gets_neither_colour_nor_blocks() -> None:
    look = Look.of(Console(file=io.StringIO(), width=100))
    assert look == Look(100, colour=False, unicode=False)
    for variant in example.VARIANTS.values():
        text = render_report(variant(), look)
        assert "\x1b" not in text
        assert not BLOCKS.search(text)
    assert "\x1b" not in render_inspection(example.inspection(), look)


def test_a_terminal_gets_both_and_no_color_is_heard() -> None:
    def terminal(**more: Any) -> Console:
        buffer = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        return Console(file=buffer, force_terminal=True, width=90, _environ={"TERM": "xterm-256color"}, **more)

    assert Look.of(terminal()) == Look(90, colour=True, unicode=True)
    assert Look.of(terminal(no_color=True)) == Look(90, colour=False, unicode=True)
    text = render_report(example.example(), Look(90, colour=True, unicode=True))
    assert ANSI.search(text)
    assert BLOCKS.search(text)


def test_colours_are_the_terminals_own_and_neither_black_nor_white_nor_yellow() -> None:
    text = render_report(example.unconverged(), Look(80, True, True))
    text += render_inspection(example.inspection(), Look(80, True, True))
    codes = {int(code) for escape in ANSI.findall(text) for code in escape[2:-1].split(";")}
    assert {1, 31, 35, 36} <= codes <= {0, 1, 2, 31, 32, 35, 36, 39}


def test_the_page_is_compact() -> None:
    assert 70 <= len(render_report(example.example(), Look(80)).splitlines()) <= 88
    assert render_report(example.example(), Look(80)) == render_report(example.example())


def test_the_verdict_says_how_large_a_perturbation_matters() -> None:
    text = plain(render_report(example.example()))
    assert "GMSI 14.2 worst (12.7–15.9), 0.420 typical (0.395–0.446), bound by weights" in text
    assert "3.21 times its size moves the logits as far as the decision boundary is away" in text  # 1 / 0.312
    assert "10.1 % of its size is enough" in text  # 1 / 9.87
    text = plain(render_report(example.regression()))
    assert "54.6 % of the signal moves the outputs by their own spread" in text  # 1 / 1.83
    assert "decision boundary" not in text
    assert "accuracy" not in text


def test_a_verdict_without_a_typical_or_any_effect() -> None:
    base = example.example()
    for worst, said in ((2.0, "50.0 % of its size, aimed in the worst direction"), (0.0, "does not move the outputs")):
        axis = Axis(Estimate(worst, worst, worst), Estimate(0.0, 0.0, 0.0), None)
        assert said in words.verdict(replace(base, axes=replace(base.axes, weights=axis)))


@pytest.mark.parametrize("writer", ["rich", "md"])
def test_piecewise_linear_is_said_plainly_and_a_smooth_net_gets_its_condition(writer: str) -> None:
    said = "input curvature is zero almost everywhere, which is not stability: read the drifts at a finite radius"
    assert said in plain(WRITERS[writer](example.example()))
    smooth = plain(WRITERS[writer](example.smooth()))
    assert said not in smooth
    assert "21.3 worst (19.4–23.8), 1.06 typical (0.978–1.15)" in smooth
    assert "Not measured." in plain(WRITERS[writer](example.unconverged()))


@pytest.mark.parametrize("writer", ["rich", "md"])
def test_an_unconverged_figure_is_marked(writer: str) -> None:
    text = plain(WRITERS[writer](example.unconverged()))
    assert "3.12!" in text
    assert "! = not converged" in text
    assert "± 2.90, unconverged" in text
    assert "not converged" not in WRITERS[writer](example.example())


def test_a_table_gives_up_its_gaps_before_it_breaks_a_line() -> None:
    (row,) = [line for line in render_report(example.unconverged()).splitlines() if line.startswith("Hessian  ")]
    assert row.split()[-5:] == ["0.11", "214", "±", "2.90,", "unconverged"]


def test_layers_are_ranked_and_the_rest_counted() -> None:
    text = render_report(example.example())
    section = text[text.index("Layers") : text.index("Attribution")].splitlines()[2:]
    assert [line.split()[0] for line in section[:3]] == [
        "classifier.1.weight",
        "features.3.weight",
        "classifier.3.weight",
    ]
    assert len([line for line in section if "%" in line]) == 9
    assert "+2 more" in text
    assert "0.4 %" in section[8]  # 0.41 % and 0.03 %


def test_long_names_keep_what_tells_them_apart() -> None:
    names = [f"backbone.stage.{i}.attention.projection.weight" for i in range(3)]
    assert words.abbreviate(names, 60) == names
    assert words.abbreviate(names, 36) == [f"….{i}.attention.projection.weight" for i in range(3)]
    assert words.abbreviate(names, 20) == [f"….{i}.attention.…" for i in range(3)]
    assert [len(name) for name in words.abbreviate(["x" * 90], 20)] == [20]
    assert words.abbreviate([], 20) == []
    assert words.abbreviate(["a.b", "a"], 1) == ["…", "a"]


def test_foreign_text_cannot_drive_the_terminal_or_the_page() -> None:
    base = example.example()
    nasty = "\x1b[31mred\x07 \u202eevil\r\n| <b>@team</b> `x` [link](y) [bold]m[/bold]"
    layer = replace(base.layers[0], name=nasty, share=0.99)
    report = replace(
        base, model=replace(base.model, path=nasty), layers=(layer,), findings=(Finding(nasty, "error", nasty),)
    )
    for look in (Look(120, False, True), Look(120, False, False)):
        text = render_report(report, look)
        assert not re.search("[\x1b\x07\u202e\r]", text)
        assert "[bold]m[/bold]" in plain(text)
    markdown = WRITERS["md"](report)
    assert not re.search("[\x1b\x07\u202e\r]", markdown)
    outside_code = re.sub(r"`[^`]*`", "", markdown.replace("\\`", ""))
    assert "<b>" not in outside_code
    assert "@" not in outside_code
    inspected = replace(example.inspection(), path=nasty, architecture=nasty, metadata={nasty: nasty}, notes=(nasty,))
    assert not re.search("[\x1b\x07\u202e\r]", render_inspection(inspected))


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_an_inspection_shows_what_it_found(look: Look) -> None:
    inspection = example.inspection()
    drawn = render_inspection(inspection, look)
    text = ANSI.sub("", drawn)
    assert max(map(cell_len, text.splitlines())) <= look.width
    for fact in (inspection.path, inspection.sha256, "2,671,104 bytes", "664,704", "… 16 more", "64×64×3×3", "0.931"):
        assert fact in text
    assert all(name in text for name in inspection.globals)
    assert all(note in text for note in inspection.notes)
    assert text.count("float32") == 21
    assert [line for line in text.splitlines() if "unsafe" in line] == [
        f"{'✖x'[not look.unicode]} posix.system  unsafe"
    ]
    if look.colour:
        assert "\x1b[1;31mposix.system  unsafe" in drawn


def test_an_empty_inspection_has_no_empty_sections() -> None:
    bare = replace(
        example.inspection(),
        tensors=(),
        globals=(),
        unsafe_globals=(),
        metadata={},
        notes=(),
        dtypes=(),
        architecture="",
    )
    assert len(render_inspection(bare).splitlines()) == 5
