"""One backward sweep over activations, from which Jacobians, kernels and Gauss–Newton spectra follow."""

from .engine import Sweep, TensorShare, relative_scale, sweep
from .study import Study, study

__all__ = ["Study", "Sweep", "TensorShare", "relative_scale", "study", "sweep"]
