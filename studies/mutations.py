"""Random changes of checkpoints and specs, by what kind of file they are; the same from the same generator."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from spectral_audit.inputs.checkpoints.archive import ZIP_ERRORS

SPEC = {
    "version": 1,
    "model": {"builder": "lenet", "kwargs": {"convolutions": [["conv", 1, 2, 3]], "layers": [["head", 8, 3, True]]}},
    "data": {"path": "probe.npz", "x": "x", "y": "y"},
    "input": {"layout": "NCHW", "scale": "1/2", "mean": 0.1, "std": [1.5]},
    "task": {"type": "classification", "loss": "cross_entropy", "classes": ["a", "b", "c"]},
    "sample": {"n": 4, "seed": 0, "strategy": "stratified"},
    "attribution": {
        "method": "gradient",
        "target": "predicted",
        "radius": {"value": 0.1, "norm": "l2", "space": "input"},
    },
}
ODD = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    0.5,
    1e308,
    float("nan"),
    "",
    "x",
    "..",
    "\0",
    "é" * 50,
    [],
    {},
    [[]],
)


def mutate(rng: random.Random, blob: bytes) -> bytes:
    """The file with one to three changes, as the kind of file it is in two cases of three."""
    for _ in range(rng.randint(1, 3)):
        structured = _structured(blob) if rng.random() < 2 / 3 else None
        blob = (structured or mutate_bytes)(rng, blob)
    return blob


def _structured(blob: bytes) -> Callable[[random.Random, bytes], bytes] | None:
    if blob.startswith(b"PK"):
        return mutate_zip
    if blob[:1] in b"{[" and blob[:1]:
        return mutate_json
    return mutate_safetensors if blob[8:9] == b"{" else None


def mutate_bytes(rng: random.Random, blob: bytes) -> bytes:
    """Flipped, overwritten, inserted, deleted, moved or cut bytes."""
    if not blob:
        return rng.randbytes(rng.randint(0, 40))
    start = rng.randrange(len(blob))
    length = rng.choice([1, 1, 2, 8, rng.randint(1, 200)])
    piece = blob[start : start + length]
    other = rng.randrange(len(blob))
    return rng.choice(
        [
            blob[:start] + bytes([blob[start] ^ (1 << rng.randrange(8))]) + blob[start + 1 :],
            blob[:start] + rng.randbytes(length) + blob[start + length :],
            blob[:start] + rng.choice([b"\xff", b"\x00", b"\x7f"]) * length + blob[start + length :],
            blob[:start] + rng.randbytes(length) + blob[start:],
            blob[:start] + blob[start + length :],
            blob[:other] + piece + blob[other:],
            blob[:start],
        ]
    )


def mutate_zip(rng: random.Random, blob: bytes) -> bytes:
    """Records swapped, dropped, renamed or changed, in an archive whose checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as file:
            records = [(name, file.read(name)) for name in file.namelist()]
    except ZIP_ERRORS:
        return mutate_bytes(rng, blob)
    if not records:
        return mutate_bytes(rng, blob)
    i, j = rng.randrange(len(records)), rng.randrange(len(records))
    change = rng.randrange(6)
    if change == 0:
        (a, left), (b, right) = records[i], records[j]
        records[i], records[j] = (a, right), (b, left)
    elif change == 1:
        records.pop(i)
    elif change == 2:
        records[i] = rng.choice([records[j][0], "archive/../x", "archive/data.pkl", "archive/é"]), records[i][1]
    else:
        records[i] = records[i][0], (_structured(records[i][1]) or mutate_bytes)(rng, records[i][1])
    fresh = io.BytesIO()
    with zipfile.ZipFile(fresh, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
        for name, content in records:
            with _no_warnings():
                file.writestr(name, content)
    return fresh.getvalue()


def mutate_json(rng: random.Random, blob: bytes) -> bytes:
    """One value of the tree replaced, dropped or doubled."""
    try:
        tree = json.loads(blob)
    except (ValueError, RecursionError):
        return mutate_bytes(rng, blob)
    return json.dumps(_edited(rng, tree)).encode()


def mutate_safetensors(rng: random.Random, blob: bytes) -> bytes:
    """An edited header of the right length before the same numbers."""
    length = int.from_bytes(blob[:8], "little")
    header = mutate_json(rng, blob[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + blob[8 + length :]


def mutate_spec(rng: random.Random) -> bytes:
    """A spec with edited values, or edited text."""
    tree: Any = SPEC
    for _ in range(rng.randint(0, 3)):
        tree = _edited(rng, tree)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()
    return mutate_bytes(rng, text) if rng.random() < 0.4 else text


def _edited(rng: random.Random, tree: Any) -> Any:
    """The tree with one change somewhere in it."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        rest = {other: value for other, value in tree.items() if other != key}
        return rng.choice(
            [
                *[lambda: {**tree, key: _edited(rng, tree[key])}] * 6,
                lambda: rest,
                lambda: {**rest, f"{key}x": tree[key]},
                lambda: {**tree, str(rng.choice(ODD)): tree[key]},
            ]
        )()
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        i = rng.randrange(len(tree))
        return rng.choice(
            [
                *[lambda: [*tree[:i], _edited(rng, tree[i]), *tree[i + 1 :]]] * 6,
                lambda: [*tree[:i], *tree[i + 1 :]],
                lambda: tree + tree,
            ]
        )()
    if isinstance(tree, int) and not isinstance(tree, bool) and rng.random() < 0.5:
        return tree + rng.choice([-1, 1, 1000, 1 << 20, 1 << 40])
    return rng.choice(ODD)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
