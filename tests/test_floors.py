"""The house: imports run downward only, and what prints help or reads reports needs no torch."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spectral_audit

PACKAGE = "spectral_audit"
ROOT = Path(spectral_audit.__file__).parent

# From the ground up: a module may import from the floors below its own, and from its own folder.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("", "errors", "estimates"),
    ("explanations", "standing", "advice"),
    ("results",),
    ("linalg",),
    ("index", "advising"),
    ("inputs",),
    ("losses", "memory", "passes", "ranks", "regularizers"),
    ("subject",),
    ("admission",),
    ("sweep",),
    ("lenses",),
    ("stability",),
    ("findings",),
    ("stages",),
    ("regimes",),
    ("measure",),
    ("comparison",),
    ("gate",),
    ("reports",),
    ("population",),
    ("opening",),
    ("audit",),
    ("validation", "drafting", "loading"),
    ("batch",),
    ("cli",),
    ("__main__",),
)
# What these may import besides themselves: narrower than their floor.
NARROW: dict[str, set[str]] = {
    "explanations": {"estimates"},
    "standing": set(),
    "advice": {"estimates"},
    "results": {"estimates", "explanations", "standing", "advice"},
    "advising": {"advice", "results"},
    "linalg": {"results"},
    "inputs": {"errors", "results", "explanations"},
    "losses": {"errors", "results"},
    "memory": {"errors"},
    "passes": set(),
    "regularizers": {"errors"},
    "ranks": {"errors"},
    "index": {"results", "linalg"},
    "comparison": {"errors", "results", "index", "linalg"},
    "gate": {"errors", "results", "index", "comparison"},
    "reports": {"", "errors", "results", "explanations", "advice", "comparison", "gate"},
    "population": {"errors", "results", "reports"},
}
LIGHT = (
    "errors",
    "results",
    "reports",
    "reports.schema",
    "inputs.spec",
    "gate.judge",
    "gate.policy",
    "batch.run",
    "batch.table",
    "reports.verdict",
    "population",
    "cli",
)
HEAVY = {"torch", "numpy"}


def modules() -> dict[str, Path]:
    """Every module by its name below the package, '' being the package itself."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(node: ast.AST, *, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run, wherever they stand."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif only_for_types(child):
            for other in child.orelse:
                yield from statements(ast.Module([other], []), inside_functions=inside_functions)
        elif inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(child, inside_functions=inside_functions)


def targets(statement: ast.Import | ast.ImportFrom, name: str, path: Path) -> Iterator[str]:
    """The absolute names of the modules a statement imports: submodules where it names them, else the module itself."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        here = [PACKAGE, *filter(None, name.split("."))]
        up = statement.level - (path.name == "__init__.py")
        base = ".".join([*here[: len(here) - up], *filter(None, [base])])
    for alias in statement.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner.removeprefix(f"{PACKAGE}.") in MODULES else base


def imports(name: str, *, inside_functions: bool = True) -> set[str]:
    """Everything a module imports, by absolute name."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = statements(tree, inside_functions=inside_functions)
    return {target for statement in found for target in targets(statement, name, path)}


def own(names: set[str]) -> set[str]:
    """Those of the package, by their names below it."""
    return {
        name.removeprefix(PACKAGE).removeprefix(".")
        for name in names
        if name == PACKAGE or name.startswith(f"{PACKAGE}.")
    }


GRAPH = {name: own(imports(name)) for name in MODULES}


def storey(name: str) -> str:
    """The folder or the file of the top level that a module belongs to."""
    return name.partition(".")[0]


def floor(name: str) -> int:
    return next(height for height, line in enumerate(FLOORS) if storey(name) in line)


def test_every_module_has_one_floor():
    named = [name for line in FLOORS for name in line]
    assert len(named) == len(set(named))
    assert {storey(name) for name in MODULES} <= set(named)


def test_imports_name_modules_that_exist():
    assert set().union(*GRAPH.values()) <= MODULES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward(name):
    below = {target for target in GRAPH[name] if storey(target) != storey(name)}
    assert {target for target in below if floor(target) >= floor(name)} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if storey(name) in NARROW])
def test_some_floors_know_of_little(name):
    outside = {storey(target) for target in GRAPH[name]} - {storey(name)}
    assert outside <= NARROW[storey(name)]


def test_no_module_comes_back_to_itself():
    order = graphlib.TopologicalSorter(GRAPH)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")


def test_linear_algebra_knows_torch_numpy_and_the_standard_library_only():
    outside = {
        target.partition(".")[0]
        for name in MODULES
        if storey(name) == "linalg"
        for target in imports(name)
        if target.partition(".")[0] not in (PACKAGE, *sys.stdlib_module_names)
    }
    assert outside == {"torch", "numpy"}  # numpy for the rank-k updates that torch has no call for


@pytest.mark.parametrize("name", [name for name in MODULES if storey(name) == "cli"])
def test_the_command_line_itself_imports_little(name):
    found = {target.partition(".")[0] for target in imports(name, inside_functions=False)}
    assert found <= {"typer", PACKAGE, *sys.stdlib_module_names}
    assert {storey(target) for target in own(imports(name, inside_functions=False))} <= {"", "errors", "cli"}


@pytest.mark.parametrize("name", LIGHT)
def test_reports_errors_and_specs_need_neither_torch_nor_numpy(name):
    code = f"import sys, {PACKAGE}.{name}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


@pytest.mark.parametrize("regime", ["exact", "krylov"])
def test_a_small_audit_loads_neither_torchs_compiler_nor_its_symbolic_algebra(regime):
    code = f"""
import sys
from pathlib import Path
from spectral_audit.audit import audit
from spectral_audit.opening import Request
audit(Request(Path("sample_models/breast_cancer_mlp.pt"), n=16, regime="{regime}"))
print(*sorted({{"torch._dynamo", "torch.fx.experimental.symbolic_shapes", "sympy"}} & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent, timeout=120
    )
    assert ran.stdout.split() == []


def test_the_engine_is_loaded_with_the_collector_at_rest_and_set_aside_once():
    code = """
import gc
from spectral_audit.loading import load_engine
before = sum(s["collections"] for s in gc.get_stats())
load_engine()
frozen = gc.get_freeze_count()
again = sum(s["collections"] for s in gc.get_stats()) - before
kept = [[] for _ in range(100)]
load_engine()
print(again, frozen > 10_000, gc.get_freeze_count() - frozen < 100, gc.isenabled())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "True", "True", "True"]
