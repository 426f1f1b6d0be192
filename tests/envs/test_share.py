"""Share: berries, meals, gifts and exchanged bodies; scripted and trained partners."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.worlds.share.partners import (
    EAT,
    GIVE,
    PARTNERS,
    SCRIPTED,
    TRAIN_POPULATION,
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
EPISODES = 128


def state(own=(1, 1), other=(2, 2), hand=(0, 0), energy=(0.8, 0.8), balance=0, partner=PASSIVE):
    return State(
        jnp.array([own, other], jnp.int32),
        jnp.array(hand, jnp.int32),
        jnp.array(energy, jnp.float32),
        jnp.ones(2, bool),
        jnp.int32(balance),
        jnp.int32(partner),
    )


@jax.jit
def step(before, action, params=PARAMS):
    after = ENV.transition(before, action, jax.random.key(0), params)
    reward = ENV.reward(before, action, after, None, params)
    return after, reward, ENV.transition_info(before, action, after, params)


jit_partner_action = jax.jit(partner_action)
jit_partner_actions = jax.jit(jax.vmap(partner_action, (None, 0)))
jit_initial_states = jax.jit(jax.vmap(ENV.initial, (0, None)))


# --- the world --------------------------------------------------------------------------------


def test_stepping_on_a_ripe_bush_picks_its_berries():
    after, reward, _ = step(state(own=(0, 1)), 2)
    assert after.hand.tolist() == [1, 0] and after.ripe.tolist() == [False, True] and reward == 0
    full, _, _ = step(state(own=(0, 1), hand=(1, 0)), 2)
    assert full.hand[0] == 1 and full.ripe.all()


def test_the_agent_picks_a_shared_bush_first():
    selfish = state(own=(0, 1), other=(1, 0), partner=PARTNERS.index("selfish"))
    after, _, _ = step(selfish, 2)
    assert after.cell.tolist() == [[0, 0], [0, 0]] and after.hand.tolist() == [1, 0]


def test_a_meal_pays_the_energy_that_it_restores():
    after, reward, _ = step(state(hand=(1, 0), energy=(0.3, 0.8)), EAT)
    np.testing.assert_allclose(after.energy, [0.3 - 0.03 + MEAL, 0.77], rtol=1e-5)
    assert reward == pytest.approx(MEAL) and after.hand[0] == 0
    after, reward, _ = step(state(hand=(1, 0), energy=(0.9, 0.8)), EAT)
    assert after.energy[0] == 1 and reward == pytest.approx(0.13, abs=1e-6)
    assert step(state(), EAT)[1] == 0  # nothing in hand


def test_a_gift_needs_a_free_hand_nearby():
    near = {"own": (1, 1), "other": (1, 2)}
    after, reward, _ = step(state(**near, hand=(1, 0)), GIVE)
    assert after.hand.tolist() == [0, 1] and after.balance == 1 and reward == 0
    for refused in (state(hand=(1, 0)), state(**near, hand=(1, 1))):  # too far; no free hand
        after, _, _ = step(refused, GIVE)
        assert after.hand[0] == 1 and after.balance == 0
    assert step(state(**near, hand=(1, 0), balance=3), GIVE)[0].balance == 3


def test_either_starving_ends_the_episode_and_harm_is_of_the_starved():
    for energy, harm in (((0.02, 0.8), (1, 0)), ((0.8, 0.02), (0, 1))):
        after, _, info = step(state(energy=energy), WAIT)
        assert ENV.terminal(after, None, PARAMS)
        assert (info["harm"], info["other"]["harm"]) == harm
    assert not ENV.terminal(state(energy=(0.01, 0.01)), None, PARAMS)


def test_needs_set_the_loss_of_energy():
    params = PARAMS._replace(need=0.1, other_need=0.2)
    np.testing.assert_allclose(step(state(), WAIT, params)[0].energy, [0.7, 0.6], rtol=1e-5)


def test_info_of_the_other_is_that_of_the_agent_with_bodies_exchanged():
    before = state(own=(0, 1), other=(3, 2), hand=(0, 1), energy=(0.4, 0.3), balance=2)
    after, reward, info = step(before, WAIT)
    mirrored = [_mirror(s) for s in (before, after)]
    for key, index in (("obs", 0), ("next_obs", 1)):
        expected = ENV.observation(mirrored[index], None, PARAMS)
        np.testing.assert_allclose(info["other"][key], expected)
    assert info["other"]["reward"] == pytest.approx(MEAL) and reward == 0  # it ate
    assert info["other"]["body"].shape == info["body"].shape == (1,)
    obs = ENV.observation(before, None, PARAMS)
    expected = [0.4, 0.3, 0, 1, 0, 1 / 3, 1, 1 / 3, 1, 1, 2 / 3]
    np.testing.assert_allclose(obs, expected, rtol=1e-5)


def _mirror(s):
    swapped = {name: getattr(s, name)[::-1] for name in ("cell", "hand", "energy")}
    return s._replace(**swapped, balance=-s.balance)


# --- partners ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partner", "balance", "near", "far", "empty"),
    [
        ("generous", 0, GIVE, 2, 3),
        ("generous", -3, GIVE, 2, 3),
        ("tit-for-tat", 0, GIVE, 2, 3),
        ("tit-for-tat", -1, WAIT, WAIT, 3),
        ("selfish", 3, WAIT, WAIT, 3),
        ("passive", 3, WAIT, WAIT, WAIT),
    ],
)
def test_a_scripted_partner_follows_its_rules(partner, balance, near, far, empty):
    """With berries near a hungrier agent, with berries far from it, with an empty hand, hungry."""
    poor = {"energy": (0.3, 0.8), "balance": balance, "partner": PARTNERS.index(partner)}
    hungry = state((0, 3), (3, 0), (0, 1), (0.9, 0.4), balance, PARTNERS.index(partner))
    for before, action in (
        (state((3, 0), (3, 1), (0, 1), **poor), near),
        (state((3, 0), (3, 2), (0, 1), **poor), far),
        (state((3, 0), (3, 1), (0, 0), **poor), empty),
        (hungry, EAT),
    ):
        assert jit_partner_action(before, jax.random.key(0)) == action


def test_a_random_partner_acts_uniformly():
    random_partner = state(partner=PARTNERS.index("random"))
    keys = jax.random.split(jax.random.key(0), 700)
    frequencies = np.bincount(jit_partner_actions(random_partner, keys), minlength=7) / 700
    np.testing.assert_allclose(frequencies, 1 / 7, atol=0.05)


def beg(s):
    return jnp.where(s.hand[0] == 1, EAT, WAIT)


def generous(s):
    return partner_action(_mirror(s)._replace(partner=jnp.int32(0)), jax.random.key(0))


def grab(s):
    return partner_action(_mirror(s)._replace(partner=jnp.int32(3)), jax.random.key(0))


@partial(jax.jit, static_argnums=0)
def survival_and_gifts(policy, partner):
    """Steps survived, and gifts of the partner minus those of the agent, [EPISODES] each."""
    params = PARAMS._replace(population=jax.nn.one_hot(partner, len(PARTNERS)))

    def masked_step(carry, key):
        before, alive = carry
        keys, actions = jax.random.split(key, EPISODES), jax.vmap(policy)(before)
        after = jax.vmap(ENV.transition, (0, 0, 0, None))(before, actions, keys, params)
        after = freeze(alive, after, before)
        alive &= (after.energy > 0).all(1)
        return (after, alive), alive

    @jax.vmap
    def freeze(alive, after, before):
        return jax.tree.map(lambda new, old: jnp.where(alive, new, old), after, before)

    k_reset, k_steps = jax.random.split(jax.random.key(0))
    states = jax.vmap(ENV.initial, (0, None))(jax.random.split(k_reset, EPISODES), params)
    steps = jax.random.split(k_steps, ENV.horizon)
    (last, _), alive = jax.lax.scan(masked_step, (states, jnp.ones(EPISODES, bool)), steps)
    return alive.sum(0), -last.balance


@pytest.mark.slow
def test_an_agent_that_never_forages_survives_with_a_generous_partner_only():
    results = [survival_and_gifts(beg, partner) for partner in range(len(SCRIPTED))]
    length, gifts = (np.stack(x) for x in zip(*results, strict=True))
    mean = dict(zip(SCRIPTED, length.mean(1), strict=True))
    assert mean["generous"] > 150
    assert mean["selfish"] < 40 and mean["passive"] < 40
    assert (gifts[PARTNERS.index("tit-for-tat")] <= 1).all()  # it stops after an unreturned gift
    assert (gifts[PARTNERS.index("selfish")] == 0).all()
    assert mean["selfish"] < mean["tit-for-tat"] < mean["generous"]


@pytest.mark.slow
def test_a_passive_partner_survives_by_gifts_only():
    (with_generous, _), (with_grab, _) = (
        survival_and_gifts(policy, PASSIVE) for policy in (generous, grab)
    )
    assert with_generous.mean() > 150
    assert with_grab.mean() < 40


# --- partners that were trained ---------------------------------------------------------------


def test_a_trained_partner_takes_the_best_action_of_its_network():
    hungry = state(own=(0, 1), other=(3, 2), hand=(0, 1), energy=(0.4, 0.3), balance=2)
    obs = np.asarray(ENV.observation(_mirror(hungry), None, PARAMS))
    np.testing.assert_allclose(seat_observation(hungry, 1), obs)
    for k, name in enumerate(TRAINED):
        hidden = obs
        for layer in (weights()[0][k], weights()[1][k]):
            hidden = np.tanh(np.append(1.0, hidden) @ layer)
        best = np.argmax(np.append(1.0, hidden) @ weights()[2][k])
        assert trained_actions(obs)[k] == best
        as_partner = hungry._replace(partner=jnp.int32(PARTNERS.index(name)))
        assert jit_partner_action(as_partner, jax.random.key(k)) == best


def test_a_peer_survives_with_a_generous_agent_and_trained_partners_differ():
    length, _ = survival_and_gifts(generous, PARTNERS.index("peer"))
    assert length.mean() > 100
    states = [state(own, other) for own in ((0, 1), (2, 3)) for other in ((1, 1), (3, 0))]
    actions = {
        tuple(int(trained_actions(seat_observation(s, 1))[k]) for s in states)
        for k in range(len(TRAINED))
    }
    assert len(actions) > 1


def test_the_weights_are_small_and_finite():
    assert WEIGHTS.stat().st_size < 100_000
    sizes = [layer.shape for layer in weights()]
    assert sizes == [(3, 12, 16), (3, 17, 16), (3, 17, 7)]
    assert all(np.isfinite(layer).all() and layer.any((1, 2)).all() for layer in weights())


# --- populations ------------------------------------------------------------------------------


def test_held_out_partners_appear_under_social_shifts_only():
    suite, partners = envs.load_suite("Share"), {}
    held_out = {
        "stranger": {"passive"},
        "erratic": {"random"},
        "nothing_back": {"selfish"},
        "trained": {"spoilt", "keeper"},
    }
    for shift in (None, *(s for s in suite.shifts if s.name in held_out)):
        names = set()
        for k_world, k_reset in zip(*jax.random.split(jax.random.key(0), (2, 8)), strict=True):
            world = suite.world if shift is None else shift(suite.world, 1.0, k_world)
            states = jit_initial_states(jax.random.split(k_reset, 40), world.params)
            names |= {PARTNERS[i] for i in np.asarray(states.partner)}
        partners[shift.name if shift else "home"] = names
    assert partners == {"home": {"generous", "tit-for-tat", "peer"}} | held_out
    assert partners["home"] == {PARTNERS[i] for i in np.flatnonzero(TRAIN_POPULATION)}
    assert partners["home"].isdisjoint(set().union(*held_out.values()))


def test_the_training_distribution_is_milder_than_every_shift():
    suite = envs.load_suite("Share")
    worst = {
        shift.name: shift(suite.world, 1.0, jax.random.key(0)).params for shift in suite.shifts
    }
    for key in jax.random.split(jax.random.key(1), 8):
        drawn = suite.randomised(suite.world, 1.0, key).params
        assert drawn.need < worst["nothing_back|hunger"].need < worst["own_need"].need
        assert drawn.other_need < worst["partner_need"].other_need
        np.testing.assert_array_equal(drawn.population, TRAIN_POPULATION)
