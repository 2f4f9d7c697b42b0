"""What a checkpoint file holds, known before anything in it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.archive import Archive
from spectral_audit.inputs.checkpoints.pickles import PickleScan
from spectral_audit.results import TensorInfo

SUSPICION = "treat the file with suspicion unless you know where it comes from; if it is yours: "
SAVE_STATE_DICT = "where the model was trained, run torch.save(model.state_dict(), 'model.pt') and audit that file."
Trust = Literal["none", "code", "pickle"]
_LEVELS: tuple[Trust, ...] = ("none", "code", "pickle")


@dataclass(frozen=True)
class Head:
    """What a format is recognised by: the first bytes, the records of a zip, or the files of a directory."""

    path: Path
    start: bytes
    size: int
    archive: Archive | None = None
    folder: frozenset[str] | None = None

    def has(self, name: str) -> bool:
        """Whether the file is a zip with this record under its root."""
        return self.archive is not None and name in self.archive.names

    def holds(self, name: str) -> bool:
        """Whether this is a directory with a file of this name in it."""
        return self.folder is not None and name in self.folder


@dataclass(frozen=True)
class Consent:
    """The least trust that admits a file, and what to say below it."""

    trust: Trust
    refusal: RefusedError


@dataclass(frozen=True)
class Program:
    """A model that a file brings along: the module, what to call it, and what to know about it."""

    module: nn.Module
    kind: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contents:
    """A recognised checkpoint: its pickles' globals, and the ways to load it.

    `read` gives the stored object and `program` a model that needs no architecture; neither may be called before
    `refusal_of` has let the file pass. `tensors` lists them where the format says so without loading; `refusal` is set
    for what is never loaded, `consent` for what needs trust. `files` are those the checkpoint consists of, where it is
    more than one; `config` is the description of the architecture that came with it.
    """

    scan: PickleScan = field(default_factory=PickleScan)
    metadata: dict[str, str] = field(default_factory=dict)
    tensors: tuple[TensorInfo, ...] = ()
    read: Callable[[], object] | None = None
    program: Callable[[], Program] | None = None
    consent: Consent | None = None
    refusal: RefusedError | None = None
    files: tuple[Path, ...] = ()
    config: dict[str, object] | None = None
    notes: tuple[str, ...] = ()


def refusal_of(contents: Contents, trust: Trust) -> RefusedError | None:
    """Why a file may not be loaded at this level of trust; `None` when it may."""
    consent = contents.consent
    if contents.refusal is None and consent and _LEVELS.index(trust) < _LEVELS.index(consent.trust):
        return consent.refusal
    return contents.refusal


def pickled(path: Path, scan: PickleScan, **ways: Any) -> Contents:
    """The contents of a file whose pickle decides: plain tensors need no trust, what could run code needs it all."""
    refusal = why_unsafe(path, scan)
    if refusal is None or not (scan.complete or scan.unsafe):
        return Contents(scan=scan, refusal=refusal, **ways)
    return Contents(scan=scan, consent=Consent("pickle", trusting(refusal)), **ways)


def trusting(refusal: RefusedError) -> RefusedError:
    """The same refusal, whose remedy also names the option that admits the file."""
    return RefusedError(
        refusal.message,
        expected=refusal.expected,
        found=refusal.found,
        remedy=f"{refusal.remedy.rstrip('.')}; or, if you trust its source with your machine, add --trust pickle.",
    )


def why_unsafe(path: Path, scan: PickleScan) -> RefusedError | None:
    """The refusal for a pickle that could run code or cannot be read safely; `None` when it is safe."""
    if scan.safe:
        return None
    listed = ", ".join(scan.unsafe[:12]) + (f" and {len(scan.unsafe) - 12} more" if len(scan.unsafe) > 12 else "")
    if scan.lightning and scan.unsafe:
        return RefusedError(
            f"{path}: a Lightning checkpoint whose hyperparameters are Python objects; loading them would run code",
            expected="a pickle of tensors and plain containers only",
            found=listed,
            remedy=f"{SUSPICION}where the model was trained, run torch.save(torch.load('last.ckpt', "
            "weights_only=False)['state_dict'], 'model.pt') and audit that file.",
        )
    if scan.module and scan.unsafe:
        return RefusedError(
            f"{path}: holds a whole pickled model, not only its weights; loading it would run code from the file",
            expected="a state dict, or a module made of torch.nn's own layers",
            found=f"a pickled torch module that imports {listed}",
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
