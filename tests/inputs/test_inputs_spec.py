import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectral_audit.errors import AuditError, ExitCode, UsageError
from spectral_audit.inputs.spec import find_spec, load_spec
from tests.inputs.messages import said, text

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


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            "data: {path: a}\ninput: {maen: 1}",
            text(
                "DIR/audit.yaml: unknown key `input.maen`",
                "one of: layout, mean, scale, shape, size, std, type",
                "'maen'",
                "remove it or correct it; did you mean 'mean'? known: layout, mean, scale, shape, size, std, type.",
            ),
        ),
        (
            "data: {path: a}\nsampel: {n: 3}",
            text(
                "DIR/audit.yaml: unknown key `sampel`",
                "one of: attribution, data, input, model, sample, task, version",
                "'sampel'",
                "remove it or correct it; did you mean 'sample'? known: attribution, data, input, model, sample, "
                "task, version.",
            ),
        ),
        (
            "data: {path: a}\ninput: {mean: 1, mean: 2}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "the key 'mean' appears twice in \"audit.yaml\", line 2, column 18: input: {mean: 1, mean: 2} ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nmodel: {kwargs: {a: 1, a: 2}}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "the key 'a' appears twice in \"audit.yaml\", line 2, column 24: model: {kwargs: {a: 1, a: 2}} ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nsample: {n: 1}",
            text(
                "DIR/audit.yaml: `sample.n` is not valid",
                "a whole number, at least 2",
                "1 (int)",
                "change `sample.n` in that file.",
            ),
        ),
        (
            "data: {path: a}\nsample: {n: true}",
            text(
                "DIR/audit.yaml: `sample.n` is not valid",
                "a whole number, at least 2",
                "True (bool)",
                "change `sample.n` in that file.",
            ),
        ),
        (
            "data: {path: a}\nsample: {seed: -1}",
            text(
                "DIR/audit.yaml: `sample.seed` is not valid",
                "a whole number, at least 0",
                "-1 (int)",
                "change `sample.seed` in that file.",
            ),
        ),
        (
            "data: {path: a}\nsample: {strategy: stratifed}",
            text(
                "DIR/audit.yaml: `sample.strategy` is not valid",
                "stratified or random or first",
                "'stratifed' (text)",
                "change `sample.strategy` in that file; did you mean 'stratified'? known: first, random, stratified.",
            ),
        ),
        (
            "data: {path: a}\ninput: {std: 0}",
            text(
                "DIR/audit.yaml: `input.std` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "0 (int)",
                "change `input.std` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {std: [1, -2]}",
            text(
                "DIR/audit.yaml: `input.std.1` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "-2 (int)",
                "change `input.std.1` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {mean: []}",
            text(
                "DIR/audit.yaml: `input.mean` is not valid",
                "one number, or a list with one per channel",
                "a list of 0",
                "change `input.mean` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {mean: .nan}",
            text(
                "DIR/audit.yaml: `input.mean` is not valid",
                "a finite number or a fraction such as 8/255",
                "nan (float)",
                "change `input.mean` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {scale: 1/0}",
            text(
                "DIR/audit.yaml: `input.scale` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "'1/0' (text)",
                "change `input.scale` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {scale: 1e999}",
            text(
                "DIR/audit.yaml: `input.scale` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "'1e999' (text)",
                "change `input.scale` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {scale: __import__('os').getpid()}",
            text(
                "DIR/audit.yaml: `input.scale` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "\"__import__('os').getpid()\" (text)",
                "change `input.scale` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {scale: 2**8}",
            text(
                "DIR/audit.yaml: `input.scale` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "'2**8' (text)",
                "change `input.scale` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {layout: NHCW}",
            text(
                "DIR/audit.yaml: `input.layout` is not valid",
                "NHWC or NHW or NCHW or NLC or NCL",
                "'NHCW' (text)",
                "change `input.layout` in that file; did you mean 'NHW'? known: NCHW, NCL, NHW, NHWC, NLC.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {radius: 0}",
            text(
                "DIR/audit.yaml: `attribution.radius` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "0 (int)",
                "change `attribution.radius` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {radius: {norm: l2}}",
            text(
                "DIR/audit.yaml: `attribution.radius.value` is missing",
                "that key, which has no default",
                "keys norm",
                "add `attribution.radius.value` to that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {target: best}",
            text(
                "DIR/audit.yaml: `attribution.target` is not valid",
                "predicted, label, or the number of an output",
                "'best' (text)",
                "change `attribution.target` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {method: smothgrad}",
            text(
                "DIR/audit.yaml: `attribution.method` is not valid",
                "gradient or input_x_gradient or integrated_gradients or smoothgrad or file.py:function",
                "'smothgrad' (text)",
                "change `attribution.method` in that file; did you mean 'smoothgrad'? known: file.py:function, "
                "gradient, input_x_gradient, integrated_gradients, smoothgrad.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {methods: [lime]}",
            text(
                "DIR/audit.yaml: `attribution.methods.0` is not valid",
                "gradient or input_x_gradient or integrated_gradients or smoothgrad or file.py:function",
                "'lime' (text)",
                "change `attribution.methods.0` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {methods: []}",
            text(
                "DIR/audit.yaml: `attribution.methods` is not valid",
                "a list of methods",
                "a list of 0",
                "change `attribution.methods` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {methods: [gradient], method: gradient}",
            text(
                "DIR/audit.yaml: `attribution.method` is not valid",
                "either `method` or `methods`",
                "'gradient' (text)",
                "change `attribution.method` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {draws: 0}",
            text(
                "DIR/audit.yaml: `attribution.draws` is not valid",
                "a whole number, at least 1",
                "0 (int)",
                "change `attribution.draws` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {surrogate: -1}",
            text(
                "DIR/audit.yaml: `attribution.surrogate` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "-1 (int)",
                "change `attribution.surrogate` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {preset: shap}",
            text(
                "DIR/audit.yaml: `attribution.preset` is not valid",
                "captum or quantus",
                "'shap' (text)",
                "change `attribution.preset` in that file.",
            ),
        ),
        (
            "data: {path: a}\ntask: {classes: [1.5]}",
            text(
                "DIR/audit.yaml: `task.classes.0` is not valid",
                "a name (quote it)",
                "1.5 (float)",
                "change `task.classes.0` in that file.",
            ),
        ),
        (
            "data: {path: a}\nmodel: {kwargs: [1]}",
            text(
                "DIR/audit.yaml: `model.kwargs` is not valid",
                "a mapping from argument names to values",
                "a list of 1",
                "change `model.kwargs` in that file.",
            ),
        ),
        (
            "data: {path: a}\nversion: 2",
            text(
                "DIR/audit.yaml: `version` is not valid",
                "1",
                "2 (int)",
                "set `version: 1`, the only one that this release reads.",
            ),
        ),
        (
            "data: {path: a}\nversion: true",
            text(
                "DIR/audit.yaml: `version` is not valid",
                "1",
                "True (bool)",
                "set `version: 1`, the only one that this release reads.",
            ),
        ),
        (
            "data: [a]",
            text(
                "DIR/audit.yaml: `data` is not valid",
                "a mapping with path, x, y, split, labels",
                "a list of 1",
                "change `data` in that file.",
            ),
        ),
        (
            "- 1",
            text(
                "DIR/audit.yaml: the document is not valid",
                "a mapping with version, model, data, input, task, sample, attribution",
                "a list of 1",
                "rewrite that file.",
            ),
        ),
        (
            "",
            text(
                "DIR/audit.yaml: the document is not valid",
                "a mapping with version, model, data, input, task, sample, attribution",
                "nothing (null)",
                "rewrite that file.",
            ),
        ),
        (
            "data: {path: [",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "while parsing a flow node expected the node content, but found '<stream end>' in \"audit.yaml\", "
                "line 1, column 15: data: {path: [ ^",
                "correct that place.",
            ),
        ),
        (
            "data: !!python/object/apply:os.system [touch canary]",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' "
                'in "audit.yaml", line 1, column 7: data: !!python/object/apply:os.system ... ^',
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nmodel: {kwargs: {d: 2020-99-99}}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no date of the calendar in "audit.yaml", line 2, column 21: model: {kwargs: {d: 2020-99-99}} ^',
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nsample: {seed: 0x" + "f" * 5000 + "}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no integer of up to 1024 bits in "audit.yaml", line 2, column 16: sample: {seed: '
                "0xffffffffffffffffffffffffffffff ... ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nsample: {seed: " + "9" * 5000 + "}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no integer of up to 1024 bits in "audit.yaml", line 2, column 16: sample: {seed: '
                "99999999999999999999999999999999 ... ^",
                "correct that place.",
            ),
        ),
        (
            "[" * 3000,
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "lists or mappings nested too deeply",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\ntask: {type: regression, loss: cross_entropy}",
            text(
                "DIR/audit.yaml: `task.loss` is not valid",
                "mse for regression",
                "'cross_entropy' (text)",
                "change `task.loss` in that file.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {radius: {value: 1, norm: l2}, norm: linf}",
            text(
                "DIR/audit.yaml: `attribution.norm` is not valid",
                "the same as `attribution.radius.norm`: l2",
                "'linf' (text)",
                "change `attribution.norm` in that file.",
            ),
        ),
        (
            "data: {x: a}",
            text(
                "DIR/audit.yaml: `data.path` is missing",
                "that key, which has no default",
                "keys x",
                "add `data.path` to that file.",
            ),
        ),
        (
            "version: 1",
            text(
                "DIR/audit.yaml: `data` is missing",
                "that key, which has no default",
                "keys version",
                "add `data` to that file.",
            ),
        ),
        (
            "data: {}",
            text(
                "DIR/audit.yaml: `data.path` is missing",
                "that key, which has no default",
                "keys (none)",
                "add `data.path` to that file.",
            ),
        ),
        (
            "data: {path: a, labels: [cat, cat]}",
            text(
                "DIR/audit.yaml: `data.labels.1` is not valid",
                "a label that the list does not hold yet",
                "'cat' (text)",
                "change `data.labels.1` in that file.",
            ),
        ),
        (
            "data: {path: a, labels: {cat: -1}}",
            text(
                "DIR/audit.yaml: `data.labels.cat` is not valid",
                "a whole number, at least 0",
                "-1 (int)",
                "change `data.labels.cat` in that file.",
            ),
        ),
        (
            "data: {path: a, labels: {}}",
            text(
                "DIR/audit.yaml: `data.labels` is not valid",
                "a mapping from labels to class numbers, or a list of labels",
                "a mapping of 0",
                "change `data.labels` in that file.",
            ),
        ),
        (
            "data: {path: a, labels: cat}",
            text(
                "DIR/audit.yaml: `data.labels` is not valid",
                "a mapping from labels to class numbers, or a list of labels",
                "'cat' (text)",
                "change `data.labels` in that file.",
            ),
        ),
        (
            "data: {path: ''}",
            text(
                "DIR/audit.yaml: `data.path` is not valid",
                "text that is not empty",
                "'' (text)",
                "change `data.path` in that file.",
            ),
        ),
        (
            "data: {path: a, x: []}",
            text(
                "DIR/audit.yaml: `data.x` is not valid",
                "the name of an array or a column, or a list of columns",
                "a list of 0",
                "change `data.x` in that file.",
            ),
        ),
        (
            "data: {path: a}\ntask: {classes: cat}",
            text(
                "DIR/audit.yaml: `task.classes` is not valid",
                "a list of names",
                "'cat' (text)",
                "change `task.classes` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {size: [1, 2, 3]}",
            text(
                "DIR/audit.yaml: `input.size` is not valid",
                "a height and a width, or one number for both",
                "a list of 3",
                "change `input.size` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {shape: []}",
            text(
                "DIR/audit.yaml: `input.shape` is not valid",
                "a whole number, or a list of them",
                "a list of 0",
                "change `input.shape` in that file.",
            ),
        ),
        (
            "data: {path: a}\ninput: {scale: text}",
            text(
                "DIR/audit.yaml: `input.scale` is not valid",
                "a finite number or a fraction such as 8/255, greater than 0",
                "'text' (text)",
                "change `input.scale` in that file.",
            ),
        ),
        (
            "data: {path: a}\n3: 4",
            text(
                "DIR/audit.yaml: unknown key `3`",
                "one of: attribution, data, input, model, sample, task, version",
                "'3'",
                "remove it or correct it; known: attribution, data, input, model, sample, task, version.",
            ),
        ),
    ],
)
def test_a_bad_spec_is_told_what_and_where(tmp_path, document, message):
    assert refused(tmp_path, document).replace(str(tmp_path), "DIR") == message
    assert not Path("canary").exists()


def test_a_huge_value_stays_out_of_the_message(tmp_path):
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
    )
    assert len(refused(tmp_path, f"data: {{path: a}}\n{bomb}")) < 1000


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path):
    assert said(tmp_path, lambda folder: load_spec(folder / "none.yaml"), UsageError) == text(
        "DIR/none.yaml: no such spec file",
        "a YAML file",
        "nothing of that name",
        "check the path given to --spec.",
    )
    assert said(tmp_path, load_spec, UsageError) == text(
        "DIR: cannot be read", "a YAML file", "Is a directory", "give a readable file with --spec."
    )
    (tmp_path / "latin.yaml").write_bytes(b"data: {path: caf\xe9}")
    assert said(tmp_path, lambda folder: load_spec(folder / "latin.yaml"), UsageError) == text(
        "DIR/latin.yaml: not readable as YAML",
        "one YAML document in UTF-8, every key once",
        "'utf-8' codec can't decode byte 0xe9 in position 16: invalid continuation byte",
        "correct that place.",
    )


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
