"""How a report speaks of explanations: sentences shared by the terminal and the Markdown writer."""

from __future__ import annotations

from spectral_audit.explanations import Attribution, Link, Piecewise, PresetReading, Sensitivity
from spectral_audit.reports.words import count, counted, estimated, number, percent, with_interval

# A continuous map drifts a tenth at a tenth of the radius, one with kinks everywhere √(1/10).
_JUMP = 0.5


def attribution_line(attribution: Attribution) -> str:
    """What was explained and how far it was moved."""
    target = f"the {attribution.target} class" if attribution.target in ("predicted", "label") else attribution.target
    relative = f" = {number(attribution.radius)} X" if attribution.radius is not None else ""
    place = f"{attribution.norm}, {attribution.space} space"
    shape = [attribution.sign] if attribution.sign != "signed" else []
    shape += ["channels pooled"] if attribution.channels != "kept" else []
    form = f" ({', '.join(shape)})" if shape else ""
    radius = number(attribution.radius_absolute)
    return f"{attribution.method}{form} of {target}, radius {radius}{relative} ({place})"


def score_line(attribution: Attribution) -> str:
    """The score in one line, or why there is none."""
    score = attribution.score
    if score.value is None:
        return f"Score undefined: {_why_no_score(attribution)}."
    worst = with_interval(attribution.score_worst, "worst")
    return f"Score {with_interval(score, 'random')}, {worst}; 1 = never moves."


def _why_no_score(attribution: Attribution) -> str:
    if attribution.random.mean.value is None:
        return "every attribution is zero"
    if attribution.worst.maximum == 0 and attribution.radius_absolute > 0:
        return "no gate of the model flipped within the radius, which is not stability: enlarge attribution.radius"
    return "all inputs of the probe set are equal, so a relative change means nothing"


def curvature_text(attribution: Attribution) -> str:
    """The condition numbers of the explanation, or why there are none."""
    curvature = attribution.curvature
    if attribution.piecewise_linear:
        return (
            "Piecewise linear: input curvature is zero almost everywhere, which is not stability: "
            "read the drifts at a finite radius above."
        )
    if curvature is None:
        return "Input curvature: not measured."
    note = ", unconverged" if curvature.status == "unconverged" else ""
    parted = attribution.parts_at
    first_order = (
        f"First order is off by more than 10 % from radius {number(parted)} on."
        if parted is not None
        else "First order holds within 10 % up to the largest radius."
    )
    predicted = any(point.random_predicted is not None for point in attribution.curve)
    return (
        f"Condition number {with_interval(curvature.condition_worst, 'worst')}, "
        f"{with_interval(curvature.condition_typical, 'typical')}. Input curvature ‖A‖₂ "
        f"{with_interval(curvature.spectral)}, ‖A‖_F {with_interval(curvature.frobenius)}, stable rank "
        f"{number(curvature.stable_rank.value)}, medians over samples; entropy {number(curvature.entropy.value)}; "
        f"relative residual at most {number(curvature.residual)}, standard error of ‖A‖_F "
        f"{percent(curvature.frobenius_stderr)}{note}." + (f" {first_order}" if predicted else "")
    )


def jump_text(attribution: Attribution) -> str:
    """Whether the drift does not go to zero with the radius: a tenth of the radius leaves most of it."""
    steps = [p for p in attribution.curve if p.random is not None]
    if len(steps) < 2 or not steps[1].random or (steps[0].random or 0) <= _JUMP * steps[1].random:
        return ""
    return (
        f"The explanation jumps at the samples themselves: radius {number(steps[0].radius_absolute)} still moves it by "
        f"{number(steps[0].random)}. Samples lie on kinks or beside them, as equal pixels do in max pooling."
    )


def sensitivity_text(found: Sensitivity) -> str:
    """The sampled measures of the literature in one line."""
    parts = [
        f"max-sensitivity {number(found.max_sensitivity.value)}",
        f"avg-sensitivity {number(found.avg_sensitivity.value)}",
        f"local Lipschitz {number(found.lipschitz.value)}",
    ]
    relative = (("input", found.relative_input_stability), ("output", found.relative_output_stability))
    parts += [f"relative {name} stability 10^{number(e.value)}" for name, e in relative if e is not None]
    return f"Sampled: {', '.join(parts)}."


def flips_text(attribution: Attribution) -> str:
    """The drift where the prediction held, and what was left out."""
    kept = [("random", attribution.random.same_class), ("worst", attribution.worst.same_class)]
    parts = [f"{name} {number(value)}" for name, value in kept if value is not None]
    flips = attribution.random.flips > 0 or attribution.worst.flips > 0
    text = f"Mean drift where the prediction held: {', '.join(parts)}." if flips and parts else ""
    if attribution.excluded:
        left = counted(attribution.excluded, "sample")
        text += f"{' ' if text else ''}{left} without a gradient left out."
    return text


def piecewise_text(facts: Piecewise) -> str:
    """What flips in a piecewise-linear model, and its smooth surrogate."""
    if facts.gates == 0:
        return "No gates: the model is linear in its input."
    samples = counted(facts.samples, "sample")
    text = (
        f"Of {count(facts.gates)} gates, {percent(facts.flips_random)} flip under the random and "
        f"{percent(facts.flips_worst)} under the worst perturbation ({samples})."
    )
    if facts.surrogate is not None:
        s = facts.surrogate
        text += (
            f" With softplus, β = {number(s.beta)}, for every ReLU the condition number is "
            f"{with_interval(s.condition_worst, 'worst')}, {with_interval(s.condition_typical, 'typical')}: "
            "that of another, smoother model."
        )
    return text


def link_text(link: Link) -> str:
    """A proven inequality with both sides as numbers."""
    certified = f"if {link.assumes}" if link.assumes else "certified"
    where = f"closest of {link.samples} samples" if link.samples > 1 else "at one sample"
    relation = "≥" if link.holds else "< (VIOLATED)"
    sides = f"bound {number(link.bound)} {relation} {estimated(link.measured, link.stderr)} measured"
    return f"Lipschitz constant, {link.name}: {sides} ({certified}; {where})."


def preset_text(preset: PresetReading) -> str:
    """A figure by another library's definition."""
    return (
        f"As {preset.name} defines it: max-sensitivity {with_interval(preset.max_sensitivity)}, {preset.explanation}, "
        f"{counted(preset.draws, 'draw')} in the cube of radius {number(preset.radius)}."
    )


def notes(attribution: Attribution) -> list[str]:
    """Everything to be said below the tables."""
    texts = [sensitivity_text(attribution.sensitivity)] if attribution.random.mean.value is not None else []
    texts.append(curvature_text(attribution))
    if attribution.piecewise is not None:
        texts[-1] += f" {piecewise_text(attribution.piecewise)}"
    texts += filter(None, [jump_text(attribution)])
    texts += [link_text(link) for link in attribution.links]
    texts += [preset_text(attribution.preset)] if attribution.preset is not None else []
    return [*texts, *filter(None, [flips_text(attribution)])]
