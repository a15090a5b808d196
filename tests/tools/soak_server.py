"""A soak: puzzles against a server that resets, fails, hangs, trickles, redirects, and answers in odd ways.

    python tests/tools/soak_server.py --puzzles 1000

Every puzzle must end with an answer or with an error of its own, none twice, none lost, none with another's reply.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # run as a script, Python looks beside the file alone
    sys.path[:0] = [str(ROOT)]

from hybrid.llm.chat.parsing import read_grid
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.client import ServerLLM
from hybrid.llm.connection import Patience
from hybrid.output import Output
from hybrid.pipeline import Pipeline
from tests.hybrid.llm.fake_server import completion, listening
from trm import tasks
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle
from trm.tasks.sudoku.solver import solve

SHARES = {  # of requests
    "reset": 0.10, "500": 0.10, "hang": 0.05, "trickle": 0.05, "redirect": 0.05, "types": 0.05, "large": 0.02,
}  # fmt: skip
ODD = [
    5,
    None,
    [],
    {"choices": 5},
    {"choices": [{"message": {"content": 5}}]},
    "[" * 1000,
    {"error": {"a": []}},
]


def puzzles(n: int, rng: random.Random) -> list[Puzzle]:
    """n Sudokus that differ: a sample with other digits."""
    sample = tasks.get("sudoku").samples()[0]
    made = []
    for number in range(n):
        digits = np.array([0, *rng.sample(range(1, 10), 9)], dtype=np.uint8)
        made.append(replace(sample, inputs=(digits[sample.grid],), answers=None, id=str(number)))
    return made


def misbehaving(rng: random.Random, seen: Counter[str], ended: threading.Event) -> Callable[[Any], None]:
    """What answers a chat request: the solution of the puzzle in it, or one of the faults."""
    lock, blank = threading.Lock(), np.zeros((9, 9), dtype=np.uint8)
    sample = tasks.get("sudoku").samples()[0]

    def answer(handler: Any) -> None:
        body = json.loads(handler.body)
        with lock:
            kind = rng.choices([*SHARES, "good"], [*SHARES.values(), 1 - sum(SHARES.values())])[0]
            seen[kind] += 1
            odd = rng.choice(ODD)
        if kind == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif kind == "hang":
            ended.wait(60)
        elif kind == "trickle":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.05):
                handler.wfile.write(b" ")
        elif kind in ("500", "redirect"):
            handler.send_response(500 if kind == "500" else 302)
            handler.send_header("Location", handler.path)
            handler.end_headers()
        elif kind == "types":
            handler.reply(odd)
        elif kind == "large":
            handler.reply(completion("x" * 10_000_000))
        else:
            grid = read_grid(body["messages"][-1]["content"], tasks.get("sudoku"), blank).grid
            assert grid is not None
            solution = solve(replace(sample, inputs=(grid,), answers=None))
            assert solution is not None
            rows = ["".join(map(str, row)) for row in solution[0].tolist()]
            handler.reply(completion(json.dumps({"rows": rows})))

    return answer


def soak(n: int, seed: int, out: Path, reply_seconds: float, at_once: int = 8) -> dict[str, Counter[str]]:
    """Solve n puzzles; returns how often each fault was met, the statuses and the errors. Fails where one is lost."""
    rng, ended = random.Random(seed), threading.Event()
    asked, seen = puzzles(n, rng), Counter[str]()
    patience = Patience(first_wait=0.01, longest_wait=0.1, reply_seconds=reply_seconds, busy_seconds=5)
    with listening(misbehaving(rng, seen, ended)) as url:
        llm = ServerLLM(url, patience=patience)
        pipeline = Pipeline(ChatProposer(llm), None, drafted_at_once=at_once, prefetched=True)
        with Output(out, as_json=True).open(SearchConfig()) as write:
            for answer in pipeline.solve(asked):
                write(answer)
        ended.set()
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["id"] for record in records] == [puzzle.id for puzzle in asked]
    for record, puzzle in zip(records, asked, strict=True):
        (draft,) = record["drafts"]
        verified = record["status"] == "verified"
        assert record["question"] == tasks.get("sudoku").question_text(puzzle)
        assert verified == (draft["error"] is None), record  # a good reply is never lost, nor another's
    errors = Counter(str(record["drafts"][0]["error"]).removeprefix(f"{url}: ")[:40] for record in records)
    return {"met": seen, "statuses": Counter(record["status"] for record in records), "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--puzzles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reply-seconds", type=float, default=5.0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = soak(given.puzzles, given.seed, Path(folder) / "answers.jsonl", given.reply_seconds)
    for name, counter in counts.items():
        print(f"{name:9} {dict(counter.most_common())}")
    print(f"{given.puzzles} puzzles, none lost, none twice, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
