"""Built-in families recognised from the names and shapes of a file's tensors alone.

Names and shapes do not say everything: what was assumed beside them is said, and a wrong assumption about shapes shows
when the data goes through the model.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt

Shapes = Mapping[str, tuple[int, ...]]
Layer = tuple[str, tuple[int, ...]]

_RELU = "ReLU between the layers (--arch-kwargs activation=gelu for another)"
_HEAD_WIDTH = 64
_HEAD = re.compile(r"(?:^|\.)(?:head|out|output|classifier)$")
_MOST_TRIED = 8  # layers whose order is looked for among all orders


@dataclass(frozen=True)
class Recognised:
    """A family, its arguments, and what the names and shapes do not say."""

    family: str
    kwargs: dict[str, object]
    assumed: tuple[str, ...]


def recognise(shapes: Shapes) -> Recognised | None:
    """The family of a state dict with these shapes, or `None`."""
    for attempt in _ATTEMPTS:
        try:
            found = attempt(shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue  # a tensor the family needs is missing, or of another rank
        if found is not None:
            return found
    return None


def _layers(shapes: Shapes, rank: int) -> list[Layer]:
    """The layers whose weights have this many axes, in the order in which they must run; empty when that is open."""
    layers = [(n.removesuffix(".weight"), s) for n, s in shapes.items() if n.endswith(".weight") and len(s) == rank]
    by_shape = list(itertools.islice(_chains(layers), 2))
    if len(by_shape) == 1:
        return by_shape[0]
    by_number = sorted(layers, key=lambda layer: _numbered(layer[0]))
    skeletons = {re.sub(r"\d+", "#", name) for name, _ in by_number if not _HEAD.search(name)}
    chained = all(after[1] == before[0] for (_, before), (_, after) in itertools.pairwise(by_number))
    # Several orders fit the shapes: numbers in otherwise equal names decide, and nothing else does.
    return by_number if chained and len(skeletons) == 1 else []


def _chains(layers: list[Layer], taken: tuple[Layer, ...] = ()) -> Iterator[list[Layer]]:
    """The orders in which every layer takes what the one before gives."""
    if len(layers) > _MOST_TRIED:
        return
    if len(taken) == len(layers):
        yield list(taken)
    for layer in layers:
        if layer not in taken and (not taken or layer[1][1] == taken[-1][1][0]):
            yield from _chains(layers, (*taken, layer))


def _numbered(name: str) -> tuple[bool, list[int]]:
    """Sorts `layers.10` after `layers.2`, and a head behind all numbers."""
    return _HEAD.search(name) is not None, [int(part) for part in re.findall(r"\d+", name)]


def _complete(shapes: Shapes, layers: list[Layer]) -> bool:
    """Whether the file holds these layers' weights and biases, and nothing else."""
    biases = {f"{name}.bias" for name, shape in layers if shapes.get(f"{name}.bias") == shape[:1]}
    return {f"{name}.weight" for name, _ in layers} | biases == set(shapes)


def _described(shapes: Shapes, layers: list[Layer]) -> list[list[object]]:
    return [[name, shape[1], shape[0], f"{name}.bias" in shapes] for name, shape in layers]


def _mlp(shapes: Shapes) -> Recognised | None:
    layers = _layers(shapes, 2)
    if not layers or not _complete(shapes, layers):
        return None
    assumed = (_RELU,) if len(layers) > 1 else ()
    names = [name for name, _ in layers]
    if names == [*(f"linear{k}" for k in range(1, len(names))), "head"] and len(shapes) == 2 * len(layers):
        hidden = [shape[0] for _, shape in layers[:-1]]
        return Recognised("mlp", {"inputs": layers[0][1][1], "hidden": hidden, "outputs": layers[-1][1][0]}, assumed)
    return Recognised("linear_stack", {"layers": _described(shapes, layers)}, assumed)


def _lenet(shapes: Shapes) -> Recognised | None:
    convolutions, layers = _layers(shapes, 4), _layers(shapes, 2)
    if len(convolutions) != 2 or not layers or not _complete(shapes, convolutions + layers):
        return None
    (_, first), (_, second) = convolutions
    side = isqrt(layers[0][1][1] // second[0])
    fits = second[1] == first[0] and layers[0][1][1] == second[0] * side * side
    biased = all(f"{name}.bias" in shapes for name, _ in convolutions)
    if not fits or not biased or first[2:] != (5, 5) or second[2:] != (5, 5):
        return None
    names = [name for name, _ in convolutions + layers]
    if names == ["conv1", "conv2", "linear1", "head"] and second[0] == 2 * first[0]:
        assumed = (_RELU, "2x2 max pooling after each convolution", f"images of {4 * side}x{4 * side}")
        counts = {"channels": first[1], "width": first[0], "hidden": layers[0][1][0], "outputs": layers[1][1][0]}
        return Recognised("cnn", {**counts, "size": 4 * side}, assumed)
    kwargs: dict[str, object] = {
        "convolutions": [[name, shape[1], shape[0], 5] for name, shape in convolutions],
        "layers": _described(shapes, layers),
    }
    return Recognised("lenet", kwargs, (_RELU, "convolutions without padding, each with 2x2 max pooling after it"))


def _resnet(shapes: Shapes) -> Recognised | None:
    stem, blocks = shapes["conv1.weight"], list[int]()
    while f"layer{len(blocks) + 1}.0.conv1.weight" in shapes:
        stage = len(blocks) + 1
        pattern = re.compile(rf"layer{stage}\.\d+\.conv1\.weight")
        blocks.append(sum(pattern.fullmatch(name) is not None for name in shapes))
    inner = shapes["layer1.0.conv2.weight"]
    bottleneck = "layer1.0.conv3.weight" in shapes
    if not blocks or stem[2] not in (3, 7) or shapes["bn1.weight"] != stem[:1]:
        return None
    groups = inner[0] // inner[1] if bottleneck else 1
    kwargs: dict[str, object] = {"channels": stem[1], "outputs": shapes["fc.weight"][0], "blocks": blocks}
    kwargs |= {"bottleneck": bottleneck, "width": stem[0], "stem": stem[2]}
    if bottleneck:
        kwargs |= {"groups": groups, "group_width": inner[0] * 64 // (groups * stem[0])}
    small = "a 3x3 stem with stride 1 and no pooling after it"
    assumed = ["ReLU after every norm", *([small] if stem[2] == 3 else [])]
    if bottleneck:
        assumed.append("strides in the 3x3 convolutions, as in torchvision")
    return Recognised("torchvision_resnet", kwargs, tuple(assumed))


def _vit(shapes: Shapes) -> Recognised | None:
    width, channels, patch, _ = shapes["patch_embed.proj.weight"]
    side = isqrt(shapes["pos_embed"][1] - 1)
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    if (
        shapes["cls_token"] != (1, 1, width)
        or shapes["pos_embed"] != (1, side * side + 1, width)
        or width % _HEAD_WIDTH
    ):
        return None
    heads = width // _HEAD_WIDTH
    kwargs: dict[str, object] = {"channels": channels, "outputs": shapes["head.weight"][0], "width": width}
    kwargs |= {"depth": depth, "heads": heads, "hidden": shapes["blocks.0.mlp.fc1.weight"][0], "patch": patch}
    kwargs |= {"size": side * patch, "bias": "blocks.0.attn.qkv.bias" in shapes}
    assumed = (
        f"{heads} attention heads of width {_HEAD_WIDTH} (--arch-kwargs heads=N for another number)",
        "GELU, norms before attention and MLP, the class token read out",
    )
    return Recognised("vit", kwargs, assumed)


_ATTEMPTS: tuple[Callable[[Shapes], Recognised | None], ...] = (_vit, _resnet, _lenet, _mlp)
