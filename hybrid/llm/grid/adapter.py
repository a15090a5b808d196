"""What training adds to a language model: a folder in peft's layout, small enough to ship with the code.

adapter_config.json          peft's own keys: rank, alpha, target modules
adapter_model.safetensors    peft's names; each LoRA matrix as 4 bits (uint8, two a byte) with `NAME.scale`
                             (float16, one for 64 weights of the flattened matrix); embedding and head in float16
grid.json                    what it belongs to and where it came from
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from hybrid.llm.grid.base_weights import (
    GridModelError,
    empty_model,
    is_kept,
    keep,
    kept_folder,
    load_base,
    load_kept,
    to_device,
)
from hybrid.llm.grid.quantization import GROUP, pack_four_bits, unpack_four_bits
from hybrid.llm.grid.shipped import CONFIG_FILE, INFO_FILE, WEIGHTS_FILE
from hybrid.llm.grid.vocabulary import WORDS, table_weights
from hybrid.llm.store.identity import DIGITS, sha256
from trm.grid import first_line
from trm.text import parse_json

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QUANTIZATION = {"bits": 4, "group": GROUP, "symmetric": True, "scale": "absmax / 7, float16"}
_PREFIX = "base_model.model."  # of every name in a file of peft's
_SCALE = ".scale"
_DIGEST = "weights_sha256"  # in grid.json: of the file of weights
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LoraShape:
    """rank: columns of the low-rank product; what it adds is scaled by alpha / rank."""

    rank: int
    alpha: float


def load_grid_model(
    base: str | Path,
    adapter: str | Path | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
) -> PreTrainedModel:
    """A causal language model on the grid vocabulary, with an adapter merged into its weights.

    Args:
        base: folder of the base model: a whole model with tokenizer, one cut before, or 8-bit parts.
        adapter: folder of an adapter; None leaves the model as it is.

    Raises:
        GridModelError: where the adapter was trained on other weights, or a folder is incomplete.
    """
    model, digest = load_base(Path(base), device, dtype)
    if adapter is not None:
        trained_on = read_info(Path(adapter)).get("base_sha256")
        if trained_on != digest:
            raise GridModelError(
                f"{adapter}: trained on a base model with hash {str(trained_on)[:12]}, {base} has {digest[:12]}"
            )
        merge_adapter(model, Path(adapter))
    return model


def check_shape(base: Path, adapter: Path) -> None:
    """Compare an adapter's shapes with those of a base model, of which only the description is read.

    Raises GridModelError where they differ.
    """
    model = empty_model(base)
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    with _refusing(adapter / WEIGHTS_FILE) as file, safe_open(file, framework="pt") as stored:
        for key in stored.keys():  # noqa: SIM118  it is no mapping
            name, shape = key.removeprefix(_PREFIX), tuple(stored.get_slice(key).get_shape())
            if name.endswith(_SCALE):
                continue
            target = name.replace(_DOWN, ".weight").replace(_UP, ".weight")
            whole = expected.get(target)
            side = 1 if name.endswith(_DOWN) else 0
            given = 2 * shape[1] if name.endswith(_DOWN) else shape[0]
            if whole is None or whole[side] != given:
                has = "does not have it" if whole is None else f"has {whole[side]}"
                raise GridModelError(
                    f"adapter {adapter}: trained on another model ({read_info(adapter).get('base')}): "
                    f"{target} of size {given}, the model in {base} {has}"
                )


def load_merged(base: Path, adapter: Path, device: str, dtype: torch.dtype) -> tuple[PreTrainedModel, str]:
    """As `load_grid_model` of an adapter whose base may have other weights, with their hash.

    The result is kept in the user's cache folder in bfloat16, half of the base model's size, and loads from there the
    next time; embedding and head keep all their digits. Raises GridModelError where the adapter does not fit.
    """
    kept = kept_folder(base, sha256(adapter / WEIGHTS_FILE)[:DIGITS])
    if is_kept(kept):
        model, digest = load_kept(kept, device, dtype)
    else:
        check_shape(base, adapter)
        model, digest = load_base(base, "cpu", torch.bfloat16)
        merge_adapter(model, adapter)
        keep(model, digest, kept)
        for weight in model.parameters():  # `model.to(dtype)` would round the rotary frequencies
            weight.data = weight.data.to(dtype)
        to_device(model, device)
    with safe_open(adapter / WEIGHTS_FILE, framework="pt") as stored, torch.no_grad():
        for name, weight in model.named_parameters():
            if any(weight is table for table in table_weights(model)):
                weight.data = stored.get_tensor(_PREFIX + name).float().to(device)
    return model, digest


def merge_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Add an adapter to a model's weights, and put its embedding and head in place of the model's."""
    shape, changes = read_adapter(folder)
    weights = model.state_dict()  # shares its memory with the model
    with torch.no_grad():
        for name, tensor in changes.items():
            if name.endswith(_DOWN):
                target = _weight(weights, name.removesuffix(_DOWN) + ".weight", folder)
                down, up = (part.to(target.device) for part in (tensor, changes[name.replace(_DOWN, _UP)]))
                target.copy_(target.float() + up @ down * (shape.alpha / shape.rank))
            elif not name.endswith(_UP):
                _weight(weights, name, folder).copy_(tensor)


def _weight(weights: Mapping[str, Tensor], name: str, folder: Path) -> Tensor:
    if name not in weights:
        raise GridModelError(f"{folder}: the adapter changes {name}, which the base model does not have")
    return weights[name]


def save_adapter(
    folder: Path, weights: Mapping[str, Tensor], shape: LoraShape, base: str, info: Mapping[str, object]
) -> None:
    """Write an adapter.

    Args:
        weights: by the model's names: `….lora_A.weight`, `….lora_B.weight`, and whole weights (embedding, head).
        base: name or hub id of the base model.
        info: what else grid.json says, `base_sha256` among it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Tensor] = {}
    whole = []
    for name, weight in weights.items():
        if name.endswith((_DOWN, _UP)):
            packed, scale = pack_four_bits(weight.detach().cpu())
            if weight.numel() % GROUP or weight.shape[1] % 2:
                raise GridModelError(
                    f"{name}: {tuple(weight.shape)}, expected even columns and a multiple of {GROUP}"
                )
            stored[_PREFIX + name] = packed.view(weight.shape[0], -1)
            stored[_PREFIX + name + _SCALE] = scale
        else:
            stored[_PREFIX + name] = weight.detach().cpu().half()
            whole.append(name.removesuffix(".weight").rpartition(".")[2])
    save_file(stored, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
        "modules_to_save": whole,
        "inference_mode": True,
    }
    described = {
        "base": base,
        "vocabulary": list(WORDS),
        "quantization": QUANTIZATION,
        **info,
        _DIGEST: sha256(folder / WEIGHTS_FILE),
    }
    for name, content in ((CONFIG_FILE, config), (INFO_FILE, described)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_info(folder: Path) -> dict[str, object]:
    """What grid.json says. Raises GridModelError."""
    info = _read_table(folder / INFO_FILE)
    if info.get("vocabulary") != list(WORDS):
        raise GridModelError(f"{folder}: the adapter has another vocabulary than {''.join(WORDS)!r}")
    return info


def read_adapter(folder: Path) -> tuple[LoraShape, dict[str, Tensor]]:
    """An adapter's float32 weights by the model's names (see `save_adapter`). Raises GridModelError."""
    digest = read_info(folder).get(_DIGEST)
    config = _read_table(folder / CONFIG_FILE)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise GridModelError(
            f"{folder}: {CONFIG_FILE} has r={rank!r}, lora_alpha={alpha!r}; expected numbers"
        )
    file = folder / WEIGHTS_FILE
    if digest is not None and file.is_file() and digest != sha256(file):
        raise GridModelError(f"{file}: damaged, its hash is not the one in {INFO_FILE}")
    with _refusing(file):
        weights = _unpacked(load_file(file))
    return LoraShape(rank, float(alpha)), weights


@contextmanager
def _refusing(file: Path) -> Iterator[Path]:
    """Turn what reading a file of weights may raise into GridModelError."""
    try:
        yield file
    except GridModelError:
        raise
    except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
        raise GridModelError(f"{file}: no adapter's weights, or damaged: {first_line(error)}") from None


def _read_table(file: Path) -> dict[str, object]:
    """A JSON object of an adapter. Raises GridModelError."""
    try:
        table = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GridModelError(f"{file}: no adapter's description: {first_line(error)}") from None
    if not isinstance(table, dict):
        raise GridModelError(f"{file}: no adapter's description, expected a JSON object")
    return table


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float32 weights by the model's names. Raises LookupError, ValueError and RuntimeError for what are none."""
    weights = {}
    for key, tensor in stored.items():
        name = key.removeprefix(_PREFIX)
        if name.endswith((_DOWN, _UP)):
            rows, bytes_a_row = tensor.shape
            weights[name] = unpack_four_bits(tensor.view(-1), stored[key + _SCALE], (rows, 2 * bytes_a_row))
        elif not key.endswith(_SCALE):
            weights[name] = tensor.float()
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds what is no finite number")
        if name.endswith(_DOWN) and len(weight) != weights[name.replace(_DOWN, _UP)].shape[1]:
            raise ValueError(f"{name} and its counterpart are of different ranks")
    return weights
