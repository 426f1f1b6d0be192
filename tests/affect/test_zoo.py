"""The zoo: small files, whole cards, signals that are finite, and a table that is printed."""

from dataclasses import replace

import numpy as np
import pytest

import affect
from affect import Blend, Inherited, Potential, Spec, build, read_card, zoo
from affect.inheritance import Inheritance
from affect.store import FIELDS
from tests.affect.cases import KEY, SPEC, apply_head, experience
from tests.refusal import refused

FULL = "drive-value"  # the whole critic
MAY_BE_EMPTY = {"wrappers"}  # of the fields of a card: the head itself was saved
MEASURES = {"auroc_home", "auroc_shift", "rank_home", "rank_shift"}


def observed(card, batch):
    """Transitions with observations of the length that the head reads."""
    dim = card.reads["obs"]["shape"][0]
    obs = np.random.default_rng(0).normal(size=(*batch.reward.shape, dim)).astype(np.float32)
    return replace(SPEC, obs_dim=dim), batch._replace(obs=obs, next_obs=obs)


def test_a_dozen_heads_are_small_and_their_cards_are_whole():
    sizes = {name: zoo.path(name).stat().st_size for name in zoo.names()}
    assert len(sizes) >= 12 and FULL in sizes
    assert {name for name, size in sizes.items() if size > 4000} == {FULL}
    for name in sizes:
        card = read_card(zoo.path(name))
        empty = {field for field in FIELDS if getattr(card, field) in ("", None, (), {})}
        assert empty <= MAY_BE_EMPTY, name
        assert card.measures.keys() - {"r2"} <= MEASURES, name
        assert {"rank_home", "rank_shift"} <= card.measures.keys(), name
        assert len(card.commands) == 2 and name in card.commands[1], name


@pytest.mark.parametrize("name", zoo.names())
def test_a_head_of_the_zoo_is_paid_as_its_card_says(name):
    card = read_card(zoo.path(name))
    spec, batch = observed(card, experience())
    head = build(Potential.from_card(zoo.path(name)), spec, KEY)
    signal, _ = apply_head(head.inner, (), batch)
    assert np.isfinite(signal).all() and np.ptp(signal) > 0
    assert (head.scale, head.shift) == (np.float32(card.scale), np.float32(card.shift))
    assert Inheritance.of(zoo.load(name)) == Inheritance.of(zoo.path(name))


def test_one_is_a_factory_in_any_blend_and_for_any_actions():
    head = zoo.load("drive-value-2x4")
    spec = Spec(obs_dim=40, action_dim=2, discount=0.9)
    paid = Potential.from_card(head, obs=slice(0, 37))
    blend = Blend(value=(1.0, paid), raw=(0.1, Inherited(head, obs=slice(0, 37))))
    assert blend.init(KEY, spec, 2).weights.shape == (2,)


def test_the_table_has_a_line_a_head(capsys):
    print(affect.zoo.table())
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(zoo.names())
    assert header.split()[:5] == ["name", "head", "reads", "bytes", "world"]
    assert max(map(len, lines)) <= 125 and "Distilled 2, 4 bits" in "".join(lines)


def test_an_unknown_name_is_refused_in_one_line():
    with refused(ValueError, match="the zoo has no 'joy': it has .*drive-value"):
        zoo.load("joy")
