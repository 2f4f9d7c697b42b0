"""Penalties on the weight matrices alone: no data, no pass through the model.

A layer is a parameter with two or more axes, read as a matrix (first axis, all others), as torch's `spectral_norm`
reads it. For a convolution that is not the norm of the convolution, but bounds it up to a factor of the kernel's size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from spectral_audit.regularizers.jacobian import gram_entropy


def layer_matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The trainable weights with two or more axes as matrices, by name."""
    for name, p in model.named_parameters():
        if p.ndim >= 2 and p.requires_grad:
            yield name, p.flatten(1)


def layer_directions(model: nn.Module, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """A random unit vector for every layer's input side: what `layer_spectral` starts from."""
    found = {}
    for name, matrix in layer_matrices(model):
        v = torch.randn(matrix.shape[1], generator=generator).to(matrix)
        found[name] = v / v.norm()
    return found


def layer_spectral(
    model: nn.Module, directions: Mapping[str, Tensor], *, steps: int = 1
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ_l ‖W_l v_l‖², and the directions v after `steps` power steps each.

    At most Σ_l ‖W_l‖₂², and equal to it once the steps have converged; v is held fixed in the gradient. Two products of
    a matrix with a vector per layer and step. Source: Yoshida, Miyato 2017, arXiv 1705.10941.

        value, directions = layer_spectral(model, directions)
        (loss(model(x), y) + 0.01 * value).backward()
    """
    values, found = [], {}
    for name, matrix in layer_matrices(model):
        fixed, v = matrix.detach(), directions[name].to(matrix)
        for _ in range(steps):
            pushed = fixed.mT @ (fixed @ v)
            v = pushed / pushed.norm() if pushed.any() else v
        values.append((matrix @ v).square().sum())
        found[name] = v
    return torch.stack(values).sum(), found


def layer_entropy(model: nn.Module) -> Tensor:
    """The mean over layers of the spectral entropy of W_lW_lᵀ in nats: −Σ p_k log p_k, p_k = σ_k²/Σσ².

    Subtracted from a loss it evens the singular values out. One eigenvalue decomposition of the smaller Gram matrix
    per layer.

        (loss(model(x), y) - 0.01 * layer_entropy(model)).backward()
    """
    values = []
    for _, matrix in layer_matrices(model):
        wide = matrix.shape[0] <= matrix.shape[1]
        values.append(gram_entropy(matrix @ matrix.mT if wide else matrix.mT @ matrix).sum())
    return torch.stack(values).mean()


def spectrally_normalised(model: nn.Module) -> nn.Module:
    """A copy of the model whose layers have the spectral norm 1 by construction, with torch's own parametrisation.

    A constraint instead of a penalty: make the optimizer after it. Layers are the modules with a `weight` of two or
    more axes. Source: Miyato, Kataoka, Koyama, Yoshida 2018, arXiv 1802.05957.

        model = spectrally_normalised(model)
        optimizer = torch.optim.AdamW(model.parameters())
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim >= 2:
            parametrizations.spectral_norm(module, "weight")
    return model
