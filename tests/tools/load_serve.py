"""Many clients at once against a server on loopback, each answered once and rightly.

    python tests/tools/load_serve.py --clients 200 --requests 2000
    python tests/tools/load_serve.py --url http://127.0.0.1:8000 --clients 20 --requests 40
    python tests/tools/load_serve.py --url http://127.0.0.1:8000 --beside-arc

Without --url it starts a server over a scripted network in a process of its own: what is measured is the server, not
a network. It prints the seconds that a request took, and how the server's memory grew. Exit 1 if an answer is
missing, wrong, or another client's. With --beside-arc one client asks Sudokus before an ARC task is asked, and while
it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
SUDOKU = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
ARC = {"train": [{"input": [[1, 2, 0]], "output": [[0, 2, 1]]}], "test": [{"input": [[3, 4, 0]]}]}
PATIENCE_SECONDS = 120.0


async def ask_often(address: str, clients: int, requests: int) -> tuple[list[float], Counter[str], int]:
    """The seconds of each request, the outcomes, and how often a client was told to come back."""
    seconds: list[float] = []
    outcomes: Counter[str] = Counter()
    came_back = 0
    numbers = iter(range(requests))

    async def client_of(number: int) -> None:
        nonlocal came_back
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
            for n in numbers:
                body = {"question": SUDOKU, "id": f"{number}-{n}", "llm": "none"}
                begun = time.perf_counter()
                reply = await client.post(f"{address}/v1/solve", json=body)
                while reply.status_code == 429:
                    came_back += 1
                    await asyncio.sleep(float(reply.headers["retry-after"]))
                    reply = await client.post(f"{address}/v1/solve", json=body)
                seconds.append(time.perf_counter() - begun)
                record = reply.json()
                own = record.get("id") == body["id"]
                right = record.get("answer") == SOLUTION and record.get("status") == "verified"
                outcomes["right" if own and right else "another's" if not own else "wrong"] += 1

    await asyncio.gather(*(client_of(number) for number in range(clients)))
    return sorted(seconds), outcomes, came_back


async def ask_beside_arc(address: str, before: int) -> bool:
    """Print the seconds of Sudokus before and beside an ARC task; whether each was answered rightly."""
    arc = {"question": ARC, "llm": "none"}
    right = True
    async with httpx.AsyncClient(timeout=10 * PATIENCE_SECONDS, trust_env=False) as client:

        async def sudoku() -> float:
            nonlocal right
            begun = time.perf_counter()
            reply = await client.post(f"{address}/v1/solve", json={"question": SUDOKU, "llm": "none"})
            right &= reply.json().get("answer") == SOLUTION
            return time.perf_counter() - begun

        async def task() -> float:
            begun = time.perf_counter()
            (await client.post(f"{address}/v1/solve", json=arc)).raise_for_status()
            return time.perf_counter() - begun

        await sudoku()  # the network is loaded
        alone = [await sudoku() for _ in range(before)]
        waiting = asyncio.create_task(task())
        await asyncio.sleep(1)
        beside = []
        while not waiting.done():
            beside.append(await sudoku())
    for name, seconds in (("before", sorted(alone)), ("beside", sorted(beside))):
        print(
            f"{len(seconds)} Sudokus {name}: median {seconds[len(seconds) // 2]:.2f} s, longest {seconds[-1]:.2f} s"
        )
    print(f"the ARC task: {waiting.result():.1f} s")
    return right


def memory(pid: int) -> float:
    """Resident MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def serve(queue: int) -> None:
    """Print the address, and serve a scripted network until standard input ends."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "hybrid" / "serve")]
    from serving import listening, service

    with listening(service(queue=queue)) as address:
        print(address, flush=True)
        sys.stdin.read()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000, help="in all")
    parser.add_argument("--queue", type=int, default=256)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--beside-arc", action="store_true", help="of the server at --url")
    options = parser.parse_args()
    if options.beside_arc:
        return 0 if asyncio.run(ask_beside_arc(options.url, 20)) else 1
    if options.serve:
        serve(options.queue)
        return 0
    address, process = options.url, None
    if address is None:
        command = [sys.executable, __file__, "--serve", "--queue", str(options.queue)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        address = process.stdout.readline().strip()
    try:
        asyncio.run(ask_often(address, options.clients, options.clients))  # connections and caches are there
        before = memory(process.pid) if process is not None else 0.0
        begun = time.perf_counter()
        seconds, outcomes, came_back = asyncio.run(ask_often(address, options.clients, options.requests))
        total = time.perf_counter() - begun
        after = memory(process.pid) if process is not None else 0.0
        left = httpx.get(f"{address}/health", trust_env=False).json()
    finally:
        if process is not None:
            process.communicate()
    print(
        f"{options.clients} clients, {options.requests} requests in {total:.1f} s: {dict(outcomes)}, "
        f"{came_back} came back; seconds a request: median {seconds[len(seconds) // 2]:.2f}, "
        f"95 % {seconds[int(0.95 * len(seconds))]:.2f}, longest {seconds[-1]:.2f}; "
        f"left in the queue {left['waiting'] + left['running']}"
        + (f"; memory {before:.0f} to {after:.0f} MiB" if process is not None else "")
    )
    return 0 if outcomes == {"right": options.requests} else 1


if __name__ == "__main__":
    sys.exit(main())
