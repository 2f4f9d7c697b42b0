"""Built-in architectures: plain functions from JSON-able keyword arguments to a module.

They serve checkpoints that hold weights and no code: a spec (`model.builder: resnet`) or a safetensors header can name
one, and nothing but this file runs. All of them return raw outputs, without a softmax, and no operation works in place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from spectral_audit.inputs.architectures.arguments import (
    ACTIVATIONS,
    PIECEWISE_LINEAR,
    activation_of,
    bad,
    pooling_of,
    require_positive,
)
from spectral_audit.inputs.architectures.stacks import lenet, linear_stack
from spectral_audit.inputs.architectures.vision import torchvision_resnet, vit

__all__ = ["ACTIVATIONS", "FAMILIES"]
_DEEPEST = 1202


def mlp(*, inputs: int, outputs: int, hidden: list[int] | tuple[int, ...] = (), activation: str = "relu") -> nn.Module:
    """A fully connected network, h_l = φ(W_l h_{l-1} + b_l), on flattened inputs: (n, *shape) → (n, outputs).

    `inputs` is the product of `shape`; `hidden` lists the hidden widths, and an empty one makes the model linear.

    Raises:
        UsageError: a count is not a positive integer, or the activation is unknown.
    """
    if not isinstance(hidden, list | tuple):
        raise bad("mlp", "hidden", hidden, "a list of positive integers")
    require_positive("mlp", inputs=inputs, outputs=outputs)
    require_positive("mlp", **{f"hidden[{k}]": width for k, width in enumerate(hidden)})
    widths = [inputs, *hidden]
    make = activation_of("mlp", activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for k in range(1, len(widths)):
        layers[f"linear{k}"] = nn.Linear(widths[k - 1], widths[k])
        layers[f"activation{k}"] = make()
    layers["head"] = nn.Linear(widths[-1], outputs)
    return nn.Sequential(layers)


def cnn(
    *,
    channels: int,
    outputs: int,
    width: int = 8,
    hidden: int = 64,
    size: int = 28,
    activation: str = "relu",
    pooling: str | None = None,
) -> nn.Module:
    """A LeNet-like network, two 5x5 convolutions with 2x2 pooling and two linear layers.

    (n, channels, size, size) → (n, outputs); the convolutions have `width` and 2·`width` channels, the linear layer
    between has `hidden` units. `pooling` is `max` or `average`; by default it matches the activation: `max` for a
    piecewise-linear one, `average` for a smooth one, so that the whole network is as smooth as its activation.

    Raises:
        UsageError: a count is not a positive integer, `size` is below 4, or a name is unknown.
    """
    require_positive("cnn", channels=channels, outputs=outputs, width=width, hidden=hidden, size=size)
    if size < 4:
        raise bad("cnn", "size", size, "at least 4, which two poolings take to 1")
    make = activation_of("cnn", activation)
    pool: object = pooling
    if pooling is None:
        pool = "max" if activation in PIECEWISE_LINEAR else "average"
    make_pool = pooling_of("cnn", pool)
    features = 2 * width * (size // 4) ** 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, width, 5, padding=2),
        activation1=make(),
        pool1=make_pool(2),
        conv2=nn.Conv2d(width, 2 * width, 5, padding=2),
        activation2=make(),
        pool2=make_pool(2),
        flatten=nn.Flatten(),
        linear1=nn.Linear(features, hidden),
        activation3=make(),
        head=nn.Linear(hidden, outputs),
    )
    return nn.Sequential(layers)


class PadShortcut(nn.Module):
    """The shortcut without parameters: every `stride`-th pixel, new channels filled with zeros."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.extra = width - channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, width, ⌈h/stride⌉, ⌈w/stride⌉)."""
        before = self.extra // 2
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside a shortcut: relu(F(x) + S(x)).

    S is the identity where shapes agree; otherwise `A` pads (no parameters) and `B` is a normalised 1x1 convolution.
    """

    def __init__(self, channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module
        if stride == 1 and channels == width:
            self.shortcut = nn.Identity()
        elif shortcut == "A":
            self.shortcut = PadShortcut(channels, width, stride)
        else:
            projection = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=projection, norm=nn.BatchNorm2d(width)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, width, ⌈h/stride⌉, ⌈w/stride⌉)."""
        inner = self.relu1(self.norm1(self.conv1(x)))
        out: Tensor = self.relu2(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return out


def resnet(*, channels: int, outputs: int, depth: int = 20, width: int = 16, shortcut: str = "B") -> nn.Module:
    """A residual network for small images (He et al. 2016, section 4.2): (n, channels, h, w) → (n, outputs).

    `depth` = 6k + 2: a 3x3 convolution, three stages of k blocks with `width`, 2·`width` and 4·`width` channels, each
    stage after the first halving the resolution, then global average pooling and one linear layer. `shortcut` is `A`
    (zero padding) or `B` (1x1 convolution) where shapes change.

    Raises:
        UsageError: a count is not a positive integer, `depth` is not 8, 14, 20, …, or the shortcut is unknown.
    """
    require_positive("resnet", channels=channels, outputs=outputs, depth=depth, width=width)
    if depth < 8 or depth % 6 != 2 or depth > _DEEPEST:
        raise bad("resnet", "depth", depth, f"6k + 2 with k at least 1, up to {_DEEPEST}: 8, 14, 20, ...")
    if shortcut not in ("A", "B"):
        raise bad("resnet", "shortcut", shortcut, "'A' (zero padding) or 'B' (1x1 convolution)")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
    )
    current = width
    for stage in range(3):
        wide, blocks = width * 2**stage, []
        for block in range((depth - 2) // 6):
            blocks.append(ResidualBlock(current, wide, 2 if stage > 0 and block == 0 else 1, shortcut))
            current = wide
        layers[f"stage{stage + 1}"] = nn.Sequential(*blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(current, outputs)
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # torch loads its compiler to draw nothing
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "linear_stack": linear_stack,
    "lenet": lenet,
    "torchvision_resnet": torchvision_resnet,
    "vit": vit,
}
