"""Are the presets what they say? Our max-sensitivity beside captum's and Quantus' own, on the same model and images.

    .venv-bench/bin/python studies/peers_attribution.py [--samples 64] [--draws 200]

The model and the images are the sample model `mnist_cnn_relu` and its probe set. With the same seed the random numbers
are the same; with another, the means agree within the sampling error of their difference.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import quantus
import torch
from attribution_models import load
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from torch import Tensor

from spectral_audit.lenses.attribution import max_sensitivity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    subject = load("mnist_cnn_relu", options.samples)
    target = subject.forward(subject.x).argmax(1)
    print("| preset | seed | ours, mean | theirs, mean | largest difference | standard error of the difference |")
    print("|---|---|---|---|---|---|")
    torch.manual_seed(0)
    theirs = sensitivity_max(Saliency(subject.model).attribute, subject.x.clone(), target=target)
    report("captum", "the same", max_sensitivity(subject, "captum", seed=0), theirs)
    for name, seed in (("the same", 0), ("another", 1)):
        np.random.seed(seed)
        metric = quantus.MaxSensitivity(nr_samples=options.draws, disable_warnings=True)
        scores = metric(
            model=subject.model,
            x_batch=subject.x.numpy(),
            y_batch=target.numpy(),
            explain_func=quantus.explain,
            explain_func_kwargs={"method": "Gradient"},
            device="cpu",
        )
        ours = max_sensitivity(subject, "quantus", seed=0, draws=options.draws)
        report("quantus", name, ours, torch.as_tensor(np.asarray(scores)))


def report(preset: str, seed: str, ours: Tensor, theirs: Tensor) -> None:
    ours, theirs = ours.detach().double(), theirs.detach().double()
    difference = ours - theirs
    stderr = float(difference.std()) / math.sqrt(len(difference))
    print(
        f"| {preset} | {seed} | {float(ours.mean()):.6f} | {float(theirs.mean()):.6f} | "
        f"{float(difference.abs().max()):.1e} | {stderr:.1e} |"
    )


if __name__ == "__main__":
    main()
