"""Built-in architectures with torchvision's and timm's names, so that files of theirs load as they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectral_audit.inputs.arguments import bad, require_positive

_DEEPEST = 256


class Bottleneck(nn.Module):
    """Two or three convolutions beside a shortcut, as in torchvision: relu(F(x) + S(x)).

    Plain: 3x3 (stride) and 3x3. Bottleneck: 1x1, 3x3 (stride, `groups`) and 1x1 to `planes`·4 channels.
    """

    def __init__(self, channels: int, planes: int, stride: int, inner: int, groups: int, *, deep: bool) -> None:
        super().__init__()
        out = planes * 4 if deep else planes
        kernels = [(channels, inner, 1), (inner, inner, 3), (inner, out, 1)] if deep else []
        kernels = kernels or [(channels, out, 3), (out, out, 3)]
        strided = 1 if deep else 0
        for k, (before, after, size) in enumerate(kernels):
            step, split = stride if k == strided else 1, groups if deep and size == 3 else 1
            conv = nn.Conv2d(before, after, size, step, size // 2, groups=split, bias=False)
            self.add_module(f"conv{k + 1}", conv)
            self.add_module(f"bn{k + 1}", nn.BatchNorm2d(after))
        self.steps = len(kernels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, out, ⌈h/stride⌉, ⌈w/stride⌉)."""
        inner = x
        for k in range(1, self.steps + 1):
            inner = self.get_submodule(f"bn{k}")(self.get_submodule(f"conv{k}")(inner))
            inner = self.relu(inner) if k < self.steps else inner
        out: Tensor = self.relu(inner + (x if self.downsample is None else self.downsample(x)))
        return out


def torchvision_resnet(
    *,
    channels: int = 3,
    outputs: int = 1000,
    blocks: list[int] | tuple[int, ...] = (2, 2, 2, 2),
    bottleneck: bool = False,
    width: int = 64,
    groups: int = 1,
    group_width: int = 64,
    stem: int = 7,
) -> nn.Module:
    """ResNet, ResNeXt or Wide ResNet with torchvision's names: (n, channels, h, w) → (n, outputs).

    `blocks` counts the blocks of each stage: [2, 2, 2, 2] is ResNet-18, [3, 4, 6, 3] ResNet-34, or -50 with
    `bottleneck`. A `stem` of 7 is a 7x7 convolution with stride 2 and a max pooling; one of 3, for small images, is
    a 3x3 convolution alone.

    Raises:
        UsageError: a count is not a positive integer or too large, or the stem is neither 3 nor 7.
    """
    family = "torchvision_resnet"
    if not isinstance(blocks, list | tuple) or not 1 <= len(blocks) <= 8:
        raise bad(family, "blocks", blocks, "a list of one to eight positive integers")
    require_positive(family, channels=channels, outputs=outputs, width=width, groups=groups, group_width=group_width)
    require_positive(family, **{f"blocks[{k}]": count for k, count in enumerate(blocks)})
    if max(blocks) > _DEEPEST:
        raise bad(family, "blocks", max(blocks), f"at most {_DEEPEST} blocks in a stage")
    if stem not in (3, 7):
        raise bad(family, "stem", stem, "3 or 7")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, width, stem, 2 if stem == 7 else 1, stem // 2, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
    )
    if stem == 7:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    current = width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        inner = int(planes * group_width / 64) * groups
        parts = []
        for block in range(count):
            stride = 2 if stage and not block else 1
            parts.append(Bottleneck(current, planes, stride, inner, groups, deep=bottleneck))
            current = planes * 4 if bottleneck else planes
        layers[f"layer{stage + 1}"] = nn.Sequential(*parts)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(current, outputs)
    return nn.Sequential(layers)


class Attention(nn.Module):
    """Multi-head self-attention, queries, keys and values in one matrix: (n, tokens, width) → the same."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """softmax(q kᵀ/√(width/heads)) v, head by head."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, tokens, width))
        return out


class Block(nn.Module):
    """A transformer block with the norms first: x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, width: int, heads: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, bias=bias)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        parts = OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width))
        self.mlp = nn.Sequential(parts)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) → the same."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """A vision transformer with timm's names; see `vit`."""

    def __init__(
        self, *, channels: int, outputs: int, patch: int, tokens: int, width: int, blocks: Sequence[Block]
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + tokens, width))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(channels, width, patch, patch)))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, size, size) → (n, outputs), from the class token."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.pos_embed
        out: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return out


def vit(
    *,
    channels: int = 3,
    outputs: int = 1000,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    hidden: int = 1536,
    patch: int = 16,
    size: int = 224,
    bias: bool = True,
) -> nn.Module:
    """A vision transformer with timm's names: (n, channels, size, size) → (n, outputs).

    The defaults are ViT-S/16. `hidden` is the width inside the MLPs; `bias` says whether queries, keys and values have
    one. Dosovitskiy et al. 2021 (arXiv 2010.11929).

    Raises:
        UsageError: a count is not a positive integer, or `heads` does not divide `width`, or `patch` not `size`.
    """
    counts = {"channels": channels, "outputs": outputs, "width": width, "depth": depth, "heads": heads}
    require_positive("vit", **counts, hidden=hidden, patch=patch, size=size)
    if depth > _DEEPEST:
        raise bad("vit", "depth", depth, f"at most {_DEEPEST}")
    if width % heads:
        raise bad("vit", "heads", heads, f"a divisor of the width, {width}")
    if size % patch:
        raise bad("vit", "patch", patch, f"a divisor of the size, {size}")
    blocks = [Block(width, heads, hidden, bias=bool(bias)) for _ in range(depth)]
    tokens = (size // patch) ** 2
    return ViT(channels=channels, outputs=outputs, patch=patch, tokens=tokens, width=width, blocks=blocks)
