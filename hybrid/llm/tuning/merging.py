"""A tuned model as a plain one: the adapter added to the weights, with a tokenizer of the sixteen words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from hybrid.llm.grid.adapter import check_shape, merge_adapter, read_info
from hybrid.llm.grid.base_weights import GridModelError, load_base
from hybrid.llm.grid.shipped import INFO_FILE, WEIGHTS_FILE
from hybrid.llm.grid.vocabulary import BLANK, END, WORDS
from hybrid.llm.store import fetch
from hybrid.llm.store.quiet import quiet
from hybrid.llm.tuning.config import MODEL_FILE, base_override
from trm.config import ConfigError


def merge(source: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Write a run's or an adapter's model to `out`, as `transformers` loads it with its tokenizer.

    Args:
        source: a run folder (its best checkpoint, else the last), one of its checkpoints, or an adapter.
        overrides: `model.base=NAME` where the base model is not the one that the adapter names.

    Raises:
        ConfigError, GridModelError: where `source` is no such folder or `out` holds something.
        BackendError: where the base model is missing.
    """
    folder = _checkpoint(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: already there, expected a new folder")
    model = _merged(folder, base_override(overrides))
    with quiet():
        model.save_pretrained(out)
        tokenizer().save_pretrained(out)
    (out / INFO_FILE).write_text((folder / INFO_FILE).read_text(encoding="utf-8"), encoding="utf-8")
    return out


def _checkpoint(source: Path) -> Path:
    places = (source, source / "checkpoints" / "best", source / "checkpoints" / "last")
    for place in places:
        if (place / INFO_FILE).is_file():
            return place
    raise ConfigError(f"{source}: no {INFO_FILE}, expected a run folder or an adapter")


def _merged(folder: Path, base: str | None) -> PreTrainedModel:
    if (folder / MODEL_FILE).is_file():  # a run that trained all weights
        try:
            weights = load_file(folder / MODEL_FILE)
        except SafetensorError as error:
            raise GridModelError(f"{folder / MODEL_FILE}: cannot be read ({error})") from None
        config = AutoConfig.from_pretrained(folder)
        model: PreTrainedModel = cast(Any, AutoModelForCausalLM).from_config(config, dtype=torch.bfloat16)
        model.load_state_dict(weights)
        return model
    if not (folder / WEIGHTS_FILE).is_file():
        raise GridModelError(f"{folder}: neither {MODEL_FILE} nor {WEIGHTS_FILE}")
    name = base or str(read_info(folder).get("base"))
    known = {entry.hub: key for key, entry in fetch.catalogue().items()}
    place = Path(name) if Path(name).is_dir() else fetch.pull(known.get(name, name))
    check_shape(place, folder)
    model, _ = load_base(place)
    merge_adapter(model, folder)
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    """Of the sixteen words, each a character.

    `PreTrainedTokenizerFast.from_pretrained` reads it back; `AutoTokenizer` would make the model's usual one of it.
    """
    words = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[BLANK])
    )
    words.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    words.decoder = decoders.Fuse()
    whole: PreTrainedTokenizerFast = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=words,
        eos_token=WORDS[END],
        pad_token=WORDS[BLANK],
        unk_token=WORDS[BLANK],
        clean_up_tokenization_spaces=False,
    )
    return whole
