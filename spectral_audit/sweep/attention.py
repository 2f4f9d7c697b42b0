"""Multi-head attention from its definition, so that every projection is a call of `linear` with samples first.

For every head softmax(Q Kᵀ/√d + mask) V, with Q, K and V the projected queries, keys and values split along features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def multi_head_attention(bound: dict[str, Any]) -> Any:
    """`multi_head_attention_forward` with its arguments by name: queries (L, n, E), keys and values (S, n, ·).

    Returns outputs (L, n, E), and the attention weights or `None`. `NotImplemented` without a sample axis, with dropout
    and with keys or values given in projected form.
    """
    unusual = bound.get("static_k") is not None or bound.get("static_v") is not None
    if bound["query"].ndim != 3 or unusual or (bound.get("training", True) and bound["dropout_p"] > 0):
        return NotImplemented
    query, key, value = _projected(bound)
    n, heads, added = len(query), bound["num_heads"], 0
    if bound["bias_k"] is not None:
        key = torch.cat([key, bound["bias_k"].expand(n, -1, -1)], 1)
        value = torch.cat([value, bound["bias_v"].expand(n, -1, -1)], 1)
        added += 1
    if bound["add_zero_attn"]:
        key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
        added += 1
    query, key, value = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    for mask in _masks(bound, n, heads):
        scores = scores + F.pad(_additive(mask, scores), (0, added))
    weights = torch.softmax(scores, -1)
    out = F.linear((weights @ value).transpose(1, 2).flatten(2), bound["out_proj_weight"], bound["out_proj_bias"])
    if not bound.get("need_weights", True):
        return out.transpose(0, 1), None
    return out.transpose(0, 1), weights.mean(1) if bound.get("average_attn_weights", True) else weights


def _projected(bound: dict[str, Any]) -> tuple[Tensor, ...]:
    """Queries, keys and values after their projections, (n, L or S, E)."""
    given = [bound[k] for k in ("query", "key", "value")]
    query, key, value = (t.transpose(0, 1) for t in given)
    weight, bias = bound["in_proj_weight"], bound["in_proj_bias"]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    if bound.get("use_separate_proj_weight"):
        separate = [bound[k] for k in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
    elif given[0] is given[1] is given[2]:
        return tuple(F.linear(query, weight, bias).chunk(3, -1))
    else:
        separate = weight.chunk(3)
    return tuple(F.linear(t, w, b) for t, w, b in zip((query, key, value), separate, biases, strict=True))


def _masks(bound: dict[str, Any], n: int, heads: int) -> list[Tensor]:
    """The masks that were given, each in a shape that broadcasts to (n, heads, L, S)."""
    masks = []
    attn, padding = bound.get("attn_mask"), bound.get("key_padding_mask")
    if attn is not None:
        masks.append(attn.view(n, heads, *attn.shape[-2:]) if attn.ndim == 3 else attn)
    if padding is not None:
        masks.append(padding[:, None, None, :])
    return masks


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """True, or a number that is added: a mask's two forms in the second one."""
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf) if mask.dtype == torch.bool else mask
