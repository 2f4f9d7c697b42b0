"""Every error of `inputs` names the file, what was expected, what was found and what to do; a test holds it whole.

Both are read from the sources: the fixed words of every message that `inputs` makes, with each way in which it can
read, and the whole messages that stand in the tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import TypeGuard

import pytest

import spectral_audit

TESTS = Path(__file__).parents[1]
ROOT = Path(spectral_audit.__file__).parents[1]
INPUTS = ROOT / "spectral_audit" / "inputs"
ERRORS = ("RefusedError", "UsageError", "InconclusiveError")
PARTS = ("message", "expected", "found", "remedy")
WHOLE = re.compile(r"(.+)\n  expected  (.+)\n  found     (.+)\n  remedy    (.+)", re.DOTALL)
# Calls that take the parts of a whole message one by one: those of tests/inputs/messages.py.
TAKE_PARTS = ("text", "refused", "misused")
# Methods that leave the words of a text as they are.
LEAVE_WORDS = ("replace", "rstrip", "removeprefix")
# Messages that do not begin with a file, and why.
NAMELESS = {
    "no built-in architecture is called": "`build_model` puts the checkpoint before it",
    "built-in architecture": "`build_model` puts the checkpoint before it",
    "the model does not run on these tokens": "`about` puts the checkpoint and the data before it",
    "the tokens do not enter exactly one embedding": "`about` puts the checkpoint and the data before it",
    "the embedding": "`about` puts the checkpoint and the data before it",
    "tokens are out of the range": "`about` puts the checkpoint and the data before it",
    "the model uses the tokens for more": "`about` puts the checkpoint and the data before it",
    "python:": "the function is what is wrong, and its name holds the file",
    "synthetic data": "nothing names data, so there is no file",
}
Words = tuple[str, ...]
"""The fixed words of one way in which a part can read; what varies stands between them."""
NOTHING: set[Words] = {()}


class Module:
    """A source file: its functions, the texts it names, and what it imports from its neighbours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(self.tree))
        self.functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
        self.calls = [node for node in nodes if isinstance(node, ast.Call)]
        self.texts = dict(assignments(self.tree.body))
        self.imports = {
            alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
        }

    def home(self, name: str) -> Module:
        """The module that defines what this one calls by a name."""
        return MODULES.get(self.imports.get(name) or "", self)

    def around(self, call: ast.Call) -> ast.FunctionDef | None:
        """The innermost function around a call."""
        found = [f for f in self.functions.values() if f.lineno <= call.lineno <= (f.end_lineno or 0)]
        return max(found, key=lambda f: f.lineno, default=None)


def assignments(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    """The names that are given values, and the values; `a, b = c, d` counts as two."""
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            many = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts, strict=True) if many else [(target, node.value)]
            yield from ((one.id, value) for one, value in pairs if isinstance(one, ast.Name))


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): Module(path)
    for path in sorted(INPUTS.rglob("*.py"))
}


class Scope:
    """Where an expression stands: in a module, in a function, at a call."""

    def __init__(self, module: Module, function: ast.FunctionDef | None = None, call: ast.Call | None = None) -> None:
        self.module = module
        self.given = list(assignments(_before(function, call) if function else ()))
        self.open: set[str] = set()

    def ways(self, node: ast.expr | None) -> set[Words]:
        """The ways in which an expression can read."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return {(node.value,)}
        if isinstance(node, ast.JoinedStr):
            return {sum(parts, ()) for parts in product(*map(self.ways, node.values))}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return {left + right for left, right in product(self.ways(node.left), self.ways(node.right))}
        if isinstance(node, ast.IfExp):
            return self.ways(node.body) | self.ways(node.orelse)
        if isinstance(node, ast.BoolOp):
            return set().union(*map(self.ways, node.values))
        if isinstance(node, ast.FormattedValue | ast.Subscript):
            return self.ways(node.value)
        if isinstance(node, ast.Call):
            return self._called(node.func)
        return self._named(node.id) if isinstance(node, ast.Name) else NOTHING

    def _named(self, name: str) -> set[Words]:
        if name in self.open:
            return NOTHING
        self.open.add(name)
        found = set().union(*(self.ways(value) for key, value in self.given if key == name))
        self.open.discard(name)
        home = self.module.home(name)
        return found or Scope(home).ways(home.texts.get(name))

    def _called(self, function: ast.expr) -> set[Words]:
        """What a method leaves of a text, or what a function of the same module returns, where that is text."""
        if isinstance(function, ast.Attribute) and function.attr in LEAVE_WORDS:
            return self.ways(function.value)
        found = self.module.functions.get(function.id) if isinstance(function, ast.Name) else None
        if found is None or not (isinstance(found.returns, ast.Name) and found.returns.id == "str"):
            return NOTHING
        inside = Scope(self.module, found)
        return set().union(*(inside.ways(node.value) for node in ast.walk(found) if isinstance(node, ast.Return)))


def _before(function: ast.FunctionDef, call: ast.Call | None) -> Iterator[ast.AST]:
    """What a call may come after: nothing in a branch that ends in a raise, unless the call stands there too."""
    nodes = list(ast.walk(function))
    ended = [(i.body[0].lineno, i.body[-1].end_lineno or 0) for i in nodes if _ends(i)]
    left = [(low, high) for low, high in ended if call and not low <= call.lineno <= high]
    yield from (n for n in nodes if not any(low <= getattr(n, "lineno", 0) <= high for low, high in left))


def _ends(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)


def parts_of(call: ast.Call, module: Module) -> dict[str, list[ast.expr]] | None:
    """What a call gives for the parts of a message; `None` for one that makes no error.

    Functions that return an error take some of its words from their callers; those that are not a part of their own
    (`what`, `name`) stand under "anywhere".
    """
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    given = {keyword.arg or "": keyword.value for keyword in call.keywords}
    if name in ERRORS:
        return {key: [value] for key, value in {"message": call.args[0], **given}.items()}
    home = MODULES["spectral_audit.inputs.readers"] if name == "wrong" else module.home(name)
    maker = home.functions.get(name)
    if maker is None or not (isinstance(maker.returns, ast.Name) and maker.returns.id in ERRORS):
        return None
    names = [argument.arg for argument in maker.args.args if argument.arg != "self"]
    given |= dict(zip(names, call.args, strict=False))
    others = [value for key, value in given.items() if key not in PARTS]
    return {key: [value] for key, value in given.items() if key in PARTS} | {"anywhere": others}


SITES = {
    f"{module.path.relative_to(INPUTS)}:{call.lineno}": (call, module)
    for module in MODULES.values()
    for call in module.calls
    if parts_of(call, module) is not None
}
RAISED = [site for site, (call, _) in SITES.items() if isinstance(call.func, ast.Name) and call.func.id in ERRORS]


def held() -> Iterator[dict[str, str]]:
    """The whole messages of the tests, part by part."""
    for path in sorted(TESTS.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts: dict[str, str] = {}
        for name, value in assignments(tree.body):
            texts[name] = _read(value, texts)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in TAKE_PARTS:
                yield _message([_read(argument, texts) for argument in node.args])
            elif isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                match = WHOLE.fullmatch(_read(node, texts))
                yield from [_message(match.groups())] if match else []


def _read(node: ast.expr, texts: dict[str, str]) -> str:
    """A text of the tests, joined; what is filled in while they run reads as `\\0`."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_read(value, texts) for value in node.values)
    if isinstance(node, ast.BinOp):
        return _read(node.left, texts) + _read(node.right, texts)
    if isinstance(node, ast.FormattedValue):
        return _read(node.value, texts)
    if isinstance(node, ast.Name):
        return texts.get(node.id, "\0")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "\0"


def _message(parts: Iterable[str]) -> dict[str, str]:
    found = dict(zip(PARTS, map(_words, parts), strict=False))
    return {**found, "anywhere": "\n".join(found.values())}


def _words(text: str) -> str:
    return " ".join(text.split()).strip(" .:;,")


def fixed(way: Words) -> Words:
    """The words of a way that say something: punctuation alone does not."""
    return tuple(_words(text) for text in way if re.search(r"\w\w", text))


@cache
def known() -> list[dict[str, str]]:
    return list(held())


@pytest.mark.parametrize("site", SITES)
def test_a_test_holds_its_whole_text(site: str) -> None:
    call, module = SITES[site]
    scope = Scope(module, module.around(call), call)
    said = [
        (part, [fixed(way) for way in scope.ways(value)])
        for part, values in (parts_of(call, module) or {}).items()
        for value in values
    ]

    def holds(message: dict[str, str], part: str, way: Words) -> bool:
        return all(text in message.get(part, "") for text in way)

    for part, some in said:
        others = [other for other in said if other != (part, some)]
        near = [m for m in known() if all(any(holds(m, key, way) for way in more) for key, more in others)]
        lacking = [way for way in some if not any(holds(message, part, way) for message in near)]
        assert lacking == [], f"{site}: no test holds a whole message with these words as its `{part}`"


@pytest.mark.parametrize("site", RAISED)
def test_it_names_the_file_and_says_what_was_expected_and_found_and_what_to_do(site: str) -> None:
    call, module = SITES[site]
    assert set(parts_of(call, module) or {}) == set(PARTS)
    scope = Scope(module, module.around(call), call)
    for start in starts(call.args[0], scope):
        assert start is None or any(start.startswith(text) for text in NAMELESS)


def starts(node: ast.expr, scope: Scope) -> set[str | None]:
    """How a message can begin: with text, or, `None`, with a value."""
    if isinstance(node, ast.IfExp):
        return starts(node.body, scope) | starts(node.orelse, scope)
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    return {way[0] if way else None for way in scope.ways(first)}


def test_so_many_errors_are_seen_that_a_change_of_style_cannot_hide_them() -> None:
    assert len(RAISED) > 100
    assert len(SITES) > len(RAISED) + 50
