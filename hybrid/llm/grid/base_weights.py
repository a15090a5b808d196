"""The language model under an adapter: read from a whole model, a cut one, or 8-bit parts, and cut to the words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from hybrid.llm.grid.quantization import pack_eight_bits, unpack_eight_bits
from hybrid.llm.grid.vocabulary import WORDS, cut_vocabulary, set_cut_config, word_ids

PARTS_FILE = "grid_base.json"  # says that a folder holds 8-bit parts
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
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
    )
    if model.config.vocab_size == len(WORDS):
        set_cut_config(model)
    else:
        model = cut_vocabulary(
            model, word_ids(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
        )
    return model.to(device).eval(), weights_hash(model)  # a cast here would round the rotary frequencies too


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
    tables = {model.get_input_embeddings().weight.data_ptr(), model.get_output_embeddings().weight.data_ptr()}
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
    for key in [*tensors, None]:
        if part and (key is None or _bytes(part) + tensors[key].nbytes > most_bytes):
            files.append(folder / f"part{len(files)}.safetensors")
            save_file(part, files[-1])
            part = {}
        if key is not None:
            part[key] = tensors[key].contiguous().clone()
    return files


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _load_parts(folder: Path, device: str, dtype: torch.dtype) -> tuple[PreTrainedModel, str]:
    description = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
    settings = description["config"]
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
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
    return model.eval(), description["sha256"]
