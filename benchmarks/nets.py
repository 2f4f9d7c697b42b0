"""The nets every benchmark measures, with random weights and inputs from one seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spectral_audit.inputs.families import resnet

CLASSES = 10


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, CLASSES),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES)
    )


def resnet20() -> nn.Module:
    return resnet(channels=3, outputs=CLASSES, depth=20, width=16)


NETS = {"LeNet": (lenet, (1, 28, 28)), "MLP": (mlp, (3, 32, 32)), "ResNet-20": (resnet20, (3, 32, 32))}


def problem(name: str, samples: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A net in eval mode, inputs and labels."""
    torch.manual_seed(0)
    build, shape = NETS[name]
    return build().eval(), torch.randn(samples, *shape), torch.randint(0, CLASSES, (samples,))
