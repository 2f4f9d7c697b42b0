"""The nets every benchmark measures: random weights and inputs from one seed, or briefly trained on real images.

The trained ones are fitted to the 300 images of a sample model's probe set, once, and kept in the build folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spectral_audit.inputs.architectures import families

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
    return families.resnet(channels=3, outputs=CLASSES, depth=20, width=16)


def cnn() -> nn.Module:
    return families.cnn(channels=3, outputs=CLASSES, width=8, hidden=64, size=32)


NETS = {
    "LeNet": (lenet, (1, 28, 28)),
    "MLP": (mlp, (3, 32, 32)),
    "CNN": (cnn, (3, 32, 32)),
    "ResNet-20": (resnet20, (3, 32, 32)),
}
IMAGES = {"LeNet": "mnist_probe.npz", "ResNet-20": "cifar10_resnet.npz"}
TRAINED = {f"{name}-trained": name for name in IMAGES}
EPOCHS, BATCH = 40, 50
ROOT = Path(__file__).resolve().parent.parent


def problem(name: str, samples: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A net in eval mode, inputs and labels."""
    torch.manual_seed(0)
    build, shape = NETS[TRAINED.get(name, name)]
    if name not in TRAINED:
        return build().eval(), torch.randn(samples, *shape), torch.randint(0, CLASSES, (samples,))
    x, y = images(IMAGES[TRAINED[name]])
    model = build()
    path = ROOT / "build" / "benchmarks" / f"{name}.pt"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        train(model, x, y)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    return model.eval(), x[:samples], y[:samples]


def images(file: str) -> tuple[Tensor, Tensor]:
    """Images (n, channels, height, width) standardised to mean 0 and deviation 1, and their labels."""
    with np.load(ROOT / "sample_models" / file, allow_pickle=False) as arrays:
        x, y = torch.from_numpy(arrays["x"]).float(), torch.from_numpy(arrays["y"]).long()
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
    return (x - x.mean()) / x.std(), y


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Fit `model` with Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
