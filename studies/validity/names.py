"""What is compared with what, named before the results were seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A figure of the audit that is said to rank models by a damage, with a correlation of at least 0.9."""

    title: str
    quantity: str
    damage: str


CLAIMS = (
    Claim("input axis (typical) and random input noise", "input.typical", "noise"),
    Claim("weights axis (typical) and random weight noise", "weights.typical", "shaken"),
    Claim("attribution condition number and attacked drift, 0.1 X", "secant.worst", "attacked.0.1"),
)
BAR = 0.9

OURS = {
    "input.worst": "input, worst",
    "input.typical": "input, typical",
    "weights.worst": "weights, worst",
    "weights.typical": "weights, typical",
    "kernel.worst": "kernel, worst",
    "kernel.typical": "kernel, typical",
    "curvature.worst": "curvature, worst",
    "curvature.typical": "curvature, typical",
    "gmsi.worst": "GMSI, worst",
    "gmsi.typical": "GMSI, typical",
    "secant.worst": "attribution condition number, secant at 0.1 X, searched",
    "secant.random": "the same, random draws",
    "condition.worst": "attribution condition number ‖A‖₂X/‖a‖ (smooth models)",
    "attribution.score": "1 − attribution score",
    "attribution.score_worst": "1 − attribution score, worst",
}
RAW = {
    "raw.jacobian": "‖J‖₂",
    "raw.parameter_jacobian": "‖G‖₂",
    "raw.ntk": "λmax(Θ)",
    "raw.ntk_trace": "λmax(K)/n",
    "raw.hessian": "‖H‖₂",
}
PEERS = {
    "lambda_max": "λmax(H)",
    "trace": "tr H",
    "captum.sensitivity_max": "max-sensitivity, captum's default radius",
    "sensitivity_max": "max-sensitivity at 0.1 X",
    "accuracy": "1 − accuracy",
    "loss": "loss",
    "weights.frobenius": "‖θ‖_F",
    "weights.log_frobenius": "mean log ‖W‖_F²",
    "weights.log_spectral": "mean log ‖W‖₂²",
    "weights.stable_rank": "mean stable rank",
    "weights.alpha": "exponent α",
    "weights.alpha_weighted": "weighted α",
}
PARTS = {"margin": "median margin M, negative", "entropy.jacobian": "entropy of J", "entropy.ntk": "entropy of Θ"}
FALLING = {"accuracy", "margin", "attribution.score", "attribution.score_worst"}
"""Higher is better: their negatives are correlated."""

DAMAGES = {
    "noise": "input noise",
    "pgd": "L2-PGD",
    "corrupted": "corruptions",
    "shaken": "weight noise",
    "rounded.8": "8 bits",
    "rounded.4": "4 bits",
    "rounded.3": "3 bits",
    "pruned.0.3": "pruned 30 %",
    "pruned.0.6": "pruned 60 %",
    "pruned.0.8": "pruned 80 %",
    "fine-tuning": "1/stable step",
    "drift.0.1": "random drift",
    "attacked.0.03": "attack, 0.03 X",
    "attacked.0.1": "attack, 0.1 X",
}
