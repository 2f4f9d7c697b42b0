"""The whole text about values that a key of the spec does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectral_audit.errors import UsageError
from spectral_audit.inputs.spec import load_spec
from tests.inputs.messages import said, text


@pytest.mark.parametrize(
    ("document", "message"),
    [
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
    ],
)
def test_the_whole_text(tmp_path: Path, document: str, message: str) -> None:
    (tmp_path / "audit.yaml").write_text(document, encoding="utf-8")
    assert said(tmp_path, lambda folder: load_spec(folder / "audit.yaml"), UsageError) == message
    assert not Path("canary").exists()
