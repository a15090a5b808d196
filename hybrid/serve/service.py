"""What the routes do: read puzzles, hand them to the worker, and write what comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hybrid.serve import chat
from hybrid.serve.catalogue import Catalogue, Model
from hybrid.serve.events import Event
from hybrid.serve.guard import Policy, error_body
from hybrid.serve.inbox import Inbox, events, last_events
from hybrid.serve.jobs import Call, Emit, Job, Work
from hybrid.serve.messages import find_puzzle
from hybrid.serve.metrics import Metrics
from hybrid.serve.reading import UnknownTaskError, known_task, read_puzzle, read_puzzles
from hybrid.serve.schemas import MOST_READ, ChatRequest, PuzzleIn, ReadRequest, ScoreRequest, SolveRequest
from hybrid.serve.worker import Worker
from hybrid.solving import NOBODY
from trm import tasks
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.refiner import as_draft
from trm.tasks import Puzzle
from trm.text import printable

EVENT_STREAM = "text/event-stream"
ALIVE = ": still here\n\n"  # a comment of a stream in which nothing happens


@dataclass(frozen=True)
class Settings:
    """policy: who may ask. limit_seconds: after them a search is stopped, and the answer is what there is by then."""

    policy: Policy = field(default_factory=Policy)
    limit_seconds: float = 300.0


class RequestError(Exception):
    """A request that cannot be answered: one line for people."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class Service:
    """The models, the worker that owns them, and the routes' work."""

    def __init__(self, catalogue: Catalogue, worker: Worker, settings: Settings) -> None:
        self.catalogue, self.worker, self.settings = catalogue, worker, settings
        self.metrics = Metrics(worker)

    # -- solve ---------------------------------------------------------------------------------------------
    async def solve(self, body: SolveRequest, request: Request) -> Response:
        model = self.catalogue.model(body.llm, body.refiner)
        read = await run_in_threadpool(_read_all, body.items(), model)
        if body.question is not None and isinstance(read[0], PuzzleError):
            raise _refused(read[0])
        if body.stream:
            return self._stream(model, body, read)
        make = [partial(self._job, model, p, body.config(), body) for p in read if isinstance(p, Puzzle)]
        ended = await last_events(self.worker, make, self.settings.limit_seconds, request)
        if ended is None:
            return Response(status_code=499)  # nobody reads it
        for event in ended:
            self.count(event)
        if body.question is not None:
            return JSONResponse(*_reply(ended[0]))
        waiting = iter(ended)
        results = [
            {
                "id": name,
                **(
                    error_body(422, str(puzzle), "bad_puzzle")
                    if isinstance(puzzle, PuzzleError)
                    else _reply(next(waiting))[0]
                ),
            }
            for name, puzzle in zip(_names(body.items()), read, strict=True)
        ]
        return JSONResponse({"object": "list", "data": results})

    def read(self, body: ReadRequest) -> dict[str, Any]:
        """The reply of `/v1/read`. Raises RequestError where there is no puzzle at all."""
        try:
            task = known_task(body.task, self.catalogue.model().pipeline.refiner)
        except UnknownTaskError as error:
            raise _refused(error) from None
        found = read_puzzles(body.text, task, body.name)
        if task is None and not any(isinstance(puzzle, Puzzle) for puzzle in found):
            with suppress(PuzzleError):
                found = [find_puzzle(body.text, body.name)]
        if not any(isinstance(puzzle, Puzzle) for puzzle in found):
            raise RequestError(422, str(found[0]), "bad_puzzle", "text")
        data = [
            error_body(422, str(puzzle), "bad_puzzle")
            if isinstance(puzzle, PuzzleError)
            else {
                "id": printable(puzzle.id),
                "task": puzzle.task,
                "question": tasks.get(puzzle.task).question_text(puzzle),
                "notes": [printable(note) for note in puzzle.notes],
            }
            for puzzle in found[:MOST_READ]
        ]
        return {"object": "list", "data": data, "left_out": len(found) - len(data)}

    def _job(
        self, model: Model, puzzle: Puzzle, config: SearchConfig, body: SolveRequest, emit: Emit
    ) -> Work:
        return Job(
            model, puzzle, config, emit, watched=body.stream, detailed=body.stream, with_trace=body.trace
        )

    def _stream(
        self, model: Model, body: SolveRequest, read: Sequence[Puzzle | PuzzleError]
    ) -> StreamingResponse:
        inbox = Inbox()
        names = _names(body.items())
        good = [number for number, puzzle in enumerate(read) if isinstance(puzzle, Puzzle)]
        works: list[Work] = []
        for place, number in enumerate(good):
            puzzle = read[number]
            assert isinstance(puzzle, Puzzle)
            works.append(self._job(model, puzzle, body.config(), body, inbox.emit(place)))
        ahead = self.worker.waiting + self.worker.running
        self.worker.submit(works)

        async def lines() -> AsyncIterator[str]:
            for name, puzzle in zip(names, read, strict=True):
                if isinstance(puzzle, PuzzleError):
                    yield _line("error", {"puzzle": name, "message": str(puzzle), "code": "bad_puzzle"})
                else:
                    yield _line("queued", {"puzzle": name, "ahead": ahead})
            async for item in events(self.worker, works, inbox, self.settings.limit_seconds):
                if item is None:
                    yield ALIVE
                    continue
                place, event = item
                self.count(event)
                yield _line(event.name, {"puzzle": names[good[place]], **event.data})
            yield _line("done", {})

        return StreamingResponse(lines(), media_type=EVENT_STREAM)

    # -- score ---------------------------------------------------------------------------------------------
    async def score(self, body: ScoreRequest, request: Request) -> Response:
        model = self.catalogue.model(NOBODY, body.refiner)
        refiner = model.pipeline.refiner
        assert refiner is not None  # nobody for both is no model
        (puzzle,) = await run_in_threadpool(
            _read_all, [PuzzleIn(question=body.question, task=body.task)], model
        )
        if isinstance(puzzle, PuzzleError):
            raise _refused(puzzle)
        try:
            candidates = await run_in_threadpool(lambda: [as_draft(puzzle, text) for text in body.candidates])
        except PuzzleError as error:
            raise RequestError(422, str(error), "bad_candidate", "candidates") from None

        def scores() -> Event:
            found = refiner.score(puzzle, candidates)
            return Event("answer", {"scores": [round(float(score), 6) for score in found]})

        ended = await last_events(
            self.worker,
            [partial(Call, scores, adapts=refiner.pool.adapts(puzzle.task))],
            self.settings.limit_seconds,
            request,
        )
        if ended is None:
            return Response(status_code=499)
        data, status = _reply(ended[0])
        return JSONResponse(
            data | {"refiner": body.refiner or self.catalogue.refiners[0]} if status == 200 else data, status
        )

    # -- chat ----------------------------------------------------------------------------------------------
    async def chat(self, body: ChatRequest, request: Request) -> Response:
        try:
            chat.refuse_unsupported(body)
        except chat.UnsupportedError as error:
            raise RequestError(400, str(error), "unsupported_value", error.param) from None
        model = self.catalogue.named(body.model) if body.model else self.catalogue.models[0]
        completion = chat.Completion(model.name)
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        try:
            puzzle = await run_in_threadpool(find_puzzle, chat.question_of(body), "message")
        except PuzzleError as error:
            text = chat.no_puzzle_text(body, error)
            if body.stream:
                chunks = [completion.first_chunk(), *completion.last_chunks(text, None, with_usage)]
                return StreamingResponse(iter(chunks), media_type=EVENT_STREAM)
            return JSONResponse(completion.whole(text, None))
        config = SearchConfig(restarts=8, seed=body.seed or 0, score_ties=True)
        if body.stream:
            inbox = Inbox()
            works: list[Work] = [Job(model, puzzle, config, inbox.emit(0))]
            self.worker.submit(works)

            async def chunks_of() -> AsyncIterator[str]:
                yield completion.first_chunk()
                async for item in events(self.worker, works, inbox, self.settings.limit_seconds):
                    if item is None:
                        yield ALIVE
                    elif item[1].last:
                        self.count(item[1])
                        record, status = _reply(item[1])
                        if status != 200:
                            yield f"data: {json.dumps(record)}\n\n"
                            return
                        text = chat.reply_text(body, puzzle, record)
                        for chunk in completion.last_chunks(text, record, with_usage):
                            yield chunk

            return StreamingResponse(chunks_of(), media_type=EVENT_STREAM)
        make = [partial(Job, model, puzzle, config)]
        ended = await last_events(self.worker, make, self.settings.limit_seconds, request)
        if ended is None:
            return Response(status_code=499)
        self.count(ended[0])
        record, status = _reply(ended[0])
        if status != 200:
            return JSONResponse(record, status)
        return JSONResponse(completion.whole(chat.reply_text(body, puzzle, record), record))

    # -- shared --------------------------------------------------------------------------------------------
    def count(self, event: Event) -> None:
        if event.name == "answer" and "scores" not in event.data:
            self.metrics.answered(event.data.get("record", event.data))


def _refused(error: PuzzleError) -> RequestError:
    param = "task" if isinstance(error, UnknownTaskError) else "question"
    return RequestError(422, str(error), "bad_puzzle", param)


def _names(items: Sequence[PuzzleIn]) -> list[str]:
    """What the puzzles of a request are called in its replies."""
    return [item.id or f"puzzle-{number}" for number, item in enumerate(items, 1)]


def _read_all(items: Sequence[PuzzleIn], model: Model) -> list[Puzzle | PuzzleError]:
    """The puzzles of a request, and errors in the places of those that cannot be read."""
    found: list[Puzzle | PuzzleError] = []
    for name, item in zip(_names(items), items, strict=True):
        try:
            found.append(read_puzzle(item.question, known_task(item.task, model.pipeline.refiner), name))
        except PuzzleError as error:
            found.append(error)
    return found


def _reply(event: Event) -> tuple[dict[str, Any], int]:
    """The body and the status that say what the last event of a puzzle says."""
    if event.name == "error":
        return error_body(event.status, event.data["message"], event.data["code"]), event.status
    return event.data, 200


def _line(name: str, data: dict[str, Any]) -> str:
    """An event of a stream."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
