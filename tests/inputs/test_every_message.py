"""Every refusal of `inputs` names its file, what was expected, what was found and the remedy, and a test holds it whole.

Read from the sources: the fixed words of every error that `inputs` makes, and the texts of messages in the tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import spectral_audit

TESTS = Path(__file__).parents[1]
INPUTS = Path(spectral_audit.__file__).parent / "inputs"
ERRORS = ("RefusedError", "UsageError", "InconclusiveError")
PARTS = ("expected", "found", "remedy")
ROLES = ("message", *PARTS)
WHOLE = re.compile(r"(.+)\n  expected  (.+)\n  found     (.+)\n  remedy    (.+)", re.DOTALL)
TRIMMED = ("replace", "rstrip", "strip", "removeprefix")
# Messages that do not begin with the file, and why.
NAMELESS = {
    "no built-in architecture is called": "the name is what is wrong, and `named` puts the file before it",
    "built-in architecture '": "as above",
    "the model does not run on these tokens": "`about` puts checkpoint and data before it",
    "the tokens do not enter exactly one embedding once": "as above",
    "the embedding `": "as above",
    "tokens are out of the range of the embedding `": "as above",
    "the model uses the tokens for more than its embedding": "as above",
    "python:": "the function is named, which stands for the file",
}
Way = tuple[str, ...]
"""The fixed words of one way in which a part can read; what varies lies between them."""


class Module:
    """A source file: its functions, its texts, and what it imports from the package."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.texts = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}
        self.imports = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


MODULES = {
    ".".join(path.relative_to(INPUTS.parents[1]).with_suffix("").parts).removesuffix(".__init__"): Module(path)
    for path in sorted(INPUTS.rglob("*.py"))
}


def home(module: Module, name: str) -> tuple[Module, str]:
    """Where a name that a module uses is defined."""
    where, there = module.imports.get(name, ("", ""))
    return (MODULES[where], there) if where in MODULES else (module, name)


class Reader:
    """The ways in which an expression of a function can read."""

    def __init__(self, module: Module, function: ast.FunctionDef | None) -> None:
        self.module = module
        self.function = function
        self.open: set[str] = set()

    def ways(self, node: ast.expr | None) -> set[Way]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {(node.value,)}
        if isinstance(node, ast.FormattedValue):
            return self.ways(node.value)
        if isinstance(node, ast.JoinedStr):
            return {sum(parts, ()) for parts in product(*map(self.ways, node.values))}
        if isinstance(node, ast.IfExp):
            return self.ways(node.body) | self.ways(node.orelse)
        if isinstance(node, ast.BoolOp):
            return set().union(*map(self.ways, node.values))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return {left + right for left, right in product(self.ways(node.left), self.ways(node.right))}
        if isinstance(node, ast.Subscript):
            return self.ways(node.value)
        if isinstance(node, ast.Call):
            return self.called(node.func)
        return self.named(node.id) if isinstance(node, ast.Name) else {()}

    def called(self, function: ast.expr) -> set[Way]:
        if isinstance(function, ast.Attribute) and function.attr in TRIMMED:
            return self.ways(function.value)
        defined = self.module.functions.get(function.id) if isinstance(function, ast.Name) else None
        if defined is None or not (isinstance(defined.returns, ast.Name) and defined.returns.id == "str"):
            return {()}
        inner = Reader(self.module, defined)
        return set().union(*(inner.ways(node.value) for node in ast.walk(defined) if isinstance(node, ast.Return)))

    def named(self, name: str) -> set[Way]:
        if name in self.open:
            return {()}
        self.open.add(name)
        given = list(self.assigned(name))
        module, there = home(self.module, name)
        if not given and there in module.texts:
            found = Reader(module, None).ways(module.texts[there])
        else:
            found = set().union(*map(self.ways, given)) or {()}
        self.open.discard(name)
        return found

    def assigned(self, name: str) -> Iterator[ast.expr]:
        for node in ast.walk(self.function) if self.function else ():
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    yield node.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(target.elts, node.value.elts, strict=True)
                    yield from (value for one, value in pairs if isinstance(one, ast.Name) and one.id == name)


def makes_errors(function: ast.FunctionDef | None) -> bool:
    """Whether a function hands back an error that its caller fills in."""
    if function is None or not isinstance(function.returns, ast.Name) or function.returns.id not in ERRORS:
        return False
    texts = {a.arg for a in function.args.args if isinstance(a.annotation, ast.Name) and a.annotation.id == "str"}
    return bool(texts)


def owner(module: Module, call: ast.Call) -> ast.FunctionDef | None:
    around = [f for f in module.functions.values() if f.lineno <= call.lineno <= (f.end_lineno or 0)]
    return max(around, key=lambda f: f.lineno, default=None)


def parts_of(module: Module, call: ast.Call) -> dict[str, ast.expr] | None:
    """The expressions for the parts of a message that a call gives; `None` for a call that makes no error."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name in ERRORS:
        return {"message": call.args[0], **given}
    where, there = (MODULES["spectral_audit.inputs.readers"], name) if name == "wrong" else home(module, name)
    maker = where.functions.get(there)
    if maker is None or not makes_errors(maker):
        return None
    names = [a.arg for a in maker.args.args if a.arg != "self"]
    given |= dict(zip(names, call.args, strict=False))
    said = {key: value for key, value in given.items() if key in PARTS}
    rest = [value for key, value in given.items() if key not in PARTS]
    return {**said, "message": ast.JoinedStr([ast.FormattedValue(value, -1) for value in rest])}


SITES = {
    f"{module.path.relative_to(INPUTS)}:{call.lineno}": (module, call, parts)
    for module in MODULES.values()
    for call in ast.walk(module.tree)
    if isinstance(call, ast.Call) and (parts := parts_of(module, call)) is not None
}


def words(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def fixed(way: Way) -> tuple[str, ...]:
    """The words of a way without what lies between them: punctuation alone says nothing."""
    return tuple(found for text in way if re.search(r"\w{2}", found := words(text)))


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a test, joined; what is filled in reads as `\\0`, unless it is a text of the same file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known: dict[str, str] = {}

    def read(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(map(read, node.values))
        if isinstance(node, ast.BinOp):
            return read(node.left) + read(node.right)
        if isinstance(node, ast.FormattedValue):
            return read(node.value)
        return known.get(node.id, "\0") if isinstance(node, ast.Name) else "\0"

    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = read(node.value)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
            yield read(node)


HELD = [
    dict(zip(ROLES, map(words, match.groups()), strict=True))
    for path in sorted(TESTS.rglob("*.py"))
    for text in texts_of(path)
    if (match := WHOLE.fullmatch(text)) and text.count("\n  expected  ") == 1
]


def says(message: dict[str, str], role: str, way: Way) -> bool:
    return all(text in message[role] for text in fixed(way))


@pytest.mark.parametrize("site", SITES)
def test_a_test_holds_the_whole_text(site: str) -> None:
    module, call, parts = SITES[site]
    reader = Reader(module, owner(module, call))
    ways = {role: reader.ways(node) for role, node in parts.items()}
    alone = []
    for role, some in ways.items():
        fitting = [m for m in HELD if all(r == role or any(says(m, r, way) for way in ways[r]) for r in ways)]
        alone += [(role, fixed(way)) for way in some if not any(says(m, role, way) for m in fitting)]
    assert alone == [], f"{site}: no test holds a whole message with these words"


@pytest.mark.parametrize("site", [site for site, (_, call, _) in SITES.items() if getattr(call.func, "id", "") in ERRORS])
def test_it_says_what_was_expected_what_was_found_and_what_to_do(site: str) -> None:
    module, call, parts = SITES[site]
    assert set(parts) == set(ROLES)
    for way in Reader(module, owner(module, call)).ways(parts["message"]):
        named = not isinstance(parts["message"], ast.Constant) and not fixed(way[:1])[:1] == way[:1]
        first = way[0] if way else ""
        assert first.startswith((": ", " ")) or any(first.startswith(text) for text in NAMELESS) or named and not first
