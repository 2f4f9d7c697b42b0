"""Images: a folder for each class, or encoded images in a table. Only those drawn are decoded."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectral_audit.errors import RefusedError, quote
from spectral_audit.inputs.data.stored import Array, Ask, Indices, Source, Stored, bad, missing_extra

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Decoders that only decode: Pillow would hand other formats, such as PostScript, to a program of their own.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_GREY = ("1", "L", "LA")
_COLOUR = (*_GREY, "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_EXPECTED = "one subfolder of images for each class"


def is_image_folder(source: Source) -> bool:
    """Any folder that no other kind wants."""
    return source.folder


def read_image_folder(ask: Ask) -> Stored:
    """Every image below the folder, in the order of its path; its class is the name of its subfolder."""
    path = ask.path
    try:
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        files = [(folder.name, image) for folder in folders for image in _images(folder)]
        loose = 0 if files else len(list(_images(path)))
        listing = [(image.relative_to(path).as_posix(), image.stat().st_size) for _, image in files]
    except OSError as error:
        raise RefusedError(
            f"{path}: cannot be read",
            expected=_EXPECTED,
            found=str(error),
            remedy="make the folder and all images in it readable.",
        ) from None
    if not files:
        raise RefusedError(
            f"{path}: not a data folder that is known here",
            expected=f"{_EXPECTED}, or a dataset written by save_to_disk",
            found=f"a directory with {len(folders)} subfolders and {loose} images outside them",
            remedy="move the images into one subfolder for each class, or name a data file in `data.path`.",
        )
    y = None if ask.spec.data.y is None else np.array([name for name, _ in files])
    sha256 = hashlib.sha256(repr(listing).encode("utf-8", "surrogateescape")).hexdigest()
    names = tuple(dict.fromkeys(name for name, _ in files))
    return lazily(ask, [name for name, _ in listing], lambda k: files[k][1], y, sha256, names=names)


def _images(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(where, name) for name in names if name.lower().endswith(_SUFFIXES) and name[0] != "."]
    return sorted(found)


def lazily(
    ask: Ask,
    labels: Sequence[str],
    open_one: Callable[[int], Path | bytes],
    y: Array | None,
    sha256: str,
    *,
    names: tuple[str, ...],
    y_name: str = "the folder name",
) -> Stored:
    """Images decoded when they are drawn; `labels` name them in messages.

    They come as (m, H, W), where the layout is NHW or all of the first image drawn is grey, else as (m, H, W, 3).
    """
    if importlib.util.find_spec("PIL") is None:
        raise missing_extra(ask.path, "Pillow", "images")
    layout = ask.spec.input.layout
    if layout is None:
        layout = "NHW" if _decode(ask, labels[0], open_one(0), None).ndim == 2 else "NHWC"
    if layout not in ("NHW", "NHWC"):
        raise RefusedError(
            f"{ask.path}: images have another layout than the spec says",
            expected="`input.layout: NHW` for grey images, NHWC for colour",
            found=f"`input.layout: {ask.spec.input.layout}`",
            remedy="correct `input.layout`, or leave it out.",
        )
    mode = "L" if layout == "NHW" else "RGB"

    def take(indices: Indices) -> Array:
        images = [_decode(ask, labels[k], open_one(int(k)), mode) for k in indices]
        odd = next((k for k, image in enumerate(images) if image.shape != images[0].shape), None)
        if odd is not None:
            found = f"{_size(images[0])} for {labels[indices[0]]}, {_size(images[odd])} for {labels[indices[odd]]}"
            remedy = "resize them all with `input.size: [height, width]`."
            raise bad(ask.path, "the images", "images of the same size", found, remedy)
        return np.stack(images)

    return Stored(len(labels), take, y, sha256, "the images", y_name, layout, names)


def _size(image: Array) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"


def _decode(ask: Ask, label: str, source: Path | bytes, mode: str | None) -> Array:
    """One image, (H, W) grey or (H, W, 3); `mode` converts it, `input.size` resizes it."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as opened:
                return _pixels(ask, label, opened, mode)
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 (a decoder of damaged bytes can raise anything)
            raise RefusedError(
                f"{ask.path}: image {label} cannot be decoded",
                expected=f"one of: {', '.join(_FORMATS)}",
                found=quote(error),
                remedy="repair or remove that image.",
            ) from None


def _pixels(ask: Ask, label: str, image: Any, mode: str | None) -> Array:
    from PIL import Image

    if image.mode not in _COLOUR:
        raise RefusedError(
            f"{ask.path}: image {label} does not have 8 bits for each channel",
            expected="grey, palette or colour images of 8 bits",
            found=f"mode {image.mode}",
            remedy="convert it, or save the pixels with numpy.savez.",
        )
    found = image.convert(mode or ("L" if image.mode in _GREY else "RGB"))
    if ask.spec.input.size is not None:
        height, width = ask.spec.input.size
        found = found.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(found)
