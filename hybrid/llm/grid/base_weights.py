"""The language model under an adapter: read from a whole model, a cut one, or 8-bit parts, and cut to the words."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import filelock
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from hybrid.llm.grid.quantization import pack_eight_bits, unpack_eight_bits
from hybrid.llm.grid.vocabulary import (
    WORDS,
    VocabularyError,
    cut_vocabulary,
    set_cut_config,
    table_weights,
    word_ids,
)
from hybrid.llm.store.fetch import cache_folder
from hybrid.llm.store.quiet import quiet
from trm.grid import first_line

logger = logging.getLogger(__name__)

PARTS_FILE = "grid_base.json"  # says that a folder holds 8-bit parts
KEPT_FILE = "kept.json"  # says that a folder of the cache is complete
_NUMBERS, _SCALE = ".int8", ".scale"


class GridModelError(ValueError):
    """A base model or an adapter that cannot be used. The message says where, what came and what was expected."""


def load_base(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> tuple[PreTrainedModel, str]:
    """A causal language model cut to the grid vocabulary, and the hash of its weights.

    folder: of a whole model with its tokenizer, of a model that was cut before, or of 8-bit parts (`save_parts`).
    Raises GridModelError, VocabularyError.
    """
    if (folder / PARTS_FILE).is_file():
        return _load_parts(folder, device, dtype)
    if not (folder / "config.json").is_file():
        raise GridModelError(f"{folder}: no model, expected config.json and safetensors weights")
    ids = base_word_ids(folder)  # before the weights, which take longer
    model = _from_pretrained(folder, dtype)
    model = set_cut_config(model) if ids is None else cut_vocabulary(model, ids)
    return to_device(model, device), weights_hash(model)


def base_word_ids(folder: Path) -> list[int] | None:
    """The ids of the words in a base model's tokenizer; None for a model that was cut before.

    Raises GridModelError, where the tokenizer cannot be read or does not have each word as a single token.
    """
    try:
        with quiet():
            if AutoConfig.from_pretrained(folder, trust_remote_code=False).vocab_size == len(WORDS):
                return None
            return word_ids(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    except VocabularyError as error:
        raise GridModelError(f"{folder}: {error}") from None
    except (ValueError, OSError, KeyError, ImportError, RuntimeError) as error:
        raise GridModelError(f"{folder}: no language model with a tokenizer: {first_line(error)}") from error


def _from_pretrained(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        with quiet():
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
            )
    except (ValueError, OSError, KeyError, ImportError, RuntimeError) as error:
        raise GridModelError(
            f"{folder}: cannot be loaded as a language model: {first_line(error)}"
        ) from error
    return model


def to_device(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """The model on a device, for use; a cast here would round the rotary frequencies too."""
    cast(nn.Module, model).to(device)
    model.train(False)
    return model


def kept_folder(base: Path, key: str) -> Path:
    """Where the user's cache keeps what became of a base model. key: of what was done to it."""
    return cache_folder() / "grid" / f"{base.resolve().name}-{_files_key(base)}-{key}"


def is_kept(folder: Path) -> bool:
    return (folder / KEPT_FILE).is_file()


def load_kept(folder: Path, device: str, dtype: torch.dtype) -> tuple[PreTrainedModel, str]:
    """A cut model that `keep` wrote, and the hash of the base model's weights."""
    description = json.loads((folder / KEPT_FILE).read_text(encoding="utf-8"))
    model = set_cut_config(_from_pretrained(folder, dtype))
    return to_device(model, device), str(description["base_sha256"])


def keep(model: PreTrainedModel, digest: str, folder: Path) -> None:
    """Write a cut model whole or not at all; a cache that cannot be written is a warning."""
    try:
        _keep(model, digest, folder)
    except OSError as error:
        logger.warning("%s: the model cannot be kept (%s)", folder, error.strerror or error)


def _keep(model: PreTrainedModel, digest: str, cut: Path) -> None:
    """Write a cut model whole or not at all."""
    cut.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cut.parent / f".{cut.name}.lock"), quiet():
        if cut.exists():
            return
        with TemporaryDirectory(dir=cut.parent) as temporary:
            new = Path(temporary) / cut.name
            model.save_pretrained(new)
            (new / KEPT_FILE).write_text(json.dumps({"base_sha256": digest}) + "\n", encoding="utf-8")
            new.rename(cut)


def _files_key(folder: Path) -> str:
    """Names, sizes and times of a model's files, hashed: another model in the same place has another key."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:12]


def weights_hash(model: PreTrainedModel) -> str:
    """SHA-256 of a cut model's bfloat16 weights, in the order of their names, embedding and head left out.

    Those two are trained and stored with every adapter, so that an adapter fits whatever they were.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(body(model).items()):
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def body(model: PreTrainedModel) -> dict[str, Tensor]:
    """A model's weights by name, without embedding and head."""
    tables = {table.data_ptr() for table in table_weights(model)}
    return {name: weight for name, weight in model.state_dict().items() if weight.data_ptr() not in tables}


def save_parts(model: PreTrainedModel, digest: str, name: str, folder: Path, most_bytes: int) -> list[Path]:
    """Write a cut model in 8 bits, as files of at most `most_bytes` each, to be put together in one folder again.

    Matrices become 8-bit numbers with a scale for 64 weights; vectors, embedding and head stay as float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "name": name,
        "sha256": digest,
        "config": json.loads(model.config.to_json_string(use_diff=False)),
    }
    (folder / PARTS_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    tensors: dict[str, Tensor] = {}
    inner = set(body(model))
    for key, weight in model.state_dict().items():
        if key in inner and weight.ndim == 2:
            tensors[key + _NUMBERS], tensors[key + _SCALE] = pack_eight_bits(weight)
        else:
            tensors[key] = weight.half()
    files: list[Path] = []
    part: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if part and sum(other.nbytes for other in part.values()) + tensor.nbytes > most_bytes:
            files.append(_save_part(part, folder, len(files)))
            part = {}
        part[key] = tensor.contiguous().clone()
    return [*files, _save_part(part, folder, len(files))]


def _save_part(part: dict[str, Tensor], folder: Path, number: int) -> Path:
    file = folder / f"part{number}.safetensors"
    save_file(part, file)
    return file


def empty_model(folder: Path) -> PreTrainedModel:
    """A base model's names and shapes, cut to the words, without its weights. Raises GridModelError."""
    try:
        if (folder / PARTS_FILE).is_file():
            settings = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))["config"]
            config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        else:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config.vocab_size, config.tie_word_embeddings = len(WORDS), False
        config.bos_token_id = config.eos_token_id = config.pad_token_id = None
        with torch.device("meta"), quiet():
            model: PreTrainedModel = cast(Any, AutoModelForCausalLM).from_config(config)
    except (ValueError, OSError, KeyError) as error:
        raise GridModelError(f"{folder}: no language model: {first_line(error)}") from error
    return model


def _load_parts(folder: Path, device: str, dtype: torch.dtype) -> tuple[PreTrainedModel, str]:
    description = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
    settings = description["config"]
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device(device):
        model: PreTrainedModel = cast(Any, AutoModelForCausalLM).from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    set_cut_config(model)
    stored: dict[str, Tensor] = {}
    for file in sorted(folder.glob("part*.safetensors")):
        stored |= load_file(file, device=device)
    weights = {}
    for key, tensor in stored.items():
        if key.endswith(_NUMBERS):
            name = key.removesuffix(_NUMBERS)
            weights[name] = unpack_eight_bits(tensor, stored[name + _SCALE]).to(dtype)
        elif not key.endswith(_SCALE):
            weights[key] = tensor.to(dtype)
    if missing := sorted(set(model.state_dict()) ^ set(weights)):
        raise GridModelError(f"{folder}: {len(missing)} weights are missing or unknown, {missing[0]} first")
    model.load_state_dict(weights)
    return to_device(model, device), str(description["sha256"])
