"""Causal language models that run here, through transformers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from hybrid.llm.base import BackendError, Message, OnReplies, Reply, ReplyFormat, Request, ignore_replies
from hybrid.llm.masking import FormatMask, grammar_vocabulary
from hybrid.llm.store.identity import resolved_name, weights
from hybrid.llm.store.quiet import quiet
from trm.device import GRAPH_CAPTURE_LOCK, DeviceError, resolve_device
from trm.grid import first_line
from trm.inference.engine import has_bf16

TEMPERATURE, TOP_P = 0.8, 0.95
BATCH_REPLIES = 16  # generated at once; a CPU gains little beyond 8
BATCH_PROMPT_TOKENS = 1 << 15  # padding included: attention's masks are as long as wide
# How the chat formats of common families close a turn: some models name only their text's end as EOS.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


@dataclass(frozen=True)
class _Row:
    """A reply to be generated: one row of a batch."""

    request: int  # its number
    prompt: list[int]
    greedy: bool
    max_tokens: int
    format: ReplyFormat | None


class CausalLM:
    """A causal language model with its tokenizer.

    on_token: called with the number of tokens that each reply of the batch has so far, for live displays.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        """Load a folder of safetensors. Raises BackendError, in one line, if it holds no such model."""
        if not weights(folder):
            raise BackendError(f"{folder}: no model, expected config.json and whole safetensors weights")
        try:
            self.device = resolve_device(device, automatic=("cuda", "mps"))
        except DeviceError as error:
            raise BackendError(str(error)) from error
        # bf16 takes half the memory, and no longer a token wherever the processor multiplies it natively.
        bf16 = self.device != "cpu" or has_bf16(self.device)
        dtype = torch.bfloat16 if bf16 else torch.float32
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model: Any = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
                )
        except Exception as error:  # transformers and safetensors raise many kinds for what is not theirs
            reason = first_line(error)
            raise BackendError(f"{folder}: cannot be loaded as a language model: {reason}") from error
        self._model: Any = model.to(self.device).eval()
        self._ends = _end_tokens(self._tokenizer, model)
        self._vocabulary = grammar_vocabulary(self._tokenizer, self._ends[0])
        self._window = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
        self._lock = threading.Lock()  # one generation at a time: they share the generators' state
        self._stopped = threading.Event()
        self.on_token: Callable[[int], None] | None = None
        self.parameters: int | None = model.num_parameters()
        self.name = resolved_name(folder, "bf16" if bf16 else "fp32")

    def stop(self) -> None:
        """End a `complete` that runs in another thread after its next token."""
        self._stopped.set()

    def complete(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        seed: int = 0,
        concurrency: int = 1,
        on_replies: OnReplies = ignore_replies,
    ) -> list[list[Reply]]:
        """As `hybrid.llm.base.LLM` says, in batches that mix requests; `concurrency` is for servers.

        Deterministic for a seed, a device and a count. Eight replies cost little more than one.
        """
        rows = []
        for number, request in enumerate(requests):
            prompt = self._prompt(request.messages)
            room = min(request.max_tokens, self._window - len(prompt))
            rows += [_Row(number, prompt, sample == 0, room, request.format) for sample in range(samples)]
        replies: list[list[Reply]] = [[] for _ in requests]

        def add(row: _Row, reply: Reply) -> None:
            replies[row.request].append(reply)
            if len(replies[row.request]) == samples:
                on_replies(row.request, replies[row.request])

        accelerators = [] if self.device == "cpu" else [torch.device(self.device)]
        own_randomness = torch.random.fork_rng(accelerators, device_type=self.device.partition(":")[0])
        draws = samples > 1  # the first sample of each request is greedy
        shared = GRAPH_CAPTURE_LOCK if accelerators or draws else nullcontext()
        with self._lock, shared, quiet(), torch.inference_mode(), own_randomness:
            self._stopped.clear()
            torch.manual_seed(seed)
            for batch in _batches(row for row in rows if row.max_tokens > 0):
                generated = self._generate(batch)
                if self._stopped.is_set():
                    raise BackendError(f"{self.name}: stopped")
                for row, reply in zip(batch, generated, strict=True):
                    add(row, reply)
        for row in rows:
            if row.max_tokens <= 0:
                error = f"prompt of {len(row.prompt)} tokens, the model's window holds {self._window}"
                add(row, Reply("", 0, 0.0, error))
        return replies

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the conversation, up to where the assistant speaks."""
        if self._tokenizer.chat_template:
            try:
                return self._from_template(messages)
            except Exception:  # templates raise what they like; Gemma 2's has no system role
                system, user, *others = messages
                told = {"role": "user", "content": f"{system['content']}\n\n{user['content']}"}
                try:
                    return self._from_template([told, *others])
                except Exception as error:
                    raise BackendError(f"{self.name}: its chat template: {first_line(error)}") from None
        # A base model: the conversation as a plain script.
        script = "\n\n".join(f"{message['role'].title()}: {message['content']}" for message in messages)
        return list(self._tokenizer(f"{script}\n\nAssistant:")["input_ids"])

    def _from_template(self, messages: Sequence[Message]) -> list[int]:
        encoded = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return list(encoded["input_ids"])

    def _generate(self, rows: Sequence[_Row]) -> list[Reply]:
        started = time.perf_counter()
        # A fresh configuration: the model's own may penalise repetition, which no grid survives.
        configuration: Any = GenerationConfig  # untyped
        settings = configuration(
            max_new_tokens=max(row.max_tokens for row in rows),
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
            use_cache=True,
        )
        processors: list[Callable[[Tensor, Tensor], Tensor]] = []
        if any(row.format is not None for row in rows):
            processors.append(FormatMask(self._vocabulary, [row.format for row in rows], self._ends))
        if not all(row.greedy for row in rows):
            settings.update(do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0)
            processors.append(_Greedy([row.greedy for row in rows]))
        longest = max(len(row.prompt) for row in rows)
        padding = [longest - len(row.prompt) for row in rows]  # on the left: replies begin together
        ids = [[self._ends[0]] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)]
        attended = [[0] * pad + [1] * len(row.prompt) for pad, row in zip(padding, rows, strict=True)]
        produced = self._model.generate(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(attended, device=self.device),
            generation_config=settings,
            logits_processor=processors,
            stopping_criteria=[self._after_token(longest)],
        )
        seconds = (time.perf_counter() - started) / len(rows)
        texts = produced[:, longest:].tolist()
        return [self._reply(row, ids, seconds) for row, ids in zip(rows, texts, strict=True)]

    def _after_token(self, prompt_length: int) -> Callable[..., Tensor]:
        """A stopping criterion that reports the number of tokens, and ends the batch after `stop`."""

        def criterion(ids: Tensor, scores: object, **_: object) -> Tensor:  # ids [B, L] -> [B] bool
            if self.on_token:
                self.on_token(ids.shape[1] - prompt_length)
            return torch.full((len(ids),), self._stopped.is_set(), device=ids.device)

        return criterion

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


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows that are generated together: of like length, for ARC's prompts have from 500 to 16,000 tokens."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        size = len(batch) + 1
        if batch and (size > BATCH_REPLIES or size * len(row.prompt) > BATCH_PROMPT_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Greedy:
    """Leaves some rows of a batch only their likeliest token, so that sampling is greedy there."""

    def __init__(self, rows: list[bool]) -> None:
        self._rows = torch.tensor(rows)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:  # ids [B, L], scores [B, V] -> [B, V]
        best = scores.argmax(-1, keepdim=True)
        alone = torch.full_like(scores, float("-inf")).scatter(-1, best, scores.gather(-1, best))
        return torch.where(self._rows.to(scores.device)[:, None], alone, scores)


def _end_tokens(tokenizer: Any, model: Any) -> list[int]:
    declared = model.generation_config.eos_token_id
    known = tokenizer.get_vocab()
    ends = [*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id]
    ends += [known[mark] for mark in _TURN_ENDS if mark in known]
    return list(dict.fromkeys(int(token) for token in ends if token is not None)) or [0]
