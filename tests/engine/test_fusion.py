"""Convolutions in their faster form: the same function and the same first and second derivatives, or left alone."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from spectral_audit.admission import make_subject
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.lenses.space import HessianProducts, parameter_space
from spectral_audit.passes.fusion import Fused, Norm, fused, fusible
from spectral_audit.sweep import study

KINDS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}


def settled(model: nn.Module) -> nn.Module:
    """In eval mode and float64, with statistics and gains as after some training."""
    for module in model.modules():
        if isinstance(module, tuple(norm for _, norm in KINDS.values())):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, -1, 1)
                nn.init.uniform_(module.bias, -1, 1)
    return model.double().eval()


def net(axes: int, *, affine: bool = True, behind: bool = True, **options: object) -> nn.Module:
    convolution, norm = KINDS[axes]
    first = convolution(2, 4, 3, **options)
    layers = [first, *([norm(4, affine=affine)] if behind else []), nn.Tanh(), convolution(4, 3, 2, bias=False)]
    return settled(nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)))


CASES = {
    "1 axis": (1, {}),
    "2 axes": (2, {}),
    "3 axes": (3, {}),
    "groups": (2, {"groups": 2}),
    "stride, padding": (2, {"stride": 2, "padding": 1}),
    "dilation": (1, {"dilation": 2, "padding": 2}),
    "no bias": (2, {"bias": False}),
    "norm without gains": (2, {"affine": False}),
    "no norm": (2, {"behind": False}),
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        yield


def inputs(axes: int, n: int = 5) -> Tensor:
    return torch.randn(n, 2, *(6,) * axes, dtype=torch.float64)


def norm(name: str, affine: bool = True) -> Norm:
    """The names of a batch norm's tensors."""
    gain, shift = (f"{name}.weight", f"{name}.bias") if affine else (None, None)
    return Norm(gain, shift, f"{name}.running_mean", f"{name}.running_var", 1e-5)


def found(model: nn.Module, x: Tensor) -> Fused:
    with torch.no_grad():
        return fusible(model, x.split(3), torch.cat([model(part) for part in x.split(3)]))


def derivatives(model: nn.Module, x: Tensor, v: list[Tensor], plan: Fused) -> list[Tensor]:
    """Output, gradients, and second derivatives along v in the parameters and the input together."""
    x = x.clone().requires_grad_(True)
    leaves = [x, *model.parameters()]
    f = fused(model, plan, x)
    gradients = torch.autograd.grad(f.sin().sum(), leaves, create_graph=True, materialize_grads=True)
    again = [(g, part) for g, part in zip(gradients, v, strict=True) if g.requires_grad]
    outer, along = zip(*again, strict=True)
    return [f, *gradients, *torch.autograd.grad(outer, leaves, along, materialize_grads=True)]


@pytest.mark.parametrize(("axes", "options"), CASES.values(), ids=CASES.keys())
def test_all_derivatives_are_those_of_the_model_as_it_is_written(axes, options):
    x = inputs(axes)
    model = net(axes, **options)
    model(x)  # the lazy layer
    plan = found(model, x)
    behind = norm("1", options.get("affine", True)) if options.get("behind", True) else None
    assert plan == {"0.weight": behind, f"{len(model) - 4}.weight": None}
    v = [torch.randn_like(t) for t in (x, *model.parameters())]
    quick = derivatives(model, x, v, plan)
    for one, other in zip(quick, derivatives(model, x, v, {}), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("wanted", ["input", "weights"])
def test_second_derivatives_in_some_of_the_variables_only(wanted):
    x = inputs(2)
    model = net(2)
    model(x)
    plan = found(model, x)
    x.requires_grad_(True)
    leaves = [x] if wanted == "input" else list(model.parameters())
    v = [torch.randn_like(t) for t in leaves]

    def product(plan: Fused) -> tuple[Tensor, ...]:
        gradients = torch.autograd.grad(fused(model, plan, x).sin().sum(), leaves, create_graph=True)
        return torch.autograd.grad(gradients, leaves, v)

    for one, other in zip(product(plan), product({}), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


class Branching(nn.Module):
    """`how` says what else happens to the convolution, or to its output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        padding_mode = "circular" if how == "circular" else "zeros"
        padding = "same" if how == "named padding" else 1
        self.conv = nn.Conv2d(2, 2, 3, padding=padding, padding_mode=padding_mode)
        self.norm, self.other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.head = nn.Linear(72, 3)
        if how == "hook":
            self.conv.register_forward_hook(lambda m, i, o: 2 * o)
        if how == "parametrised":
            weight_norm(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.how == "twice":
            out = self.conv(out)
        if self.how == "normed twice":
            out = self.conv(self.norm(out))
        normed = self.other(out) if self.how == "routed" and float(x.mean()) > 0 else self.norm(out)
        if self.how == "overwritten":
            normed = normed.relu_()
        return self.head((normed + out if self.how == "skip" else normed).flatten(1))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("nothing", {"conv.weight": norm("norm")}),
        ("overwritten", {"conv.weight": norm("norm")}),
        ("normed twice", {"conv.weight": norm("norm")}),
        ("circular", {"conv.weight": norm("norm")}),
        ("skip", {"conv.weight": None}),
        ("twice", {"conv.weight": None}),
        ("hook", {"conv.weight": None}),
        ("parametrised", {}),
        ("named padding", {}),
    ],
)
def test_what_would_change_the_model_is_left_alone(how, expected):
    model = settled(Branching(how))
    x = inputs(2, 6)
    plan = found(model, x)
    assert plan == expected
    v = [torch.randn_like(t) for t in (x, *model.parameters())]
    for one, other in zip(derivatives(model, x, v, plan), derivatives(model, x, v, {}), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("other", ["routed", "skip"])
def test_an_output_that_goes_elsewhere_this_time_is_taken_as_it_is_written(other):
    model = settled(Branching("nothing"))
    x = inputs(2, 6).abs()
    plan = found(model, x)
    model.how = other
    assert fused(model, plan, x).equal(model(x))


def test_programs_run_the_same_operations(tmp_path):
    x = inputs(2).float()
    model = net(2).float()
    model(x)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    torch.jit.trace(model, (x,)).save(str(tmp_path / "model.ts"))
    for name in ("model.pt2", "model.ts"):
        program = load_checkpoint(tmp_path / name, trust="code").program
        plan = found(program, x)
        assert plan == {"0.weight": norm("1"), "3.weight": None}
        assert fused(program, plan, x).equal(fused(model, plan, x))


def test_hessian_products_run_through_it():
    x = inputs(2)
    model = net(2)
    model(x)
    subject = make_subject(model, x, torch.arange(5) % 3, loss="cross_entropy", dtype="float64")
    assert subject.fused == {"0.weight": norm("1"), "3.weight": None}
    plan = study(subject, torch.Generator().manual_seed(0))
    with parameter_space(subject, [*plan.structured, *plan.generic]) as space:
        v = space.random_vector(torch.Generator().manual_seed(1))
        products = HessianProducts(space)
        nodes = set()
        waiting = [g.grad_fn for graph in products._graphs for g in graph]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in nodes:
                nodes.add(node)
                waiting += [below for below, _ in node.next_functions]
        assert {"_ConvolutionBackward", "_BackwardBackward"} <= {node.name() for node in nodes}
        loss = subject.losses(subject.forward(subject.x), slice(0, 5)).mean()
        gradients = torch.autograd.grad(loss, space.parameters.values(), create_graph=True)
        expected = torch.autograd.grad(gradients, space.parameters.values(), space.split(v))
        torch.testing.assert_close(products(v), space.sum([expected]), rtol=1e-10, atol=1e-12)
