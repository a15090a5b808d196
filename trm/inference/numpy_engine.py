"""The engine in NumPy, for a few puzzles on a CPU: PyTorch takes longer to load than they take to be answered."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trm.inference.slots import LEAST_WEIGHT, WEIGHED, Rollout, RolloutEngine, Slots, StepReport, Watched
from trm.model.numpy_network import Array, NumpyNetwork, NumpyState

Number = TypeVar("Number", np.float32, np.int64)
SLOTS = 4  # more make two cores no faster, and keep the first puzzles waiting


class NumpyEngine(RolloutEngine):
    """Runs rollouts of one network in NumPy and float32."""

    def __init__(self, network: NumpyNetwork, slots: int = 0) -> None:
        self.network = network
        self.slots = slots or SLOTS

    def open_slots(self, count: int) -> _NumpySlots:
        return _NumpySlots(self.network, min(self.slots, count))


class _NumpySlots(Slots["TorchNormal"]):
    """The arrays of the batch."""

    def __init__(self, network: NumpyNetwork, count: int) -> None:
        super().__init__(count, network.config.draft)
        self.network = network
        self.tokens = np.zeros((count, network.config.seq_len), np.int64)
        self.draft = np.zeros_like(self.tokens)
        self.context = np.zeros(count, np.int64)
        self.state = network.initial_state(count)
        self.fresh = network.initial_state(1)

    def enter(self, slot: int, rollout: Rollout) -> None:
        self.tokens[slot], self.context[slot] = rollout.tokens, rollout.context
        self.draft[slot] = 0 if rollout.draft is None else rollout.draft
        self.state.y[slot], self.state.z[slot] = self.fresh.y[0], self.fresh.z[0]
        if rollout.noise:
            self.noise[slot] = TorchNormal(rollout.seed)

    def step(self) -> StepReport:
        config, rows = self.network.config, sorted(self.busy)
        for slot, normal in self.noise.items():
            y = self.state.y[slot]
            y += np.float32(self.rollouts[slot].noise) * normal.draw(y.size).reshape(y.shape)
        watched = [slot for slot in rows if self.rollouts[slot].watched]
        before = NumpyState(self.state.y[rows], self.state.z[rows])
        state, out = self.network.step(
            before,
            self.tokens[rows],
            self.context[rows] if config.identities else None,
            self.draft[rows] if config.draft else None,
            bool(watched),
        )
        seen = {slot: self._watch(rows.index(slot), before, out.cycles) for slot in watched}
        self.state.y[rows], self.state.z[rows] = state.y, state.z
        likelihoods = None
        kept = [slot for slot in rows if self.rollouts[slot].keep_log_probs]
        if kept:
            likelihoods = self._spread(_log_softmax(out.logits), rows)
        grids = self._spread(out.logits.argmax(-1), rows)
        if config.draft:
            held = [slot for slot in kept if self.rollouts[slot].draft is not None]
            later = grids.copy() if config.feedback else np.zeros_like(grids)
            later[held] = self.draft[held]
            self.draft = later
        return grids, self._spread(out.halt, rows), self._spread(out.go_on, rows), likelihoods, seen

    def _watch(self, row: int, before: NumpyState, cycles: tuple[NumpyState, ...]) -> Watched:
        """What a rollout shows of a step."""
        z = first = before.z[row]
        grids, weighed, moves = [], [], []
        for cycle in cycles:
            log_p = _log_softmax(self.network.logits(cycle.y[row : row + 1]))[0]
            likely = np.argsort(-log_p, axis=-1, kind="stable")[:, : 1 + WEIGHED]
            enough = np.take_along_axis(log_p, likely, -1) >= np.log(LEAST_WEIGHT)
            grids.append(likely[:, 0])
            weighed.append(np.where(enough, likely, 0)[:, 1:])
            moves.append(_moved(z, cycle.z[row]))
            z = cycle.z[row]
        return Watched(np.stack(grids), np.stack(weighed), np.array(moves, np.float32), _moved(first, z))

    def _spread(self, values: NDArray[Number], rows: list[int]) -> NDArray[Number]:
        """Values of `rows` put at their slots, zeros elsewhere."""
        spread = np.zeros((len(self.tokens), *values.shape[1:]), values.dtype)
        spread[rows] = values
        return spread


class TorchNormal:
    """The normal numbers of `torch.randn` on a CPU with a generator of this seed, up to rounding.

    So that restarts begin where they begin in PyTorch: uniform numbers of the Mersenne Twister in groups of 16, and
    of each group two halves for the Box-Muller transform.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)

    def draw(self, count: int) -> Array:
        """count: a multiple of 16."""
        numbers = self._twister.randint(0, 1 << 24, count, dtype=np.uint32)
        uniform = (numbers.astype(np.float32) * np.float32(2**-24)).reshape(-1, 2, 8)
        radius = np.sqrt(-2 * np.log(1 - uniform[:, 0]))
        angle = np.float32(2 * np.pi) * uniform[:, 1]
        return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _moved(before: Array, after: Array) -> float:
    """The distance between states as a share of the later one's length."""
    return float(np.linalg.norm(after - before) / np.linalg.norm(after))
