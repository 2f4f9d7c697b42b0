"""The architectures of the zoo: the package's own families, and a small transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spectral_audit.inputs.architectures.families import cnn, mlp, resnet
from studies.validity.zoo import Entry

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Attention(nn.Module):
    """Self-attention with four heads, the softmax written out: (n, tokens, width) → the same."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = (
            layer(x).reshape(n, tokens, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.mT / (width // self.heads) ** 0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). RMS norms: their second derivatives are the faster ones."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), activation(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Patches, positions, blocks, a norm, the mean over tokens, one linear layer: (n, c, size, size) → (n, outputs)."""

    def __init__(self, channels: int, size: int, outputs: int, width: int, depth: int, activation: type[nn.Module]):
        super().__init__()
        patch = size // 4
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*[Block(width, activation) for _ in range(depth)])
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def replaced(model: nn.Module, old: type[nn.Module], new: nn.Module) -> nn.Module:
    """The model with every module of one class replaced, in place."""
    for name, child in model.named_children():
        if isinstance(child, old):
            setattr(model, name, new)
        else:
            replaced(child, old, new)
    return model


def build(entry: Entry, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The untrained model of an entry for inputs of `shape`, its weights drawn from the entry's seed."""
    torch.manual_seed(entry.seed)
    act, width = entry.activation, entry.width
    if entry.architecture == "mlp":
        inputs = torch.Size(shape).numel()
        return mlp(inputs=inputs, outputs=classes, hidden=[width] * entry.depth, activation=act)
    channels, size = shape[0], shape[-1]
    if entry.architecture == "cnn":
        return cnn(channels=channels, outputs=classes, width=width, hidden=8 * width, size=size, activation=act)
    if entry.architecture == "resnet":
        net = resnet(channels=channels, outputs=classes, depth=entry.depth, width=width)
        return net if act == "relu" else replaced(net, nn.ReLU, _ACTIVATIONS[act]())
    return Transformer(channels, size, classes, width, entry.depth, _ACTIVATIONS[act])
