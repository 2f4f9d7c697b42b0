"""Audits trained PyTorch models: spectra, one stability index, and how stable the explanations are."""

__version__ = "0.1.0"
