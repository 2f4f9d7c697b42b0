"""Attribution methods: from a sample to a map of the same shape that says what its output hangs on.

A method maps (x, target), (m, *shape) and (m,), to attributions (m, *shape) and the outputs f(x) (m, C). All of them
are deterministic: SmoothGrad's noise is drawn once and shared by all samples, so that its drift is the map's and not
the noise's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spectral_audit.errors import AuditError, RefusedError, UsageError, nearest
from spectral_audit.explanations import METHODS
from spectral_audit.lenses.attribution.settings import AttributionSettings, Callback
from spectral_audit.memory import out_of_memory
from spectral_audit.subject import Subject, first_line

Method = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor]"]


class Net:
    """First gradients of a subject's explained outputs, counted per sample."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.gradients = 0
        self.largest = 0.0  # ‖∇f_c‖ seen by SmoothGrad, for its bound

    def gradient(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """∂f_c/∂x (m, *shape) for c = `target` (m,), and f (m, C)."""
        part = self.subject.leaf(x)
        f = self.subject.forward_fused(part)
        (g,) = torch.autograd.grad(f.gather(1, target[:, None]).sum(), part, materialize_grads=True)
        self.gradients += len(x)
        return g.contiguous(), f.detach()

    def outputs(self, x: Tensor) -> Tensor:
        """f (m, C) without a graph."""
        with torch.no_grad():
            return self.subject.forward_fused(x)


def input_x_gradient(net: Net) -> Method:
    """a(x) = x ∘ ∇f_c(x) (Shrikumar et al. 2016, arXiv 1605.01713), in model-input units."""

    def explain(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        g, f = net.gradient(x, target)
        return x * g, f

    return explain


def integrated_gradients(net: Net, steps: int) -> Method:
    """a(x) = x ∘ ∫₀¹ ∇f_c(tx) dt by the midpoint rule (Sundararajan et al. 2017, arXiv 1703.01365).

    The baseline is zero in model-input units: the mean image where inputs are standardised.
    """

    def explain(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(x)
        for k in range(steps):
            total += net.gradient(x * ((k + 0.5) / steps), target)[0]
        return x * total / steps, net.outputs(x)

    return explain


def smoothgrad(net: Net, noise: Tensor) -> Method:
    """a(x) = mean_k ∇f_c(x + z_k) for the rows z_k of `noise` (K, *shape) (Smilkov et al. 2017, arXiv 1706.03825)."""

    def explain(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(x)
        for z in noise:
            g = net.gradient(x + z, target)[0]
            net.largest = max(net.largest, float(g.flatten(1).norm(dim=1).max()))
            total += g
        return total / len(noise), net.outputs(x)

    return explain


def called(net: Net, name: str, function: Callback) -> Method:
    """The user's own function of (forward, x, target), checked for shape, finiteness and repeatability."""
    repeats = False

    def explain(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal repeats
        a = call(x, target)
        if not repeats:
            again = call(x, target)
            if not torch.allclose(a, again, rtol=1e-3, atol=1e-6 * float(a.abs().max())):
                raise _unusable(name, "another result for the same samples: draw random numbers from a fixed seed")
            repeats = True
        net.gradients += len(x)
        return a.detach().to(x).contiguous(), net.outputs(x)

    def call(x: Tensor, target: Tensor) -> Tensor:
        try:
            with torch.enable_grad():
                a = function(net.subject.forward, net.subject.leaf(x), target)
        except AuditError:
            raise
        except (Exception, SystemExit) as error:  # the user's own code runs here, and may end in any way
            if out_of_memory(error):
                raise
            raise _unusable(name, f"it says: {first_line(error)}") from error
        if not isinstance(a, Tensor) or a.shape[:1] != x.shape[:1] or a.ndim != x.ndim:
            raise _unusable(name, f"shape {tuple(a.shape)}" if isinstance(a, Tensor) else f"a {type(a).__name__}")
        if any(own not in (1, theirs) for own, theirs in zip(a.shape[1:], x.shape[1:], strict=True)):
            raise _unusable(name, f"shape {tuple(a.shape)} for inputs {tuple(x.shape)}")
        if not a.isfinite().all():
            raise _unusable(name, "NaN or infinity")
        return a

    return explain


def _unusable(name: str, found: str) -> RefusedError:
    return RefusedError(
        f"the attribution {name} cannot be used",
        expected="a finite tensor with one row per sample and every other axis as long as the input's, or 1",
        found=found,
        remedy="call it in Python with (model, x, target), and correct it",
    )


def noise_scale(subject: Subject, settings: AttributionSettings) -> float:
    """SmoothGrad's σ in model-input units: a share of the probe set's range, as in the paper."""
    return settings.smooth_noise * float(subject.x.max() - subject.x.min())


def make_method(name: str, net: Net, settings: AttributionSettings, generator: torch.Generator) -> Method:
    """The method of a name; raises UsageError for one that is neither built in nor among `settings.functions`."""
    subject = net.subject
    if name in settings.functions:
        return called(net, name, settings.functions[name])
    if name == "gradient":
        return net.gradient
    if name == "input_x_gradient":
        return input_x_gradient(net)
    if name == "integrated_gradients":
        return integrated_gradients(net, settings.ig_steps)
    if name == "smoothgrad":
        shape = (settings.smooth_draws, *subject.x.shape[1:])
        noise = torch.randn(shape, generator=generator, dtype=torch.float64) * noise_scale(subject, settings)
        return smoothgrad(net, noise.to(subject.x))
    raise UsageError(
        f"attribution.methods: there is no method `{name}`",
        expected=f"{', '.join(METHODS)}, or file.py:function",
        found=name,
        remedy=nearest(name, METHODS),
    )
