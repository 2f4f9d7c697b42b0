import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectral_audit.errors import AuditError, ExitCode, UsageError
from spectral_audit.inputs.spec import find_spec, load_spec

FULL = """\
version: 1
model: {builder: "net.py:build", kwargs: {width: 64, act: relu}, weights: ema}
data: {path: probe.npz, x: images, y: labels}
input: {layout: NHWC, scale: 1/255, mean: [0.5, 1/2, 5e-1], std: 0.25}
task: {type: classification, loss: bce, classes: [zero, 1]}
sample: {n: 32, seed: 7, strategy: random}
attribution: {method: gradient, target: label, radius: {value: 8/255, norm: linf, space: pixel}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_spec(write(folder, text))
    assert caught.value.exit_code == ExitCode.USAGE
    assert str(folder / "audit.yaml") in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_every_key_is_read(tmp_path):
    spec = load_spec(write(tmp_path, FULL))
    assert spec.source == tmp_path / "audit.yaml"
    assert (spec.model.builder, spec.model.weights) == ("net.py:build", "ema")
    assert spec.model.kwargs == {"width": 64, "act": "relu"}
    assert spec.data.path == tmp_path / "probe.npz"
    assert (spec.data.x, spec.data.y) == ("images", "labels")
    assert spec.input.layout == "NHWC"
    assert spec.input.scale == 1 / 255
    assert spec.input.mean == (0.5, 0.5, 0.5)
    assert spec.input.std == (0.25,)
    assert (spec.task.type, spec.task.loss, spec.task.classes) == ("classification", "bce", ("zero", "1"))
    assert (spec.sample.n, spec.sample.seed, spec.sample.strategy) == (32, 7, "random")
    radius = spec.attribution.radius
    assert spec.attribution.target == "label"
    assert (radius.value, radius.relative, radius.norm, radius.space) == (8 / 255, False, "linf", "pixel")


def test_only_the_data_path_has_no_default(tmp_path):
    spec = load_spec(write(tmp_path, "data: {path: /far/away.npz}\nmodel:\n"))
    assert spec.data.path == Path("/far/away.npz")
    assert (spec.data.x, spec.data.y) == ("x", "y")
    assert spec.model.builder is None
    assert (spec.sample.n, spec.sample.seed, spec.sample.strategy) == (256, 0, "stratified")
    assert (spec.task.type, spec.task.loss) == ("classification", "cross_entropy")
    assert spec.attribution.radius.relative
    assert spec.attribution.radius.value == 0.1


def test_the_loss_follows_the_task(tmp_path):
    assert load_spec(write(tmp_path, "data: {path: a}\ntask: {type: regression}")).task.loss == "mse"


def test_norm_and_space_stand_beside_a_relative_radius(tmp_path):
    spec = load_spec(
        write(tmp_path, "data: {path: a}\nattribution: {radius: 0.2, norm: linf, space: pixel, target: 3}")
    )
    radius = spec.attribution.radius
    assert (radius.value, radius.relative, radius.norm, radius.space) == (0.2, True, "linf", "pixel")
    assert spec.attribution.target == 3


def test_attribution_methods_are_a_list_or_one_name(tmp_path):
    several = "{methods: [smoothgrad, explain.py:mine], sign: absolute, channels: pooled, draws: 3, surrogate: 10}"
    found = load_spec(write(tmp_path, f"data: {{path: a}}\nattribution: {several}")).attribution
    assert found.methods == ("smoothgrad", "explain.py:mine")
    assert (found.sign, found.channels, found.draws, found.surrogate) == ("absolute", "pooled", 3, 10.0)
    found = load_spec(write(tmp_path, "data: {path: a}\nattribution: {method: input_x_gradient}")).attribution
    assert found.methods == ("input_x_gradient",)
    assert load_spec(write(tmp_path, "data: {path: a}")).attribution.methods == ("gradient",)


def test_a_huge_value_stays_out_of_the_message(tmp_path):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
    )
    assert len(refused(tmp_path, f"data: {{path: a}}\n{bomb}")) < 1000


def test_the_spec_beside_a_checkpoint_is_found(tmp_path):
    checkpoint = tmp_path / "net.v2.pt"
    assert find_spec(checkpoint) is None
    (tmp_path / "audit.yaml").touch()
    assert find_spec(checkpoint) == tmp_path / "audit.yaml"
    (tmp_path / "net.v2.audit.yaml").touch()
    assert find_spec(checkpoint) == tmp_path / "net.v2.audit.yaml"


def test_reading_a_spec_needs_neither_torch_nor_numpy():
    code = "import sys, spectral_audit.inputs.spec; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, len(FULL)),
    cut=st.integers(0, 6),
    text=st.text(st.sampled_from("{}[]:,-&*!<'\"\n\t #|>%@0129e.xNa/\x00é"), max_size=5),
)
def test_a_mutated_spec_is_read_or_refused(tmp_path, place, cut, text):
    path = write(tmp_path, FULL[:place] + text + FULL[place + cut :])
    try:
        spec = load_spec(path)
    except AuditError as error:
        assert error.exit_code == ExitCode.USAGE
    else:
        assert all(math.isfinite(value) and value > 0 for value in spec.input.std)
