"""The command line from end to end: what it prints, where, and how it ends."""

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml

import spectral_audit
import spectral_audit.audit
from spectral_audit.errors import UsageError
from spectral_audit.reports.schema import SCHEMA_PATH
from tests.commands import FILES, explained_by, strict

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_models"
TINY = SAMPLES / "breast_cancer_mlp.pt"

# What other tools read: to rename one of these is to break them.
KEYS = """
schema
model.path model.format model.sha256 model.parameters
data.path data.sha256 data.n data.seed data.accuracy
scales.input scales.output
gmsi.definition gmsi.binding
raw.jacobian raw.parameter_jacobian raw.ntk raw.ntk_trace raw.hessian
attribution layers cost.seconds cost.stages cost.peak_memory
""".split()
KEYS += [
    f"{owner}.{column}.{figure}"
    for owner in ("axes.input", "axes.weights", "axes.kernel", "axes.curvature", "gmsi")
    for column in ("worst", "typical")
    for figure in ("value", "low", "high")
]
KEYS += [
    f"spectra.{operator}.{part}"
    for operator in ("input_jacobian", "ntk", "gauss_newton", "hessian")
    for part in ("values", "residuals", "exact", "entropy", "effective_rank", "trace")
]


def untimed(text: str) -> dict[str, Any]:
    """A report without what differs from run to run."""
    report = strict(text)
    for key in ("seconds", "stages", "peak_memory"):
        del report["cost"][key]
    return report


def flags(report: dict[str, Any], severity: str | None = None) -> set[str]:
    return {f["code"] for f in report["findings"] if severity in (None, f["severity"])}


@pytest.fixture(scope="session")
def tiny(process, tmp_path_factory):
    """The JSON report of a sample model from a process of its own, and the folder it was told to write to."""
    folder = tmp_path_factory.mktemp("tiny") / "new" / "folder"
    return process("score", TINY, "--n", 40, "--format", "json", "--output", folder), folder


# --- help and version --------------------------------------------------------------------------------------------


def test_help_needs_neither_torch_nor_numpy(spawn):
    code = """
import runpy, sys
sys.argv = ["spectral-audit", "--help"]
try:
    runpy.run_module("spectral_audit", run_name="__main__")
finally:
    print("imported:", *sorted({"torch", "numpy", "scipy", "safetensors"} & set(sys.modules)), file=sys.stderr)
"""
    with spawn("-c", code) as started:
        out, err = started.communicate(timeout=60)
    assert started.returncode == 0
    assert "score" in out and "inspect" in out
    assert err == "imported:\n"


def test_version(cli):
    ran = cli("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"spectral-audit {spectral_audit.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["score"],
        ["scores", TINY],
        ["score", TINY, "--format", "xml"],
        ["score", TINY, "--n", "1"],
        ["score", TINY, "--chunk", "0"],
        ["score", TINY, "--dtype", "float16"],
        ["score", TINY, "--trust", "all"],
        ["score", TINY, "--nonsense"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[2:] or arguments[:1])),
)
def test_a_wrong_command_line_is_a_usage_error(cli, arguments):
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage:" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(("given", "hint"), [("8", "write 8GB"), ("lots", "8GB or 500MiB"), ("0", "8GB or 500MiB")])
def test_memory_is_a_size_or_a_share(cli, given, hint):
    ran = cli("score", TINY, "--memory", given)
    assert (ran.code, ran.out) == (2, "")
    assert "--memory" in ran.err and hint in ran.err and "Traceback" not in ran.err


def test_the_memory_given_reaches_the_engine(cli, case, monkeypatch):
    asked = []

    def stop(*_, settings, **__):
        asked.append(settings.memory)
        raise UsageError("enough")

    monkeypatch.setattr(spectral_audit.audit, "measure", stop)
    assert cli("score", case.model, "--memory", "3GiB").code == 2
    assert asked == [3 * 2**30]


# --- score: the report -------------------------------------------------------------------------------------------


def test_the_json_report_is_strict_and_fits_the_schema(tiny):
    ran, _ = tiny
    assert ran.code == 0
    jsonschema.validate(strict(ran.out), json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))


@pytest.mark.parametrize("key", KEYS)
def test_the_json_report_has_the_keys_that_other_tools_read(tiny, key):
    value = strict(tiny[0].out)
    for part in key.split("."):
        assert part in value
        value = value[part]
    assert value is not None


def test_the_json_report_says_what_was_measured(tiny):
    report = strict(tiny[0].out)
    assert report["schema"] == "spectral-audit/report/1"
    assert report["model"]["path"] == str(TINY)
    assert report["model"]["parameters"] == 30 * 32 + 32 + 32 + 1
    assert (report["data"]["n"], report["data"]["seed"]) == (40, 0)
    assert report["gmsi"]["definition"] == "gmsi/1"
    assert report["gmsi"]["binding"] in report["axes"]
    assert all(finding.keys() >= {"code", "severity", "message"} for finding in report["findings"])
    for owner in (*report["axes"].values(), report["gmsi"]):
        for column in ("worst", "typical"):
            assert owner[column]["low"] <= owner[column]["value"] <= owner[column]["high"]
            assert owner[column]["status"] == "ok"
    for column in ("worst", "typical"):
        axes = [axis[column]["value"] for axis in report["axes"].values()]
        assert report["gmsi"][column]["value"] == pytest.approx(math.hypot(*axes), rel=1e-12)


def test_the_report_is_alone_on_standard_output(tiny):
    ran, folder = tiny
    assert strict(ran.out)
    assert ran.out.endswith("}\n") and not ran.out.endswith("\n\n")
    assert (
        ran.err
        == "wrote "
        + ", ".join(str(folder / name) for name in ("report.txt", "report.json", "report.yaml", "report.md"))
        + "\n"
    )


def test_the_output_folder_holds_every_format(tiny):
    ran, folder = tiny
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert (folder / "report.json").read_text(encoding="utf-8").rstrip("\n") == ran.out.rstrip("\n")
    assert yaml.safe_load((folder / "report.yaml").read_text(encoding="utf-8")) == strict(ran.out)
    for name in ("report.md", "report.txt"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "GMSI" in text and "\x1b" not in text


@pytest.mark.parametrize("output_format", ["rich", "md", "yaml", "json"])
def test_every_format_goes_to_standard_output_without_colours(cli, output_format):
    ran = cli("score", TINY, "--n", 40, "-f", output_format)
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    assert str(TINY.name) in ran.out
    if output_format == "yaml":
        assert yaml.safe_load(ran.out)["schema"] == "spectral-audit/report/1"
    else:
        assert ran.out.startswith({"rich": "spectral-audit", "md": "#", "json": "{"}[output_format])


def test_a_report_is_the_same_in_every_process(cli, tiny):
    again = cli("score", TINY, "--n", 40, "-f", "json")
    assert untimed(again.out) == untimed(tiny[0].out)


def test_another_seed_draws_another_probe_set(cli, tiny):
    ran = cli("score", TINY, "--n", 40, "--seed", 1, "-f", "json")
    first, second = strict(tiny[0].out), strict(ran.out)
    assert second["data"]["seed"] == 1
    assert second["data"]["probe_sha256"] != first["data"]["probe_sha256"]
    for column in ("worst", "typical"):
        assert second["gmsi"][column] != first["gmsi"][column]


def test_options_reach_the_report(cli):
    ran = cli("score", TINY, "--n", 20, "--dtype", "float64", "--device", "cpu", "--aggregation", "max", "-f", "json")
    report = strict(ran.out)
    assert (report["engine"]["dtype"], report["engine"]["device"]) == ("float64", "cpu")
    assert report["gmsi"]["aggregation"] == "max"
    assert report["gmsi"]["worst"]["value"] == max(axis["worst"]["value"] for axis in report["axes"].values())


# --- sample models -----------------------------------------------------------------------------------------------

PROBED = {
    "mnist_mlp.safetensors": 24,
    "mnist_cnn_relu.safetensors": 24,
    "mnist_cnn_gelu.safetensors": 24,
    "mnist_cnn_noisy.safetensors": 24,
    "cifar10_resnet.pt": 12,
    "breast_cancer_mlp.pt": 24,
    "diabetes_mlp.pt2": 24,
}


def test_every_sample_model_is_listed():
    models = [path for path in SAMPLES.iterdir() if path.suffix in (".pt", ".pt2", ".safetensors")]
    assert {path.name for path in models} == PROBED.keys()
    assert {path.stem for path in models} == json.loads((SAMPLES / "accuracy.json").read_text()).keys()


@pytest.mark.parametrize(("name", "n"), PROBED.items())
def test_sample_models_score(cli, name, n):
    ran = cli("score", SAMPLES / name, "--n", n, "--trust", "code", "-f", "json")
    assert ran.code == 0
    report = strict(ran.out)
    known = json.loads((SAMPLES / "accuracy.json").read_text())[Path(name).stem]
    assert report["model"]["parameters"] == known["parameters"]
    assert report["data"]["available"] == known["probe_samples"]
    assert flags(report, "error") == set()
    assert report["gmsi"]["worst"]["status"] == report["gmsi"]["typical"]["status"] == "ok"
    if known["metric"] != "accuracy":
        assert report["data"]["accuracy"] is None
        return
    # Three standard errors of a share of n, and one sample for shares near 1.
    share = known["probe"]
    assert abs(report["data"]["accuracy"] - share) <= 3 * math.sqrt(share * (1 - share) / n) + 1 / n


def test_the_whole_probe_set_gives_the_accuracy_on_record(cli):
    report = strict(cli("score", TINY, "--n", 1000, "-f", "json").out)
    known = json.loads((SAMPLES / "accuracy.json").read_text())["breast_cancer_mlp"]
    assert report["data"]["n"] == report["data"]["available"] == known["probe_samples"]
    assert round(report["data"]["accuracy"], 4) == known["probe"]


def test_an_exported_program_says_nothing_beside_its_report(process):
    ran = process("score", SAMPLES / "diabetes_mlp.pt2", "--n", 12, "--trust", "code", "-f", "json")
    assert (ran.code, ran.err) == (0, "")
    assert strict(ran.out)["model"]["trust"] == "code"


def test_an_exported_program_needs_consent(cli):
    ran = cli("score", SAMPLES / "diabetes_mlp.pt2")
    assert (ran.code, ran.out) == (3, "")
    assert "--trust none" in ran.err and "add --trust code" in ran.err


# --- inspect -----------------------------------------------------------------------------------------------------


class Evil:
    """Loading its pickle creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


@pytest.mark.parametrize("name", PROBED)
def test_inspect_sample_models(cli, name):
    shown, listed = cli("inspect", SAMPLES / name), cli("inspect", SAMPLES / name, "--json")
    assert (shown.code, shown.err, listed.code, listed.err) == (0, "", 0, "")
    assert name in shown.out and "\x1b" not in shown.out
    found = strict(listed.out)
    assert found["path"] == str(SAMPLES / name)
    assert found["tensors"]


def test_inspect_runs_nothing_from_a_pickle_and_score_refuses_it(cli, case, tmp_path):
    canary = tmp_path / "canary"
    torch.save({"head.weight": torch.ones(3, 4), "extra": Evil(canary)}, case.model)
    shown = cli("inspect", case.model)
    refused = cli("score", case.model, "--trust", "code", "-o", tmp_path / "out")
    assert not canary.exists(), "the checkpoint was executed"
    assert shown.code == 0
    assert "exec" in shown.out
    assert (refused.code, refused.out) == (3, "")
    assert "exec" in refused.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"], ids=["missing", "empty", "text"])
def test_inspect_refuses_what_is_no_checkpoint(cli, tmp_path, content):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    ran = cli("inspect", path)
    assert (ran.code, ran.out) == (3, "")
    assert str(path) in ran.err and "remedy" in ran.err and "Traceback" not in ran.err


# --- explanations ------------------------------------------------------------------------------------------------


def test_several_explanations_are_measured_and_shown(cli, case):
    explained_by(case, "mine")
    own = f"{case.folder / 'explain.py'}:mine"
    ran = cli("score", case.model, "--attribution", "integrated_gradients", "--attribution", own, "-f", "json")
    assert ran.code == 0
    found = json.loads(ran.out)["attribution"]
    assert list(found["methods"]) == ["integrated_gradients", own]
    assert found["method"] == "integrated_gradients"
    assert found["score"] == found["methods"]["integrated_gradients"]["score"]
    assert found["curvature"] is None
    ran = cli("score", case.model, "--trust", "code", "-f", "json")
    found = json.loads(ran.out)["attribution"]
    figures = [{**m, "method": "", "gradients": 0} for m in found["methods"].values()]
    assert figures[0]["random"]["mean"]["value"] == pytest.approx(figures[1]["random"]["mean"]["value"], rel=0.5)


def test_images_come_with_a_picture_or_the_reason_why_not(cli, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("spectral_audit.reports.sheet.find_spec", lambda name: None)
        ran = cli("score", SAMPLES / "mnist_mlp.safetensors", "--n", 12, "-o", out, "-f", "md")
    reason = "attribution.png was not written: matplotlib is missing: pip install 'spectral-audit"
    assert reason in ran.out.replace("\\[", "[")
    assert reason in (out / "report.md").read_text(encoding="utf-8")
    assert not (out / "attribution.png").exists()
    ran = cli("score", SAMPLES / "mnist_mlp.safetensors", "--n", 12, "-o", out, "-f", "json")
    assert ran.code == 0
    assert (out / "attribution.png").read_bytes().startswith(b"\x89PNG")
    assert "attribution.picture" not in ran.out
    assert "attribution.png" in ran.err


def test_an_index_without_a_value_is_undefined_and_no_number(cli, case, tmp_path):
    case.keys["model"]["kwargs"]["hidden"] = []
    case.state = {"head.weight": torch.zeros(3, 4), "head.bias": torch.zeros(3)}
    case.save()
    ran = cli("score", case.model, "-f", "json", "-o", tmp_path)
    assert (ran.code, "Traceback" in ran.err) == (0, False)
    report = strict(ran.out)
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))
    assert report["scales"]["output"] == 0
    assert report["gmsi"]["binding"] is None
    for column in ("worst", "typical"):
        assert report["gmsi"][column] == {"value": None, "low": None, "high": None, "status": "undefined"}
    assert "index.undefined" in flags(report, "error")
    for name in ("report.txt", "report.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "undefined" in text and "nan" not in text.lower()
