"""Every kind of data, on files written by the libraries people use."""

import json
import re
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.data import DATASETS
from tests.inputs.kinds import CLASSES, probe_of, samples, write_all

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
EXAMPLES = dict(
    re.findall(r"^\| ([\w ]+?)(?: \(extra `\w+`\))? \| .* \| `(\{.*\})` \|$", PAGE.read_text("utf-8"), re.M)
)
PIXELS = "input: {scale: 1/255}\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    write_all(folder)
    return folder


def refusal(folder: Path, text: str, kind: type[Exception] = RefusedError, **options: bool) -> str:
    with pytest.raises(kind) as caught:
        probe_of(folder, text, **options)
    return str(caught.value)


def test_the_page_has_an_example_of_every_kind():
    assert len(EXAMPLES) == len(DATASETS)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "synthetic"])
def test_the_same_samples_give_the_same_probe_in_every_kind(written, name):
    layout = "" if name == "table" else ", layout: NHW"
    x, y = samples()
    found = probe_of(written, f"data: {EXAMPLES[name]}\ninput: {{scale: 1/255{layout}}}", consent=True)
    if name == "table":  # flat, as a table is
        assert found.x.reshape(12, 1, 4, 4).equal(probe_of(written, "data: {path: probe.npz}\n" + PIXELS).x[:, None])
    else:
        other = probe_of(written, "data: {path: probe.npz}\ninput: {scale: 1/255, layout: NHW}")
        assert found.probe_sha256 == other.probe_sha256
    assert found.x.flatten().tolist() == (x / 255).astype(np.float32).ravel().tolist()
    assert found.y.tolist() == y.tolist()
    assert found.available == 12


def test_images_know_their_layout_and_their_classes(written):
    for name in ("image folder", "Hugging Face dataset"):
        found = probe_of(written, f"data: {EXAMPLES[name]}")
        assert (tuple(found.x.shape), found.classes) == ((12, 1, 4, 4), CLASSES)
        colour = probe_of(written, f"data: {EXAMPLES[name]}\ninput: {{layout: NHWC, size: [6, 5]}}")
        assert tuple(colour.x.shape) == (12, 3, 6, 5)
        assert colour.x[:, 0].equal(colour.x[:, 2])


def test_only_drawn_images_are_decoded(written, tmp_path):
    (tmp_path / "images").symlink_to(written / "images")
    assert len(probe_of(tmp_path, "data: {path: images}\nsample: {n: 2, strategy: first}").x) == 2
    for home in ("a", "b"):
        (tmp_path / "broken" / home).mkdir(parents=True)
        Image.new("L", (3, 3)).save(tmp_path / "broken" / home / "1.png")
    (tmp_path / "broken" / "b" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert len(probe_of(tmp_path, "data: {path: broken}\nsample: {n: 2, strategy: first}").x) == 2
    assert "image b/2.png cannot be decoded" in refusal(tmp_path, "data: {path: broken}")


def test_colours_and_sizes(tmp_path):
    (tmp_path / "d" / "a").mkdir(parents=True)
    Image.new("RGB", (5, 4), (255, 0, 9)).save(tmp_path / "d" / "a" / "1.png")
    Image.new("P", (5, 4)).save(tmp_path / "d" / "a" / "2.gif")
    found = probe_of(tmp_path, "data: {path: d}")
    assert tuple(found.x.shape) == (2, 3, 4, 5)
    assert found.x[0, :, 0, 0].tolist() == [255, 0, 9]
    Image.new("RGB", (6, 4)).save(tmp_path / "d" / "a" / "3.png")
    assert refusal(tmp_path, "data: {path: d}") == (
        f"{tmp_path / 'd'}: the images cannot be used\n"
        "  expected  images of the same size\n"
        "  found     4×5 for a/1.png, 4×6 for a/3.png\n"
        "  remedy    resize them all with `input.size: [height, width]`."
    )
    assert tuple(probe_of(tmp_path, "data: {path: d}\ninput: {size: 8}").x.shape) == (3, 3, 8, 8)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "d" / "empty").mkdir(parents=True)
    Image.new("L", (2, 2)).save(tmp_path / "d" / "loose.png")
    assert refusal(tmp_path, "data: {path: d}") == (
        f"{tmp_path / 'd'}: not a data folder that is known here\n"
        "  expected  one subfolder of images for each class, or a dataset written by save_to_disk\n"
        "  found     a directory with 1 subfolders and 1 images outside them\n"
        "  remedy    move the images into one subfolder for each class, or name a data file in `data.path`."
    )


# --- tables --------------------------------------------------------------------------------------------------------


def table(folder: Path, *lines: str, name: str = "t.csv") -> None:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_table_chooses_its_columns(tmp_path):
    table(tmp_path, "a\tb\ty", "1\t2\t0", '3\t"4"\t1', name="t.tsv")
    assert probe_of(tmp_path, "data: {path: t.tsv}").x.tolist() == [[1, 2], [3, 4]]
    assert probe_of(tmp_path, "data: {path: t.tsv, x: [b, a]}").x.tolist() == [[2, 1], [4, 3]]
    unlabelled = probe_of(tmp_path, "data: {path: t.tsv, x: b, y: null}")
    assert (unlabelled.x.tolist(), unlabelled.y) == ([[2], [4]], None)


@pytest.mark.parametrize("field", ["1e400", "NaN", "-inf", "1_0", "", "cat"])
def test_what_is_no_number_is_told_with_its_line_and_column(tmp_path, field):
    table(tmp_path, "a,b,y", "1,2,0", f"1,{field},1")
    assert refusal(tmp_path, "data: {path: t.csv}") == (
        f"{tmp_path / 't.csv'}: line 3, column `b` holds no number\n"
        "  expected  a finite number\n"
        f"  found     {field!r}\n"
        "  remedy    repair that line, or list the columns of numbers in `data.x`."
    )


# --- labels --------------------------------------------------------------------------------------------------------


def test_names_become_class_numbers(tmp_path):
    table(tmp_path, "a,y", "1,dog", "2,cat", "3,dog")
    spec = "data: {path: t.csv}\n"
    assert probe_of(tmp_path, spec + "task: {classes: [cat, dog]}").y.tolist() == [1, 0, 1]
    assert probe_of(tmp_path, "data: {path: t.csv, labels: {cat: 3, dog: 5}}").y.tolist() == [5, 3, 5]
    assert probe_of(tmp_path, "data: {path: t.csv, labels: [dog, cat]}").y.tolist() == [0, 1, 0]


def test_labels_renumber_classes(written):
    spec = "data: {path: probe.csv, y: label, labels: {0: 2, 1: 0, 2: 1}}"
    assert probe_of(written, spec).y.tolist() == [2] * 4 + [0] * 4 + [1] * 4
    folders = probe_of(written, "data: {path: images}\ntask: {classes: [dog, cat, bird]}")
    assert folders.y.tolist() == [2] * 4 + [1] * 4 + [0] * 4


# --- columns -------------------------------------------------------------------------------------------------------


def test_parquet_columns_side_by_side_and_arrays(tmp_path):
    nested = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12.0)), 4)
    pq.write_table(
        pa.table({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "y": ["u", "v", "u"], "v": nested}),
        tmp_path / "t.parquet",
    )
    spec = "data: {{path: t.parquet, labels: [u, v], x: {}}}"
    assert probe_of(tmp_path, spec.format("[a, b]")).x.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert probe_of(tmp_path, spec.format("v")).x.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert probe_of(tmp_path, spec.format("a")).y.tolist() == [0, 1, 0]


def test_splits_are_chosen_by_name(written):
    assert probe_of(written, "data: {path: saved, split: train, x: image, y: label}").available == 2


def test_arrays_in_a_saved_dataset(tmp_path):
    x = np.arange(24.0, dtype=np.float32).reshape(3, 2, 4)
    features = datasets.Features({"x": datasets.Array2D((2, 4), "float32"), "y": datasets.Value("int64")})
    datasets.Dataset.from_dict({"x": x, "y": [0, 1, 0]}, features=features).save_to_disk(tmp_path / "saved")
    assert probe_of(tmp_path, "data: {path: saved}").x.tolist() == x.tolist()


# --- arrays and functions ------------------------------------------------------------------------------------------


def test_bfloat16_is_read_exactly(tmp_path):
    x = torch.randn(4, 3).bfloat16()
    save_file({"x": x, "y": torch.arange(4)}, tmp_path / "p.safetensors")
    assert probe_of(tmp_path, "data: {path: p.safetensors}").x.equal(x.float())


def test_the_labels_of_a_npy_file_are_named(written):
    assert refusal(written, "data: {path: x.npy}") == (
        f"{written / 'x.npy'}: the labels of a .npy file are in another one, and `data.y` names none\n"
        "  expected  `data.y: FILE.npy`, relative to the spec\n"
        "  found     `data.y: y`\n"
        "  remedy    name that file in `data.y`. With no labels, set `data.y: null`."
    )
    assert probe_of(written, "data: {path: x.npy, y: null}").y is None


def test_a_function_needs_consent(written):
    assert refusal(written, 'data: {path: "python:loader.py:load"}') == (
        f"{written / 'audit.yaml'}: its data comes from a function, which runs Python code\n"
        "  expected  your consent: the spec may have come with the checkpoint\n"
        "  found     `data.path: python:loader.py:load` and --trust none\n"
        "  remedy    read that code, then add --trust code, or name it yourself: --data python:loader.py:load."
    )


def test_a_function_that_fails_is_quoted(tmp_path):
    (tmp_path / "loader.py").write_text("def load():\n    raise SystemExit('no')\n", encoding="utf-8")
    assert refusal(tmp_path, 'data: {path: "python:loader.py:load"}', consent=True) == (
        "python:loader.py:load: the function failed\n"
        "  expected  (x, y): inputs and labels as arrays or tensors; y may be None\n"
        "  found     SystemExit: no\n"
        "  remedy    call it in Python without arguments, and correct it."
    )


def test_a_function_has_a_name(written):
    assert refusal(written, 'data: {path: "python:loader.py"}', consent=True) == (
        "python:loader.py: names no function\n"
        "  expected  python:file.py:function or python:package.module:function\n"
        "  found     python:loader.py\n"
        "  remedy    add the function: python:loader.py:load."
    )


def test_every_example_of_the_page_is_yaml():
    assert all(isinstance(yaml.safe_load(text), dict) for text in EXAMPLES.values())


def test_the_same_samples_give_the_same_report_in_every_kind(cli, written, tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    torch.save({"head.weight": model[1].weight.detach(), "head.bias": model[1].bias.detach()}, tmp_path / "model.pt")
    reports = []
    for name in (name for name in EXAMPLES if name not in ("synthetic", "table")):
        spec = written / "report.yaml"
        spec.write_text(
            f"model: {{builder: mlp, kwargs: {{inputs: 16, outputs: 3}}}}\ndata: {EXAMPLES[name]}\n"
            f"input: {{scale: 1/255, layout: NHW}}\ntask: {{classes: {list(CLASSES)}}}\nsample: {{n: 9}}",
            encoding="utf-8",
        )
        ran = cli("score", tmp_path / "model.pt", "--spec", spec, "-f", "json", "--trust", "code")
        assert ran.code == 0, ran.err
        report = json.loads(ran.out)
        for key in ("path", "sha256", "kind"):
            del report["data"][key]
        del report["cost"]
        reports.append(report)
    assert len(reports) == 7
    assert all(report == reports[0] for report in reports)
