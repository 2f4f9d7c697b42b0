"""Embedding layers put back into programs that only kept the tables: tokens enter a model through such a layer."""

from __future__ import annotations

import torch
from torch import fx, nn


def has_table(program: nn.Module, name: str) -> bool:
    """Whether the parameter `name` is the weight of a layer of its own: `words.weight`."""
    folder, _, last = name.rpartition(".")
    if last != "weight" or not folder:
        return False
    layer = program.get_submodule(folder)
    weight = layer._parameters.get("weight")
    return weight is not None and weight.dim() == 2 and len(layer.state_dict()) == 1


def put_embedding(program: nn.Module, name: str) -> str:
    """Make the layer that holds the parameter `name` an embedding with that table; returns the layer's name."""
    folder = name.rpartition(".")[0]
    layer = program.get_submodule(folder)
    if not isinstance(layer, nn.Embedding):
        table = layer.weight
        assert isinstance(table, nn.Parameter)  # has_table
        embedding = nn.Embedding(table.shape[0], table.shape[1], _weight=table.data)
        embedding.weight = table  # the same parameter: it may be tied
        program.set_submodule(folder, embedding)
    return folder


def with_embeddings(program: fx.GraphModule) -> fx.GraphModule:
    """The program, changed in place, with every look-up in a layer's table made by an embedding layer."""
    for node in list(program.graph.nodes):
        if node.target is not torch.ops.aten.embedding.default:
            continue
        table, tokens = node.args[:2]
        if table.op == "get_attr" and has_table(program, table.target):
            with program.graph.inserting_before(node):
                found = program.graph.call_module(put_embedding(program, table.target), (tokens,))
            found.meta = node.meta
            node.replace_all_uses_with(found)
            program.graph.erase_node(node)
            if not table.users:
                program.graph.erase_node(table)
    program.recompile()
    return program
