"""TorchScript run step by step computes what the compiled program does, and can be differentiated like any module."""

import io

import pytest
import torch
from torch import nn
from torch.func import functional_call

from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.inputs.checkpoints.scripted import Scripted, UnsupportedError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1])


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 3)
        self.rounds = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        seen = []
        k = 0
        while k < self.rounds:
            x = x * 2 if x.dim() == 2 else x
            seen.append(x)
            k += 1
        for j in range(1, 3):
            x = x + j * 0.1
        if x.shape[0] > 1000:
            raise ValueError("too many")
        return self.head(torch.stack(seen).sum(0) + x).view(x.size(0), -1)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x).mean(1)


MODELS = {
    "recurrent": (Recurrent, (3, 4), ("script", "trace")),
    "branching": (Branching, (4,), ("script", "trace")),
    "tied": (Tied, (4,), ("script", "trace")),
    "transformer": (Transformer, (3, 4), ("script",)),
    "upsampling": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(1, 2, 3, 2), nn.GroupNorm(1, 2), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        (1, 5, 5),
        ("script", "trace"),
    ),
    "sequences": (
        lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.PReLU(), nn.Dropout(), nn.Flatten()),
        (1, 8),
        ("script", "trace"),
    ),
    "resnet": (lambda: FAMILIES["torchvision_resnet"](outputs=3, width=8, blocks=[1, 1]), (3, 32, 32), ("script",)),
    "vit": (
        lambda: FAMILIES["vit"](channels=1, outputs=3, width=8, depth=1, heads=2, hidden=8, patch=4, size=8),
        (1, 8, 8),
        ("script", "trace"),
    ),
}
CASES = [(name, how) for name, (_, _, ways) in MODELS.items() for how in ways]


def scripted(model: nn.Module, how: str, x: torch.Tensor) -> Scripted:
    script = torch.jit.script(model) if how == "script" else torch.jit.trace(model, x)
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return Scripted(torch.jit.load(buffer))


@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_computes_what_the_module_does_to_the_last_digit(name, how):
    make, shape, _ = MODELS[name]
    torch.manual_seed(4)
    model, x = make().eval(), torch.randn(6, *shape)
    found = scripted(model, how, x)
    assert torch.equal(found(x[:4]), model(x[:4]))
    assert [key for key, _ in found.named_parameters()] == [key for key, _ in model.named_parameters()]


def test_it_can_be_called_with_other_weights_and_types():
    torch.manual_seed(4)
    model, x = Branching().eval(), torch.randn(6, 4)
    found = scripted(model, "script", x)
    other = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    assert torch.equal(functional_call(found, other, (x,)), functional_call(model, other, (x,)))
    assert torch.equal(found.double()(x.double()), model.double()(x.double()))


def test_what_it_does_not_run_is_named():
    class Files(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_file("/etc/hostname", size=1) + x

    with pytest.raises(UnsupportedError, match="from_file"):
        Scripted(torch.jit.script(Files()))
