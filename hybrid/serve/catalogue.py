"""The models that a server was started with. A request chooses among them by name, and can name nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybrid import render
from hybrid.llm.grid.shipped import AUTO, adapter_for
from hybrid.llm.registry import hide_password
from hybrid.pipeline import Pipeline
from hybrid.solving import NOBODY, MissingError, Setup, load_proposer, load_refiner
from trm.checkpoints.format import CheckpointError
from trm.grid import PuzzleError
from trm.inference.proposals import Blank, Proposer, ProposerError
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks

FILES = (".pt", ".gguf", ".safetensors")


class UnknownModelError(LookupError):
    """A name that no model was started under. One line for people. param: the key that names it in a request."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, eq=False)
class Model:
    """A proposer and a refiner that answer together. name: `smollm2+trm`, or one name where there is only one."""

    llm: str
    refiner: str
    pipeline: Pipeline

    @property
    def name(self) -> str:
        return "+".join(part for part in (self.llm, self.refiner) if part != NOBODY)


class Catalogue:
    """Every pair of a proposer and a refiner that the server was started with; the first of each is the default.

    llms, refiners: by the names that requests use. Nobody (`none`) can be chosen in place of either.
    """

    def __init__(
        self, llms: dict[str, Proposer], refiners: dict[str, Refiner], callbacks: Callbacks | None = None
    ) -> None:
        named_llms: dict[str, Proposer] = {**llms, NOBODY: Blank()}
        named_refiners: dict[str, Refiner | None] = {**refiners, NOBODY: None}
        self._models = {
            (llm, refiner): Model(llm, refiner, Pipeline(proposer, network, callbacks=callbacks))
            for llm, proposer in named_llms.items()
            for refiner, network in named_refiners.items()
            if not llm == refiner == NOBODY
        }
        if not self._models:
            raise MissingError("neither an LLM nor a refiner, expected one of them to answer")
        self.llms, self.refiners = list(named_llms), list(named_refiners)

    @property
    def models(self) -> list[Model]:
        return list(self._models.values())

    def model(self, llm: str | None = None, refiner: str | None = None) -> Model:
        """The model of these names; None is the default. Raises UnknownModelError."""
        llm = self.llms[0] if llm is None else llm
        refiner = self.refiners[0] if refiner is None else refiner
        for kind, name, known in (("llm", llm, self.llms), ("refiner", refiner, self.refiners)):
            if name not in known:
                raise _unknown(kind, name, known)
        if (llm, refiner) not in self._models:
            raise UnknownModelError("refiner", "neither an LLM nor a refiner, expected one of them to answer")
        return self._models[llm, refiner]

    def named(self, name: str) -> Model:
        """The model of this name, as a chat request has it. Raises UnknownModelError."""
        for model in self.models:
            if model.name == name:
                return model
        raise _unknown("model", name, [model.name for model in self.models])


def _unknown(param: str, name: str, known: Sequence[str]) -> UnknownModelError:
    words = f"{param} {name[:80]!r}: not started here, expected one of {', '.join(known)}"
    return UnknownModelError(param, words)


def load(
    llms: Sequence[str],
    refiners: Sequence[str],
    adapters: Sequence[str],
    device: str,
    notes: render.Notes,
) -> Catalogue:
    """Load every model that is named. What is missing is a warning as long as something is left that can answer.

    adapters: each LLM is loaded once with each of them; what an LLM has none of counts once.
    Raises AdapterError for an adapter that cannot be used, and MissingError.
    """
    loaded: dict[str, Refiner] = {}
    proposers: dict[str, Proposer] = {}
    missing: list[str] = []
    for name in refiners:
        try:
            if (refiner := load_refiner(name, device, notes)) is not None:
                loaded[_free_name(public_name(name), loaded)] = refiner
        except (CheckpointError, PuzzleError) as error:
            missing.append(str(error))
    for name in llms:
        seen = set()
        for wanted in adapters if name != NOBODY else ():
            adapter = adapter_for(name, wanted, rounds=0)
            if (folder := adapter and adapter.folder) in seen:
                continue
            seen.add(folder)
            shown = public_name(name) + ("" if wanted == AUTO else f"@{public_name(wanted)}")
            try:
                proposer = load_proposer(Setup(name, NOBODY, device, wanted), notes, adapter)
                proposers[_free_name(shown, proposers)] = proposer
            except ProposerError as error:
                missing.append(str(error))
    notes.rest()
    if missing and not (loaded or proposers):
        raise MissingError("; ".join(missing))
    for message in missing:
        notes.warned(f"{message}; this server runs without it")
    return Catalogue(proposers, loaded, notes)


def public_name(name: str) -> str:
    """A model's name without the folders that it lies in and without passwords: requests and answers show it."""
    path = Path(name)
    if path.suffix in FILES:
        return path.stem
    return path.resolve().name if path.exists() else hide_password(name)


def _free_name(name: str, taken: dict[str, Proposer] | dict[str, Refiner]) -> str:
    """The name, with a number behind it where another model has it."""
    numbers = (f"{name}-{number}" for number in range(2, 1000))
    return name if name not in taken else next(other for other in numbers if other not in taken)
