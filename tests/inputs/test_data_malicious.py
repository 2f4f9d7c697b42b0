"""Data that means harm, or is garbage: one message, and nothing in it runs."""

import json
import os
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from spectral_audit.errors import AuditError, RefusedError
from tests.inputs.kinds import probe_of, write_all


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    write_all(folder)
    return folder


@pytest.fixture
def own(written, tmp_path):
    """A copy to spoil."""
    shutil.copytree(written, tmp_path / "own")
    return tmp_path / "own"


class Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


def refusal(folder, text):
    with pytest.raises(RefusedError) as caught:
        probe_of(folder, text)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_object_arrays_are_never_unpickled(tmp_path):
    canary = tmp_path / "canary"
    objects = np.array([[Evil(canary)], [Evil(canary)]], dtype=object)
    np.save(tmp_path / "x.npy", objects)
    np.save(tmp_path / "good.npy", np.zeros((2, 1)))
    np.savez(tmp_path / "x.npz", x=objects, y=[0, 1])
    said = (
        " holds Python objects, which only unpickling could read\n"
        "  expected  numbers\n"
        "  found     dtype object\n"
        "  remedy    save it as one rectangular array of numbers."
    )
    assert refusal(tmp_path, "data: {path: x.npz}") == f"{tmp_path / 'x.npz'}: array `x`{said}"
    assert refusal(tmp_path, "data: {x: x.npy, y: null}") == f"{tmp_path / 'x.npy'}: the array{said}"
    assert refusal(tmp_path, "data: {x: good.npy, y: x.npy}") == f"{tmp_path / 'x.npy'}: the array{said}"
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Evil(canary)))
    assert "not a data file" in refusal(tmp_path, "data: {x: bare.npy, y: null}")
    assert not canary.exists()


def test_a_dataset_may_not_name_files_outside_its_folder(own):
    state = own / "saved" / "test" / "state.json"
    held = json.loads(state.read_text())
    for name in ("../../probe.parquet", "/etc/passwd", "a\0b", None, "..", ""):
        held["_data_files"] = [{"filename": name}]
        state.write_text(json.dumps(held))
        assert refusal(own, "data: {path: saved, split: test, x: image, y: label}") == (
            f"{state.parent}: the dataset names a file outside its folder\n"
            "  expected  file names without a folder\n"
            f"  found     {name!r}\n"
            "  remedy    treat it with suspicion; if it is yours, save it again with save_to_disk."
        )
    held["_data_files"] = [{"filename": "gone.arrow"}]
    state.write_text(json.dumps(held))
    assert "cut short or damaged" in refusal(own, "data: {path: saved, split: test, x: image, y: label}")
    (own / "saved" / "dataset_dict.json").write_text('{"splits": ["../.."]}')
    assert "outside its folder" in refusal(own, 'data: {path: saved, split: "../.."}')


def test_an_extension_type_of_a_stream_is_not_unpickled(own):
    canary = own / "canary"
    field = pa.field(
        "x",
        pa.float64(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Evil(canary), 0),
        },
    )
    schema = pa.schema([field, pa.field("y", pa.int64())])
    batch = pa.record_batch([pa.array([1.0, 2.0]), pa.array([0, 1])], schema=schema)
    folder = own / "saved" / "test"
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", schema) as stream:
        stream.write_batch(batch)
    pq.write_table(pa.Table.from_batches([batch]), own / "probe.parquet")
    for text in ("data: {path: saved, split: test}", "data: {path: probe.parquet}"):
        assert probe_of(own, text).x.tolist() == [[1], [2]]
    assert not canary.exists()


def test_a_program_hidden_behind_an_image_name_does_not_run(tmp_path):
    canary = tmp_path / "canary"
    home = tmp_path / "d" / "a"
    home.mkdir(parents=True)
    (home / "1.png").write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (w) file\n", "utf-8")
    assert refusal(tmp_path, "data: {path: d}") == (
        f"{tmp_path / 'd'}: image a/1.png cannot be decoded\n"
        "  expected  one of: PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM\n"
        f"  found     UnidentifiedImageError: cannot identify image file {str(home / '1.png')!r}\n"
        "  remedy    repair or remove that image."
    )
    assert not canary.exists()


def test_an_image_that_claims_too_many_pixels_is_refused(tmp_path, monkeypatch):
    home = tmp_path / "d" / "a"
    home.mkdir(parents=True)
    Image.new("L", (40, 40)).save(home / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "DecompressionBombWarning" in refusal(tmp_path, "data: {path: d}")
    monkeypatch.undo()
    text = PngImagePlugin.PngInfo()
    text.add_text("big", "a" * (2 << 20), zip=True)
    Image.new("L", (4, 4)).save(home / "1.png", pnginfo=text)
    assert "cannot be decoded" in refusal(tmp_path, "data: {path: d}")


@pytest.mark.parametrize("name", ["probe.parquet", "probe.safetensors", "x.npy", "probe.npz", "saved", "images"])
def test_damaged_bytes_are_read_or_refused(own, name):
    path = {"saved": "saved/test/data-00000-of-00001.arrow", "images": "images/bird/00.png"}.get(name, name)
    blob = (own / path).read_bytes()
    y = {"x.npy": "null", "probe.npz": "y", "probe.safetensors": "y"}.get(name, "label")
    text = f"data: {{path: {name}, y: {y}{', split: test, x: image' if name == 'saved' else ''}}}"
    generator = np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        spoiled = bytearray(blob)
        for at in generator.integers(8, len(blob), 3):
            spoiled[at] = generator.integers(256)
        (own / path).write_bytes(spoiled[: len(blob) - int(generator.integers(0, 2)) * len(blob) // 3])
        try:
            assert np.isfinite(probe_of(own, text).x.numpy()).all()
        except AuditError as error:
            refusals += 1
            assert error.exit_code == 3 and str(own) in error.message and error.remedy
    assert refusals > 20


@pytest.mark.parametrize("path", ["../../../../../../etc/passwd", "/dev/null", "/proc/self/mem", "nowhere/x.npz", "."])
def test_any_path_ends_in_a_message(tmp_path, path):
    message = refusal(tmp_path, f"data: {{path: {path}}}")
    assert "remedy" in message and len(message) < 600


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert refusal(tmp_path, "data: {path: pipe.npz}") == (
        f"{tmp_path / 'pipe.npz'}: no regular file\n"
        "  expected  a file or a folder\n"
        "  found     a pipe or a device\n"
        "  remedy    name the data itself in `data.path`."
    )
