"""What the tests of the command line share."""

import json
from typing import Any

import torch

FILES = ("report.json", "report.md", "report.txt", "report.yaml")
LINEAR = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
EXPLAIN = """
import torch

def mine(forward, x, target):
    return torch.autograd.grad(forward(x).gather(1, target[:, None]).sum(), x)[0]

def random(forward, x, target):
    return torch.rand_like(x)
"""


def explained_by(case, function):
    """The case's spec asks for a function of the user's beside the gradient."""
    (case.folder / "explain.py").write_text(EXPLAIN, encoding="utf-8")
    case.keys["attribution"] = {"methods": ["gradient", f"explain.py:{function}"]}
    case.save()


def strict(text: str) -> dict[str, Any]:
    """JSON as its grammar has it: no NaN, no Infinity, no key twice."""

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(pairs) == len({key for key, _ in pairs})
        return dict(pairs)

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)
