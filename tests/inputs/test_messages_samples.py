"""The whole text about samples: no numbers, labels that do not fit the task, another layout or normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.inputs.kinds import probe_of
from tests.inputs.messages import Table, check

WRONG = Table()
REGRESSION = "task: {type: regression}"


@pytest.mark.parametrize("name", WRONG)
def test_the_whole_text(name: str, tmp_path: Path) -> None:
    check(WRONG[name], tmp_path)


def samples(folder: Path, x: object, y: object = None, spec: str = "") -> None:
    """The probe of these inputs and labels."""
    np.savez(folder / "probe.npz", x=x, y=np.zeros(len(x), int) if y is None else y)
    probe_of(folder, "data: {path: probe.npz}\n" + spec)


# --- inputs --------------------------------------------------------------------------------------------------------


@WRONG.refused(
    "DIR/probe.npz: array `x` cannot be used",
    "finite numbers",
    "2 NaN or infinite of 12, the first at index (2, 1)",
    "remove or repair those samples.",
)
def inputs_that_are_not_finite(folder):
    x = np.zeros((4, 3))
    x[2, 1], x[3, 0] = np.nan, np.inf
    samples(folder, x)


@WRONG.refused(
    "DIR/probe.npz: array `x` cannot be used",
    "at least one sample of at least one number",
    "shape (0, 3)",
    "save a data set with samples in it.",
)
def no_samples(folder):
    samples(folder, np.zeros((0, 3)))


@WRONG.refused(
    "DIR/probe.npz: array `x` cannot be used",
    "samples along the first axis, inputs along the others",
    "shape (4,)",
    "reshape it: the first axis counts the samples.",
)
def one_number_for_each_sample(folder):
    samples(folder, np.zeros(4))


@WRONG.refused("DIR/probe.npz: array `x` cannot be used", "numbers", "dtype <U1", "save it as integers or floats.")
def inputs_that_are_text(folder):
    samples(folder, np.array([["a"], ["b"]]))


@WRONG.refused(
    "DIR/probe.npz: the inputs do not fit float32 after normalisation",
    "numbers up to 3.4e38",
    "inputs up to 1e+300, scale 1",
    "correct `input.scale`, `input.mean` and `input.std`.",
)
def inputs_that_do_not_fit_float32(folder):
    samples(folder, np.full((4, 2), 1e300))


@WRONG.refused(
    "DIR/probe.npz: the inputs do not have the layout of the spec",
    "`input.layout: NHWC`, 4 axes",
    "shape (4, 3, 3), 3 axes",
    "correct `input.layout`, or leave it out to take the inputs as stored.",
)
def another_layout_than_the_specs(folder):
    samples(folder, np.zeros((4, 3, 3)), spec="input: {layout: NHWC}")


@WRONG.misused(
    "DIR/audit.yaml: `input.mean` does not fit the inputs",
    "one number, or one for each of 2 channels",
    "3 numbers, for inputs of shape (2,) (channels first)",
    "correct `input.mean` or `input.layout`.",
)
def a_mean_for_more_channels(folder):
    samples(folder, np.zeros((4, 2)), spec="input: {mean: [1, 2, 3]}")


@WRONG.misused(
    "DIR/audit.yaml: `input.std` does not fit the inputs",
    "one number, or one for each of 2 channels",
    "3 numbers, for inputs of shape (2,) (channels first)",
    "correct `input.std` or `input.layout`.",
)
def a_deviation_for_more_channels(folder):
    samples(folder, np.zeros((4, 2)), spec="input: {std: [1, 2, 3]}")


# --- labels --------------------------------------------------------------------------------------------------------


def labels(folder: Path, y: object, spec: str = "") -> None:
    samples(folder, np.zeros((3, 2)), y, spec)


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "one label for each sample",
    "3 inputs, labels of shape (2,)",
    "save inputs and labels of the same samples.",
)
def a_label_too_few(folder):
    labels(folder, [0, 1])


@WRONG.refused("DIR/probe.npz: array `y` cannot be used", "numbers", "dtype <U1", "save the values as numbers.")
def text_for_values(folder):
    labels(folder, ["a", "b", "c"], REGRESSION)


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used", "numbers", "dtype complex128", "save labels as class numbers, 0 to C-1."
)
def complex_numbers_for_classes(folder):
    labels(folder, [0j, 1j, 0j])


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "finite numbers",
    "2 NaN or infinite of 3, the first at index (1,)",
    "remove or repair those samples.",
)
def values_that_are_not_finite(folder):
    labels(folder, [0, np.nan, np.inf], REGRESSION)


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "numbers up to 3.4e38",
    "values up to 1e+300",
    "save the values in a larger unit.",
)
def values_that_do_not_fit_float32(folder):
    labels(folder, [0, 1e300, 0], REGRESSION)


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "values of shape (n,) or (n, C)",
    "shape (3, 2, 2)",
    "flatten the outputs.",
)
def values_of_many_axes(folder):
    labels(folder, np.zeros((3, 2, 2)), REGRESSION)


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "class numbers of shape (n,)",
    "shape (3, 3)",
    "save class numbers (from one-hot rows: y.argmax(1)), or set `task.type: regression`.",
)
def classes_one_hot(folder):
    labels(folder, np.eye(3))


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "whole class numbers",
    "0.5 at index 1",
    "save class numbers, or set `task.type: regression`.",
)
def classes_between_whole_numbers(folder):
    labels(folder, [0, 0.5, 1])


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "class numbers from 0 up",
    "1 of 3 outside, the first -1 at index 2",
    "renumber the classes, or drop those samples.",
)
def a_class_below_zero(folder):
    labels(folder, [0, 1, -1])


@WRONG.refused(
    "DIR/probe.npz: array `y` cannot be used",
    "labels 0 and 1, for the loss bce",
    "1 of 3 outside, the first 2 at index 2",
    "renumber the classes, or drop those samples.",
)
def a_third_class_for_a_binary_loss(folder):
    labels(folder, [0, 1, 2], "task: {loss: bce}")


@WRONG.refused(
    "DIR/probe.npz: array `y` holds labels without a class number (dtype <U3)",
    "numbers, or names whose order is known",
    "cat, dog",
    "list them in `task.classes` or `data.labels`, in the order of the model's outputs.",
)
def names_without_numbers(folder):
    labels(folder, ["dog", "cat", "dog"])


@WRONG.refused(
    "DIR/probe.npz: array `y` holds labels without a class number (dtype <U3)",
    "one of: cat, dogs",
    "dog",
    "correct `data.labels` or `task.classes`; did you mean 'dogs'? known: cat, dogs.",
)
def a_name_that_is_not_listed(folder):
    labels(folder, ["dog", "cat", "dog"], "task: {classes: [cat, dogs]}")


@WRONG.refused(
    "DIR/probe.npz: array `y` holds labels without a class number (dtype <U2)",
    "one of: cat",
    "c0, c1, c2, c3, c4, c5, c6, c7 and 2 more",
    "correct `data.labels` or `task.classes`; known: cat.",
)
def many_names_that_are_not_listed(folder):
    samples(folder, np.zeros((10, 2)), [f"c{k}" for k in range(10)], "task: {classes: [cat]}")
