"""Every format of the README's table on a real file: inspected, scored, and the same figures from all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spectral_audit.audit import Request, audit
from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.checkpoint import inspect_checkpoint
from spectral_audit.reports.artifact import to_json
from tests.inputs.saved import NET, ROWS, SHAPE, VARIANTS, Row, model

ALL = ROWS | VARIANTS
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "net.py").write_text(NET)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        y = model()(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder / "probe.npz", x=x, y=y)
    (folder / "audit.yaml").write_text("data: {path: probe.npz}\n")
    return folder


@pytest.fixture(scope="module")
def written(folder) -> dict[str, Path]:
    paths = {}
    for k, (name, row) in enumerate(ALL.items()):
        (folder / str(k)).mkdir()
        paths[name] = row.write(folder / str(k), model())
    return paths


def request_for(folder: Path, path: Path, row: Row, **changes: Any) -> Request:
    arch = None if row.brings else f"{folder / 'net.py'}:build"
    return Request(**{"checkpoint": path, "spec": folder / "audit.yaml", "arch": arch, "trust": row.trust, **changes})


def figures(report: Any) -> dict[str, Any]:
    """The JSON report without what tells one file from another."""
    found = json.loads(to_json(report))
    for key in ("path", "format", "sha256", "architecture", "trust", "globals"):
        del found["model"][key]
    found["findings"] = [f for f in found["findings"] if f["code"] != "checkpoint.note"]
    del found["cost"]
    return found


@pytest.fixture(scope="module")
def reference(folder, written) -> dict[str, Any]:
    return figures(audit(request_for(folder, written["safetensors"], ROWS["safetensors"])))


@pytest.mark.parametrize("name", ALL)
def test_the_same_weights_give_the_same_report_to_the_last_digit(name, folder, written, reference, monkeypatch):
    monkeypatch.chdir(written[name].parent)
    report = audit(request_for(folder, written[name], ALL[name]))
    assert figures(report) == reference
    assert report.model.trust == ALL[name].trust
    assert len(report.model.sha256) == 64
    assert not report.model.partial


@pytest.mark.parametrize("name", ALL)
def test_scoring_needs_the_trust_of_its_row_and_inspecting_none(name, folder, written):
    row, path = ALL[name], written[name]
    inspection = inspect_checkpoint(path)
    assert inspection.bytes > 0
    if row.trust == "none":
        names = {tensor.name.rsplit("conv.", 1)[-1] for tensor in inspection.tensors if "conv." in tensor.name}
        assert names == {"weight", "bias"}
        assert inspection.unsafe_globals == ()
        return
    with pytest.raises(RefusedError) as caught:
        audit(request_for(folder, path, row, trust="none"))
    assert f"--trust {row.trust}" in caught.value.remedy
    assert f"auditing it needs --trust {row.trust}" in inspection.notes


def test_the_table_in_the_readme_has_these_rows():
    lines = [line.strip() for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for name, row in ROWS.items():
        default = "yes" if row.trust == "none" else f"no: `--trust {row.trust}`"
        assert f"| {name} | yes | yes | {default} |" in lines


def test_a_directory_of_shards_is_its_index(folder, written):
    index = written["safetensors in shards, by their index or directory"]
    row = ROWS["safetensors"]
    by_index, by_folder = (audit(request_for(folder, path, row)) for path in (index, index.parent))
    assert by_index.model.sha256 == by_folder.model.sha256
    assert figures(by_index) == figures(by_folder)


def test_globals_are_recorded(folder, written):
    report = audit(request_for(folder, written["`torch.save` state dict"], Row(lambda f, m: f)))
    assert "torch._utils._rebuild_tensor_v2" in report.model.globals
    assert audit(request_for(folder, written["safetensors"], ROWS["safetensors"])).model.globals == ()


class Bent(nn.Module):
    """Its graph holds the batch size it was exported with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.conv(x)).view(x.shape[0], -1))


@pytest.mark.parametrize("batch", [1, 5])
def test_a_graph_with_its_batch_baked_in_gives_every_axis(tmp_path, folder, batch):
    torch.manual_seed(3)
    net = Bent().eval()
    torch.export.save(torch.export.export(net, (torch.zeros(batch, *SHAPE),)), tmp_path / "bent.pt2")
    torch.save(net.state_dict(), tmp_path / "bent.pt")
    (tmp_path / "bent.py").write_text("from tests.inputs.test_formats import Bent as build\n")
    row = Row(lambda f, m: f, "code", brings=True)
    fixed = audit(request_for(folder, tmp_path / "bent.pt2", row))
    plain = audit(request_for(folder, tmp_path / "bent.pt", row, arch=f"{tmp_path / 'bent.py'}:build"))
    notes = [f.message for f in fixed.findings if f.code == "checkpoint.note"]
    assert notes == [
        f"exported for batches of exactly {batch} (no dynamic batch dimension): samples go through it {batch} at a time"
    ]
    for axis in ("input", "weights", "kernel", "curvature"):
        for column in ("worst", "typical"):
            found, wanted = (getattr(getattr(r.axes, axis), column).value for r in (fixed, plain))
            # Other batches, other kernels of the matrix products: the last digits of float32.
            assert found == pytest.approx(wanted, rel=1e-5)
