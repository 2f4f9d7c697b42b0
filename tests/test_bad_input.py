"""Bad input: every wrong file, spec or wish ends in one message with its exit code, and leaves nothing behind."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.commands import FILES, LINEAR, explained_by, strict

# Statistics of the batch, over two positions for each sample: they exist for a sample alone as well.
BATCH_NORM_OF_PAIRS = """
from torch import nn
def build():
    norm = nn.BatchNorm1d(2, track_running_stats=False)
    return nn.Sequential(nn.Unflatten(1, (2, 2)), norm, nn.Flatten(), nn.Linear(4, 3))
"""
# And where a sample alone has none.
BATCH_NORM = """
from torch import nn
def build():
    return nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
"""
DOING = """
import torch
class build(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def forward(self, x):
        {}
"""
UNUSED = """
import torch
class build(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(2))
    def forward(self, x):
        return x[:, :3]
"""


def missing(case):
    case.model.unlink()


def a_directory(case):
    case.model.unlink()
    case.model.mkdir()


def empty(case):
    case.model.write_bytes(b"")


def truncated(case):
    case.model.write_bytes(case.model.read_bytes()[:-200])


def truncated_safetensors(case):
    import safetensors.torch

    case.model.write_bytes(safetensors.torch.save(case.state)[:-20])


def other_architecture(case):
    del case.state["linear1.bias"]
    case.state["extra.gain"] = torch.ones(2)
    case.state["head.weight"] = torch.ones(3, 7)
    case.save()


def nan_weights(case):
    case.state["head.weight"][1, 2] = math.nan
    case.save()


class Own(nn.Sequential):
    """A class that no list knows."""


def whole_module(case):
    torch.save(Own(nn.Linear(4, 3)), case.model)


def nan_inputs(case):
    case.x[3, 1] = math.nan
    case.save()


def label_out_of_range(case):
    case.keys["model"]["kwargs"]["outputs"] = 2
    case.state |= {"head.weight": torch.ones(2, 5), "head.bias": torch.zeros(2)}
    case.y[:] %= 2
    case.y[5] = 7
    case.save()


def other_input_shape(case):
    case.x = np.ones((30, 6), dtype=np.float32)
    case.save()


def no_samples(case):
    case.x, case.y = case.x[:0], case.y[:0]
    case.save()


def one_sample(case):
    case.x, case.y = case.x[:1], case.y[:1]
    case.save()


def no_data_file(case):
    case.data.unlink()


def data_is_a_directory(case):
    case.data.unlink()
    case.data.mkdir()


def truncated_data(case):
    case.data.write_bytes(case.data.read_bytes()[:-100])


def unknown_key(case):
    case.keys["sample"] = {"sead": 1}
    case.save()


def unknown_loss(case):
    case.keys["task"] = {"loss": "crossentropy"}
    case.save()


def bce_for_three_outputs(case):
    case.keys["task"] = {"loss": "bce"}
    case.y[:] %= 2
    case.save()


def too_few_class_names(case):
    case.keys["task"] = {"classes": ["cat", "dog"]}
    case.save()


def not_yaml(case):
    case.spec.write_text("data: {path: [probe.npz\n", encoding="utf-8")


def spec_elsewhere(case):
    return ["--spec", case.folder / "other.yaml"]


def unknown_function(case):
    case.built_by("def make(): ...\n", LINEAR)
    return ["--arch", f"{case.net}:built"]


def unknown_family(case):
    case.keys["model"]["builder"] = "resnets"
    case.save()


def unknown_argument(case):
    return ["--arch-kwargs", "widths=3"]


def no_key_value(case):
    return ["--arch-kwargs", "width"]


def builder_raises(case):
    return case.built_by("def build():\n    raise KeyError('the depth')\n", LINEAR)


def builder_without_consent(case):
    case.built_by("def build():\n    raise SystemExit(0)\n", LINEAR)
    case.keys["model"] = {"builder": "net.py:build"}
    case.save()


def mixed_batch(case):
    weights = {"1.weight": torch.ones(2), "1.bias": torch.ones(2)}
    return case.built_by(BATCH_NORM_OF_PAIRS, weights | {"3.weight": torch.ones(3, 4), "3.bias": torch.ones(3)})


def mixed_batch_of_two_or_more(case):
    weights = {"0.weight": torch.ones(4), "0.bias": torch.ones(4)}
    return case.built_by(BATCH_NORM, weights | {"1.weight": torch.ones(3, 4), "1.bias": torch.ones(3)})


def nothing_to_audit(case):
    return case.built_by(UNUSED, {"gain": torch.ones(2)})


def too_many_rows_for_the_exact_regime(case):
    case.x, case.y = np.ones((2600, 4), dtype=np.float32), np.zeros(2600, dtype=np.int64)
    case.save()
    return ["--n", 2600, "--regime", "exact"]


def seed_of_many_bits(case):
    return ["--seed", 2**70]


def target_out_of_range(case):
    case.keys["attribution"] = {"target": 3}
    case.save()


def explanation_without_consent(case):
    explained_by(case, "mine")


def explanation_missing(case):
    explained_by(case, "yours")
    return ["--trust", "code"]


def explanation_file_missing(case):
    return ["--attribution", "nowhere.py:mine"]


def explanation_at_random(case):
    explained_by(case, "random")
    return ["--trust", "code"]


def explanation_unknown(case):
    return ["--attribution", "smothgrad"]


def forward_fails(case):
    return case.built_by(DOING.format("raise KeyError('the mask')"), LINEAR)


def forward_leaves(case):
    return case.built_by(DOING.format("raise SystemExit(0)"), LINEAR)


def outputs_are_decisions(case):
    return case.built_by(DOING.format("return super().forward(x).long()"), LINEAR)


def unknown_weights(case):
    return ["--weights", "ema"]


SPOILED = [
    (missing, 3, ["model.pt", "no such file"]),
    (a_directory, 3, ["model.pt", "directory"]),
    (empty, 3, ["model.pt", "empty"]),
    (truncated, 3, ["model.pt", "cut short"]),
    (truncated_safetensors, 3, ["model.pt", "cut short"]),
    (whole_module, 3, ["model.pt", "state_dict"]),
    (
        other_architecture,
        3,
        ["model.pt", "1 missing", "linear1.bias", "1 unknown", "extra.gain", "head.weight (file (3, 7), model (3, 5))"],
    ),
    (nan_weights, 3, ["model.pt", "head.weight", "NaN"]),
    (nan_inputs, 3, ["probe.npz", "NaN", "(3, 1)"]),
    (label_out_of_range, 3, ["model.pt", "0 to 1", "first 7 at probe index 5"]),
    (other_input_shape, 3, ["model.pt", "(6,)", "input.layout"]),
    (no_samples, 3, ["probe.npz", "at least one sample"]),
    (one_sample, 3, ["at least 2 samples"]),
    (no_data_file, 3, ["probe.npz", "data.path"]),
    (data_is_a_directory, 3, ["probe.npz", "directory"]),
    (truncated_data, 3, ["probe.npz", "cut short"]),
    (unknown_key, 2, ["model.audit.yaml", "sead", "did you mean 'seed'"]),
    (unknown_loss, 2, ["model.audit.yaml", "task.loss", "cross_entropy"]),
    (bce_for_three_outputs, 2, ["model.pt", "task.loss", "3 outputs"]),
    (too_few_class_names, 3, ["model.pt", "task.classes", "3 names", "model.audit.yaml"]),
    (not_yaml, 2, ["model.audit.yaml", "YAML"]),
    (spec_elsewhere, 2, ["other.yaml"]),
    (unknown_function, 2, ["net.py", "built", "make"]),
    (unknown_family, 2, ["resnets", "did you mean 'resnet'"]),
    (unknown_argument, 2, ["widths", "hidden"]),
    (no_key_value, 2, ["--arch-kwargs", "KEY=VALUE"]),
    (builder_raises, 3, ["net.py:build", "KeyError: 'the depth'"]),
    (builder_without_consent, 3, ["net.py:build", "--trust code"]),
    (mixed_batch, 3, ["model.pt", "mixes the samples"]),
    (mixed_batch_of_two_or_more, 3, ["model.pt", "mixes the samples"]),
    (nothing_to_audit, 3, ["model.pt", "at least one parameter"]),
    (too_many_rows_for_the_exact_regime, 2, ["model.pt", "5120", "2600 × 3 = 7800", "--n"]),
    (unknown_weights, 2, ["model.pt", "ema"]),
    (seed_of_many_bits, 2, ["--seed", "71 bits"]),
    (target_out_of_range, 2, ["attribution.target", "from 0 to 2"]),
    (explanation_without_consent, 3, ["explain.py:mine", "--trust code", "--attribution explain.py:mine"]),
    (explanation_missing, 2, ["explain.py", "yours", "mine"]),
    (explanation_file_missing, 2, ["nowhere.py", "no such file", "--attribution"]),
    (explanation_at_random, 3, ["model.pt", "explain.py:random", "another result"]),
    (explanation_unknown, 2, ["smothgrad", "did you mean 'smoothgrad'"]),
    (forward_fails, 3, ["model.pt", "does not run", "the mask"]),
    (forward_leaves, 3, ["model.pt", "does not run"]),
    (outputs_are_decisions, 3, ["model.pt", "int64"]),
]


def test_the_case_is_sound_before_it_is_spoiled(cli, case, tmp_path):
    ran = cli("score", case.model, "-f", "json", "-o", tmp_path / "out")
    assert ran.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(FILES)


def assert_finished(ran, code: int, *said: str) -> None:
    """The command ended in one message that names what was expected, what was found, and the remedy."""
    assert (ran.code, ran.out) == (code, "")
    lines = ran.err.splitlines()
    assert lines[0].startswith("error: ")
    assert {
        label for label in ("expected", "found", "remedy") if not any(x.startswith(f"  {label} ") for x in lines)
    } == set()
    assert {part for part in said if part not in ran.err} == set()
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("spoil", "code", "said"), SPOILED, ids=[spoil.__name__.replace("_", "-") for spoil, _, _ in SPOILED]
)
def test_bad_input_ends_in_a_message_and_leaves_nothing_behind(cli, case, tmp_path, spoil, code, said):
    arguments = spoil(case) or []
    ran = cli("score", case.model, "-f", "json", "-o", tmp_path / "out", *arguments)
    assert_finished(ran, code, *said)
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_is_a_usage_error(cli, case):
    before = case.data.read_bytes()
    assert_finished(cli("score", case.model, "-o", case.data), 2, str(case.data))
    assert case.data.read_bytes() == before


def test_a_device_without_float64_is_a_usage_error(cli, case):
    assert_finished(cli("score", case.model, "--device", "mps"), 2, "--device mps", "float64", "--device cpu")


def test_a_device_that_is_not_there_is_a_usage_error(cli, case):
    ran = cli("score", case.model, "--device", "cuda", "-f", "json")
    if torch.cuda.is_available():
        assert ran.code == 0
        assert strict(ran.out)["engine"]["device"] == "cuda"
    else:
        assert_finished(ran, 2, "--device cuda", "cpu")
