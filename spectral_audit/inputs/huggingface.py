"""Directories in the manner of Hugging Face: weights beside a config.json that describes the architecture.

Transformers builds the architecture from its own classes, never from code in the directory or on the network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectral_audit.errors import AuditError, RefusedError
from spectral_audit.inputs.contents import Contents, Head
from spectral_audit.inputs.sharded import open_weights, weights_in

_INSTALL = "pip install 'spectral-audit[hf]'"


def is_described(head: Head) -> bool:
    """A directory with a config.json."""
    return head.holds("config.json")


def open_described(head: Head) -> Contents:
    """The weights, and the description that `build_described` takes."""
    config = _config(head.path / "config.json")
    weights = weights_in(head)
    if weights is None:
        raise RefusedError(
            f"{head.path}: describes a model, but holds no weights",
            expected="model.safetensors, pytorch_model.bin, or an index of shards",
            found=", ".join(sorted(head.folder or ())[:8]),
            remedy="download the weights into this directory.",
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


def build_described(path: Path, config: dict[str, object]) -> nn.Module:
    """The architecture, by transformers' own class of that name, which returns its logits.

    Raises `RefusedError` for code of the directory's own, an unknown architecture, or when transformers is missing.
    """
    _require_no_code(path, config)
    # Set before the library is imported: what is not in the directory shall not be fetched.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError:
        raise RefusedError(
            f"{path}: its architecture is one of the transformers library, which is not installed",
            expected=describe(config),
            found="no module `transformers`",
            remedy=f"{_INSTALL}; or give the architecture with --arch.",
        ) from None
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    kind = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise RefusedError(
            f"{path}: transformers {transformers.__version__} has no such architecture",
            expected="`architectures` in config.json: a model class of the library",
            found=name or "no name",
            remedy="update transformers, or give the architecture with --arch.",
        )
    try:
        known = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        # Eager attention: fused kernels have no second derivative, and some would be fetched.
        build: Callable[..., nn.Module] = kind._from_config
        model = build(known, attn_implementation="eager")
    except AuditError:
        raise
    except Exception as error:
        raise RefusedError(
            f"{path}: its architecture cannot be built",
            expected=f"a config.json that {name} takes",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            remedy="correct config.json, or give the architecture with --arch.",
        ) from error
    model.register_forward_hook(_logits)
    return model


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
        config, found = None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        found = f"a {type(config).__name__}"
    if not isinstance(config, dict):
        raise RefusedError(
            f"{path}: cannot be read", expected="a JSON object", found=found, remedy="download the file again."
        )
    return config


def _require_no_code(path: Path, config: dict[str, object]) -> None:
    """Refuse a description that asks for code of its own, or for kernels from a repository."""
    kernels = [key for key, value in config.items() if "attn_implementation" in key and "/" in str(value)]
    asked = ["auto_map"] * ("auto_map" in config) + kernels
    if asked:
        raise RefusedError(
            f"{path}: its config.json asks for code that is not part of transformers; it was not run",
            expected="an architecture of the library",
            found=", ".join(f"{key}: {str(config[key])[:120]}" for key in asked),
            remedy="read that code, then name the class yourself: --arch net.py:build.",
        )
