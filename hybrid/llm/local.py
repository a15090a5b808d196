"""Chat models on this machine, through transformers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.llm.base import BackendError, Heard, Message, Reply, Request, unheard
from hybrid.llm.chat.constrained import Form
from hybrid.llm.chat.masking import Mask, Spelling
from hybrid.llm.quiet import quiet
from hybrid.llm.store.identity import resolved_name, weights

TEMPERATURE, TOP_P = 0.8, 0.95
BATCH = 16  # replies generated at once; a CPU gains little beyond 8
PROMPTS = 1 << 15  # tokens of prompt in a batch, padding included: attention's masks are as long as wide
# How the chat formats of common families close a turn: some models name only their text's end as EOS.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


class LocalLLM:
    """A causal language model with its tokenizer.

    on_token: called with the number of tokens each reply of the batch has so far, for live displays.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Load a folder of safetensors. Raises BackendError, in one line, if it holds no such model."""
        if not weights(folder):
            raise BackendError(f"{folder}: no model, expected config.json and whole safetensors weights")
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.device = _device(device)
        dtype = _dtype(self.device)
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model: Any = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
                )
        except (ValueError, OSError, KeyError, ImportError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BackendError(f"{folder}: cannot be loaded as a language model: {reason}") from error
        self._model: Any = model.to(self.device).eval()
        self._spelling = Spelling(self._tokenizer)
        self._ends = _end_tokens(self._tokenizer, model)
        self._window = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
        self._lock = threading.Lock()  # one generation at a time: they share the generators' state
        self.on_token: Callable[[int], None] | None = None
        self.parameters: int | None = model.num_parameters()
        self.name = resolved_name(folder, {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype])

    def chat(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        max_tokens: int = 512,
        form: Form | None = None,
    ) -> list[Reply]:
        """`samples` replies; `hybrid.llm.base.LLM` says more. Deterministic for a seed, a device and a count.

        Replies are generated in one batch, the greedy one included: eight cost little more than one.
        """
        asked = Request(messages, max_tokens, form)
        return self.chat_many([asked], samples=samples, greedy_first=greedy_first, seed=seed)[0]

    def chat_many(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        concurrency: int = 1,
        done: Heard = unheard,
    ) -> list[list[Reply]]:
        """`samples` replies to each of many conversations, in batches that mix them; `concurrency` is a server's."""
        import torch

        from trm.training.step import CAPTURING

        rows = []
        for number, asked in enumerate(requests):
            prompt = self._prompt(asked.messages)
            room = self._window - len(prompt)
            for sample in range(samples):
                greedy = greedy_first and sample == 0
                rows.append(_Row(number, prompt, greedy, min(asked.max_tokens, room), asked.form))
        replies: list[list[Reply]] = [[] for _ in requests]

        def heard(row: _Row, reply: Reply) -> None:
            mine = replies[row.request]
            mine.append(reply)
            if len(mine) == samples:
                done(row.request, mine)

        accelerators = [] if self.device == "cpu" else [torch.device(self.device)]
        own_randomness = torch.random.fork_rng(accelerators, device_type=self.device.partition(":")[0])
        alone_on_device = CAPTURING if accelerators else nullcontext()
        with self._lock, alone_on_device, quiet(), torch.inference_mode(), own_randomness:
            torch.manual_seed(seed)
            for batch in _batches([row for row in rows if row.max_tokens > 0]):
                for row, reply in zip(batch, self._generate(batch), strict=True):
                    heard(row, reply)
        for row in rows:
            if row.max_tokens <= 0:
                error = f"prompt of {len(row.prompt)} tokens, the model's window holds {self._window}"
                heard(row, Reply("", 0, 0.0, error))
        return replies

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation, up to where the assistant speaks."""
        if self._tokenizer.chat_template:
            encoded = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, tokenize=True, return_dict=True
            )
            return list(encoded["input_ids"])
        # A base model: the conversation as a plain script.
        script = "\n\n".join(f"{message['role'].title()}: {message['content']}" for message in messages)
        return list(self._tokenizer(f"{script}\n\nAssistant:")["input_ids"])

    def _generate(self, rows: Sequence[_Row]) -> list[Reply]:
        import torch
        import transformers

        started = time.perf_counter()
        # A fresh configuration: the model's own may penalise repetition, which no grid survives.
        configuration: Any = transformers.GenerationConfig  # untyped
        settings = configuration(
            max_new_tokens=max(row.max_tokens for row in rows),
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
            use_cache=True,
        )
        if not all(row.greedy for row in rows):
            settings.update(do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0)
        longest = max(len(row.prompt) for row in rows)
        padding = [longest - len(row.prompt) for row in rows]  # on the left: replies begin together
        ids = [[self._ends[0]] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)]
        seen = [[0] * pad + [1] * len(row.prompt) for pad, row in zip(padding, rows, strict=True)]
        processors: list[Callable[..., Any]] = []
        if any(row.form is not None for row in rows):
            processors.append(Mask(self._spelling, [row.form for row in rows], longest, self._ends))
        if settings.do_sample and any(row.greedy for row in rows):
            processors.append(_Greedy([row.greedy for row in rows]))
        produced = self._model.generate(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(seen, device=self.device),
            generation_config=settings,
            logits_processor=processors,
            stopping_criteria=[self._report(longest)],
        )
        # Shares of the batch's time, so that the seconds of all replies add up to what was waited.
        seconds = (time.perf_counter() - started) / len(rows)
        texts = produced[:, longest:].tolist()
        return [self._reply(row, ids, seconds) for row, ids in zip(rows, texts, strict=True)]

    def _report(self, prompt_length: int) -> Callable[..., Any]:
        """A stopping criterion that stops nothing: it passes the number of tokens on."""
        import torch

        def report(ids: Any, scores: Any, **_: Any) -> Any:  # ids [B, prompt + generated] -> [B] bool
            if self.on_token:
                self.on_token(ids.shape[1] - prompt_length)
            return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)

        return report

    def _reply(self, row: _Row, ids: list[int], seconds: float) -> Reply:
        ids = ids[: row.max_tokens]  # others of the batch may have had more room
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        text = str(self._tokenizer.decode(ids[:end], skip_special_tokens=True))
        error = None
        if end is None:
            error = f"truncated at {len(ids)} tokens"
        elif not text.strip():
            error = "empty content"
        return Reply(text, len(ids) if end is None else end + 1, seconds, error, len(row.prompt))


@dataclass(frozen=True)
class _Row:
    """One reply of a batch."""

    request: int
    prompt: list[int]
    greedy: bool
    max_tokens: int
    form: Form | None


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows that are generated together: of like length, for ARC's prompts have from 500 to 16,000 tokens."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        if batch and (len(batch) == BATCH or (len(batch) + 1) * len(row.prompt) > PROMPTS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Greedy:
    """Leaves some rows of a batch only their likeliest token, so that sampling is greedy there."""

    def __init__(self, rows: list[bool]) -> None:
        self._rows = rows

    def __call__(self, ids: Any, scores: Any) -> Any:  # ids [B, L], scores [B, V] -> [B, V]
        scores = scores.clone()
        for row, greedy in enumerate(self._rows):
            if greedy:
                best = scores[row].argmax()
                kept = scores[row, best].clone()
                scores[row] = float("-inf")
                scores[row, best] = kept
        return scores


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    declared = model.generation_config.eos_token_id
    ends = declared if isinstance(declared, list) else [declared]
    known = tokenizer.get_vocab()
    ends = [*ends, tokenizer.eos_token_id, *(known[mark] for mark in _TURN_ENDS if mark in known)]
    return list(dict.fromkeys(int(token) for token in ends if token is not None)) or [0]


def _device(wish: str) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` to a device that is there. Raises BackendError."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if not there.get(wish.partition(":")[0], False):
        expected = ", ".join(kind for kind, found in there.items() if found)
        raise BackendError(f"device {wish!r} is not available here, expected auto or one of: {expected}")
    return wish


def _dtype(device: str) -> Any:
    """bf16 on accelerators and on CPUs that multiply it natively: half the memory, and a token no later."""
    import torch

    from trm.inference.engine import has_bf16

    return torch.bfloat16 if device != "cpu" or has_bf16(device) else torch.float32
