"""Files that would run code if they were loaded the usual way: none does, and each is refused with what was found."""

import json
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
import yaml

from tests.inputs.saved import ROWS, SHAPE, model


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


class Attack:
    """A folder with an honest spec, a canary, and a checkpoint under attack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "canary"
        self.payload = Payload(self.canary)
        np.savez(folder / "probe.npz", x=np.zeros((4, *SHAPE), np.float32), y=np.zeros(4, int))
        (folder / "audit.yaml").write_text("data: {path: probe.npz}\n")

    def honest(self, name: str) -> Path:
        """A file of a row of the README's table."""
        (self.folder / "honest").mkdir()
        return ROWS[name].write(self.folder / "honest", model())

    def saved(self, value: object, **options: object) -> Path:
        torch.save(value, self.folder / "model.pt", **options)
        return self.folder / "model.pt"

    def pickle(self) -> bytes:
        return pickle.dumps(self.payload, protocol=2)

    def zipped(self, source: Path, **changes: bytes) -> Path:
        """The archive with these records replaced or added."""
        target = self.folder / "attack.pt2"
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
            root = old.namelist()[0].split("/")[0]
            records = {name: old.read(name) for name in old.namelist()}
            for name, blob in (records | {f"{root}/{name}": blob for name, blob in changes.items()}).items():
                new.writestr(name, blob)
        return target

    def torch_pickle(self) -> bytes:
        """What torch.save writes for the payload."""
        path = self.saved(self.payload)
        blob = path.read_bytes()
        path.unlink()
        return blob


ATTACKS: dict[str, tuple[Callable[[Attack], Path], str]] = {}


def attack(found: str) -> Callable[[Callable[[Attack], Path]], Callable[[Attack], Path]]:
    """Register a malicious file, and what the refusal must say was found."""

    def register(write: Callable[[Attack], Path]) -> Callable[[Attack], Path]:
        ATTACKS[write.__name__] = write, found
        return write

    return register


@attack("builtins.exec")
def plain_pickle_named_pt(a: Attack) -> Path:
    path = a.folder / "model.pt"
    path.write_bytes(a.pickle())
    return path


@attack("builtins.exec")
def pickle_in_a_state_dict(a: Attack) -> Path:
    return a.saved({**model().state_dict(), "extra": a.payload})


@attack("builtins.exec")
def pickle_in_a_legacy_file(a: Attack) -> Path:
    return a.saved({**model().state_dict(), "extra": a.payload}, _use_new_zipfile_serialization=False)


@attack("builtins.exec")
def pickle_deep_in_a_nested_checkpoint(a: Attack) -> Path:
    return a.saved({"state_dict": model().state_dict(), "callbacks": {"early": [{"best": a.payload}]}})


@attack("builtins.exec")
def hyperparameters_of_a_lightning_checkpoint(a: Attack) -> Path:
    stored = {"state_dict": model().state_dict(), "pytorch-lightning_version": "2.5.0", "hyper_parameters": a.payload}
    return a.saved(stored)


@attack("builtins.exec")
def hook_in_a_pickled_module(a: Attack) -> Path:
    net = model()
    net.payload = a.payload
    return a.saved(net)


@attack("forward in `act`")
def replaced_method_of_a_plain_module(a: Attack) -> Path:
    net = model()
    net.act.forward = torch.Size  # a harmless global stands for one that is not
    return a.saved(net)


@attack("builtins.exec")
def sample_inputs_of_an_exported_program(a: Attack) -> Path:
    return a.zipped(a.honest("exported program (`.pt2`)"), **{"data/sample_inputs/model.pt": a.torch_pickle()})


@attack("builtins.exec")
def weights_of_an_exported_program(a: Attack) -> Path:
    return a.zipped(a.honest("exported program (`.pt2`)"), **{"data/weights/weight_0": a.torch_pickle()})


@attack("builtins.exec")
def constants_of_an_exported_program(a: Attack) -> Path:
    return a.zipped(a.honest("exported program (`.pt2`)"), **{"data/constants/tensor_0": a.torch_pickle()})


@attack("data/aotinductor/model/code.so")
def compiled_code_in_an_exported_program(a: Attack) -> Path:
    return a.zipped(a.honest("exported program (`.pt2`)"), **{"data/aotinductor/model/code.so": b"\x7fELF"})


@attack("builtins.exec")
def table_of_a_distributed_checkpoint(a: Attack) -> Path:
    folder = a.honest("distributed checkpoint, directory")
    table = pickle.loads((folder / ".metadata").read_bytes())
    table.planner_data = a.payload
    (folder / ".metadata").write_bytes(pickle.dumps(table))
    return folder


@attack("not callable")
def attributes_reached_by_the_table_of_a_distributed_checkpoint(a: Attack) -> Path:
    """Metadata.__subclasses__(): the first step of a chain that needs no name but getattr."""
    folder = a.honest("distributed checkpoint, directory")
    reach = b"cbuiltins\ngetattr\n(ctorch.distributed.checkpoint.metadata\nMetadata\nX\x0e\0\0\0__subclasses__tR"
    (folder / ".metadata").write_bytes(b"\x80\x02" + reach + b")R.")
    return folder


@attack("builtins.exec")
def piece_of_a_distributed_checkpoint(a: Attack) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"w": torch.ones(3)}, checkpoint_id=a.folder / "dcp", no_dist=True)
    blob = a.torch_pickle()
    size = (a.folder / "dcp" / "__0_0.distcp").stat().st_size
    (a.folder / "dcp" / "__0_0.distcp").write_bytes(blob)
    table = pickle.loads((a.folder / "dcp" / ".metadata").read_bytes())
    for place in table.storage_data.values():
        place.length = len(blob)
    (a.folder / "dcp" / ".metadata").write_bytes(pickle.dumps(table))
    assert size != len(blob)
    return a.folder / "dcp"


@attack("posix.system")
def extra_file_in_a_torchscript_archive(a: Attack) -> Path:
    system = b"cposix\nsystem\n(Vtouch " + str(a.canary).encode() + b"\ntR."
    return a.zipped(a.honest("TorchScript, scripted"), **{"extra/evil.pkl": system})


@attack("run.sh")
def foreign_record_in_a_torchscript_archive(a: Attack) -> Path:
    return a.zipped(a.honest("TorchScript, scripted"), **{"run.sh": b"touch canary"})


@attack("builtins.exec")
def data_of_a_torchscript_archive(a: Attack) -> Path:
    return a.zipped(a.honest("TorchScript, scripted"), **{"data.pkl": a.pickle()})


@attack("../../canary")
def record_names_that_lead_out_of_the_archive(a: Attack) -> Path:
    return a.zipped(a.honest("`torch.save` state dict"), **{"../../canary": b"here"})


@attack("DATA.pkl")
def second_pickle_beside_the_first(a: Attack) -> Path:
    return a.zipped(a.honest("`torch.save` state dict"), **{"DATA.pkl": a.pickle()})


@attack("../../../canary")
def shards_outside_the_directory(a: Attack) -> Path:
    index = a.honest("safetensors in shards, by their index or directory")
    index.write_text(json.dumps({"weight_map": {"conv.weight": "../../../canary"}}))
    return index


@attack("builtins.exec")
def shard_that_is_a_pickle(a: Attack) -> Path:
    index = a.honest("safetensors in shards, by their index or directory")
    index.write_text(json.dumps({"weight_map": {"conv.weight": "model.bin"}}))
    shutil.move(a.saved({"conv.weight": a.payload}), index.parent / "model.bin")
    return index


@attack("auto_map")
def code_in_a_hugging_face_directory(a: Attack) -> Path:
    folder = a.honest("directory with a config.json, Hugging Face")
    (folder / "evil.py").write_text(f"open({str(a.canary)!r}, 'w').close()\n")
    config = {"model_type": "evil", "architectures": ["Evil"], "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@attack("model.builder: evil.py:build")
def builder_named_in_the_spec(a: Attack) -> Path:
    (a.folder / "evil.py").write_text(f"open({str(a.canary)!r}, 'w').close()\n")
    (a.folder / "audit.yaml").write_text("data: {path: probe.npz}\nmodel: {builder: 'evil.py:build'}\n")
    return a.saved(model().state_dict())


@attack("dtype object")
def npz_with_python_objects(a: Attack) -> Path:
    objects = np.array([a.payload] * 4, dtype=object)
    np.savez(a.folder / "probe.npz", x=objects, y=np.zeros(4, int), allow_pickle=True)
    return a.saved({"0.weight": torch.ones(3, 36)})


@pytest.mark.parametrize("trust", ["none", "code"])
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_runs_and_the_refusal_says_what_was_found(name, trust, tmp_path, cli):
    write, found = ATTACKS[name]
    a = Attack(tmp_path)
    path = write(a)
    if trust == "code" and name == "builder_named_in_the_spec":
        return  # that code is what the user consents to
    ended = cli("score", path, "--spec", tmp_path / "audit.yaml", "--trust", trust)
    looked = cli("inspect", path)
    assert not a.canary.exists(), "something in the file was run"
    assert ended.code == 3
    assert found in ended.err
    assert "remedy" in ended.err
    assert looked.code in (0, 3)
    assert "Traceback" not in ended.err + looked.err


def test_tags_in_a_spec_make_no_objects(tmp_path, cli):
    a = Attack(tmp_path)
    path = a.saved(model().state_dict())
    for tag in ("!!python/object/apply:builtins.exec", "!!python/object/new:builtins.exec"):
        (tmp_path / "audit.yaml").write_text(f"data: {tag} [\"open({str(a.canary)!r}, 'w').close()\"]\n")
        ended = cli("score", path)
        assert not a.canary.exists()
        assert ended.code == 2
        assert "builtins.exec" in ended.err
        yaml.unsafe_load((tmp_path / "audit.yaml").read_text())
        assert a.canary.exists(), "an unsafe loader does run it"
        a.canary.unlink()


def test_the_payload_does_fire_where_nothing_stops_it(tmp_path):
    a = Attack(tmp_path)
    for load in (
        lambda: pickle.loads(a.pickle()),
        lambda: torch.load(a.saved({"extra": a.payload}), weights_only=False),
        lambda: np.load(_objects(a), allow_pickle=True)["x"],
        lambda: dcp.FileSystemReader(table_of_a_distributed_checkpoint(a)).read_metadata(),
    ):
        load()
        assert a.canary.exists()
        a.canary.unlink()


def test_full_trust_admits_what_the_user_insists_on(tmp_path, cli):
    a = Attack(tmp_path)
    ended = cli("score", plain_pickle_named_pt(a), "--spec", tmp_path / "audit.yaml", "--trust", "pickle")
    assert a.canary.exists()
    assert ended.code == 3
    assert "holds no state dict" in ended.err


def test_a_module_of_the_users_is_loaded_from_the_working_directory_only(tmp_path, cli, monkeypatch):
    path = ROWS["pickled module of other classes"].write(tmp_path, model())
    sys.modules.pop("own_net")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Attack(tmp_path)
    ended = cli("score", path, "--spec", tmp_path / "audit.yaml", "--trust", "pickle")
    assert ended.code == 3
    assert "its pickle names code that is not here" in ended.err
    assert "No module named 'own_net'" in ended.err


def _objects(a: Attack) -> Path:
    npz_with_python_objects(a)
    return a.folder / "probe.npz"
