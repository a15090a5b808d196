"""The application: the routes of the API and of the page, and what is said when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybrid.serve.catalogue import Model, UnknownModelError
from hybrid.serve.guard import Guard, error_body
from hybrid.serve.invalid import invalid_body, refused_request
from hybrid.serve.metrics import MEDIA_TYPE, Metrics
from hybrid.serve.samples import samples
from hybrid.serve.schemas import ChatRequest, ReadRequest, ScoreRequest, SolveRequest
from hybrid.serve.service import EVENT_STREAM, RequestError, Service
from hybrid.serve.worker import QueueFullError
from trm import __version__, tasks
from trm.tasks.registry import SIZES

PAGE, INDEX = Path(__file__).parent / "page", "index.html"

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_RETRY = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of a route that are errors, for the API's description."""
    words = {
        400: "The body is empty or no JSON, or a parameter has no meaning here",
        401: "The token is missing or wrong",
        403: "The request comes from a foreign page, or names another host",
        404: "No such model was started here",
        408: "The body came too slowly",
        413: "The body is too large",
        422: "A value that cannot be read: no puzzle, for example",
        429: "The queue is full",
        500: "Something went wrong in the server",
        503: "The puzzle waited too long in the queue",
        504: "There was no answer in time",
    }
    content = {"application/json": {"schema": _ERROR}}
    return {
        status: {
            "description": words[status],
            "content": content,
            **({"headers": _RETRY} if status == 429 else {}),
        }
        for status in statuses
    }


GUARDED = (401, 403)
SOLVING = (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)


def create_app(service: Service) -> ASGIApp:
    """The ASGI application. It starts the service's worker, and ends it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        service.worker.close()

    app = FastAPI(
        title="hybrid serve",
        version=__version__,
        summary="A small language model drafts, a Tiny Recursive Model refines, exact rules verify.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_errors(app)
    _add_api(app, service)
    _add_page(app)
    return Guard(_Counted(app, service.metrics), service.settings.policy)


def _add_api(app: FastAPI, service: Service) -> None:
    kept = samples()
    record = {"description": "The record of one puzzle, or a list of them; with `stream`, server-sent events"}
    streamed: dict[str, Any] = {"content": {"application/json": {}, EVENT_STREAM: {}}}

    @app.post("/v1/solve", tags=["puzzles"], responses={200: record | streamed, **_errors(*SOLVING)})
    async def solve(body: SolveRequest, request: Request) -> Response:
        """Answer one puzzle or several: the LLM drafts, the network refines beside a cold start, the rules verify."""
        return await service.solve(body, request)

    @app.post("/v1/read", tags=["puzzles"], responses=_errors(400, 401, 403, 408, 413, 422, 500))
    def read(body: ReadRequest) -> dict[str, Any]:
        """The puzzles of a text, as `/v1/solve` takes them, each with notes on how it was read, or an error."""
        return service.read(body)

    @app.post("/v1/score", tags=["puzzles"], responses=_errors(*SOLVING))
    async def score(body: ScoreRequest, request: Request) -> Response:
        """How likely the refiner finds each candidate: numbers in [0, 1], in the order of the candidates."""
        return await service.score(body, request)

    @app.post(
        "/v1/chat/completions",
        tags=["OpenAI"],
        responses={200: {"description": "A completion, or chunks of it"} | streamed, **_errors(*SOLVING)},
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """For clients of OpenAI's API: the puzzle in the user's last message is answered."""
        return await service.chat(body, request)

    @app.get("/v1/models", tags=["OpenAI"], responses=_errors(*GUARDED))
    async def models() -> dict[str, Any]:
        """What the server was started with: names for `llm` and `refiner`, and for `model` of a chat."""
        catalogue = service.catalogue
        return {
            "object": "list",
            "data": list(map(_described, catalogue.models)),
            "llms": catalogue.llms,
            "refiners": catalogue.refiners,
        }

    @app.get("/v1/models/{name:path}", tags=["OpenAI"], responses=_errors(*GUARDED, 404))
    async def one_model(name: str) -> dict[str, Any]:
        """The model of this name."""
        return _described(service.catalogue.named(name))

    @app.get("/v1/samples", tags=["puzzles"], responses=_errors(*GUARDED))
    async def sample_puzzles() -> list[dict[str, str]]:
        """Puzzles to try, of the tasks that some model knows, from easy to hard."""
        known = {task for model in service.catalogue.models for task in _tasks_of(model)}
        return [sample for sample in kept if sample["task"] in known]

    @app.get("/health", tags=["server"], responses=_errors(403))
    async def health() -> dict[str, Any]:
        """Whether the server answers, and how much it has to do."""
        worker = service.worker
        return {"status": "ok", "version": __version__, "waiting": worker.waiting, "running": worker.running}

    @app.get(
        "/metrics", tags=["server"], responses={200: {"content": {"text/plain": {}}}, **_errors(*GUARDED)}
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)


def _add_page(app: FastAPI) -> None:
    """A route for each of the page's files, so that no path of a request is ever one of a file."""

    def sends(file: Path) -> Callable[[], Awaitable[Response]]:
        async def send() -> Response:
            return FileResponse(file)

        return send

    for file in sorted(PAGE.iterdir()):
        path = "/" if file.name == INDEX else f"/{file.name}"
        app.add_api_route(path, sends(file), include_in_schema=False)


def _described(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "hybrid-trm",
        "llm": model.llm,
        "refiner": model.refiner,
        "tasks": _tasks_of(model),
    }


def _tasks_of(model: Model) -> list[str]:
    """The tasks that a model knows: those of the refiner's experts, or all where a language model answers alone."""
    refiner = model.pipeline.refiner
    return list(refiner.tasks if refiner is not None else [*tasks.names(), *SIZES])


def _add_errors(app: FastAPI) -> None:
    """Every error is one line in OpenAI's form, and never a traceback."""

    @app.exception_handler(RequestError)
    async def wrong(request: Request, error: RequestError) -> Response:
        return JSONResponse(error_body(error.status, str(error), error.code, error.param), error.status)

    @app.exception_handler(UnknownModelError)
    async def unknown(request: Request, error: UnknownModelError) -> Response:
        return JSONResponse(error_body(404, str(error), "model_not_found", error.param), 404)

    @app.exception_handler(QueueFullError)
    async def full(request: Request, error: QueueFullError) -> Response:
        body = error_body(429, str(error), "queue_full")
        return JSONResponse(body, 429, {"Retry-After": str(error.retry_seconds)})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return JSONResponse(refused_request(request, error), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return JSONResponse(*invalid_body(error.errors()))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse(error_body(500, "internal error"), 500)


class _Counted:
    """Counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        statuses: list[int] = []

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, counting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, str(statuses[0] if statuses else 500)).inc()
