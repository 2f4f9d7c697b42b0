"""What a pickle would import, read from its opcodes without running any of them.

A pickle is a program: loading one calls whatever it names. Torch's weights-only loader calls nothing outside a short
list; this scan knows that list beforehand, so that a file can be refused, and described, before anything is loaded.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

_STORAGES = (
    *("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"),
    *("ComplexDouble", "ComplexFloat", "QInt8", "QInt32", "QUInt8"),
)
_DTYPES = (
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("uint16", "uint32", "uint64", "complex32", "complex64", "complex128", "qint8", "qint32", "quint8"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
)
# Part of what torch's weights-only loader takes: tensors, their storages and types, and the containers around them.
ALLOWED = frozenset(
    [
        "collections.OrderedDict",
        "collections.Counter",
        "builtins.set",
        "builtins.complex",
        "builtins.bytearray",
        "_codecs.encode",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.per_channel_affine",
        "torch.per_tensor_affine",
        "torch.serialization._get_layout",
        "torch.storage.TypedStorage",
        "torch.storage.UntypedStorage",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_device_tensor_from_cpu_tensor",
        *(f"torch.{name}Storage" for name in _STORAGES),
        *(f"torch.{name}" for name in _DTYPES),
    ]
)
# Every pickled torch module stores these attributes by name, and every Lightning checkpoint this entry.
_MODULE_MARKS = {"_parameters", "_modules"}
_LIGHTNING_MARK = "pytorch-lightning_version"
UNRESOLVED = "(a name computed while loading)"


@dataclass(frozen=True)
class PickleScan:
    """The globals a pickle names, as `module.name`, sorted.

    `complete`: every pickle ended as it should; `stacked`: it takes names from its stack, as pickle protocol 4 does,
    which the weights-only loader cannot read; `module`: it stores a whole torch module; `lightning`: a checkpoint
    of Lightning's. `known` are globals that its format needs besides those of plain tensors, and knows to be harmless.
    """

    globals: tuple[str, ...] = ()
    complete: bool = True
    stacked: bool = False
    module: bool = False
    lightning: bool = False
    known: frozenset[str] = frozenset()

    @property
    def unsafe(self) -> tuple[str, ...]:
        """The globals that are no part of plain tensors, nor of the format."""
        return tuple(name for name in self.globals if name not in ALLOWED and name not in self.known)

    @property
    def safe(self) -> bool:
        """Whether loading can call nothing but what rebuilds tensors."""
        return self.complete and not self.stacked and not self.unsafe


def join(scans: Iterable[PickleScan]) -> PickleScan:
    """One scan for several pickles of a file."""
    scans = tuple(scans)
    return PickleScan(
        tuple(sorted({name for scan in scans for name in scan.globals})),
        all(scan.complete for scan in scans),
        any(scan.stacked for scan in scans),
        any(scan.module for scan in scans),
        any(scan.lightning for scan in scans),
        frozenset().union(*(scan.known for scan in scans)),
    )


def scan_pickle(stream: BinaryIO, count: int = 1, *, known: frozenset[str] = frozenset()) -> PickleScan:
    """The globals of `count` pickles that follow each other in `stream`; nothing is imported or called.

    `known` globals count as safe besides those of plain tensors.

    Never raises for damaged bytes: what was seen before the damage counts, and `complete` is false.
    """
    walk = _Walk()
    try:
        for _ in range(count):
            walk.texts.clear()
            for opcode, argument, _ in pickletools.genops(stream):
                walk.step(opcode.name, argument)
    # The readers of opcode arguments raise ValueError for most damage, and these for lengths beyond the file.
    except (ValueError, IndexError, OverflowError, MemoryError, KeyError, EOFError):
        walk.complete = False
    module, lightning = walk.strings >= _MODULE_MARKS, _LIGHTNING_MARK in walk.strings
    return PickleScan(tuple(sorted(walk.found)), walk.complete, walk.stacked, module, lightning, known)


class _Walk:
    """What the opcodes so far have named."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.strings: set[str] = set()
        self.texts: list[str | None] = []  # the last values pushed, None for anything but text
        self.memo: dict[int, str | None] = {}
        self.complete = True
        self.stacked = False

    def step(self, name: str, argument: object) -> None:
        if name in ("GLOBAL", "INST"):
            self.found.add(_modern(*str(argument).split(" ", 1)))
            self.push(None)
        elif name == "STACK_GLOBAL":
            # For display only: a stacked name is never taken as safe, so a trick with the stack gains nothing.
            module, attribute = [*self.texts, None, None][:2]
            self.found.add(UNRESOLVED if module is None or attribute is None else f"{module}.{attribute}")
            self.stacked = True
            self.push(None)
        elif name in ("EXT1", "EXT2", "EXT4"):
            self.found.add(f"(extension registry, code {argument})")
            self.push(None)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.texts[-1] if self.texts else None
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(str(argument))] = self.texts[-1] if self.texts else None
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.push(self.memo.get(int(str(argument))))
        elif name not in ("PROTO", "FRAME"):
            self.push(argument if isinstance(argument, str) else None)

    def push(self, value: str | None) -> None:
        if value is not None and (value in _MODULE_MARKS or value == _LIGHTNING_MARK):
            self.strings.add(value)
        self.texts = [*self.texts[-1:], value]


def _modern(module: str, name: str = "") -> str:
    """The name under Python 3: old protocols write the modules of Python 2, which loading translates."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"
