"""From what a command line asks for to a comparison: models loaded, puzzles chosen, arms that can answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval import arms as arms_of
from eval.arms import Setting
from eval.plan import Plan, UsageError, puzzles_for, sources_of
from eval.recorded import RecordedProposer
from eval.run import DRAFTS, part, parts
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.grid.proposer import GridProposer
from hybrid.llm.grid.shipped import AdapterError, adapter_for
from hybrid.llm.registry import connect
from hybrid.solving import AT_ONCE, AT_ONCE_ON_CPU, NOBODY, can_overlap, load_tuned, refiner_path
from trm import tasks
from trm.adaptation.config import adaptation_config, default_adaptation
from trm.device import resolve_device
from trm.inference.config import SearchConfig
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks
from trm.tasks import Puzzle


@dataclass(frozen=True)
class Request:
    """What the command line asks for, name by name."""

    tasks: str
    n: int
    arms: str
    llm: str
    refiner: str
    data: list[str]
    drafts_from: Path | None
    config: SearchConfig
    fit: list[str]
    concurrency: int
    device: str
    adapter: str
    out: Path
    resume: bool
    compile_fits: bool = False


@dataclass(frozen=True)
class Comparison:
    """A request that can be met. arms: of each task. warnings: what cannot be compared, and why."""

    plan: Plan
    puzzles: dict[str, list[Puzzle]]
    arms: dict[str, list[str]]
    setting: Setting
    warnings: list[str]

    @property
    def arm_names(self) -> list[str]:
        """The names of all arms that answer anything."""
        return list(dict.fromkeys(name for names in self.arms.values() for name in names))


def prepare(request: Request, process: int, callbacks: Callbacks) -> Comparison:
    """Load what takes part, and find out which arms can answer what.

    Raises UsageError, ArmError, PuzzleError and ConfigError for a bad request, and BackendError, CheckpointError and
    DeviceError for what is missing.
    """
    names = _arm_names(request.arms)
    kinds = [tasks.get(task).name for task in _split(request.tasks, tasks.names())]
    if not kinds:
        raise UsageError("--tasks: names none")
    sources = sources_of(request.data)
    if unused := sorted(set(sources) - set(kinds)):
        raise UsageError(f"--data {unused[0]}=…: not one of --tasks {','.join(kinds)}")
    seed = request.config.seed
    puzzles = {task: puzzles_for(task, request.n, seed, sources.get(task)) for task in kinds}
    refiner = _refiner(request, kinds)
    proposer = _proposer(request, process)
    if request.compile_fits:
        _compile_fits(proposer)
    every = [puzzle for task in kinds for puzzle in puzzles[task]]
    used = proposer if any(map(arms_of.needs_llm, names)) else None
    warnings = _draft_warnings(used, every, request)
    on_cpu = refiner is None or refiner.device == "cpu"
    setting = Setting(
        proposer,
        refiner,
        request.config,
        at_once=AT_ONCE_ON_CPU if on_cpu else AT_ONCE,
        prefetched=can_overlap(proposer.live if proposer is not None else None),
        callbacks=callbacks,
        variants=_variants(names, proposer, request, process),
    )
    arms, skipped = skipped_arms(names, puzzles, setting)
    plan = Plan(
        tasks=tuple(kinds),
        n=request.n,
        data=sources,
        config=request.config,
        llm=proposer.name if proposer is not None else None,
        refiner=refiner.name if refiner is not None else None,
        adaptation=refiner.pool.adaptation if refiner is not None and request.fit else None,
    )
    return Comparison(plan, puzzles, arms, setting, [*skipped, *warnings])


def _split(text: str, every: Sequence[str]) -> list[str]:
    return list(every) if text == "all" else list(dict.fromkeys(filter(None, text.split(","))))


def _arm_names(text: str) -> list[str]:
    """The arms, the hybrid first: controls are measured against it."""
    names = [arms_of.check(name) for name in _split(text, arms_of.MAIN + arms_of.CONTROLS)]
    if not names:
        raise UsageError("--arms: names none")
    if set(arms_of.AGAINST_HYBRID) & set(names) and "hybrid" not in names:
        names = ["hybrid", *names]
    return sorted(names, key=lambda name: name != "hybrid")


def _refiner(request: Request, kinds: Sequence[str]) -> Refiner | None:
    adaptation = None
    if request.fit:
        adaptation = adaptation_config(
            request.fit, "--adapt", default_adaptation(resolve_device(request.device))
        )
    refiner = None
    if request.refiner != NOBODY:
        path = refiner_path(request.refiner)
        refiner = Refiner.from_pretrained(path, device=request.device, adaptation=adaptation)
        refiner.pool.check()
    if request.fit and (refiner is None or not any(map(refiner.pool.adapts, kinds))):
        raise UsageError("--adapt: no expert here is adapted to the puzzles of these tasks")
    return refiner


def _proposer(request: Request, process: int) -> RecordedProposer | None:
    """The drafts on file and the live model: either is enough."""
    if request.drafts_from is not None:
        proposer = _recorded("llm", None, request, process)
        if not proposer.load(request.drafts_from):
            raise UsageError(f"{request.drafts_from}: no drafts")
        return proposer
    if request.llm == NOBODY:
        return None
    try:
        adapter = adapter_for(request.llm, request.adapter, request.config.rounds)
    except AdapterError as error:
        raise UsageError(str(error)) from error
    live: ChatProposer | GridProposer
    if adapter is None:
        live = ChatProposer(connect(request.llm, request.device))
    else:
        live = load_tuned(request.llm, adapter, request.device)
    return _recorded("llm", live, request, process)


def _compile_fits(proposer: RecordedProposer | None) -> None:
    live = proposer.live if proposer is not None else None
    try:
        if not isinstance(live, GridProposer):
            raise ValueError("nothing is fitted here")
        live.compile_fits()
    except ValueError as error:
        raise UsageError(f"--compile-fits: {error}, expected a model with an adapter on a GPU") from error


def _variants(
    names: Sequence[str], proposer: RecordedProposer | None, request: Request, process: int
) -> dict[str, RecordedProposer]:
    """The language model in the other states that arms ask it in: as it came, and tuned but fitted to nothing."""
    live = proposer.live if proposer is not None else None
    if not isinstance(live, GridProposer):
        return {}
    states: dict[str, ChatProposer | GridProposer] = {}
    if arms_of.TUNED in names and live.fits:
        states[arms_of.TUNED] = live.frozen()
    if arms_of.PLAIN in names:
        states[arms_of.PLAIN] = ChatProposer(connect(request.llm, request.device))
    return {name: _recorded(name, state, request, process) for name, state in states.items()}


def _recorded(
    name: str, live: ChatProposer | GridProposer | None, request: Request, process: int
) -> RecordedProposer:
    """A proposer with the drafts of an earlier part of this comparison. name: of the arm whose drafts they are."""
    kind = DRAFTS[name]
    path = part(request.out / f"{kind}.jsonl", process)
    proposer = RecordedProposer(path, live, request.config.drafts, request.config.seed)
    for path in parts(request.out, kind):
        proposer.load(path)
    return proposer


def _draft_warnings(
    proposer: RecordedProposer | None, every: Sequence[Puzzle], request: Request
) -> list[str]:
    """What is amiss with the drafts that arms will take. Raises UsageError where there are none at all."""
    if proposer is None:
        return []
    warnings, drafts, missing = [], request.config.drafts, proposer.missing(every)
    if missing == len(every):
        raise UsageError(
            f"--drafts-from {request.drafts_from}: no drafts of these puzzles, or fewer than {drafts} of each"
        )
    if proposer.parameters is None:
        warnings.append(
            f"{proposer.name} does not say its size: its arithmetic counts as none, in TFLOP and trm+restarts"
        )
    if missing:
        warnings.append(f"{missing} of {len(every)} puzzles have fewer than {drafts} drafts on file")
    return warnings


def skipped_arms(
    names: Sequence[str],
    puzzles: Mapping[str, Sequence[Puzzle]],
    setting: Setting,
) -> tuple[dict[str, list[str]], list[str]]:
    """The arms that can answer each task's puzzles, and a line for each reason why others cannot.

    Raises UsageError where no arm can answer any.
    """
    kept: dict[str, list[str]] = {task: [] for task in puzzles}
    reasons: dict[str, list[str]] = {}
    for task, some in puzzles.items():
        for name in names:
            reason = arms_of.missing_requirement(name, some, setting)
            if reason is None:
                kept[task].append(name)
            elif name not in reasons.setdefault(reason, []):
                reasons[reason].append(name)
    if not any(kept.values()):
        raise UsageError(f"{'; '.join(reasons)}: nothing is left of --arms {','.join(names)}")
    return kept, [f"{reason}; left out: {', '.join(skipped)}" for reason, skipped in reasons.items()]
