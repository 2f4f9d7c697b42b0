"""Architectures recognised from names and shapes, prefixes that wrappers leave, tied weights, and partial loading."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.inputs.architectures.architecture import LoadedModel, build_model
from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.inputs.architectures.recognise import recognise
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.spec import ModelSpec


def loaded(path: Path, state: dict[str, torch.Tensor], **options) -> LoadedModel:
    torch.save(state, path / "model.pt")
    return from_file(path / "model.pt", **options)


def from_file(path: Path, **options) -> LoadedModel:
    settings = {"spec_dir": None, "arch": None, "arch_kwargs": {}, "trust": "none", **options}
    return build_model(load_checkpoint(path), ModelSpec(), **settings)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def lenet5() -> nn.Sequential:
    layers = OrderedDict(
        conv1=nn.Conv2d(1, 6, 5), r1=nn.ReLU(), p1=nn.MaxPool2d(2), conv2=nn.Conv2d(6, 16, 5), r2=nn.ReLU()
    )
    layers |= OrderedDict(p2=nn.MaxPool2d(2), flat=nn.Flatten(), fc1=nn.Linear(256, 120), r3=nn.ReLU())
    layers |= OrderedDict(fc2=nn.Linear(120, 84), r4=nn.ReLU(), fc3=nn.Linear(84, 10))
    return nn.Sequential(layers)


MODELS = {
    "mlp": (lambda: FAMILIES["mlp"](inputs=4, hidden=[4, 4], outputs=4), (4,)),
    "linear": (lambda: nn.Sequential(nn.Linear(4, 2)), (4,)),
    "numbered": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(),
                                       nn.Linear(4, 4)), (4,)),
    "cnn": (lambda: FAMILIES["cnn"](channels=2, outputs=3, width=3, hidden=5, size=8), (2, 8, 8)),
    "lenet": (lenet5, (1, 28, 28)),
    "resnet18": (lambda: FAMILIES["torchvision_resnet"](outputs=4, width=8), (3, 32, 32)),
    "resnet34": (lambda: FAMILIES["torchvision_resnet"](outputs=4, width=4, blocks=[3, 4, 6, 3]), (3, 32, 32)),
    "resnet50": (lambda: FAMILIES["torchvision_resnet"](outputs=4, width=8, blocks=[3, 4, 6, 3], bottleneck=True),
                 (3, 32, 32)),
    "small resnet": (lambda: FAMILIES["torchvision_resnet"](channels=1, outputs=4, width=8, stem=3), (1, 8, 8)),
    "vit": (lambda: FAMILIES["vit"](channels=1, outputs=3, width=128, depth=2, heads=2, hidden=32, patch=4, size=8),
            (1, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_recognised_net_computes_what_the_saved_one_did(name, tmp_path):
    make, shape = MODELS[name]
    torch.manual_seed(1)
    model, x = make(), torch.randn(3, *shape)
    model.train()(x)
    model.eval()
    for path in (tmp_path / "model.pt", tmp_path / "model.safetensors"):
        if path.suffix == ".pt":
            torch.save(model.state_dict(), path)
        else:
            save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, path)
        found = from_file(path)
        torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=0)
        assert bool(found.assumed) == (name != "linear")


# Names and shapes of torchvision.models.resnet18, resnet50 and resnext50_32x4d, and of timm's vit_small_patch16_224.
PUBLISHED = {
    "resnet18": ({}, 11_689_512, 122, "layer4.1.bn2.running_var"),
    "resnet50": ({"blocks": [3, 4, 6, 3], "bottleneck": True}, 25_557_032, 320, "layer1.0.downsample.1.weight"),
    "resnext50": (
        {"blocks": [3, 4, 6, 3], "bottleneck": True, "groups": 32, "group_width": 4},
        25_028_904,
        320,
        "layer4.2.bn3.num_batches_tracked",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_resnets_have_torchvisions_size_and_names(name):
    kwargs, parameters, entries, key = PUBLISHED[name]
    with torch.device("meta"):
        model = FAMILIES["torchvision_resnet"](**kwargs)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries
    assert key in model.state_dict()
    found = recognise(shapes(model))
    assert found is not None
    with torch.device("meta"):
        assert shapes(FAMILIES[found.family](**found.kwargs)) == shapes(model)


def test_the_small_vit_has_timms_size_and_names():
    with torch.device("meta"):
        model = FAMILIES["vit"]()
    assert sum(p.numel() for p in model.parameters()) == 22_050_664
    assert len(model.state_dict()) == 152
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.11.attn.qkv.bias", "head.weight"} <= set(
        model.state_dict()
    )
    found = recognise(shapes(model))
    assert found.kwargs["heads"] == 6
    assert found.kwargs["size"] == 224


def test_an_activation_can_be_corrected(tmp_path):
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(3, 4)
    assumed = loaded(tmp_path, net.state_dict())
    assert "ReLU between the layers" in assumed.assumed[0]
    corrected = loaded(tmp_path, net.state_dict(), arch_kwargs={"activation": "tanh"})
    torch.testing.assert_close(corrected.model(x), net(x), rtol=0, atol=0)
    with pytest.raises(UsageError, match="activation"):
        loaded(tmp_path, net.state_dict(), arch_kwargs={"activation": "tanj"})


@pytest.mark.parametrize(
    "state",
    [
        # Equal widths and names without numbers: two orders fit.
        {"first.weight": torch.ones(4, 4), "second.weight": torch.ones(4, 4)},
        {"a.weight": torch.ones(4, 3), "b.weight": torch.ones(2, 5)},
        {"a.weight": torch.ones(4, 3), "norm.weight": torch.ones(4)},
        {"w": torch.ones(4, 3)},
        {"cls_token": torch.ones(1, 1, 8), "pos_embed": torch.ones(1, 5, 8), "patch_embed.proj.weight": torch.ones(2)},
    ],
)
def test_what_is_not_certain_is_not_guessed(tmp_path, state):
    with pytest.raises(RefusedError, match="nothing says which architecture"):
        loaded(tmp_path, state)


def test_prefixes_go_where_the_model_has_none(tmp_path):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    for prefix in ("model.", "net.", "model._orig_mod.", "module.model."):
        found = loaded(tmp_path, {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()})
        x = torch.randn(3, 4)
        torch.testing.assert_close(found.model(x), net(x), rtol=0, atol=0)
    # A model whose own names carry it keeps it.
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Outer(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
    )
    inner = nn.Linear(4, 2)
    state = {f"model.{name}": tensor for name, tensor in inner.state_dict().items()}
    kept = loaded(tmp_path, state, arch=f"{tmp_path / 'net.py'}:Outer")
    assert kept.notes == ()
    assert torch.equal(kept.model.model.weight, inner.weight)


def test_tied_weights_stored_once_fill_both_names(tmp_path):
    (tmp_path / "tied.py").write_text(
        "from torch import nn\n"
        "class Tied(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "        self.b.weight = self.a.weight\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x))\n"
    )
    scope: dict = {}
    exec((tmp_path / "tied.py").read_text(), scope)
    net = scope["Tied"]()
    save_model(net, str(tmp_path / "model.safetensors"))
    found = from_file(tmp_path / "model.safetensors", arch=f"{tmp_path / 'tied.py'}:Tied")
    assert found.model.a.weight is found.model.b.weight
    x = torch.randn(3, 4)
    torch.testing.assert_close(found.model(x), net(x), rtol=0, atol=0)
    state = net.state_dict()
    del state["b.weight"]
    found = loaded(tmp_path, state, arch=f"{tmp_path / 'tied.py'}:Tied")
    torch.testing.assert_close(found.model(x), net(x), rtol=0, atol=0)
    assert found.notes == ("tied weights stored once: b.weight is a.weight",)


def test_a_part_is_loaded_only_when_that_is_allowed(tmp_path):
    state = FAMILIES["mlp"](inputs=4, hidden=[5], outputs=3).state_dict()
    state["head.weight"] = torch.ones(7, 5)
    del state["head.bias"]
    options = {"arch": "mlp", "arch_kwargs": {"inputs": 4, "hidden": [5], "outputs": 3}}
    with pytest.raises(RefusedError, match="do not fit"):
        loaded(tmp_path, state, **options)
    found = loaded(tmp_path, state, allow_partial=True, **options)
    assert torch.equal(found.model.linear1.weight, state["linear1.weight"])
    assert found.missing == (
        "1 missing from the checkpoint: head.bias",
        "1 of another shape: head.weight (file (7, 5), model (3, 5))",
    )
    with pytest.raises(RefusedError, match="do not fit"):
        loaded(tmp_path, {"other": torch.ones(2)}, allow_partial=True, **options)


def test_a_partial_report_says_so(case, cli):
    del case.state["head.bias"]
    case.save()
    assert cli("score", case.model).code == 3
    ended = cli("score", case.model, "--allow-partial", "-f", "json")
    assert ended.code == 0
    report = json.loads(ended.out)
    assert report["model"]["partial"] is True
    (finding,) = [f for f in report["findings"] if f["code"] == "checkpoint.partial"]
    assert finding["severity"] == "warning"
    assert "1 missing from the checkpoint: head.bias" in finding["message"]


def test_a_recognised_net_is_said_to_be_a_guess(case, cli):
    del case.keys["model"]
    case.save()
    report = json.loads(cli("score", case.model, "-f", "json").out)
    assert report["model"]["architecture"] == "mlp(inputs=4, hidden=[5], outputs=3)"
    assert [f["severity"] for f in report["findings"] if f["code"] == "architecture.assumed"] == ["warning"]


def test_an_architecture_larger_than_its_file_is_not_built(tmp_path):
    kwargs = {"inputs": 2_000_000, "hidden": [2_000_000], "outputs": 2}
    header = {"spectral_audit.architecture": "mlp", "spectral_audit.kwargs": json.dumps(kwargs)}
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors", metadata=header)
    with pytest.raises(RefusedError, match="bytes for 8 bytes of weights"):
        from_file(tmp_path / "model.safetensors")
