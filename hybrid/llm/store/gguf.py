"""GGUF to a folder of bf16 safetensors, once, so that every later load takes seconds."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid.llm.base import BackendError
from hybrid.llm.quiet import quiet
from hybrid.llm.store.identity import Source, sha256


def to_safetensors(gguf: Path, folder: Path, source: Source, shown: bool = False) -> Path:
    """Write the GGUF model and its tokenizer to `folder`, whole or not at all.

    Dequantising is exact in fp32 and rounded to bf16: about 3 significant digits, less than the
    quantisation itself lost. shown: name on standard error what takes half a minute.
    Raises BackendError if the file is no model that transformers reads.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed; the caller holds the lock
    temporary.mkdir(parents=True)
    try:
        with _status(f"converting {source.model}, once", shown), quiet(), _no_bars():
            _convert(gguf, temporary)
    except (ValueError, NotImplementedError, KeyError, RuntimeError, OSError, ImportError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"{gguf.name}: not a GGUF model that can be converted: {reason[0]}") from error
    source.write(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return folder


@contextlib.contextmanager
def _status(text: str, shown: bool) -> Iterator[None]:
    if not shown:
        yield
        return
    from rich.console import Console

    with Console(file=sys.stderr).status(text):
        yield


def _no_bars() -> contextlib.redirect_stderr[io.StringIO]:
    """transformers draws the GGUF conversion by a bare tqdm bar, which none of its own switches reach."""
    return contextlib.redirect_stderr(io.StringIO())


def _convert(gguf: Path, into: Path) -> None:
    import torch
    import transformers

    options: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
    if hasattr(transformers, "GgufConfig"):
        # Newer releases leave the blocks packed where they have a kernel for them.
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.bfloat16, **options
    )
    # save_pretrained takes the model for a quantised one, and refuses, as long as these are there.
    model.hf_quantizer = None
    for holder, attribute in ((model.config, "quantization_config"), (model, "quantization_method")):
        if hasattr(holder, attribute):
            delattr(holder, attribute)
    model.save_pretrained(into, safe_serialization=True)
    tokenizer.save_pretrained(into)


def gguf_source(gguf: Path) -> Source:
    """What a user's own GGUF file is: its stem, digest, and the quantisation its header names."""
    from gguf import GGUFReader, LlamaFileType

    try:
        field = GGUFReader(gguf).get_field("general.file_type")
    except (ValueError, OSError, IndexError) as error:
        raise BackendError(f"{gguf}: not a GGUF file ({error})") from error
    try:
        kind = LlamaFileType(field.contents()).name if field else "unknown quantisation"
    except ValueError:
        kind = "unknown quantisation"
    return Source(gguf.stem, gguf.name, sha256(gguf), kind.removeprefix("MOSTLY_").removeprefix("ALL_"))
