"""Exported programs as modules, whatever batch they were exported for.

An export without a dynamic batch bakes its batch size into the graph, or only into the checks around it. Which of the
two is found out by running it: where the graph gives the same for other batches it is used as it is, and otherwise
the samples go through it in batches of its own size, the last one filled up.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from spectral_audit.inputs.checkpoints.tables import with_embeddings

# Where an operator's `training` flag stands among its arguments.
_TRAINING_FLAG = {"aten.batch_norm.default": 5, "aten.dropout.default": 2, "aten.instance_norm.default": 5}
_LAST_DIGITS = 1e-4


class FixedBatch(nn.Module):
    """A graph exported for one batch size, with its tensors under their own names.

    `size` is the batch the graph needs, `None` where it takes any; `shape` is that of one sample.
    """

    def __init__(self, program: fx.GraphModule, size: int | None, shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, child in program.named_children():
            self.add_module(name, child)
        for name, parameter in program.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in program.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, constant in vars(program).items():
            if isinstance(constant, Tensor):
                self.register_buffer(name, constant, persistent=False)
        self.graph = program.graph
        self.size = size
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, outputs), for any n."""
        if x.shape[1:] != self.shape:
            raise RuntimeError(f"the program was exported for samples of shape {self.shape}, not {tuple(x.shape[1:])}")
        if self.size is None:
            return self._run(x)
        missing = -len(x) % self.size
        filled = torch.cat([x, x[-1:].expand(missing, *self.shape)]) if missing else x
        # In the layout it was exported with, which its views rely on.
        parts = [part.clone(memory_format=torch.contiguous_format) for part in filled.split(self.size)]
        return torch.cat([self._run(part) for part in parts])[: len(x)]

    def _run(self, x: Tensor) -> Tensor:
        out: Tensor = fx.Interpreter(self, graph=self.graph).run(x)
        return out


def runnable(program: ExportedProgram) -> tuple[nn.Module, tuple[str, ...]]:
    """The program as a module, and a note where it was exported for one batch size."""
    value = _input(program)
    if value is None or not value.dim() or not isinstance(value.shape[0], int):
        return with_embeddings(program.module()), ()
    size, shape = int(value.shape[0]), tuple(int(length) for length in value.shape[1:])
    module = with_embeddings(program.module(check_guards=False))
    note = f"exported for batches of exactly {size} (no dynamic batch dimension)"
    if _any_batch(FixedBatch(module, None, shape), size, value):
        return FixedBatch(module, None, shape), (f"{note}; its operations take any batch all the same",)
    return FixedBatch(module, size, shape), (f"{note}: samples go through it {size} at a time",)


def trained(graph: fx.Graph) -> fx.Node | None:
    """The first node frozen in training mode: an exported program cannot be switched to eval afterwards."""
    for node in graph.nodes:
        place = _TRAINING_FLAG.get(str(node.target))
        if place is not None and len(node.args) > place and node.args[place] is True:
            return node
    return None


def _input(program: ExportedProgram) -> Tensor | None:
    """The description of the first user input."""
    names = program.graph_signature.user_inputs
    value = next((node.meta.get("val") for node in program.graph.nodes if names and node.name == names[0]), None)
    return value if isinstance(value, Tensor) else None


def _any_batch(free: FixedBatch, size: int, value: Tensor) -> bool:
    """Whether the graph gives for a longer batch, and for a single sample, what it gives for its own."""
    shape = (2 * size + 1, *value.shape[1:])
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn if value.is_floating_point() else partial(torch.randint, 2)
    x = draw(shape, generator=generator).to(value.dtype)
    try:
        with torch.no_grad():
            long, own, one = free(x), free(x[:size]), free(x[-1:])
        same = torch.cat([own, one]), torch.cat([long[:size], long[-1:]])
        scale = float(long.abs().max())
        return len(long) == len(x) and float((same[0] - same[1]).abs().max()) <= _LAST_DIGITS * scale
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
        return False
