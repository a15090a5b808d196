"""Measures the code itself: lines, their comments, imports and circles, and the modules on the way to an answer.

    python tests/tools/measure_code.py            # of this checkout
    python tests/tools/measure_code.py DIR        # of another one
    python tests/tools/measure_code.py --trace    # also the modules that a Sudoku with a local language model passes

A line is a line of formatted source that is not blank. Modules on the way are those of the project that execute a
line of a function between the text of a puzzle and its answer, when everything is loaded (SmolLM2 drafts).
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("trm", "hybrid", "eval")
OPTIONS = ("typer.Option", "typer.Argument")
TRACED = """
import sys, threading, pathlib, io, contextlib
root = pathlib.Path(sys.argv[1]).resolve(); sys.path.insert(0, str(root))
from hybrid import cli
puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
seen = set()
def note(frame, event, argument):
    name = frame.f_code.co_filename
    if name.startswith(str(root)) and ".venv" not in name and frame.f_code.co_name != "<module>":
        seen.add(str(pathlib.Path(name).relative_to(root)))
    return None
def solve():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.app(["solve", puzzle, "--llm", "smollm2", "--refiner", str(root / "ckpt/trm.pt"), "--json"])
solve()
threading.settrace(note); sys.settrace(note)
solve()
sys.settrace(None)
print("\\n".join(sorted(seen)))
"""


def files(root: Path, packages: tuple[str, ...] = PACKAGES) -> Iterator[Path]:
    for package in packages:
        yield from sorted((root / package).rglob("*.py"))


def explained(source: str) -> int:
    """Lines of docstrings and comments that stand alone."""
    tree = ast.parse(source)
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            lines.add(token.start[0])
    written = source.splitlines()
    return sum(1 for line in lines if written[line - 1].strip())


def imports(tree: ast.AST, inside: bool = False, typing: bool = False) -> Iterator[tuple[str, bool, bool]]:
    """Modules that a tree imports, with whether that is inside a function, and whether for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        function = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        checking = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        if isinstance(node, ast.Import):
            yield from ((name.name, inside, typing) for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{name.name}", inside, typing) for name in node.names)
        yield from imports(node, function, checking)


def graph(root: Path) -> tuple[dict[str, set[str]], int]:
    """What every module of the project imports of it, lazily too; and the number of imports inside functions."""
    modules = {}
    for path in files(root):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = path
    edges: dict[str, set[str]] = {}
    lazy = 0
    for name, path in modules.items():
        edges[name] = set()
        for target, inside, typing in imports(ast.parse(path.read_text())):
            lazy += inside
            found = target if target in modules else target.rpartition(".")[0]
            if found in modules and found != name and not typing:
                edges[name].add(found)
    return edges, lazy


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other (strongly connected, by Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for target in edges.get(name, ()):
            if target not in number:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], number[target])
        if lowest[name] == number[name]:
            group = []
            while (member := stack.pop()) != name:
                group.append(member)
            if group:
                groups.append(sorted([*group, name]))

    for name in edges:
        if name not in number:
            visit(name)
    return groups


def packages_of(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph between packages: `trm.tasks.sudoku.task` belongs to `trm.tasks`."""

    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    merged: dict[str, set[str]] = {}
    for name, targets in edges.items():
        merged.setdefault(package(name), set()).update(package(t) for t in targets)
    return {name: targets - {name} for name, targets in merged.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the code itself.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--trace", action="store_true", help="run a Sudoku and list the modules on the way")
    given = parser.parse_args()
    total = comments = options = 0
    longest: list[tuple[int, str]] = []
    for path in files(given.root):
        source = path.read_text()
        count = sum(1 for line in source.splitlines() if line.strip())
        total += count
        comments += explained(source)
        options += sum(source.count(option) for option in OPTIONS)
        longest.append((len(source.splitlines()), str(path.relative_to(given.root))))
    edges, lazy = graph(given.root)
    result: dict[str, object] = {
        "lines": total,
        "explained_share": round(comments / total, 3),
        "files": len(longest),
        "files_over_350_lines": sorted(name for lines, name in longest if lines > 350),
        "module_circles": circles(edges),
        "package_circles": circles(packages_of(edges)),
        "lazy_imports": lazy,
        "command_line_options": options,
    }
    if given.trace:
        ran = subprocess.run(
            [sys.executable, "-c", TRACED, str(given.root)], capture_output=True, text=True, check=False
        )
        result["modules_on_the_way"] = ran.stdout.split() or ran.stderr[-400:]
        result["modules_on_the_way_count"] = len(ran.stdout.split())
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
