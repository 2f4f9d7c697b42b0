"""Built-in architectures with torchvision's and timm's names, so that files of theirs load as they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectral_audit.inputs.architectures.arguments import bad, require_positive

_DEEPEST = 256


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, as in torchvision: relu(F(x) + S(x))."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, out, ⌈h/stride⌉, ⌈w/stride⌉)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn2(self.conv2(inner)) + shortcut)
        return out


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 (stride, `groups`) and a 1x1 convolution beside a shortcut, as in torchvision: relu(F(x) + S(x))."""

    def __init__(self, channels: int, out: int, stride: int, inner: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, out, ⌈h/stride⌉, ⌈w/stride⌉)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.bn3(self.conv3(inner)) + shortcut)
        return out


def _shortcut(channels: int, out: int, stride: int) -> nn.Module | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


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
        out, inner = planes * 4 if bottleneck else planes, int(planes * group_width / 64) * groups
        parts: list[nn.Module] = []
        for block in range(count):
            stride = 2 if stage and not block else 1
            wide = Bottleneck(current, out, stride, inner, groups) if bottleneck else BasicBlock(current, out, stride)
            parts.append(wide)
            current = out
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
        tokens = torch.cat([self.cls_token.expand(x.size(0), -1, -1), tokens], 1) + self.pos_embed
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
