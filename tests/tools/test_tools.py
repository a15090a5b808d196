"""Short versions of the scripts in this folder, which run for long by hand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import audit
import kill_runs
import mutants
import soak_server
import verdicts


def test_a_server_that_misbehaves_costs_no_other_puzzle(tmp_path: Path) -> None:
    counts = soak_server.soak(40, 1, tmp_path / "answers.jsonl", reply_seconds=0.5)
    assert counts["statuses"].keys() == {"verified", "unsolved"}
    assert len(counts["met"]) > 5


def test_verdicts_agree_with_an_independent_checker() -> None:
    counts = verdicts.compare(2000, 1)
    assert counts.total() == 2000
    assert all(counts[f"{task} {kind}"] > 50 for task in ("sudoku", "maze") for kind in ("right", "wrong"))


@pytest.mark.parametrize(
    "program", [kill_runs.train, kill_runs.solve, kill_runs.compare], ids=lambda p: p.__name__
)
def test_killed_programs_lose_nothing(tmp_path: Path, program: object) -> None:
    size = {"train": 10, "solve": 60, "compare": 4}[program.__name__]  # type: ignore[attr-defined]
    killed, runs = kill_runs.kill(program(tmp_path, size), 2, random.Random(0))  # type: ignore[operator]
    assert killed >= 2
    assert runs >= 1


def test_an_audit_that_finds_or_knows_nothing_fails() -> None:
    known = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    unknown = {"name": "b", "skip_reason": "not on the index"}
    lines, faults = audit.vulnerabilities({"dependencies": [known, unknown]})
    assert faults == 1
    assert {"b", "CVE-1,"} <= {word for line in lines for word in line.split()}
    assert audit.vulnerabilities({"dependencies": [unknown]})[1] == 1
    assert audit.vulnerabilities({"dependencies": [known | {"vulns": []}]})[1] == 0
    given = ["MIT", "GNU General Public License v3", "UNKNOWN", "LGPL-2.1", "GPL-3.0", "MPL-2.0"]
    assert audit.licences([{"License": text, "Name": text} for text in given])[1] == 3


def test_a_mutant_differs_from_its_source_in_one_place() -> None:
    source = "def f(x):\n    # a comment\n    return x[1:] if x and not x == 2 else f'{x}'\n"
    number = len(list(mutants.changes(mutants.ast.parse(source))))
    made = [mutants.mutate(source, n) for n in range(number)]
    assert len({text for text, *_ in made}) == number == 7
    assert {(first, last) for _, first, last, _ in made} == {(3, 3)}
    assert "return None" in made[0][0]
