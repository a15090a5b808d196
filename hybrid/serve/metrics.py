"""What `/metrics` says, in Prometheus' text form."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hybrid.serve.worker import Worker

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, worker: Worker) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "hybrid_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        self._puzzles = Counter(
            "hybrid_puzzles", "Puzzles by task and status", ["task", "status"], registry=own
        )
        self._seconds = Histogram(
            "hybrid_puzzle_seconds", "Seconds of work on a puzzle", ["task"], registry=own, buckets=SECONDS
        )
        self._steps = Counter("hybrid_supervision_steps", "Supervision steps of the refiner", registry=own)
        self._tokens = Counter("hybrid_draft_tokens", "Tokens that language models wrote", registry=own)
        waiting = Gauge("hybrid_queue_waiting", "Puzzles that wait", registry=own)
        waiting.set_function(lambda: worker.waiting)
        running = Gauge("hybrid_queue_running", "Puzzles that are worked on", registry=own)
        running.set_function(lambda: worker.running)

    def answered(self, record: dict[str, Any]) -> None:
        """Count a puzzle by its record."""
        self._puzzles.labels(record["task"], record["status"]).inc()
        self._seconds.labels(record["task"]).observe(record["seconds"]["total"])
        self._steps.inc(record["steps"])
        self._tokens.inc(sum(draft["tokens"] for draft in record["drafts"]))

    def text(self) -> bytes:
        return generate_latest(self._registry)
