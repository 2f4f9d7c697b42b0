"""Commands without data or without a spec: noise is said to be noise, and a first spec can be written."""

import json
import re

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from spectral_audit.inputs.data.shapes import input_shape
from spectral_audit.inputs.spec import SPEC_KEY
from spectral_audit.reports.schema import SCHEMA_PATH, build_schema
from spectral_audit.results import Validation

META = {"spectral_audit.architecture": "mlp", "spectral_audit.kwargs": '{"inputs": 4, "hidden": [5], "outputs": 3}'}


def codes(report):
    return {f["code"]: f for f in report["findings"]}


@pytest.fixture
def alone(case):
    """A checkpoint that says its architecture, with nothing beside it."""
    case.spec.unlink()
    path = case.folder / "alone.safetensors"
    save_file(case.state, path, META)
    return path


# --- no spec -------------------------------------------------------------------------------------------------------


def test_without_a_spec_noise_stands_in_and_is_said_to(cli, alone):
    ran = cli("score", alone, "-f", "json", "--n", 20)
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))
    data = report["data"]
    assert (data["synthetic"], data["kind"], data["n"], data["shape"]) == (True, "synthetic", 20, [4])
    assert data["accuracy"] is None
    found = codes(report)
    assert found["data.synthetic"]["severity"] == "error"
    assert found["data.synthetic"]["message"] == (
        "no data was given: every figure is about Gaussian noise of shape 4 and about the classes the model predicts "
        "for it, not about your data; no verdict may rest on it"
    )
    assert "labels.predicted" in found
    shown = cli("score", alone, "--n", 20)
    assert "data.synthetic" in shown.out
    again = json.loads(cli("score", alone, "-f", "json", "--n", 20, "--seed", 1).out)
    assert again["data"]["probe_sha256"] != data["probe_sha256"]


def test_real_data_is_not_called_synthetic(cli, case):
    report = json.loads(cli("score", case.model, "-f", "json", "--n", 20).out)
    assert (report["data"]["synthetic"], report["data"]["kind"]) == (False, "npz")
    given = json.loads(cli("score", case.model, "-f", "json", "--n", 20, "--data", case.data).out)
    assert given["data"]["probe_sha256"] == report["data"]["probe_sha256"]


def test_the_checkpoints_own_spec_is_used(cli, case, alone):
    save_file(case.state, alone, META | {SPEC_KEY: "data: {path: probe.npz, y: null}\nsample: {n: 15}"})
    data = json.loads(cli("score", alone, "-f", "json").out)["data"]
    assert (data["kind"], data["n"]) == ("npz", 15)
    save_file(case.state, alone, META | {SPEC_KEY: "input: {shape: [2, 2]}\nsample: {n: 15}"})
    data = json.loads(cli("score", alone, "-f", "json").out)["data"]
    assert (data["kind"], data["shape"]) == ("synthetic", [2, 2])
    save_file(case.state, alone, META | {SPEC_KEY: "data: {path: 'python:loader.py:load'}"})
    (case.folder / "loader.py").write_text(f"open({str(case.folder / 'canary')!r}, 'w')\n", encoding="utf-8")
    ran = cli("score", alone)
    assert (ran.code, ran.out) == (3, "")
    assert "its data comes from a function" in ran.err
    assert not (case.folder / "canary").exists()
    save_file(case.state, alone, META | {SPEC_KEY: "data: !!python/object/apply:os.system ['touch canary']"})
    assert cli("score", alone).code == 2


def test_one_output_is_taken_for_a_binary_classifier(cli, case, alone):
    case.state |= {"head.weight": torch.randn(1, 5), "head.bias": torch.zeros(1)}
    save_file(case.state, alone, META | {"spectral_audit.kwargs": '{"inputs": 4, "hidden": [5], "outputs": 1}'})
    assert json.loads(cli("score", alone, "-f", "json", "--n", 20).out)["task"]["loss"] == "bce"


SHAPELESS = """
import torch
class build(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def forward(self, x):
        return super().forward(x.reshape(len(x), 7, 4)).mean(1)
"""


def test_a_shape_that_cannot_be_inferred_is_refused(cli, case):
    arguments = case.built_by(SHAPELESS, {"weight": torch.ones(3, 4), "bias": torch.zeros(3)})
    case.spec.unlink()
    ran = cli("score", case.model, *arguments)
    assert (ran.code, ran.out, ran.err) == (
        3,
        "",
        "error: synthetic data: the shape of the model's input cannot be inferred\n"
        "  expected  a model whose first layer tells it, and that then runs\n"
        "  found     none that the model runs on\n"
        "  remedy    give data with --data FILE or `data.path`, or set `input.shape` to that of one sample.\n",
    )
    case.spec.write_text("data: {path: synthetic}\ninput: {shape: [7, 4]}\nsample: {n: 10}", encoding="utf-8")
    assert json.loads(cli("score", case.model, *arguments, "-f", "json").out)["data"]["shape"] == [7, 4]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), (6,)),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)), (3, 28, 28)),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 32 * 32, 2)), (1, 32, 32)),
        (nn.Sequential(nn.Conv1d(2, 1, 3, padding=1), nn.Flatten(), nn.Linear(64, 2)), (2, 64)),
        (nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2)), (5,)),
        (nn.Sequential(nn.Linear(5, 2), nn.Linear(3, 2)), None),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), None),
    ],
)
def test_the_first_layer_tells_the_shape(model, shape):
    found = input_shape(model.eval())
    assert (found and found.shape) == shape


def test_an_exported_program_tells_its_shape():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    batch = {"dynamic_shapes": ({0: torch.export.Dim("n")},)}
    program = torch.export.export(model, (torch.zeros(3, 3, 4),), **batch).module()
    assert input_shape(program).shape == (3, 4)


# --- validate ------------------------------------------------------------------------------------------------------


def test_validate_runs_the_model_beside_the_spec(cli, case):
    ran = cli("validate", case.spec, "-f", "json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    jsonschema.validate(found, build_schema(Validation))
    assert (found["model"], found["outputs"]) == (str(case.model), 3)
    assert found["stored"]["shape"] == [4]
    assert found["stored"]["low"] == pytest.approx(float(case.x.min()))
    assert found["inputs"]["mean"] == pytest.approx(float(case.x.mean()), abs=1e-6)
    assert found["classes"] == {str(k): int((case.y == k).sum()) for k in range(3)}
    layers = [torch.from_numpy(case.x) @ case.state["linear1.weight"].T + case.state["linear1.bias"]]
    scores = layers[0].relu() @ case.state["head.weight"].T + case.state["head.bias"]
    assert found["accuracy"] == pytest.approx(float((scores.argmax(1).numpy() == case.y).mean()))
    report = json.loads(cli("score", case.model, "-f", "json").out)
    assert report["data"]["probe_sha256"] == found["probe_sha256"]
    assert report["data"]["accuracy"] == found["accuracy"]
    shown = cli("validate", case.spec)
    assert shown.code == 0
    assert re.search(r"data .*probe\.npz · npz · 30 of 30 samples", shown.out.replace("\n        ", ""))


def test_validate_finds_accuracy_at_chance(cli, case):
    case.y = np.arange(30) % 3
    case.state["head.weight"] *= 0
    case.save()
    assert "accuracy.chance" in codes(json.loads(cli("validate", case.spec, "-f", "json").out))
    assert "accuracy.chance" in cli("validate", case.spec).out


def test_validate_without_a_model_checks_the_data_alone(cli, case):
    case.model.unlink()
    found = json.loads(cli("validate", case.spec, "-f", "json").out)
    assert (found["model"], found["accuracy"], found["outputs"]) == (None, None, None)
    assert "model.none" in codes(found)
    case.x[2, 1] = np.nan
    case.save()
    ran = cli("validate", case.spec)
    assert (ran.code, ran.out) == (3, "") and "NaN" in ran.err


def test_validate_needs_one_model_of_the_name(cli, case):
    torch.save(case.state, case.folder / "model.pth")
    ran = cli("validate", case.spec)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        f"error: {case.spec}: several models of its name stand beside it\n"
        "  expected  one\n"
        "  found     model.pt, model.pth\n"
        "  remedy    name one: spectral-audit validate SPEC MODEL.\n",
    )
    assert cli("validate", case.spec, case.model).code == 0


# --- init ----------------------------------------------------------------------------------------------------------


def test_init_writes_a_spec_that_validates(cli, case, alone):
    written = alone.with_name("alone.audit.yaml")
    ran = cli("init", alone, "--data", case.data)
    assert (ran.code, ran.out, ran.err) == (0, "", f"wrote {written}\n")
    text = written.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {
        "version": 1,
        "data": {"path": "probe.npz", "y": "y"},
        "input": {"mean": 0, "std": 1},
        "task": {"type": "classification", "loss": "cross_entropy"},
        "sample": {"n": 256, "seed": 0, "strategy": "stratified"},
    }
    assert "#" in text
    found = cli("validate", written, "-f", "json")
    assert (found.code, json.loads(found.out)["model"]) == (0, str(alone))
    ran = cli("init", alone, "--data", case.data)
    assert (ran.code, ran.err) == (
        2,
        f"error: {written}: exists already\n"
        "  expected  a file that is not there yet\n"
        f"  found     {len(text.encode())} bytes\n"
        "  remedy    add --force to replace it, or name another one with -o.\n",
    )
    assert cli("init", alone, "--data", case.data, "--force").code == 0


@pytest.mark.parametrize(
    ("build", "arrays", "expected"),
    [
        (
            "nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))",
            {"images": np.arange(4 * 75, dtype=np.uint8).reshape(4, 5, 5, 3), "labels": np.array([0, 1, 1, 0])},
            {"layout": "NHWC", "scale": "1/255", "loss": "bce", "x": "images", "y": "labels"},
        ),
        (
            "nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))",
            {"x": np.random.default_rng(0).normal(size=(4, 3, 5, 5)), "extra": np.zeros(4)},
            {"layout": "NCHW", "loss": "cross_entropy", "y": None},
        ),
        ("nn.Linear(3, 1)", {"x": np.ones((4, 3)) * np.arange(4)[:, None], "y": np.arange(4) / 3}, {"loss": "mse"}),
        (
            "nn.Linear(3, 2)",
            {"x": np.ones((4, 3)) * np.arange(4)[:, None], "y": np.array(["dog", "cat", "cat", "dog"])},
            {"loss": "cross_entropy", "classes": ["cat", "dog"]},
        ),
        (
            "nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 2))",
            {"x": np.array([[1, 2], [3, 4], [8, 0]]), "y": np.array([0, 1, 1])},
            {"type": "tokens", "loss": "cross_entropy"},
        ),
    ],
    ids=["pixels", "channels-first", "targets", "names", "tokens"],
)
def test_init_infers_what_it_can(cli, case, build, arrays, expected):
    (case.folder / "net.py").write_text(f"from torch import nn\ndef build():\n    return {build}\n", encoding="utf-8")
    model = eval(build, {"nn": nn})
    torch.save(model.state_dict(), case.model)
    np.savez(case.data, **arrays)
    out = case.folder / "specs" / "audit.yaml"
    out.parent.mkdir()
    arch = ["--arch", f"{case.net}:build"]
    assert (ran := cli("init", case.model, "--data", case.data, "-o", out, *arch)).code == 0, ran.err
    written = yaml.safe_load(out.read_text(encoding="utf-8"))
    flat = {**written["data"], **written["task"], **written.get("input", {})}
    assert {key: flat.get(key, "nothing") for key in expected} == expected
    checked = cli("validate", out, case.model, *arch, "-f", "json")
    assert checked.code == 0, checked.err


def test_why_a_model_does_not_run_on_its_tokens_is_for_validate_to_say(cli, case):
    build = "nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 2))"
    (case.folder / "net.py").write_text(f"from torch import nn\ndef build():\n    return {build}\n", encoding="utf-8")
    torch.save(eval(build, {"nn": nn}).state_dict(), case.model)
    np.savez(case.data, x=np.array([[1, 9], [3, 4]]), y=np.array([0, 1]))
    out, arch = case.folder / "new.yaml", ["--arch", f"{case.net}:build"]
    assert cli("init", case.model, "--data", case.data, "-o", out, *arch).code == 0
    ran = cli("validate", out, case.model, *arch)
    assert (ran.code, ran.err.splitlines()[0]) == (
        3,
        f"error: {case.model} on {case.data}: the model does not run on these tokens",
    )


def test_init_without_data_or_a_folder_to_write_to_is_a_usage_error(cli, case):
    ran = cli("init", case.model, "-o", case.folder / "new.yaml")
    assert (ran.code, ran.err) == (
        2,
        "error: init: nothing says which data the spec is for\n"
        "  expected  --data FILE, a folder, python:file.py:function or synthetic\n"
        "  found     no --data\n"
        "  remedy    add --data.\n",
    )
    ran = cli("init", case.model, "--data", case.data, "-o", case.folder / "none" / "new.yaml")
    assert (ran.code, "cannot be written" in ran.err) == (2, True)
