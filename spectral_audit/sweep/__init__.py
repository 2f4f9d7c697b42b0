"""One backward sweep over activations, from which Jacobians, kernels and Gauss–Newton spectra follow."""

from .engine import Sweep, TensorShare, sweep
from .study import Study, study

__all__ = ["Study", "Sweep", "TensorShare", "study", "sweep"]
