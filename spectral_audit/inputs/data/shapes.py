"""The shape of a model's input, from its first layer and from trying."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_IMAGE_SIZES = (28, 32, 64, 224)
_LENGTHS = (16, 32, 64, 128, 256, 1024, 8, 4)


@dataclass(frozen=True)
class InputShape:
    """The shape of one sample; `tokens` is how many different ones there are, 0 for real numbers."""

    shape: tuple[int, ...]
    tokens: int = 0


def input_shape(model: nn.Module, given: tuple[int, ...] | None = None) -> InputShape | None:
    """The first shape, of those the first layer allows, on which the model runs; `None` when there is none.

    `given` is tried instead, where the user knows it.
    """
    first = first_layer(model)
    tokens = first.num_embeddings if isinstance(first, nn.Embedding) else 0
    shapes = [given] if given else [*_exported(model), *_candidates(first)]
    return next((InputShape(shape, tokens) for shape in shapes if _runs(model, shape, tokens)), None)


def first_layer(model: nn.Module) -> nn.Module | None:
    """The first module, in the order of registration, that has parameters of its own."""
    return next((m for m in model.modules() if any(True for _ in m.parameters(recurse=False))), None)


def channels_in(layer: nn.Module | None) -> tuple[int, int] | None:
    """How many channels a convolution takes and how many axes follow them; `None` for any other layer."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.in_channels, len(layer.kernel_size)
    return None


def _candidates(layer: nn.Module | None) -> Iterator[tuple[int, ...]]:
    if isinstance(layer, nn.Linear):
        yield (layer.in_features,)
    elif isinstance(layer, nn.BatchNorm1d):
        yield (layer.num_features,)
    elif isinstance(layer, nn.LayerNorm):
        yield tuple(layer.normalized_shape)
    elif isinstance(layer, nn.RNNBase):
        yield from ((length, layer.input_size) for length in _LENGTHS)
    elif isinstance(layer, nn.Embedding):
        yield from ((length,) for length in _LENGTHS)
    elif (channels := channels_in(layer)) is not None:
        count, axes = channels
        sizes = _IMAGE_SIZES if axes == 2 else _LENGTHS[: 2 if axes == 3 else None]
        yield from ((count, *[size] * axes) for size in sizes)


def _exported(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """What the graph of an exported program says of its one input."""
    graph = getattr(model, "graph", None)
    nodes = [node for node in getattr(graph, "nodes", ()) if node.op == "placeholder"]
    if len(nodes) == 1 and isinstance(value := nodes[0].meta.get("val"), Tensor):
        sizes = tuple(value.shape)[1:]
        if all(isinstance(size, int) for size in sizes):
            yield sizes


def _runs(model: nn.Module, shape: tuple[int, ...], tokens: int) -> bool:
    """Whether two samples of this shape give two rows of finite outputs."""
    generator = torch.Generator().manual_seed(0)
    if tokens:
        x = torch.randint(0, tokens, (2, *shape), generator=generator)
    else:
        x = torch.randn(2, *shape, generator=generator)
    try:
        with torch.no_grad():
            out = model(x)
    except (Exception, SystemExit):  # noqa: BLE001 (the model's own code runs here, and may end in any way)
        return False
    return isinstance(out, Tensor) and out.ndim in (1, 2) and len(out) == 2 and bool(out.isfinite().all())
