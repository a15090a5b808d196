"""Experts go to a hub with a model card, and come back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hub_server import Repositories, hub_server
from huggingface_hub import ModelCard, constants
from small_networks import SMALL, network

from trm import TRM, Refiner
from trm.checkpoints.format import Checkpoint, CheckpointError, Expert

META = {"metrics": {"accuracy": 0.75, "n": 128}, "training_data": "mine.csv"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repositories]:
    with hub_server() as (address, repositories):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield repositories


def refiner(*names: str) -> Refiner:
    model = network()
    experts = {name: Expert(name, model.config, model.state_dict(), META) for name in names}
    return Refiner.from_checkpoint(Checkpoint("test", experts), "cpu")


def test_one_expert_is_read_by_both_from_pretraineds(hub: Repositories) -> None:
    own = refiner("sudoku")
    assert own.push_to_hub("me/sudoku", token="t").endswith("/me/sudoku")
    back = Refiner.from_pretrained("me/sudoku", device="cpu")
    assert back.tasks == ("sudoku",)
    weights, expected = (
        TRM.from_pretrained("me/sudoku").state_dict(),
        own.pool.checkpoint.experts["sudoku"].state,
    )
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    card = ModelCard(hub["me/sudoku"]["README.md"].decode())
    assert card.data.library_name == "hybrid-trm"
    assert "sudoku" in (card.data.tags or [])
    assert "75.0% of 128" in card.text
    assert "mine.csv" in card.text


def test_several_experts_go_together(hub: Repositories) -> None:
    refiner("sudoku", "grid:9x9:.ABCDEFGHI:ABCDEFGHI").push_to_hub("me/both", token="t")
    assert Refiner.from_pretrained("me/both", device="cpu").tasks == (
        "grid:9x9:.ABCDEFGHI:ABCDEFGHI",
        "sudoku",
    )
    assert "2 experts" in hub["me/both"]["README.md"].decode()


def test_a_network_alone_has_a_card_too(hub: Repositories) -> None:
    model = TRM(replace(SMALL, layers=1))
    model.push_to_hub("me/network", token="t")
    assert TRM.from_pretrained("me/network").config == model.config
    assert "tiny-recursive-model" in (ModelCard(hub["me/network"]["README.md"].decode()).data.tags or [])


def test_what_the_hub_refuses_is_one_line(hub: Repositories) -> None:
    with pytest.raises(CheckpointError) as refused:
        refiner("sudoku").push_to_hub("forbidden/name", token="t")
    assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match="me/none"):
        Refiner.from_pretrained("me/none")


def test_a_folder_of_several_experts_is_read_again(tmp_path: Path) -> None:
    refiner("sudoku", "maze").save_pretrained(tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["README.md", "experts.pt"]
    assert Refiner.from_pretrained(tmp_path / "both", device="cpu").tasks == ("maze", "sudoku")
