"""Penalties for a training loop, differentiable with respect to the weights: what to do about an unstable axis.

Each is a pure function of tensors that the loop has anyway; those of inputs need `x.requires_grad_()` before the
forward pass. Samples must not act on each other: in train mode BatchNorm mixes them, and the figures are then those of
the batch. `docs/regularizers.md` lists formulas, sources and costs.
"""

from spectral_audit.regularizers.attribution import attribution_curvature, attribution_drift
from spectral_audit.regularizers.jacobian import (
    jacobian_entropy,
    jacobian_frobenius,
    jacobian_spectral,
    random_directions,
)
from spectral_audit.regularizers.layers import layer_directions, layer_entropy, layer_spectral, spectrally_normalised
from spectral_audit.regularizers.parameters import gauss_newton_trace, gradient_norm, ntk_trace

__all__ = [
    "attribution_curvature",
    "attribution_drift",
    "gauss_newton_trace",
    "gradient_norm",
    "jacobian_entropy",
    "jacobian_frobenius",
    "jacobian_spectral",
    "layer_directions",
    "layer_entropy",
    "layer_spectral",
    "ntk_trace",
    "random_directions",
    "spectrally_normalised",
]
