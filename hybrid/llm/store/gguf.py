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
from hybrid.llm.store.identity import Source, sha256
from hybrid.llm.store.quiet import quiet
from trm.grid import first_line


def to_safetensors(gguf: Path, folder: Path, source: Source, shown: bool = False) -> Path:
    """Write the GGUF model and its tokenizer to `folder`, whole or not at all.

    Dequantising is exact in fp32 and rounded to bf16: about 3 significant digits, less than the
    quantisation itself lost. It takes half a minute; shown: say so on standard error.
    Raises BackendError if transformers cannot read the file. The caller holds a lock.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    try:
        # transformers draws a bare progress bar here, which none of its own switches reach.
        no_bars = contextlib.redirect_stderr(io.StringIO())
        with _status(f"converting {source.model}, once", shown), quiet(), no_bars:
            _convert(gguf, temporary)
    except (ValueError, NotImplementedError, KeyError, RuntimeError, OSError, ImportError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = first_line(error)
        raise BackendError(f"{gguf.name}: not a GGUF model that can be converted: {reason}") from error
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
    # As long as these are there, save_pretrained takes the model for a quantised one and refuses.
    model.hf_quantizer = None
    for holder, attribute in ((model.config, "quantization_config"), (model, "quantization_method")):
        if hasattr(holder, attribute):
            delattr(holder, attribute)
    model.save_pretrained(into, safe_serialization=True)
    tokenizer.save_pretrained(into)


def gguf_source(gguf: Path) -> Source:
    """Describes a user's own GGUF file: its stem, its digest, and the quantisation that its header names.

    Raises BackendError if it is no GGUF file.
    """
    from gguf import GGUFReader, LlamaFileType

    try:
        field = GGUFReader(gguf).get_field("general.file_type")
    except (ValueError, OSError, IndexError) as error:
        raise BackendError(f"{gguf}: not a GGUF file ({error})") from error
    known = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    quantisation = known.get(int(field.contents()) if field else -1, "unknown quantisation")
    return Source(gguf.stem, gguf.name, sha256(gguf), quantisation)
