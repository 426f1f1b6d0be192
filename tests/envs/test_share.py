"""Share: berries, gifts and seats by hand; and partners that behave as they are scripted."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.worlds.share.partners import (
    EAT,
    GIVE,
    MEET,
    PARTNERS,
    SCRIPTED,
    TRAINED,
    WAIT,
    WEIGHTS,
    State,
    partner_action,
    partner_population,
    seat_observation,
    trained_actions,
    weights,
)
from envs.worlds.share.share import MEAL, Share

ENV = Share()
PARAMS = ENV.get_default_params(population=partner_population("passive"))
PASSIVE = PARTNERS.index("passive")
LIVES = 128


def state(own=(1, 1), other=(2, 2), hand=(0, 0), energy=(0.8, 0.8), given=0, partner=PASSIVE):
    return State(
        jnp.array([own, other], jnp.int32),
        jnp.array(hand, jnp.int32),
        jnp.array(energy, jnp.float32),
        jnp.ones(2, bool),
        jnp.int32(given),
        jnp.int32(partner),
    )


@jax.jit
def step(before, action, params=PARAMS):
    after = ENV.transition(before, action, jax.random.key(0), params)
    paid = ENV.reward(before, action, after, None, params)
    return after, paid, ENV.transition_info(before, action, after, params)


acts = jax.jit(partner_action)
many_acts = jax.jit(jax.vmap(partner_action, (None, 0)))
many_begun = jax.jit(jax.vmap(ENV.initial, (0, None)))


# --- the world --------------------------------------------------------------------------------


def test_who_steps_on_a_ripe_bush_picks_its_berries():
    after, paid, _ = step(state(own=(0, 1)), 2)
    assert after.hand.tolist() == [1, 0] and after.ripe.tolist() == [False, True] and paid == 0
    full, _, _ = step(state(own=(0, 1), hand=(1, 0)), 2)
    assert full.hand[0] == 1 and full.ripe.all()


def test_one_bush_feeds_the_learner_first():
    selfish = state(own=(0, 1), other=(1, 0), partner=PARTNERS.index("selfish"))
    after, _, _ = step(selfish, 2)
    assert after.cell.tolist() == [[0, 0], [0, 0]] and after.hand.tolist() == [1, 0]


def test_a_meal_restores_what_is_lacking_and_pays_that():
    after, paid, _ = step(state(hand=(1, 0), energy=(0.3, 0.8)), EAT)
    np.testing.assert_allclose(after.energy, [0.3 - 0.03 + MEAL, 0.77], rtol=1e-5)
    assert paid == pytest.approx(MEAL) and after.hand[0] == 0
    after, paid, _ = step(state(hand=(1, 0), energy=(0.9, 0.8)), EAT)
    assert after.energy[0] == 1 and paid == pytest.approx(0.13, abs=1e-6)
    assert step(state(), EAT)[1] == 0  # nothing in hand


def test_a_gift_goes_to_a_free_hand_that_is_near():
    near = {"own": (1, 1), "other": (1, 2)}
    after, paid, _ = step(state(**near, hand=(1, 0)), GIVE)
    assert after.hand.tolist() == [0, 1] and after.given == 1 and paid == 0
    for kept in (state(hand=(1, 0)), state(**near, hand=(1, 1))):  # too far; no free hand
        after, _, _ = step(kept, GIVE)
        assert after.hand[0] == 1 and after.given == 0
    assert step(state(**near, hand=(1, 0), given=3), GIVE)[0].given == 3


def test_life_ends_when_either_starves_and_harm_is_one_s_own():
    for energy, harm in (((0.02, 0.8), (1, 0)), ((0.8, 0.02), (0, 1))):
        after, _, info = step(state(energy=energy), WAIT)
        assert ENV.terminal(after, None, PARAMS)
        assert (info["harm"], info["other"]["harm"]) == harm
    assert not ENV.terminal(state(energy=(0.01, 0.01)), None, PARAMS)


def test_needs_are_felt():
    params = PARAMS._replace(need=0.1, other_need=0.2)
    np.testing.assert_allclose(step(state(), WAIT, params)[0].energy, [0.7, 0.6], rtol=1e-5)


def test_the_other_s_seat_is_one_s_own_with_the_bodies_exchanged():
    before = state(own=(0, 1), other=(3, 2), hand=(0, 1), energy=(0.4, 0.3), given=2)
    after, paid, info = step(before, WAIT)
    mirrored = [_mirror(s) for s in (before, after)]
    for key, at in (("obs", 0), ("next_obs", 1)):
        expected = ENV.observation(mirrored[at], None, PARAMS)
        np.testing.assert_allclose(info["other"][key], expected)
    assert info["other"]["reward"] == pytest.approx(MEAL) and paid == 0  # it ate
    assert info["other"]["body"].shape == info["body"].shape == (1,)
    seen = ENV.observation(before, None, PARAMS)
    expected = [0.4, 0.3, 0, 1, 0, 1 / 3, 1, 1 / 3, 1, 1, 2 / 3]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def _mirror(s):
    swapped = {name: getattr(s, name)[::-1] for name in ("cell", "hand", "energy")}
    return s._replace(**swapped, given=-s.given)


# --- partners ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partner", "given", "near", "far", "empty"),
    [
        ("generous", 0, GIVE, 2, 3),
        ("generous", -3, GIVE, 2, 3),
        ("tit-for-tat", 0, GIVE, 2, 3),
        ("tit-for-tat", -1, WAIT, WAIT, 3),
        ("selfish", 3, WAIT, WAIT, 3),
        ("passive", 3, WAIT, WAIT, WAIT),
    ],
)
def test_a_partner_does_as_it_is_scripted(partner, given, near, far, empty):
    """Beside a poorer learner with berries in hand; far from it; with an empty hand."""
    poor = {"energy": (0.3, 0.8), "given": given, "partner": PARTNERS.index(partner)}
    key = jax.random.key(0)
    assert acts(state((3, 0), (3, 1), (0, 1), **poor), key) == near
    assert acts(state((3, 0), (3, 2), (0, 1), **poor), jax.random.clone(key)) == far
    assert acts(state((3, 0), (3, 1), (0, 0), **poor), jax.random.clone(key)) == empty
    hungry = state((0, 3), (3, 0), (0, 1), (0.9, 0.4), given, PARTNERS.index(partner))
    assert acts(hungry, jax.random.clone(key)) == EAT


def test_a_random_partner_does_anything():
    anyhow = state(partner=PARTNERS.index("random"))
    keys = jax.random.split(jax.random.key(0), 700)
    shares = np.bincount(many_acts(anyhow, keys), minlength=7) / 700
    np.testing.assert_allclose(shares, 1 / 7, atol=0.05)


def begging(s):
    return jnp.where(s.hand[0] == 1, EAT, WAIT)


def generous(s):
    return partner_action(_mirror(s)._replace(partner=jnp.int32(0)), jax.random.key(0))


def grabbing(s):
    return partner_action(_mirror(s)._replace(partner=jnp.int32(3)), jax.random.key(0))


@partial(jax.jit, static_argnums=0)
def env_states(policy, partner):
    """Steps survived, and gifts of the partner less those of the learner, each [LIVES]."""
    params = PARAMS._replace(population=jax.nn.one_hot(partner, len(PARTNERS)))

    def tick(carry, key):
        before, alive = carry
        keys, actions = jax.random.split(key, LIVES), jax.vmap(policy)(before)
        after = jax.vmap(ENV.transition, (0, 0, 0, None))(before, actions, keys, params)
        after = freeze(alive, after, before)
        alive &= (after.energy > 0).all(1)
        return (after, alive), alive

    @jax.vmap
    def freeze(alive, after, before):
        return jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, before)

    k_begin, k_live = jax.random.split(jax.random.key(0))
    begun = jax.vmap(ENV.initial, (0, None))(jax.random.split(k_begin, LIVES), params)
    steps = jax.random.split(k_live, ENV.horizon)
    (last, _), alive = jax.lax.scan(tick, (begun, jnp.ones(LIVES, bool)), steps)
    return alive.sum(0), -last.given


def test_who_only_begs_lives_by_the_generous_alone():
    found = [env_states(begging, partner) for partner in range(len(SCRIPTED))]
    length, gifts = (np.stack(x) for x in zip(*found, strict=True))
    mean = dict(zip(SCRIPTED, length.mean(1), strict=True))
    assert mean["generous"] > 150
    assert mean["selfish"] < 40 and mean["passive"] < 40
    assert (gifts[PARTNERS.index("tit-for-tat")] <= 1).all()  # one, and then none is returned
    assert (gifts[PARTNERS.index("selfish")] == 0).all()
    assert mean["selfish"] < mean["tit-for-tat"] < mean["generous"]


def test_a_passive_partner_lives_by_gifts():
    (given, _), (grabbed, _) = (env_states(policy, PASSIVE) for policy in (generous, grabbing))
    assert given.mean() > 150
    assert grabbed.mean() < 40


# --- partners that were trained ---------------------------------------------------------------


def test_a_trained_partner_does_what_its_network_says_of_its_own_seat():
    hungry = state(own=(0, 1), other=(3, 2), hand=(0, 1), energy=(0.4, 0.3), given=2)
    obs = np.asarray(ENV.observation(_mirror(hungry), None, PARAMS))
    np.testing.assert_allclose(seat_observation(hungry, 1), obs)
    for k, name in enumerate(TRAINED):
        hidden = obs
        for layer in (weights()[0][k], weights()[1][k]):
            hidden = np.tanh(np.append(1.0, hidden) @ layer)
        best = np.argmax(np.append(1.0, hidden) @ weights()[2][k])
        assert trained_actions(obs)[k] == best
        as_partner = hungry._replace(partner=jnp.int32(PARTNERS.index(name)))
        assert acts(as_partner, jax.random.key(k)) == best


def test_a_peer_lives_with_who_is_generous_and_not_all_that_are_trained_are_alike():
    length, _ = env_states(generous, PARTNERS.index("peer"))
    assert length.mean() > 100
    states = [state(own, other) for own in ((0, 1), (2, 3)) for other in ((1, 1), (3, 0))]
    deeds = {
        tuple(int(trained_actions(seat_observation(s, 1))[k]) for s in states)
        for k in range(len(TRAINED))
    }
    assert len(deeds) > 1


def test_the_weights_are_small_and_whole():
    assert WEIGHTS.stat().st_size < 100_000
    sizes = [layer.shape for layer in weights()]
    assert sizes == [(3, 12, 16), (3, 17, 16), (3, 17, 7)]
    assert all(np.isfinite(layer).all() and layer.any((1, 2)).all() for layer in weights())


# --- who is met -------------------------------------------------------------------------------


def test_partners_held_out_are_met_under_the_social_shifts_alone():
    suite, seen = envs.load_suite("Share"), {}
    held_out = {
        "stranger": {"passive"},
        "erratic": {"random"},
        "nothing_back": {"selfish"},
        "trained": {"spoilt", "keeper"},
    }
    for shift in (None, *(s for s in suite.shifts if s.name in held_out)):
        key, met = jax.random.key(0), set()
        for k_world, k_begin in zip(*jax.random.split(key, (2, 8)), strict=True):
            world = suite.world if shift is None else shift(suite.world, 1.0, k_world)
            begun = many_begun(jax.random.split(k_begin, 40), world.params)
            met |= {PARTNERS[i] for i in np.asarray(begun.partner)}
        seen[shift.name if shift else "home"] = met
    met = {name for name, often in zip(PARTNERS, MEET, strict=True) if often}
    assert seen == {"home": met} | held_out
    assert met == {"generous", "tit-for-tat", "peer"}
    assert met.isdisjoint(set().union(*held_out.values()))


def test_the_training_distribution_is_nothing_like_a_shift():
    suite = envs.load_suite("Share")
    worst = {
        shift.name: shift(suite.world, 1.0, jax.random.key(0)).params for shift in suite.shifts
    }
    for key in jax.random.split(jax.random.key(1), 8):
        drawn = suite.randomised(suite.world, 1.0, key).params
        assert drawn.need < worst["nothing_back|hunger"].need < worst["own_need"].need
        assert drawn.other_need < worst["partner_need"].other_need
        np.testing.assert_array_equal(drawn.population, MEET)


def test_it_is_drawn():
    images = [ENV.render_image(s, None)[1] for s in (state(), state(energy=(0.0, 0.1)))]
    assert images[0].shape == (360, 520, 3) and (images[0] != images[1]).any()
