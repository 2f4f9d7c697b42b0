"""Directories in the manner of Hugging Face: weights beside a config.json that describes the architecture.

Transformers builds the architecture from its own classes, never from code in the directory or on the network.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectral_audit.errors import RefusedError, quote
from spectral_audit.inputs.checkpoints.contents import Contents, Head
from spectral_audit.inputs.checkpoints.sharded import open_weights, weights_in
from spectral_audit.inputs.quiet import silenced

_INSTALL = "pip install 'spectral-audit[hf]'"


def is_described(head: Head) -> bool:
    """A directory with a config.json."""
    return head.holds("config.json")


def open_described(head: Head) -> Contents:
    """The weights, and the description that `described_model` takes."""
    config = _config(head.path / "config.json")
    weights = weights_in(head)
    if weights is None:
        raise RefusedError(
            f"{head.path}: describes a model, but holds no weights",
            expected="model.safetensors, pytorch_model.bin, or an index of shards",
            found=", ".join(sorted(head.folder or ())[:8]),
            remedy="download the weights into this directory.",
        )
    if head.holds("adapter_config.json"):
        raise RefusedError(
            f"{head.path}: holds an adapter for another model",
            expected="a whole model",
            found="adapter_config.json",
            remedy="merge the adapter where it was trained, with model.merge_and_unload(), and save the result.",
        )
    contents = open_weights(weights)
    return replace(contents, config=config, files=(head.path / "config.json", *contents.files))


def is_transformers(config: dict[str, object]) -> bool:
    """Whether the description is one of transformers'."""
    return isinstance(config.get("model_type"), str) or isinstance(config.get("architectures"), list)


def timm_name(config: dict[str, object]) -> str | None:
    """The name under which timm knows the architecture, when the description is one of timm's."""
    name = config.get("architecture")
    return name if isinstance(name, str) and not is_transformers(config) else None


def describe(config: dict[str, object]) -> str:
    """`ViTForImageClassification (transformers)`."""
    names = config.get("architectures")
    named = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else config.get("model_type")
    return f"{named} (transformers)"


@dataclass(frozen=True)
class Described:
    """A model of transformers: an empty one of its size, and one with the directory's weights and what did not fit."""

    empty: Callable[[], nn.Module]
    load: Callable[[], tuple[nn.Module, dict[str, list[str]]]]


def described_model(path: Path, config: dict[str, object]) -> Described:
    """Transformers' own class for a directory, made to return its logits.

    Weights go through the library's loader, which knows the names that its models had in earlier versions. Raises
    `RefusedError` for code of the directory's own, an unknown architecture, or when transformers is missing.
    """
    _require_no_code(path, config)
    # Set before the library is imported: what is not in the directory shall not be fetched.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise RefusedError(
            f"{path}: its architecture is one of the transformers library, which is not installed",
            expected=describe(config),
            found="no module `transformers`",
            remedy=f"{_INSTALL}; or give the architecture with --arch.",
        ) from None
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    kind: Any = getattr(transformers, name, None) if name.isidentifier() else None
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not known:
        raise RefusedError(
            f"{path}: transformers {transformers.__version__} has no such architecture",
            expected="`architectures` in config.json: a model class of the library",
            found=name or "no name",
            remedy="update transformers, or give the architecture with --arch.",
        )
    here = {"trust_remote_code": False, "local_files_only": True}
    # Eager attention: fused kernels have no second derivative, and some would be fetched.
    eager = {"attn_implementation": "eager"}

    def empty() -> nn.Module:
        with _building(path, name), torch.device("meta"):
            model: nn.Module = kind._from_config(transformers.AutoConfig.from_pretrained(path, **here), **eager)
        return model

    def load() -> tuple[nn.Module, dict[str, list[str]]]:
        with _building(path, name):
            model, info = kind.from_pretrained(
                path, **here, **eager, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
        model.register_forward_hook(_logits)
        said = {"missing_keys": "missing from the checkpoint", "unexpected_keys": "unknown to the model"}
        said |= {"mismatched_keys": "of another shape", "error_msgs": "not loaded"}
        return model, {words: sorted(map(_differing, info[key])) for key, words in said.items() if info.get(key)}

    return Described(empty, load)


@contextlib.contextmanager
def _building(path: Path, name: str) -> Iterator[None]:
    """Whatever the library says against a config.json or the weights is a refusal."""
    try:
        with silenced("transformers"):
            yield
    except Exception as error:
        raise RefusedError(
            f"{path}: its architecture cannot be built",
            expected=f"a config.json and weights that {name} takes",
            found=quote(error),
            remedy="correct config.json, or give the architecture with --arch.",
        ) from error


def _differing(entry: object) -> str:
    """A name, or `name (file (8,), model (16,))` where the library tells two shapes beside it."""
    if isinstance(entry, tuple) and len(entry) == 3:
        return f"{entry[0]} (file {tuple(entry[1])}, model {tuple(entry[2])})"
    return str(entry)


def _logits(module: nn.Module, inputs: Any, output: Any) -> Any:
    """The logits of a model that returns them among other things."""
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "logits", None)
    return output[0] if found is None else found


def _config(path: Path) -> dict[str, object]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        config, found = None, quote(error)
    else:
        found = f"a {type(config).__name__}"
    if not isinstance(config, dict):
        raise RefusedError(
            f"{path}: cannot be read", expected="a JSON object", found=found, remedy="download the file again."
        )
    return config


def _require_no_code(path: Path, config: dict[str, object]) -> None:
    """Refuse a description that asks for code of its own, or for kernels from a repository."""
    if "quantization_config" in config:
        raise RefusedError(
            f"{path}: its config.json says that the weights are quantized, which takes code that is not run here",
            expected="weights as they are trained: float32, float16 or bfloat16",
            found=f"quantization_config: {str(config['quantization_config'])[:120]}",
            remedy="audit the model as it was before it was quantized.",
        )
    kernels = [key for key, value in config.items() if "attn_implementation" in key and "/" in str(value)]
    asked = [key for key in config if key == "auto_map" or key in kernels]
    if asked:
        raise RefusedError(
            f"{path}: its config.json asks for code that is not part of transformers; it was not run",
            expected="an architecture of the library",
            found=", ".join(f"{key}: {str(config[key])[:120]}" for key in asked),
            remedy="read that code, then name the class yourself: --arch net.py:build.",
        )
