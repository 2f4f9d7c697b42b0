"""What a checkpoint file holds, known before anything in it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.archive import Archive
from spectral_audit.inputs.pickles import PickleScan
from spectral_audit.results import TensorInfo

SUSPICION = "treat the file with suspicion unless you know where it comes from; if it is yours: "
SAVE_STATE_DICT = "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file."


@dataclass(frozen=True)
class Head:
    """What a format is recognised by: the first bytes, and the records when the file is a zip."""

    path: Path
    start: bytes
    size: int
    archive: Archive | None

    def has(self, name: str) -> bool:
        """Whether the file is a zip with this record under its root."""
        return self.archive is not None and name in self.archive.names


@dataclass(frozen=True)
class Contents:
    """A recognised file: its pickles' globals, and the ways to load it.

    `read` gives the stored object and `program` the exported program; both may be called only when `scan.safe`.
    `tensors` lists them where the format says so without loading; `refusal` is set for formats that are never loaded.
    """

    scan: PickleScan = field(default_factory=PickleScan)
    metadata: dict[str, str] = field(default_factory=dict)
    tensors: tuple[TensorInfo, ...] = ()
    read: Callable[[], object] | None = None
    program: Callable[[], tuple[nn.Module, tuple[str, ...]]] | None = None
    refusal: RefusedError | None = None


def why_unsafe(path: Path, scan: PickleScan) -> RefusedError | None:
    """The refusal for a pickle that could run code or cannot be read safely; `None` when it is safe."""
    if scan.safe:
        return None
    listed = ", ".join(scan.unsafe[:12]) + (f" and {len(scan.unsafe) - 12} more" if len(scan.unsafe) > 12 else "")
    if scan.module:
        return RefusedError(
            f"{path}: holds a whole pickled model, not only its weights; loading it would run code from the file",
            expected="a state dict: tensors by name",
            found=f"a pickled torch module that imports {listed or 'nothing unusual'}",
            remedy=SAVE_STATE_DICT,
        )
    if scan.unsafe:
        return RefusedError(
            f"{path}: loading its pickle would run code outside torch's list for plain weights; nothing was loaded",
            expected="a pickle of tensors and plain containers only",
            found=listed,
            remedy=f"{SUSPICION}{SAVE_STATE_DICT}",
        )
    if not scan.complete:
        return RefusedError(
            f"{path}: its pickle is damaged or cut short",
            expected="a pickle that ends where it says",
            found="bytes that are no pickle",
            remedy="copy or download the file again.",
        )
    return RefusedError(
        f"{path}: saved with pickle protocol 4 or later, which torch's weights-only loader cannot read",
        expected="pickle protocol 2, torch.save's default",
        found="names taken from the pickle's stack",
        remedy="save it again without pickle_protocol=, or as safetensors.",
    )
