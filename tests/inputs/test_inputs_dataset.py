from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.data.dataset import Probe, load_probe
from spectral_audit.inputs.spec import AuditSpec, DataSpec, InputSpec, SampleSpec, TaskSpec

REGRESSION = TaskSpec("regression", "mse")
BINARY = TaskSpec("classification", "bce")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "probe.npz"


def probe(path: Path, *, layout=None, scale=1.0, mean=(0.0,), std=(1.0,), data=None, task=None, **sample) -> Probe:
    return load_probe(
        AuditSpec(
            data=DataSpec(path, **(data or {})),
            input=InputSpec(layout, scale, mean, std),
            task=task or TaskSpec(),
            sample=SampleSpec(**sample),
        )
    )


def refused(path: Path, *parts: str, **options) -> None:
    with pytest.raises(RefusedError) as caught:
        probe(path, **options)
    assert str(path) in caught.value.message
    assert caught.value.remedy
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "stored", "seen"),
    [
        ("NHWC", (4, 5, 6, 3), (4, 3, 5, 6)),
        ("NCHW", (4, 3, 5, 6), (4, 3, 5, 6)),
        ("NHW", (4, 5, 6), (4, 1, 5, 6)),
        ("NLC", (4, 7, 2), (4, 2, 7)),
        ("NCL", (4, 2, 7), (4, 2, 7)),
        (None, (4, 9), (4, 9)),
    ],
)
def test_the_model_sees_channels_first(path, layout, stored, seen):
    x = np.arange(np.prod(stored), dtype=np.float32).reshape(stored)
    np.savez(path, x=x, y=np.arange(4))
    found = probe(path, layout=layout)
    assert tuple(found.x.shape) == seen
    assert found.x.dtype == torch.float32
    assert found.x.is_contiguous()
    letters = (layout or "NC").replace("N", "n")
    order = ["n", "C", *[letter for letter in letters if letter in "HWL"]]
    expected = x[:, None] if layout == "NHW" else np.einsum(f"{letters}->{''.join(order)}", x)
    np.testing.assert_array_equal(found.x.numpy(), expected)


def test_scale_comes_before_mean_and_std(path):
    x = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)
    np.savez(path, x=x, y=np.zeros(6, dtype=np.uint8))
    found = probe(path, layout="NHWC", scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (x / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(found.x.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-6, atol=1e-7)
    assert found.y.dtype == torch.int64


def test_columns_are_the_channels_of_a_table(path):
    np.savez(path, x=np.array([[1.0, 10.0], [3.0, 30.0]]), y=[0, 1])
    found = probe(path, mean=(1.0, 10.0), std=(2.0, 20.0))
    assert found.x.tolist() == [[0, 0], [1, 1]]


def test_the_probe_knows_its_file_and_itself(path):
    np.savez(path, x=np.arange(20.0).reshape(10, 2), y=np.arange(10) % 2)
    first, again, other = probe(path, n=4), probe(path, n=4), probe(path, n=4, seed=1)
    assert (first.sha256, first.available, first.path) == (sha256_of(path), 10, str(path))
    assert first.probe_sha256 == again.probe_sha256 != other.probe_sha256
    np.savez(path, x=np.arange(20.0).reshape(10, 2), y=1 - np.arange(10) % 2)
    assert probe(path, n=10, data={"y": None}).probe_sha256 != probe(path, n=10).probe_sha256
    np.savez(path, x=np.arange(20.0).reshape(10, 2, 1), y=np.arange(10) % 2)
    assert probe(path, n=4).probe_sha256 != first.probe_sha256


# --- drawing -------------------------------------------------------------------------------------------------------


def indices(found: Probe) -> list[int]:
    return found.x[:, 0].int().tolist()


def numbered(path: Path, labels: list[int]) -> None:
    np.savez(path, x=np.arange(len(labels), dtype=np.float32)[:, None], y=labels)


def test_more_samples_than_there_are_means_all_in_file_order(path):
    numbered(path, [2, 1, 0, 2, 1])
    for n in (5, 6, 1000):
        found = probe(path, n=n)
        assert indices(found) == [0, 1, 2, 3, 4]
        assert found.y.tolist() == [2, 1, 0, 2, 1]


@pytest.mark.parametrize("strategy", ["stratified", "random", "first"])
def test_draws_repeat_and_keep_the_files_order(path, strategy):
    numbered(path, [i % 4 for i in range(60)])
    found = probe(path, n=20, seed=3, strategy=strategy)
    assert indices(found) == sorted(set(indices(found)))
    assert len(indices(found)) == 20
    assert indices(found) == indices(probe(path, n=20, seed=3, strategy=strategy))
    assert found.y.tolist() == [i % 4 for i in indices(found)]
    if strategy == "first":
        assert indices(found) == list(range(20))
    else:
        assert indices(found) != indices(probe(path, n=20, seed=4, strategy=strategy))


def test_classes_get_equal_shares_as_nearly_as_possible(path):
    numbered(path, [0] * 50 + [1] * 40 + [2] * 2 + [7] * 30)
    for n, shares in {
        20: [6, 6, 2, 6],
        21: [7, 6, 2, 6],
        4: [1, 1, 1, 1],
        2: [1, 1, 0, 0],
        120: [48, 40, 2, 30],
    }.items():
        labels = probe(path, n=n).y.numpy()
        assert [int((labels == label).sum()) for label in (0, 1, 2, 7)] == shares


def test_without_classes_stratified_is_random(path):
    np.savez(path, x=np.arange(30.0)[:, None], y=np.arange(30.0))
    stratified = probe(path, n=10, task=REGRESSION)
    assert indices(stratified) == indices(probe(path, n=10, task=REGRESSION, strategy="random"))
    assert indices(stratified) == indices(probe(path, n=10, data={"y": None}))


# --- labels --------------------------------------------------------------------------------------------------------


def test_labels_come_as_the_losses_take_them(path):
    x = np.zeros((3, 2))
    for y in (
        np.array([0, 1, 1], np.uint8),
        np.array([[0], [1], [1]]),
        np.array([0.0, 1.0, 1.0]),
        np.array([0, 1, 1]) > 0,
    ):
        np.savez(path, x=x, y=y)
        for task in (TaskSpec(), BINARY):
            found = probe(path, task=task).y
            assert (found.dtype, found.tolist()) == (torch.int64, [0, 1, 1])
    np.savez(path, x=x, y=[1, 2, 3])
    found = probe(path, task=REGRESSION).y
    assert (found.dtype, found.tolist()) == (torch.float32, [[1], [2], [3]])
    np.savez(path, x=x, y=np.ones((3, 4)))
    assert tuple(probe(path, task=REGRESSION).y.shape) == (3, 4)
    assert probe(path, data={"y": None}).y is None


# --- refusals ------------------------------------------------------------------------------------------------------


def test_object_arrays_are_never_unpickled(path, tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(canary)!r}, 'w').close()",)

    np.savez(path, x=np.array([Evil(), Evil()], dtype=object), y=[0, 1])
    refused(path, "Python objects", "array `x`")
    np.savez(path, x=np.zeros((2, 2)), y=np.array([Evil(), Evil()], dtype=object))
    refused(path, "Python objects", "array `y`")
    assert not canary.exists()


def test_damaged_archives_are_refused(path):
    np.savez(path, x=np.arange(2000.0).reshape(1000, 2), y=np.zeros(1000, int))
    blob = path.read_bytes()
    for size in (len(blob) - 1, len(blob) // 2, 30):
        path.write_bytes(blob[:size])
        refused(path, "cut short or damaged")
    flipped = bytearray(blob)
    flipped[blob.index(np.arange(2000.0).tobytes()) + 4000] ^= 1
    path.write_bytes(flipped)
    refused(path, "cut short or damaged", "CRC")
    header = blob.replace(b"(1000, 2)", b"(100}, 2)", 1)
    path.write_bytes(header)
    refused(path, "cut short or damaged")
