"""The sample models and images that the studies of attributions run on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spectral_audit.admission import make_subject
from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.data.dataset import load_probe
from spectral_audit.inputs.spec import load_spec
from spectral_audit.subject import Subject

FOLDER = Path(__file__).resolve().parent.parent / "sample_models"


def load(name: str, samples: int) -> Subject:
    """A sample model on the first samples of its probe set."""
    spec = load_spec(FOLDER / f"{name}.audit.yaml")
    checkpoint = load_checkpoint(FOLDER / f"{name}.safetensors")
    loaded = build_model(checkpoint, spec.model, spec_dir=FOLDER, arch=None, arch_kwargs={}, trust="none")
    probe = load_probe(replace(spec, sample=replace(spec.sample, n=samples)))
    return make_subject(loaded.model, probe.x, probe.y, loss="cross_entropy")
