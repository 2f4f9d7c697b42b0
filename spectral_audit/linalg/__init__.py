"""Spectra of linear operators: torch only, nothing about files or models."""
