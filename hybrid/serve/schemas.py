"""What requests hold, with their limits and the examples of the API's description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trm.inference.config import SearchConfig

SUDOKU = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
MAZE = "S  \n # \n  G"
MOST_PUZZLES = 64  # of a request
MOST_CANDIDATES = 64
MOST_CHARACTERS = 200_000  # of a question
MOST_READ = 200  # puzzles of a text

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Name = Annotated[str, Field(max_length=200)]
Question = Annotated[
    Text | dict[str, Any],
    Field(
        description="A puzzle as text, as `hybrid solve` reads it inline; an ARC task also as a JSON object."
    ),
]
TaskName = Annotated[Name | None, Field(description="The kind of puzzle; detected where it is left out.")]
LLMName = Annotated[
    Name | None, Field(description="A proposer that `GET /v1/models` lists, or `none`; left out: the first.")
]
RefinerName = Annotated[
    Name | None, Field(description="A refiner that `GET /v1/models` lists, or `none`; left out: the first.")
]


class Strict(BaseModel):
    """A request in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PuzzleIn(Strict):
    question: Question
    task: TaskName = None
    id: Name | None = None


class SolveRequest(Strict):
    """One puzzle in `question`, or several in `puzzles`; the other keys are those of `hybrid solve`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"question": SUDOKU},
                {"question": MAZE, "task": "maze", "stream": True},
                {"puzzles": [{"id": "a", "question": SUDOKU}, {"id": "b", "question": MAZE}], "restarts": 2},
            ]
        },
    )

    question: Question | None = None
    task: TaskName = None
    id: Name | None = None
    puzzles: list[PuzzleIn] | None = Field(None, min_length=1, max_length=MOST_PUZZLES)
    llm: LLMName = None
    refiner: RefinerName = None
    drafts: int = Field(1, ge=1, le=16, description="Drafts of the LLM for each puzzle.")
    rounds: int = Field(0, ge=0, le=8, description="Repair rounds, of an LLM without an adapter.")
    steps: int = Field(16, ge=1, le=64, description="Supervision steps of a rollout at most.")
    restarts: int = Field(8, ge=0, le=64, description="Further attempts while not verified.")
    budget: float | None = Field(None, gt=0, le=3600, description="Seconds for each puzzle.")
    answers: int = Field(1, ge=1, le=16, description="Up to so many distinct verified answers.")
    seed: int = Field(0, ge=0, lt=2**32)
    trace: bool = Field(False, description="Whether the record holds the grid after every supervision step.")
    stream: bool = Field(
        False, description="Server-sent events, each step as it comes, in place of one reply."
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> SolveRequest:
        if (self.question is None) == (self.puzzles is None):
            raise ValueError("expected either `question` or `puzzles`")
        if self.puzzles is not None and (self.task is not None or self.id is not None):
            raise ValueError("with `puzzles`, `task` and `id` belong to each puzzle")
        return self

    def items(self) -> list[PuzzleIn]:
        if self.puzzles is not None:
            return self.puzzles
        assert self.question is not None
        return [PuzzleIn(question=self.question, task=self.task, id=self.id)]

    def config(self) -> SearchConfig:
        return SearchConfig(
            drafts=self.drafts,
            rounds=self.rounds,
            steps=self.steps,
            restarts=self.restarts,
            budget_seconds=self.budget,
            answers=self.answers,
            seed=self.seed,
            trace=self.trace or self.stream,
            score_ties=True,
        )


class ReadRequest(Strict):
    """A text of any form that `hybrid solve` reads, such as a CSV, a framed grid or an emoji maze."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": f"Two puzzles:\n{SUDOKU}\n{SUDOKU}"}]},
    )

    text: Text
    task: TaskName = None
    name: Name = Field("text", min_length=1, description="What the text is called, such as a file's name.")


class ScoreRequest(Strict):
    """How likely the refiner finds each candidate answer to a puzzle. No rule is asked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "question": SUDOKU,
                    "candidates": [
                        "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
                    ],
                }
            ]
        },
    )

    question: Question
    candidates: list[Text] = Field(min_length=1, max_length=MOST_CANDIDATES, description="Answers as text.")
    task: TaskName = None
    refiner: RefinerName = None


class Lenient(BaseModel):
    """A part of OpenAI's requests, in which an unknown key is ignored."""

    model_config = ConfigDict(extra="allow", strict=True)


class ContentPart(Lenient):
    type: Name
    text: Text | None = None


class ChatMessage(Lenient):
    role: Name
    content: Text | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text or "" for part in self.content if part.type == "text")
        return self.content or ""


class ResponseFormat(Lenient):
    type: Literal["text", "json_object", "json_schema"]


class StreamOptions(Lenient):
    include_usage: bool = False


class ChatRequest(Lenient):
    """An OpenAI chat completion. What has no meaning for a puzzle, such as `temperature`, is accepted and ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"messages": [{"role": "user", "content": f"Solve this Sudoku:\n{SUDOKU}"}]}]
        },
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=256)
    model: Name | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    seed: int | None = None
    logprobs: bool | None = None
    response_format: ResponseFormat | None = None
    tool_choice: Any = None
