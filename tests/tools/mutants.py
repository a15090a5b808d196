"""Mutation tests: changes one expression at a time, and sees whether a test fails that runs the changed line.

    python tests/tools/mutants.py --mutants 500 --seed 0 --out mutants

OUT gets lines.json (which test runs which lines, measured once) and mutants.jsonl, a line for each mutant; what is
there is not done again. A mutant counts as killed if a test fails or takes too long. Of strings only those without a
space are changed, and none within an f-string: tests are not about the words of a message.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("trm", "hybrid", "eval", "tests", "configs", "prompts", "docs", "examples", "ckpt")
SOURCES = (
    "trm/grid.py", "trm/tasks/**/*.py", "trm/data/arc_files.py", "trm/data/files.py", "trm/data/items.py",
    "trm/data/line_files.py", "trm/data/tables.py", "trm/data/text.py", "hybrid/llm/chat/grid_text.py",
    "hybrid/llm/chat/parsing.py", "hybrid/submission.py", "trm/inference/selection.py",
    "trm/inference/ranking.py", "trm/evaluation/statistics.py", "trm/evaluation/records.py", "eval/metrics.py",
)  # fmt: skip
TESTS = (  # those that start no other process
    *(f"tests/trm/tasks/test_{name}.py" for name in
      ("arc", "difficulty", "forms_of_grids", "grid_text", "maze", "maze_text", "own_grid", "properties",
       "same_seed", "solvers", "sudoku", "sudoku_text", "task_details", "tasks")),
    *(f"tests/trm/data/test_{name}.py" for name in
      ("arc_files", "column_names", "files", "generate", "line_files", "maze_forms", "other_programs",
       "other_rules", "pairs", "parsing_properties", "reading_details", "reference_folders", "sudoku_forms",
       "sudoku_sizes", "text_details")),
    *(f"tests/trm/inference/test_{name}.py" for name in ("library_inputs", "ranking", "selection", "verifier")),
    *(f"tests/hybrid/llm/test_{name}.py" for name in
      ("parsing", "prompts", "prompts_of_sizes", "reply_details", "reply_formats")),
    *(f"tests/hybrid/test_{name}.py" for name in
      ("answer_files", "check_forms", "inputs", "pipeline", "scores", "submission_forms")),
    *(f"tests/eval/test_{name}.py" for name in ("arms", "metrics", "quality", "recorded", "report")),
    "tests/trm/evaluation/test_figures.py", "tests/trm/evaluation/test_records.py", "tests/test_hostile_input.py",
)  # fmt: skip
MORE_SECONDS = 3.0  # of tests that run the file and not the line
OTHER: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
UNTOUCHED = ("annotation", "returns", "decorator_list")
Change = tuple[ast.AST, str, Any]  # a node, its field, and what the field becomes


def changes(node: ast.AST) -> Iterator[Change]:
    """Every change to a tree that makes a mutant."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        yield node, "ops", [OTHER[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OTHER:
        yield node, "op", OTHER[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, "operand", ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield node, "test", ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield node, "ifs", [ast.UnaryOp(ast.Not(), node.ifs[0]), *node.ifs[1:]]
    elif isinstance(node, ast.Return) and not (node.value is None or _is_none(node.value)):
        yield node, "value", ast.Constant(None)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield node, "value", ast.Constant(...)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield node, "value", not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
        yield node, "value", f"{node.value}x"
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    for field, value in ast.iter_fields(node):
        parts = value if isinstance(value, list) else [value]
        if field not in UNTOUCHED:
            for part in parts:
                if isinstance(part, ast.AST):
                    yield from changes(part)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def mutate(source: str, number: int) -> tuple[str, int, int, str]:
    """The source with one change, the first and last line that it concerns, and the change in words."""
    tree = ast.parse(source)
    places = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    node, field, value = list(changes(tree))[number]
    place = node
    while not hasattr(place, "lineno"):
        place = places[place]
    before = ast.unparse(node)
    setattr(node, field, value)
    after = ast.unparse(node)
    change = f"{before}  ->  {after}"
    return (
        ast.unparse(ast.fix_missing_locations(tree)),
        place.lineno,
        place.end_lineno or place.lineno,
        change,
    )


class Lines:
    """A plugin of pytest that notes which lines of the sources each test runs, and how long the test takes."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self.coverage = Coverage(data_file=None, include=list(map(str, sources)))
        self.seconds: dict[str, float] = {}
        # Without any change: tests with a limit of time fail, because measuring slows them.
        self.failed: set[str] = set()

    def pytest_sessionstart(self) -> None:
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        started = time.monotonic()
        self.coverage.switch_context(item.nodeid)
        yield
        self.seconds[item.nodeid] = time.monotonic() - started

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def save(self, out: Path) -> None:
        """Write the tests of every line of every file, and the seconds of every test that passes."""
        self.coverage.stop()
        data = self.coverage.get_data()
        of_file = {
            str(Path(name).relative_to(Path.cwd())): data.contexts_by_lineno(name)
            for name in data.measured_files()
        }
        seconds = {test: taken for test, taken in self.seconds.items() if test not in self.failed}
        libraries = [
            name for name, module in sys.modules.items()
            if "site-packages" in (getattr(module, "__file__", None) or "") and not name.startswith("_pytest")
        ]  # fmt: skip
        out.write_text(json.dumps({"tests": of_file, "seconds": seconds, "libraries": libraries}))


def forked(tests: Sequence[str], seconds: float, plugin: Lines | None = None, out: Path | None = None) -> str:
    """Run tests in a child: `passed`, `failed` or `too slow`."""
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.path[:] = [str(Path.cwd()), *(path for path in sys.path if path != str(ROOT))]
        options = ["-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"]
        code = pytest.main([*options, *["-x"] * (plugin is None), *tests], plugins=[plugin] if plugin else [])
        if plugin is not None and out is not None:
            plugin.save(out)
        os._exit(int(code))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "failed" if status else "passed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


def chosen(lines: dict[str, Any], name: str, first: int, last: int, limit: float) -> tuple[list[str], float]:
    """The tests of a mutant, quickest first, and the seconds that they take: those that run the line, then others."""
    seconds: dict[str, float] = lines["seconds"]
    quickest = sorted(seconds, key=seconds.__getitem__)
    ran: dict[str, list[str]] = lines["tests"].get(name, {})  # the tests of each line
    of_line = {test for line, some in ran.items() if first <= int(line) <= last for test in some}
    of_file = {test for some in ran.values() for test in some} or set(seconds)  # all that import it
    tests, total = list[str](), 0.0
    for group in (of_line, of_file - of_line):
        for test in quickest:
            if test in group and total + seconds[test] <= limit:
                tests.append(test)
                total += seconds[test]
        limit = min(total + MORE_SECONDS, limit)
    return tests, total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=60, help="of the tests of a mutant, the quickest first"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    out = given.out.resolve()
    if not (out / "copy").exists():
        for folder in FOLDERS:
            shutil.copytree(
                ROOT / folder, out / "copy" / folder, ignore=shutil.ignore_patterns("__pycache__")
            )
        for file in ROOT.glob("*.*"):
            if file.is_file():
                shutil.copy2(file, out / "copy")
    os.chdir(out / "copy")
    sources = sorted({path for pattern in SOURCES for path in Path.cwd().glob(pattern)})
    if not (out / "lines.json").exists():
        forked(TESTS, 3600, Lines(sources), out / "lines.json")
    lines = json.loads((out / "lines.json").read_text())
    for name in lines["libraries"]:  # loaded once, before processes are forked
        with suppress(Exception):
            importlib.import_module(name)
    every = [(path, n) for path in sources for n in range(len(list(changes(ast.parse(path.read_text())))))]
    drawn = random.Random(given.seed).sample(every, min(given.mutants, len(every)))
    results = out / "mutants.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python would take a mutant's for the file's own
    sys.dont_write_bytecode = True
    for path, number in drawn[len(done) :]:
        source, name = path.read_text(), str(path.relative_to(Path.cwd()))
        mutant, first, last, change = mutate(source, number)
        tests, seconds = chosen(lines, name, first, last, given.seconds)
        times = path.stat().st_atime, path.stat().st_mtime
        try:
            path.write_text(mutant)
            result = forked(tests, 30 + 5 * seconds) if tests else "no test"
        finally:
            path.write_text(source)
            os.utime(path, times)
        done.append({"file": name, "line": first, "change": change, "tests": len(tests), "result": result})
        with results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    for file_name in sorted({row["file"] for row in done}):
        print(file_name, dict(Counter(row["result"] for row in done if row["file"] == file_name)))
    killed = sum(row["result"] in ("failed", "too slow") for row in done)
    print(f"{len(done)} of {len(every)} mutants, {killed} killed: {killed / len(done):.1%}")


if __name__ == "__main__":
    main()
