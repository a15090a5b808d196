"""Experts on the Hugging Face hub: a folder with its model card, and the way there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from trm.checkpoints import CheckpointError
from trm.checkpoints.format import EXPERTS, Checkpoint, Expert, save, save_folder
from trm.grid import first_line

CARD = """---
library_name: hybrid-trm
tags:
- tiny-recursive-model
{tags}
---

# Tiny Recursive Model: {tasks}

{experts} of a Tiny Recursive Model ([arXiv:2510.04871](https://arxiv.org/abs/2510.04871)), which refines the answer
to a puzzle step by step and says how confident it is.

| task | parameters | layers, width | canvas | drafts | trained on | held out, exact |
|---|---|---|---|---|---|---|
{rows}

```python
from trm import Refiner

refiner = Refiner.from_pretrained("{repo}")
```

The confidence is the network's own. Where a puzzle has exact rules, `Refiner` checks them too. Written by hybrid-trm.
"""


def model_card(checkpoint: Checkpoint, repo: str) -> str:
    """What the experts are, as the README.md of a repository on the hub."""
    names = sorted(checkpoint.experts)
    return CARD.format(
        tags="\n".join(f'- "{name}"' for name in names),
        tasks=", ".join(names),
        experts="The expert" if len(names) == 1 else f"{len(names)} experts",
        rows="\n".join(_row(name, checkpoint.experts[name]) for name in names),
        repo=repo,
    )


def _row(name: str, expert: Expert) -> str:
    config, meta = expert.config, expert.meta
    metrics = meta.get("metrics", {})
    width = config.canvas_width
    accuracy, number = metrics.get("accuracy"), metrics.get("n")
    cells = (
        f"`{name}`",
        f"{sum(tensor.numel() for tensor in expert.state.values()):,}",
        f"{config.layers}, {config.hidden_size}",
        f"{config.seq_len // width}x{width}" if width else f"{config.seq_len} cells",
        "yes" if config.draft else "no",
        str(meta.get("training_data") or meta.get("origin") or "not recorded"),
        f"{accuracy:.1%} of {number}" if accuracy is not None else "not recorded",
    )
    return f"| {' | '.join(cells)} |"


def save_pretrained(checkpoint: Checkpoint, folder: Path, repo: str = "") -> None:
    """Write a folder that `load` reads, with a model card; `TRM.from_pretrained` reads that of one expert too.

    folder: new. repo: the name that the card gives it. Raises OSError.
    """
    if len(checkpoint.experts) == 1:
        (expert,) = checkpoint.experts.values()
        save_folder(folder, expert)
    else:
        folder.mkdir(parents=True)
        save(folder / EXPERTS, checkpoint.experts, None)
    (folder / "README.md").write_text(model_card(checkpoint, repo or folder.name), encoding="utf-8")


def push_to_hub(
    checkpoint: Checkpoint,
    repo: str,
    private: bool | None = None,
    token: str | None = None,
    message: str = "",
) -> str:
    """Upload experts with a model card to a repository, which is made if there is none; its address.

    token: None for the one that `hf auth login` has left. Raises CheckpointError where the hub refuses.
    """
    api = HfApi(token=token)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            save_pretrained(checkpoint, folder, repo)
            api.create_repo(repo, private=private, exist_ok=True)
            words = message or f"Experts for {', '.join(sorted(checkpoint.experts))}"
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=words)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{repo}: the hub did not take it: {first_line(error)}") from None
    return f"{api.endpoint}/{repo}"
