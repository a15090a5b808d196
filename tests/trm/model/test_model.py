"""The recursion: shapes, gradient, draft channel, positions, counting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import SMALL

from trm.config import ConfigError
from trm.model.config import TRMConfig
from trm.model.layers import group_bias, rope2d_tables, rotate, truncated_normal_
from trm.model.network import TRM, State

VARIANTS = {
    "reference attention": replace(
        SMALL, positions="rope", qk_norm=False, gated_norm=False, draft=False, feedback=False
    ),
    "reference mixer": replace(
        SMALL, mixer="mlp_t", positions="none", qk_norm=False, gated_norm=False, draft=False, feedback=False
    ),
    "everything": SMALL,
    "rows and columns, no prefix": replace(SMALL, positions="rowcol", prefix=0),
    "heads of groups": replace(SMALL, positions="groups", heads=4),
    "identities": replace(SMALL, identities=5, identity_dim=40),
    "patches": replace(SMALL, positions="rope2d", patch=3, prefix=2),
    "patches, mixer": replace(SMALL, mixer="mlp_t", positions="none", patch=3),
    "one state": replace(SMALL, states=1),
    "norms before": replace(SMALL, norm="pre", layers=3),
    "two networks": replace(SMALL, networks=2),
    "one-step gradient": replace(SMALL, gradient="step"),
    "Q-learning": replace(SMALL, q_continue=True),
}


def tokens(batch: int = 3) -> torch.Tensor:
    return torch.randint(1, 11, (batch, 81), generator=torch.Generator().manual_seed(0))


def small(config: TRMConfig = SMALL) -> TRM:
    torch.manual_seed(0)
    return TRM(config)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_has_the_promised_shapes(name: str) -> None:
    config = VARIANTS[name]
    model = small(config)
    context = torch.tensor([0, 1, 4]) if config.identities else None
    state, out = model.step(model.initial_state(3), tokens(), context, tokens() if config.draft else None)
    n = config.prefix + 81 // config.patch**2
    assert n == config.length
    assert state.y.shape == state.z.shape == (3, n, 32)
    assert not state.y.requires_grad
    assert out.logits.shape == (3, 81, 11)
    assert out.logits.dtype == out.halt.dtype == torch.float32
    assert out.halt.shape == out.go_on.shape == (3,)


@pytest.mark.parametrize("name", VARIANTS)
def test_save_pretrained_keeps_every_output(name: str, tmp_path: Path) -> None:
    model = small(VARIANTS[name])
    model.save_pretrained(tmp_path / "m")
    again = TRM.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    _, a = model.step(model.initial_state(3), tokens())
    _, b = again.step(again.initial_state(3), tokens())
    assert a.logits.equal(b.logits)


def test_only_the_last_cycle_carries_gradient() -> None:
    """With y and z replaced by what the earlier cycles make of them, one cycle gives the same gradient."""
    model = small()
    _, out = model.step(model.initial_state(3), tokens())
    out.logits.sum().backward()
    deep = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with torch.no_grad():
        e = model.embed(tokens(), None, None)
        y, z = model.cycle(*model.initial_state(3), e)
    shallow = small(replace(SMALL, h_cycles=1))
    shallow.load_state_dict(model.state_dict())
    _, out = shallow.step(State(y, z), tokens())
    out.logits.sum().backward()
    for name, p in shallow.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, deep[name], rtol=1e-4, atol=1e-5)


def test_with_norms_before_a_layer_adds_to_what_it_was_given() -> None:
    """h plus its parts of the normalised h, and one norm at the end of the network alone."""
    model = small(replace(SMALL, norm="pre", layers=2))
    given = 3 * torch.randn(3, SMALL.length, 32, generator=torch.Generator().manual_seed(1))

    def unit(h: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(h, (32,), eps=1e-5)

    h = given
    for block in model.net.blocks:
        h = h + block.mix(unit(h), None)
        h = h + block.mlp(unit(h))
    torch.testing.assert_close(model.net(given), unit(h))
    post = small(replace(SMALL, layers=2))  # the same weights: both are drawn alike
    assert not torch.allclose(post.net(given), unit(h), atol=0.1)


def test_an_untrained_draft_channel_says_nothing_and_a_trained_one_speaks() -> None:
    model = small()
    _, without = model.step(model.initial_state(3), tokens())
    _, ignored = model.step(model.initial_state(3), tokens(), draft=tokens())
    assert without.logits.equal(ignored.logits)
    with torch.no_grad():
        model.embed.draft.normal_()
    _, heard = model.step(model.initial_state(3), tokens(), draft=tokens())
    assert not without.logits.equal(heard.logits)
    _, unknown = model.step(model.initial_state(3), tokens(), draft=torch.zeros_like(tokens()))
    assert without.logits.equal(unknown.logits)


def test_a_network_without_draft_channel_refuses_one() -> None:
    model = small(VARIANTS["reference mixer"])
    with pytest.raises(ValueError, match="not trained on drafts"):
        model.step(model.initial_state(3), tokens(), draft=tokens())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 30, "heads": 4}, "does not split"),
        ({"canvas_width": 0}, "canvas_width"),
        ({"mixer": "mlp_t", "positions": "rope"}, "mixer 'attention'"),
        ({"draft": False}, "needs draft"),
        ({"h_cycles": 0}, "h_cycles: 0, expected 1 to 1000"),
        ({"l_cycles": 1001}, "l_cycles: 1001, expected 1 to 1000"),
        ({"mixer": "mlp_t", "positions": "none", "norm": "pre"}, "norm 'pre' needs mixer 'attention'"),
        ({"networks": 2, "states": 1}, "one network for each"),
        ({"patch": 2, "positions": "rope2d"}, "patch 2: expected a divisor"),
        ({"patch": 0, "positions": "rope2d"}, "patch: 0, expected at least 1"),
        ({"patch": 3, "positions": "groups"}, "patch 3"),
    ],
)
def test_shapes_that_cannot_be_meant_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **change)  # type: ignore[arg-type]


def test_initial_weights_have_the_said_spread() -> None:
    torch.manual_seed(0)
    drawn = truncated_normal_(torch.empty(200_000), 0.5)
    assert drawn.std() == pytest.approx(0.5, rel=0.01)
    assert drawn.abs().max() < 0.5 * 2 / 0.87  # cut at two standard deviations before rescaling
    model = small()
    assert model.halt.weight.abs().max() == 0
    assert (model.halt.bias == -5).all()


def test_two_dimensional_rotary_positions_tell_the_way_from_cell_to_cell() -> None:
    prefix, height, width, dim = 2, 5, 6, 16
    cos, sin = rope2d_tables(prefix, height, width, dim)
    assert cos.shape == sin.shape == (prefix + height * width, dim)
    query, key = torch.randn(2, 1, 1, 1, dim, generator=torch.Generator().manual_seed(0))
    n = prefix + height * width
    scores = (rotate(query.expand(1, 1, n, dim), cos, sin) @ rotate(key.expand(1, 1, n, dim), cos, sin).mT)[
        0, 0
    ]

    def score(a: tuple[int, int], b: tuple[int, int]) -> float:
        first, second = (prefix + row * width + col for row, col in (a, b))
        return float(scores[first, second])

    same_way = [score((row, col), (row + 2, col + 1)) for row in range(3) for col in range(5)]
    assert max(same_way) - min(same_way) < 1e-4
    ways = [score((2, 2), (2 + row, 2 + col)) for row in (-1, 0, 1) for col in (-1, 0, 1)]
    assert min(abs(a - b) for i, a in enumerate(ways) for b in ways[:i]) > 1e-3  # and no two ways alike
    assert torch.allclose(scores[0, 1], (query * key).sum(), atol=1e-4)  # the prefix is nowhere


def test_rope2d_goes_through_a_whole_step_and_sees_where_cells_are() -> None:
    config = TRMConfig(6, 4, canvas_width=3, hidden_size=16, heads=2, prefix=1, positions="rope2d")
    torch.manual_seed(0)
    model = TRM(config)
    tokens = torch.tensor([[1, 2, 1, 1, 1, 1]])
    moved = torch.tensor([[1, 1, 1, 1, 2, 1]])
    one, other = (model.step(model.initial_state(1), t)[1].logits for t in (tokens, moved))
    assert not torch.allclose(one.sum(1), other.sum(1), atol=1e-4)


def test_with_heads_of_groups_the_answer_moves_with_the_question() -> None:
    """Rows within a band, bands, columns and stacks may change places; rows of two bands may not."""
    model = small(replace(SMALL, positions="groups", heads=4))
    question = tokens().view(3, 9, 9)
    same_bands, other_bands = [2, 0, 1, 6, 7, 8, 5, 3, 4], [3, 1, 2, 0, 4, 5, 6, 7, 8]

    def logits(grids: torch.Tensor) -> torch.Tensor:
        return model.step(model.initial_state(3), grids.flatten(1))[1].logits.view(3, 9, 9, 11)

    plain = logits(question)
    for rows, moves in ((same_bands, True), (other_bands, False)):
        # Columns as well, by another permutation of the same kind.
        cols = rows[3:] + rows[:3] if moves else list(range(9))
        moved = logits(question[:, rows][:, :, cols])
        assert torch.allclose(moved, plain[:, rows][:, :, cols], atol=1e-3) == moves
    assert not torch.allclose(
        logits(question.mT), plain.transpose(1, 2), atol=1e-2
    )  # rows and columns are told apart


def test_what_a_head_of_a_group_sees() -> None:
    config = replace(SMALL, positions="groups", heads=8, prefix=1)
    bias = group_bias(config)
    assert bias.shape == (8, 82, 88)
    seen = bias[:, :82, :82] == 0
    assert seen[:, 0].all()  # the prefix sees everything
    assert seen[:, :, 0].all()  # and is seen
    assert (seen[:, 1:, 1:].sum(-1) == torch.tensor([9, 9, 9, 81, 9, 9, 9, 81])[:, None]).all()
    assert seen[2, 1 + 4 * 9 + 4, 1:].nonzero().flatten().tolist() == [30, 31, 32, 39, 40, 41, 48, 49, 50]
    with pytest.raises(ConfigError, match="need mixer 'attention'"):
        replace(SMALL, positions="groups", heads=4, mixer="mlp_t")
    with pytest.raises(ConfigError, match="multiple of 4 heads"):
        replace(SMALL, positions="groups", heads=2)


def test_patches_take_cells_apart_as_they_put_them_together() -> None:
    shape = replace(SMALL, seq_len=24, canvas_width=6, hidden_size=64, positions="none", patch=2, prefix=1)
    model = small(shape)
    rows = shape.patch**2 * shape.vocab_size  # one for every token at every place of a patch
    with torch.no_grad():
        model.embed.tokens.copy_(torch.eye(rows, 64))
        model.embed.draft.copy_(-2 * torch.eye(rows, 64))
        model.head.weight.copy_(torch.eye(rows, 64))
    cells = torch.randint(1, 11, (3, 24), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.logits(model.embed(cells, None, None)).argmax(-1), cells)
    # A draft is added cell by cell; where it says nothing it adds nothing.
    draft = torch.where(torch.arange(24) % 2 == 0, cells, 0)
    logits = model.logits(model.embed(cells, None, draft)).gather(2, cells[:, :, None])[..., 0]
    assert torch.equal(logits < 0, draft != 0)
