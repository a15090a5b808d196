"""README and docs/: links lead somewhere, commands and options exist, paths are there, and the quick commands run."""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from trm.tasks import get

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MANUAL = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which tells of commands as they were
PROGRAMS = re.compile(r"(hybrid|trm|accelerate|python|\S+/python) ")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """The fenced code blocks of a page: language and content."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S):
        yield match[1], match[2]


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def commands(page: Path) -> Iterator[str]:
    """The commands in a page's code blocks, without their comments."""
    for language, block in blocks(page.read_text(encoding="utf-8")):
        for line in [] if language else block.splitlines():
            command = re.sub(r"\s+#\s.*$", "", line.strip())
            if PROGRAMS.match(command):
                yield command


def mentions(page: Path) -> Iterator[str]:
    """The commands that a page's sentences name: `trm eval`, with options or without, perhaps abridged."""
    for span in re.findall(r"`([^`\n]+)`", prose(page.read_text(encoding="utf-8"))):
        yield from (part.strip() for part in span.split(" · ") if PROGRAMS.match(part))


def parse(command: str) -> None:
    """Let the command's own parser read it, without running it. Raises what that raises."""
    words = shlex.split(command)
    if words[0] == "accelerate":
        words = words[next(n for n, word in enumerate(words) if word == "-m" or word.endswith(".py")) :]
        words.insert(0, "python")
    if words[0] == "python" and words[1] == "-m" and words[2] == "trm":
        words = words[2:]
    if words[0] in ("hybrid", "trm"):
        parse_typer(words[0], words[1:])
    elif words[0] == "python" and words[1].startswith("eval/"):
        parse_typer(words[1], words[2:])
    elif words[0].endswith("python"):
        parse_script(words[1:])


def parse_script(words: list[str]) -> None:
    """A script of the project, or a module after `-m`, that reads its own options: the file names each of them."""
    file = ROOT / words[0]
    if words[0] == "-m":
        if not words[1].startswith(("trm", "hybrid")):
            return
        file = ROOT / words[1].replace(".", "/")
        file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    text = file.read_text(encoding="utf-8")
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in text]


def parse_typer(program: str, words: list[str]) -> None:
    command, words = find(program, words)
    command.make_context(program, words)


def find(program: str, words: list[str]) -> tuple[Any, list[str]]:
    """The (sub)command that the words call, and its own words."""
    module = {"hybrid": "hybrid.cli", "trm": "trm.cli"}.get(
        program, program.removesuffix(".py").replace("/", ".")
    )
    command: Any = get_command(import_module(module).app)
    if not hasattr(command, "resolve_command"):
        return command, words
    _, found, rest = command.resolve_command(
        command.make_context(program, words, resilient_parsing=True), words
    )
    return found, rest


def all_of(read: Callable[[Path], Iterator[str]]) -> list[tuple[str, str]]:
    return [(name_of(page), command) for page in MANUAL for command in read(page)]


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_entries_of_the_log_that_are_named_exist() -> None:
    titles = re.findall(r"^### (.+)$", (ROOT / "LOG.md").read_text(encoding="utf-8"), flags=re.M)
    pages = [page.read_text(encoding="utf-8") for page in MANUAL if page != README]
    named = {name for page in pages for name in re.findall(r'"([A-Z][^"\n]{8,})"', prose(page))}
    assert len(named) > 10
    assert not [name for name in named if not any(name in title for title in titles)]


@pytest.mark.parametrize("page", MANUAL, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:trm|hybrid|eval|configs|tests|examples|docs|prompts)/[\w/.-]*)`",
        page.read_text(encoding="utf-8"),
    )
    missing = [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing


def layers() -> list[list[str]]:
    """The packages and modules of each row of the table in architecture.md, by their dotted names."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| package |")[2].partition("\n\n")[0]
    names = [re.findall(r"`([\w/]+?)/?(?:\.py)?`", row.split("|")[1]) for row in table.splitlines()[2:]]
    return [[name.replace("/", ".") for name in row] for row in names]


def imported_by(file: Path) -> set[str]:
    """The dotted names that a file imports anywhere, names out of modules included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_packages_import_only_those_above_them_in_the_table() -> None:
    rows = layers()

    def row_of(module: str) -> int:
        """The row whose package holds a module most closely; -1 for modules of others."""
        held = [
            (len(name), number)
            for number, row in enumerate(rows)
            for name in row
            if f"{module}.".startswith(f"{name}.")
        ]
        return max(held, default=(0, -1))[1]

    wrong = []
    for file in (file for part in ("trm", "hybrid", "eval") for file in (ROOT / part).rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if module not in ("trm.__init__", "trm.__main__"):
            assert row_of(module) >= 0, f"{module} is in no row of the table"
            wrong += [(module, name) for name in imported_by(file) if row_of(name) > row_of(module)]
    assert not wrong


@pytest.mark.parametrize(("page", "command"), all_of(commands))
def test_commands_and_their_options_exist(page: str, command: str) -> None:
    parse(command)


@pytest.mark.parametrize(("page", "mention"), all_of(mentions))
def test_options_that_are_mentioned_exist(page: str, mention: str) -> None:
    program, *words = mention.replace("python eval", "eval").split()
    if program in ("hybrid", "trm") or program.startswith("eval/"):
        command, words = find(program, [word.strip("[]") for word in words])
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_there_are_commands_of_every_program() -> None:
    firsts = {tuple(command.split()[:2]) for _, command in all_of(commands)}
    assert {("hybrid", "solve"), ("trm", "train"), ("trm", "eval"), ("python", "eval/compare.py")} <= firsts


def test_model_cards_have_the_hashes_of_what_ships() -> None:
    cards = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("model-card*.md"))
    for file in (ROOT / "ckpt").rglob("*"):
        if file.suffix in (".pt", ".safetensors"):
            assert hashlib.sha256(file.read_bytes()).hexdigest()[:12] in cards, file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that README's commands name."""
    (tmp_path / "ckpt").symlink_to(ROOT / "ckpt")
    maze, sudoku = get("maze"), get("sudoku")
    (tmp_path / "maze.txt").write_text(maze.question_text(maze.samples()[0]))
    rows = [f"{sudoku.question_text(p)},{sudoku.text(p.answers or ())}" for p in sudoku.samples()]
    (tmp_path / "test.csv").write_text("\n".join(["question,answer", *rows, ""]))
    return tmp_path


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        ('hybrid solve --llm none "5.397', "verified"),
        ("hybrid solve --llm none maze.txt --answers 3", "answer 3"),
        ("trm eval ckpt/trm.pt --task sudoku", "3"),
    ],
)
def test_quick_commands_of_readme_run(beginning: str, expected: str, folder: Path) -> None:
    (command,) = [command for command in commands(README) if command.startswith(beginning)]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_library_of_readme_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [
        block for language, block in blocks(README.read_text(encoding="utf-8")) if language == "python"
    ]
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert str(names["out"].verdict.status) == "verified"  # type: ignore[attr-defined]
