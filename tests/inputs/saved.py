"""One small model in every format the README lists, each file written by the library whose format it is."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

SHAPE = (1, 6, 6)
NET = """
from collections import OrderedDict
from torch import nn

def build():
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), act=nn.Tanh(), flat=nn.Flatten(), head=nn.Linear(32, 3),
    ))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for name, layer in build().named_children():
            self.add_module(name, layer)

    def forward(self, x):
        return self.head(self.flat(self.act(self.norm(self.conv(x)))))
"""


def model() -> nn.Sequential:
    """A net whose outputs and statistics are those of no default."""
    torch.manual_seed(7)
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 2, 3), norm=nn.BatchNorm2d(2), act=nn.Tanh(), flat=nn.Flatten(), head=nn.Linear(32, 3)
        )
    )
    net(torch.randn(20, *SHAPE))
    return net.eval()


@dataclass(frozen=True)
class Row:
    """How a format is written, the trust that scoring takes, and whether the file brings its architecture."""

    write: Callable[[Path, nn.Sequential], Path]
    trust: str = "none"
    brings: bool = False


def _saved(folder: Path, value: object, name: str = "model.pt", **options: object) -> Path:
    torch.save(value, folder / name, **options)
    return folder / name


def _zip(folder: Path, net: nn.Sequential) -> Path:
    return _saved(folder, net.state_dict())


def _legacy(folder: Path, net: nn.Sequential) -> Path:
    return _saved(folder, net.state_dict(), _use_new_zipfile_serialization=False)


def _nested(folder: Path, net: nn.Sequential) -> Path:
    # The average is another set of weights; what training would go on from is the usual choice.
    shadow = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters()).state_dict()
    stored = {
        "model_state": net.state_dict(),
        "ema": {"shadow": shadow, "decay": 0.99},
        "optimizer": optimizer,
        "step": 3,
    }
    return _saved(folder, stored)


def _ema(folder: Path, net: nn.Sequential) -> Path:
    averaged = torch.optim.swa_utils.AveragedModel(net)
    return _saved(folder, {"state_dict": averaged.state_dict(), "epoch": 3})


def _lightning(folder: Path, net: nn.Sequential) -> Path:
    stored = {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict((f"model.{name}", tensor) for name, tensor in net.state_dict().items()),
        "loops": {},
        "callbacks": {},
        "optimizer_states": [torch.optim.AdamW(net.parameters()).state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 2},
    }
    return _saved(folder, stored, "last.ckpt")


def _compiled(folder: Path, net: nn.Sequential) -> Path:
    return _saved(folder, {f"_orig_mod.module.{name}": tensor for name, tensor in net.state_dict().items()})


def _safetensors(folder: Path, net: nn.Sequential) -> Path:
    save_file(net.state_dict(), folder / "model.safetensors")
    return folder / "model.safetensors"


def _shards(folder: Path, net: nn.Sequential) -> Path:
    state = net.state_dict()
    parts = {"model-00001-of-00002.safetensors": list(state)[:3], "model-00002-of-00002.safetensors": list(state)[3:]}
    for file, names in parts.items():
        save_file({name: state[name] for name in names}, folder / file)
    placed = {name: file for file, names in parts.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return index


def _described(folder: Path, net: nn.Sequential) -> Path:
    _shards(folder, net)
    (folder / "config.json").write_text(json.dumps({"width": 2}))
    return folder


def _distributed(folder: Path, net: nn.Sequential) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": net.state_dict(), "epoch": 3}, checkpoint_id=folder / "dcp", no_dist=True)
    return folder / "dcp"


def _module(folder: Path, net: nn.Sequential) -> Path:
    return _saved(folder, net)


def _own_classes(folder: Path, net: nn.Sequential) -> Path:
    return _saved(folder, _user_model(folder, net))


def _pickle(folder: Path, net: nn.Sequential) -> Path:
    (folder / "model.pkl").write_bytes(pickle.dumps(_user_model(folder, net)))
    return folder / "model.pkl"


def _user_model(folder: Path, net: nn.Sequential) -> nn.Module:
    """The same weights in a class of the user's own, which lies in the working directory."""
    (folder / "own_net.py").write_text(NET)
    sys.path.insert(0, str(folder))
    try:
        sys.modules.pop("own_net", None)
        own: nn.Module = importlib.import_module("own_net").Net()
    finally:
        sys.path.remove(str(folder))
    own.load_state_dict(net.state_dict())
    return own.eval()


def _script(folder: Path, net: nn.Sequential) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net), folder / "script.pt")
    return folder / "script.pt"


def _trace(folder: Path, net: nn.Sequential) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, torch.zeros(2, *SHAPE)), folder / "trace.pt")
    return folder / "trace.pt"


def _exported(folder: Path, net: nn.Sequential) -> Path:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (torch.zeros(2, *SHAPE),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def _fixed(folder: Path, net: nn.Sequential) -> Path:
    torch.export.save(torch.export.export(net, (torch.zeros(1, *SHAPE),)), folder / "fixed.pt2")
    return folder / "fixed.pt2"


# The rows of the README's table.
ROWS: dict[str, Row] = {
    "safetensors": Row(_safetensors),
    "safetensors in shards, by their index or directory": Row(_shards),
    "directory with a config.json, Hugging Face": Row(_described),
    "`torch.save` state dict": Row(_zip),
    "`torch.save` state dict, legacy": Row(_legacy),
    "training checkpoint, nested, with EMA": Row(_nested),
    "averaged, parallel or compiled model's state dict": Row(_ema),
    "Lightning `.ckpt`": Row(_lightning),
    "distributed checkpoint, directory": Row(_distributed),
    "pickled module of torch.nn's own layers": Row(_module, brings=True),
    "pickled module of other classes": Row(_own_classes, "pickle", brings=True),
    "plain pickle": Row(_pickle, "pickle", brings=True),
    "TorchScript, scripted": Row(_script, "code", brings=True),
    "TorchScript, traced": Row(_trace, "code", brings=True),
    "exported program (`.pt2`)": Row(_exported, "code", brings=True),
    "exported program for one batch size": Row(_fixed, "code", brings=True),
}
# Further ways to write a row.
VARIANTS: dict[str, Row] = {"compiled and parallel": Row(_compiled)}
