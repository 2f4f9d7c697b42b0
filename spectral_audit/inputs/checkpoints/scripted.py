"""TorchScript run step by step from Python: the same operations in the same order, seen and differentiated like any.

A scripted module cannot be called with other weights, watched, or copied to another type without losing its gradients.
Its graph can be read instead: constants and attributes are looked up once, and every operation is torch's own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spectral_audit.inputs.checkpoints.tables import has_table, put_embedding

Function = Callable[..., Any]

# What TorchScript does to numbers, lists and text; tensors go to torch's own operators.
_PLAIN: dict[str, Function] = {
    **{f"aten::{name}": getattr(operator, name) for name in ("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge")},
    **{f"aten::{name}": getattr(operator, name) for name in ("floordiv", "neg")},
    **{f"aten::{name}": getattr(operator, name) for name in ("and_", "or_")},
    "aten::div": operator.truediv,
    "aten::remainder": operator.mod,
    "aten::pow": operator.pow,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::__not__": operator.not_,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__contains__": operator.contains,
    "aten::__getitem__": operator.getitem,
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "aten::append": lambda items, item: items.append(item) or items,
    "aten::len": len,
    "aten::list": list,
    "aten::slice": lambda items, start, end, step: items[slice(start, end, step)],
    "aten::floor_divide": operator.floordiv,
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "aten::IntImplicit": int,
    "aten::ScalarImplicit": lambda number: number,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::warn": lambda *ignored: None,
    "prim::NumToTensor": lambda number: number,
    "prim::min": min,
    "prim::max": max,
    "prim::ListConstruct": lambda *items: list(items),
    "prim::TupleConstruct": lambda *items: items,
    "prim::TupleIndex": operator.getitem,
    "prim::unchecked_cast": lambda value: value,
    "prim::type": lambda device: device.type,
    "prim::Uninitialized": lambda: None,
    "prim::Print": lambda *ignored: None,
}
# What it asks a tensor about, or does to one, in words of its own.
_OF_TENSORS: dict[str, Function] = {
    "aten::size": lambda x, *dim: x.size(*dim) if dim else list(x.size()),
    "aten::dim": lambda x: x.dim(),
    "aten::len": len,
    "aten::numel": lambda x: x.numel(),
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "aten::IntImplicit": int,
    "aten::ScalarImplicit": lambda x: x.item(),
    "aten::is_floating_point": lambda x: x.is_floating_point(),
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::append": lambda items, item: items.append(item) or items,
    "aten::__getitem__": operator.getitem,
    "prim::ListConstruct": lambda *items: list(items),
    "prim::TupleConstruct": lambda *items: items,
    "prim::TupleIndex": operator.getitem,
    "prim::unchecked_cast": lambda value: value,
    "prim::device": lambda x: x.device,
    "prim::dtype": lambda x: x.dtype,
    "prim::layout": lambda x: x.layout,
    "prim::is_cuda": lambda x: x.is_cuda,
    "prim::is_nested": lambda x: x.is_nested,
    "prim::requires_grad": lambda x: x.requires_grad,
}
_UNPACK = ("prim::ListUnpack", "prim::TupleUnpack")
# They read or write files.
_NEVER = ("aten::save", "aten::from_file")


class UnsupportedError(Exception):
    """An operation of the program that is not run here."""


@dataclass(frozen=True)
class Step:
    """One node: what it is, the names of its inputs and outputs, its operator, and the blocks it may run."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operator: Function | None = None
    keywords: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Block:
    """Steps with names for what goes in and what comes out."""

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]


class Scripted(nn.Module):
    """A TorchScript program with its own parameters and buffers, under their own names."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        """Read the program in eval mode; raises `UnsupportedError` for an operation that is not run here."""
        super().__init__()
        script.eval()
        shared: dict[tuple[int, torch.Size], nn.Parameter] = {}
        for name, p in script.named_parameters(remove_duplicate=False):
            parameter = shared.setdefault((p.data_ptr(), p.shape), nn.Parameter(p.detach()))
            self._place(name).register_parameter(name.rpartition(".")[2], parameter)
        for name, buffer in script.named_buffers():
            self._place(name).register_buffer(name.rpartition(".")[2], buffer)
        self.constants: dict[str, Any] = {}
        self.tensors: dict[str, str] = {}
        self.tables: dict[str, str] = {}
        graph = script.inlined_graph
        me, *inputs = (value.debugName() for value in graph.inputs())
        self.input = inputs[0]
        self.extra = tuple(inputs[1:])
        self.block = self._read(graph, {me: ("", script)})
        used = set(_inputs(self.block))
        self.tensors = {value: name for value, name in self.tensors.items() if value in used}

    def forward(self, x: Tensor) -> Any:
        """What the program returns for `x`."""
        if self.extra:
            raise RuntimeError(f"the program takes {1 + len(self.extra)} inputs")
        env = {**self.constants, self.input: x}
        env |= {value: self._tensor(name) for value, name in self.tensors.items()}
        env |= {value: self.get_submodule(name) for value, name in self.tables.items()}
        return _only(_run(self.block, env))

    def _tensor(self, name: str) -> Tensor:
        """A parameter or buffer, as it is now: it may stand for another one for a while."""
        folder, _, last = name.rpartition(".")
        found: Tensor = getattr(self.get_submodule(folder), last)
        return found

    def _place(self, name: str) -> nn.Module:
        place: nn.Module = self
        for part in name.split(".")[:-1]:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        return place

    def _read(self, graph: Any, modules: dict[str, tuple[str, Any]]) -> Block:
        """The steps of a graph or a block; attributes of modules become constants, or names of tensors."""
        steps = []
        for node in graph.nodes():
            if node.kind() == "prim::GetAttr":
                self._look_up(node, modules)
            elif node.kind() == "prim::Constant":
                self.constants[node.output().debugName()] = node.output().toIValue()
            else:
                steps.append(self._step(node, modules))
        names = tuple(value.debugName() for value in graph.inputs())
        return Block(names, tuple(steps), tuple(value.debugName() for value in graph.outputs()))

    def _look_up(self, node: Any, modules: dict[str, tuple[str, Any]]) -> None:
        held, out, attribute = node.input().debugName(), node.output().debugName(), node.s("name")
        if held not in modules:
            raise UnsupportedError(f"an attribute `{attribute}` of a value")
        path, module = modules[held]
        name = f"{path}.{attribute}" if path else attribute
        value = getattr(module, attribute)
        if isinstance(value, torch.jit.ScriptModule):
            modules[out] = name, value
        elif isinstance(value, Tensor):
            self.tensors[out] = name
        else:
            self.constants[out] = value

    def _step(self, node: Any, modules: dict[str, tuple[str, Any]]) -> Step:
        kind = node.kind()
        inputs = tuple(value.debugName() for value in node.inputs())
        outputs = tuple(value.debugName() for value in node.outputs())
        if kind == "aten::embedding" and has_table(self, self.tensors.get(inputs[0], "")):
            return self._look_in_table(inputs[0], inputs[1], outputs)
        blocks = tuple(self._read(block, modules) for block in node.blocks())
        function: Function | None = None
        keywords: tuple[str, ...] = ()
        if kind.startswith("aten::") and kind not in _NEVER and node.schema() != "(no schema)":
            schema = torch._C.parse_schema(node.schema())
            packet = getattr(torch.ops.aten, kind.removeprefix("aten::"), None)
            function = getattr(packet, schema.overload_name or "default", None)
            keywords = tuple(argument.name if argument.kwarg_only else "" for argument in schema.arguments)
        known = kind in _PLAIN or kind in _OF_TENSORS or kind in _UNPACK or blocks or kind == "prim::RaiseException"
        if function is None and not known:
            raise UnsupportedError(f"the operation {kind}")
        return Step(kind, inputs, outputs, function, keywords, blocks)

    def _look_in_table(self, weight: str, tokens: str, outputs: tuple[str, ...]) -> Step:
        """A step that calls an embedding layer, which others can then replace."""
        table = f"table of {weight}"
        self.tables[table] = put_embedding(self, self.tensors[weight])
        return Step("aten::embedding", (table, tokens), outputs, lambda layer, x: layer(x), ("", ""))


def _inputs(block: Block) -> Iterator[str]:
    """Every value that something reads."""
    yield from block.outputs
    for step in block.steps:
        yield from step.inputs
        for inner in step.blocks:
            yield from _inputs(inner)


def _run(block: Block, env: dict[str, Any]) -> list[Any]:
    for step in block.steps:
        values = [env[name] for name in step.inputs]
        env.update(zip(step.outputs, _results(step, values, env), strict=True))
    return [env[name] for name in block.outputs]


def _results(step: Step, values: list[Any], env: dict[str, Any]) -> Sequence[Any]:
    """What a step puts out, one entry for each of its outputs."""
    if step.kind == "prim::If":
        return _run(step.blocks[0 if values[0] else 1], env)
    if step.kind == "prim::Loop":
        return _loop(step.blocks[0], values, env)
    if step.kind == "prim::RaiseException":
        raise RuntimeError(str(values[0]))
    if step.kind in _UNPACK:
        return list(values[0])
    tensors = any(isinstance(value, Tensor) for value in values)
    plain = (_OF_TENSORS if tensors else _PLAIN).get(step.kind)
    if step.kind == "aten::_convolution":
        found: Any = _convolution(*values)
    elif plain is not None:
        found = plain(*values)
    elif step.operator is not None:
        named = list(zip(step.keywords, values, strict=False))
        found = step.operator(*(v for key, v in named if not key), **{key: v for key, v in named if key})
    else:
        raise UnsupportedError(f"the operation {step.kind} on {', '.join(type(v).__name__ for v in values)}")
    if len(step.outputs) == 1:
        return [found]
    return list(found) if step.outputs else []


def _loop(block: Block, values: list[Any], env: dict[str, Any]) -> list[Any]:
    most, going, *carried = values
    count = 0
    while going and count < most:
        env.update(zip(block.inputs, [count, *carried], strict=True))
        going, *carried = _run(block, env)
        count += 1
    return carried


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
    """The convolution that traced graphs write in full, by the operator that its module calls."""
    stride, padding, dilation, transposed, output_padding, groups = options[:6]
    rank = weight.ndim - 2
    out: Tensor
    if transposed:
        call = getattr(torch.ops.aten, f"conv_transpose{rank}d")
        out = getattr(call, "default" if rank == 1 else "input")(
            x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    else:
        out = getattr(torch.ops.aten, f"conv{rank}d").default(x, weight, bias, stride, padding, dilation, groups)
    return out


def _only(outputs: list[Any]) -> Any:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)
