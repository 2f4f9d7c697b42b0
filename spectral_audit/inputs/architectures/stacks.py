"""Built-in architectures under whatever names a file gives its layers: plain stacks of linear layers, and LeNets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spectral_audit.inputs.architectures.arguments import activation_of, bad, pooling_of, require_positive

_MOST = 256


class Stack(nn.Module):
    """Layers under dotted names of their own, each followed by a module without parameters."""

    def __init__(self, layers: Sequence[tuple[str, nn.Module]], after: Sequence[nn.Module]) -> None:
        super().__init__()
        self.names = [name for name, _ in layers]
        self.after_ = nn.ModuleList(after)
        for name, layer in layers:
            *folders, last = name.split(".")
            place: nn.Module = self
            for folder in folders:
                if folder not in dict(place.named_children()):
                    place.add_module(folder, nn.Module())
                place = place.get_submodule(folder)
            place.add_module(last, layer)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, outputs)."""
        for name, after in zip(self.names, self.after_, strict=True):
            x = after(self.get_submodule(name)(x))
        return x


def linear_stack(*, layers: list[list[object]], activation: str = "relu") -> nn.Module:
    """A fully connected network with given names, [[name, inputs, outputs, bias], ...]: (n, *shape) → (n, outputs).

    Inputs are flattened; `activation` stands between the layers.

    Raises:
        UsageError: a layer is described otherwise, a name cannot be a module's, or the activation is unknown.
    """
    family = "linear_stack"
    described = _table(family, "layers", layers, 4)
    make = activation_of(family, activation)
    linear = [(name, nn.Linear(a, b, bias=bool(bias))) for name, (a, b, bias) in described]
    after: list[nn.Module] = [make() for _ in linear[:-1]]
    return _stack(family, [("flatten_", nn.Flatten()), *linear], [nn.Identity(), *after, nn.Identity()])


def lenet(
    *,
    convolutions: list[list[object]],
    layers: list[list[object]],
    activation: str = "relu",
    pooling: str = "max",
    padding: int = 0,
) -> nn.Module:
    """A LeNet with given names: (n, channels, h, w) → (n, outputs).

    `convolutions` are [[name, inputs, outputs, kernel], ...], each followed by the activation and a 2x2 `pooling`;
    `layers` are [[name, inputs, outputs, bias], ...] as in `linear_stack`. LeCun et al. 1998.

    Raises:
        UsageError: a layer is described otherwise, a name cannot be a module's, or a choice is unknown.
    """
    make, pool = activation_of("lenet", activation), pooling_of("lenet", pooling)
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding <= 16:
        raise bad("lenet", "padding", padding, "a whole number, at most 16")
    named: list[tuple[str, nn.Module]] = []
    after: list[nn.Module] = []
    for name, (a, b, kernel) in _table("lenet", "convolutions", convolutions, 4):
        named.append((name, nn.Conv2d(a, b, kernel, padding=padding)))
        after.append(nn.Sequential(make(), pool(2)))
    named.append(("flatten_", nn.Flatten()))
    after.append(nn.Identity())
    linear = _table("lenet", "layers", layers, 4)
    named += [(name, nn.Linear(a, b, bias=bool(bias))) for name, (a, b, bias) in linear]
    after += [*(make() for _ in linear[:-1]), nn.Identity()]
    return _stack("lenet", named, after)


def _table(family: str, key: str, rows: object, columns: int) -> list[tuple[str, list[int]]]:
    """The rows of a description: a name and whole numbers."""
    if not isinstance(rows, list | tuple) or not 1 <= len(rows) <= _MOST:
        raise bad(family, key, rows, f"a list of one to {_MOST} layers")
    found = []
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != columns or not isinstance(row[0], str):
            raise bad(family, key, row, f"a name and {columns - 1} numbers for each layer")
        name, *numbers = row
        require_positive(family, **{f"{key}: {name}": number for number in numbers if not isinstance(number, bool)})
        found.append((name, [int(number) for number in numbers]))
    return found


def _stack(family: str, layers: list[tuple[str, nn.Module]], after: list[nn.Module]) -> nn.Module:
    try:
        return Stack(layers, after)
    except (KeyError, AttributeError) as error:
        raise bad(family, "layers", error.args[0], "names that a module can have") from None
