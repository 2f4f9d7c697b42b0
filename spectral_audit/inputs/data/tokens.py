"""Models of tokens, run from the output of their embedding: that is where their input has a Jacobian."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError, quote
from spectral_audit.results import Finding

_PART = 32


class FromEmbedding(nn.Module):
    """A model whose token embedding is replaced by the input: e (n, *length, width) → what the model makes of it.

    The model still gets tokens (one row of them, `row`, for all samples), whose values nothing may depend on; lengths
    and positions it may read off them.
    """

    row: Tensor

    def __init__(self, model: nn.Module, name: str, row: Tensor) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        table = self.model.get_submodule(name)
        assert isinstance(table, nn.Embedding) and isinstance(table.weight, nn.Parameter)
        self.model.set_submodule(name, _Given(table.weight))
        self.name = name
        self.register_buffer("row", row.clone())

    def forward(self, e: Tensor) -> Any:
        """The model's output for these embedded tokens."""
        given = self.model.get_submodule(self.name)
        assert isinstance(given, _Given)
        given.value = e
        try:
            return self.model(self.row.expand(len(e), *self.row.shape[1:]))
        finally:
            given.value = None

    def reads_table(self, e: Tensor) -> bool:
        """Whether the output for these embedded tokens depends on the table all the same."""
        weight = self.model.get_submodule(self.name).weight
        assert isinstance(weight, nn.Parameter)
        with torch.enable_grad():
            out = self(e)
            return torch.autograd.grad(out.sum(), weight, allow_unused=True)[0] is not None

    def forget_table(self) -> None:
        """Keep the table from counting among the parameters."""
        given = self.model.get_submodule(self.name)
        assert isinstance(given, _Given)
        given.weight = None


class _Given(nn.Module):
    """Stands for the embedding and returns what it was given, whatever the tokens; others may read its table."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.value: Tensor | None = None
        self.weight: nn.Parameter | None = weight

    def forward(self, tokens: Tensor) -> Tensor:
        assert self.value is not None
        return self.value


def from_embedding(model: nn.Module, tokens: Tensor) -> tuple[nn.Module, Tensor, Finding]:
    """The model from its embedding's output on, that output (n, *length, width), and what a reader must know of it.

    Raises `RefusedError` when there is not exactly one embedding of the tokens, or when the model uses the tokens for
    anything else: a mask, say, or token types. A Jacobian at the embedding would then not be the model's.
    """
    name, table = _embedding(model, tokens)
    _require_in_range(name, table, tokens)
    with torch.no_grad():
        embedded = torch.cat([table(part) for part in tokens.split(_PART)])
        wrapped = FromEmbedding(model, name, tokens[:1])
        _require_same(model, wrapped, tokens, embedded)
    tied = wrapped.reads_table(embedded[:1])
    if not tied:
        wrapped.forget_table()
    left = "it is tied to another layer, and measured there alone" if tied else "its table is not among the weights"
    said = Finding(
        "input.tokens",
        "info",
        f"the input is tokens: Jacobian, scale and attribution are taken at the output of `{name}` "
        f"({'×'.join(map(str, embedded.shape[1:]))}); {left} ({table.weight.numel():,} numbers)",
    )
    return wrapped, embedded, said


def _embedding(model: nn.Module, tokens: Tensor) -> tuple[str, nn.Embedding]:
    """The one embedding that the tokens enter, once."""
    tables = {name: m for name, m in model.named_modules() if isinstance(m, nn.Embedding)}
    seen: list[str] = []
    row = tokens[:2]
    with _watching(tables, row, seen), torch.no_grad():
        try:
            model(row)
        except (Exception, SystemExit) as error:  # the model's own code runs here, and may end in any way
            raise RefusedError(
                "the model does not run on these tokens",
                expected="tokens (n, length) below the size of its embedding",
                found=f"tokens {tuple(row.shape[1:])} up to {int(row.max())}; {quote(error)}",
                remedy="check the vocabulary and the architecture.",
            ) from error
    if len(seen) != 1 or seen[0] == "":
        raise RefusedError(
            "the tokens do not enter exactly one embedding once",
            expected="one torch.nn.Embedding called with the tokens as they are",
            found=f"{len(seen)} calls" + (f": {', '.join(seen[:8])}" if seen else f" among {len(tables)} embeddings"),
            remedy="wrap the model in a module whose input is the embedding's output, and audit that.",
        )
    return seen[0], tables[seen[0]]


@contextmanager
def _watching(tables: dict[str, nn.Embedding], row: Tensor, seen: list[str]) -> Iterator[None]:
    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].shape == row.shape and inputs[0].equal(row):
                seen.append(name)

        return hook

    hooks = [table.register_forward_pre_hook(note(name)) for name, table in tables.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _require_in_range(name: str, table: nn.Embedding, tokens: Tensor) -> None:
    low, high = int(tokens.min()), int(tokens.max())
    if table.max_norm is not None:
        raise RefusedError(
            f"the embedding `{name}` changes its own weights",
            expected="an embedding without max_norm",
            found=f"max_norm={table.max_norm}",
            remedy="renormalise its table once, and build it without max_norm.",
        )
    if low < 0 or high >= table.num_embeddings:
        raise RefusedError(
            f"tokens are out of the range of the embedding `{name}`",
            expected=f"whole numbers from 0 to {table.num_embeddings - 1}",
            found=f"from {low} to {high}",
            remedy="check the vocabulary that the data was made with.",
        )


def _require_same(model: nn.Module, wrapped: FromEmbedding, tokens: Tensor, embedded: Tensor) -> None:
    """The model on the tokens must be the wrapped model on their embedding, on the whole probe set."""
    for part, e in zip(tokens.split(_PART), embedded.split(_PART), strict=True):
        expected, found = model(part), wrapped(e)
        if not isinstance(expected, Tensor):
            return  # no model to audit; what runs it next says so
        difference = float((expected - found).abs().max()) if expected.shape == found.shape else float("inf")
        if not difference <= 1e-5 * float(expected.abs().max()):
            raise RefusedError(
                "the model uses the tokens for more than its embedding",
                expected="outputs that depend on the tokens through one embedding only",
                found=f"a difference of {difference:.3g} when only the embedding knows them: a mask, token types, or a "
                "second table",
                remedy="wrap the model in a module whose input is the embedding's output, and audit that.",
            )
