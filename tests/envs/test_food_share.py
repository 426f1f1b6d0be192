"""FoodShare: energy, meals and exchanged bodies; its optimum by dynamic programming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory.food_share import EAT, PASS, FoodShare, Params, State, drive
from envs.worlds.theory.food_share_optimum import (
    STATES,
    _model,
    least_sufficient_care,
    optimal_policy,
)
from tests.envs.play import play

ENV = FoodShare()


def state(own, other, own_hungry=0, other_hungry=0):
    return State(jnp.array([own, other]), jnp.array([own_hungry, other_hungry]))


def next_states(start, action, num=4000, **params):
    """Next states of one step, one per key."""
    keys = jax.random.split(jax.random.key(0), num)
    step = jax.vmap(ENV.transition, (None, None, 0, None))
    return step(start, jnp.int32(action), keys, Params(**params))


# --- the world --------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "eater"), [(EAT, 0), (PASS, 1)])
def test_the_eater_is_at_high_energy_and_the_other_loses_energy_at_its_rate(action, eater):
    outcome = next_states(state(1, 1), action)
    assert (outcome.energy[:, eater] == 1).all()
    hungry = outcome.energy[:, 1 - eater] == 0
    assert hungry.mean() == pytest.approx(0.1, abs=0.02)
    np.testing.assert_array_equal(outcome.hungry[:, 1 - eater], hungry)
    outcome = next_states(state(0, 0, 4, 7), action, num=8)
    assert (outcome.energy[:, eater] == 1).all() and (outcome.hungry[:, eater] == 0).all()
    assert (outcome.hungry[:, 1 - eater] == (7, 4)[eater] + 1).all()


def test_params_set_the_rates_of_energy():
    own = next_states(state(1, 1), PASS, need=0.7).energy[:, 0].mean()
    other = next_states(state(1, 1), EAT, other_need=0.4).energy[:, 1].mean()
    fed = next_states(state(0, 1), EAT, plenty=0.3).energy[:, 0].mean()
    assert (own, other, fed) == pytest.approx((0.3, 0.6, 0.3), abs=0.03)


@pytest.mark.parametrize(("hungry", "ends"), [((9, 9), False), ((10, 0), True), ((0, 10), True)])
def test_ten_steps_of_either_body_at_low_energy_end_the_episode(hungry, ends):
    assert bool(ENV.terminal(state(0, 0, *hungry), None, Params())) == ends


def test_the_reward_is_the_reduction_of_the_own_drive():
    low, high = float(drive(jnp.array(0))), float(drive(jnp.array(1)))
    assert (low, high) == pytest.approx((-np.log(0.05), -np.log(0.95)))
    for before, then in ((0, 1), (1, 0), (1, 1), (0, 0)):
        old, new = state(before, 0), state(then, 1)
        gain = (low, high)[before] - (low, high)[then]
        assert float(ENV.reward(old, PASS, new, None, Params())) == pytest.approx(gain, abs=1e-6)
        other = ENV.transition_info(old, PASS, new, Params())["other"]
        assert float(other["reward"]) == pytest.approx(low - high)


def test_info_of_the_other_is_that_of_the_agent_with_bodies_exchanged():
    old, new = state(1, 0, 0, 3), state(0, 1, 1, 0)
    mirrored = [State(s.energy[::-1], s.hungry[::-1]) for s in (old, new)]
    info = ENV.transition_info(old, PASS, new, Params())
    mirrored_info = ENV.transition_info(*mirrored[:1], EAT, *mirrored[1:], Params())
    for key in ("body", "harm"):
        np.testing.assert_array_equal(info["other"][key], mirrored_info[key])
        assert info["other"][key].shape == info[key].shape
    for key, seen in zip(("obs", "next_obs"), mirrored, strict=True):
        np.testing.assert_array_equal(info["other"][key], ENV.observation(seen, None, Params()))
    np.testing.assert_allclose(ENV.observation(old, None, Params()), [1, 0, 0, 0.3])


def test_harm_is_1_for_the_body_that_starves():
    info = ENV.transition_info(state(0, 1, 9, 0), PASS, state(0, 1, 10, 0), Params())
    assert (info["harm"], info["other"]["harm"]) == (1, 0)


# --- its optimum ------------------------------------------------------------------------------


def test_the_model_has_the_probabilities_and_drives_of_the_world():
    """The enumerated probabilities and drives are those of the world's own steps."""
    params = {"need": 0.3, "other_need": 0.2, "plenty": 0.7}
    step, own, other = _model(*Params(**params))
    rng = np.random.default_rng(0)
    for i in rng.choice(len(STATES), 12, replace=False):
        (own_energy, own_hungry), (other_energy, other_hungry) = STATES[i]
        start = state(own_energy, other_energy, own_hungry, other_hungry)
        for action in (EAT, PASS):
            outcome = next_states(start, action, num=3000, **params)
            gains = drive(start.energy)[None] - drive(outcome.energy)
            np.testing.assert_allclose(gains.mean(0), [own[action, i], other[action, i]], atol=0.15)
            bodies = np.stack([outcome.energy, outcome.hungry], -1).reshape(-1, 4)
            for j, (mine, theirs) in enumerate(STATES):
                frequency = (bodies == np.array([*mine, *theirs])).all(1).mean()
                assert frequency == pytest.approx(step[action, i, j], abs=0.05)


def test_policy_iteration_agrees_with_value_iteration():
    for care in (0.0, 0.02, 0.6):
        step, own, other = _model(*Params(need=0.2))
        value = np.zeros(len(STATES))
        for _ in range(400):
            value = (own + care * other + 0.9 * step @ value).max(0)
        optimum = optimal_policy(care, 0.9, Params(need=0.2))
        np.testing.assert_allclose(optimum.value, value, atol=1e-9)


def test_without_care_the_other_starves():
    optimum = optimal_policy(0.0)
    # high at first, low after 10 steps on average and then for 10: 19; or low at once: 10
    assert optimum.lifetime == pytest.approx((19 + 10) / 2)
    assert (optimum.policy == EAT).all()
    assert np.isnan(optimum.share)


def test_with_sufficient_care_neither_body_starves():
    assert least_sufficient_care() == pytest.approx(0.0109, abs=5e-5)
    optimum = optimal_policy(0.011)
    assert optimum.lifetime == np.inf
    assert optimum.share == pytest.approx(1 / 11)  # low in one of 10 + 1 steps, and then fed
    assert optimal_policy(0.0108).lifetime == pytest.approx(14.5)


def test_more_discount_needs_more_care():
    assert least_sufficient_care(0.9) > least_sufficient_care(0.99) > least_sufficient_care(0.999)


def test_without_a_sufficient_care_an_error_is_raised():
    with pytest.raises(ValueError, match="a body starves even at care weight 1"):
        least_sufficient_care(params=Params(plenty=0.0))


@pytest.mark.slow
@pytest.mark.parametrize(("care", "lifetime"), [(0.0, 14.5), (0.02, 200.0)])
def test_the_optimal_policy_has_the_computed_lifetime_in_rollouts(care, lifetime):
    policy = jnp.array(optimal_policy(care).policy)

    def act(key, obs):
        hungry = jnp.round(10 * obs[:, 2:]).astype(jnp.int32)
        body = jnp.where(obs[:, :2] == 1, 0, 1 + hungry)  # as in `food_share_optimum.BODIES`
        return policy[11 * body[:, 0] + body[:, 1]]

    _, batch = play(ENV, World(Params()), act, 2000, 200)
    length = (batch.terminated | batch.truncated).argmax(0) + 1
    assert length.mean() == pytest.approx(lifetime, abs=0.5)
    assert ENV.success(jnp.zeros(2000), length).all() == (care > 0)
