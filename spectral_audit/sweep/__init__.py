"""One backward sweep over activations, from which Jacobians, kernels and Gauss–Newton spectra follow."""

from .engine import Sweep, TensorShare, input_singular_values, raw_kernel, relative_scale, sweep
from .needs import Needs, exact_needs
from .probe import gradient_norms
from .study import Study, study

__all__ = [
    "Needs",
    "Study",
    "Sweep",
    "TensorShare",
    "exact_needs",
    "gradient_norms",
    "input_singular_values",
    "raw_kernel",
    "relative_scale",
    "study",
    "sweep",
]
