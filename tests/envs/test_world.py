"""The fused step and the rollout, on a world whose numbers are known in advance."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec
from envs.channel import Channel
from envs.shift import box
from envs.world import Env, World, reset_batch
from envs.worlds.classic.cartpole import CartPole
from tests.envs.play import play, random_actions


class Params(NamedTuple):
    limit: jax.Array | float = 3.0
    gain: jax.Array | float = 1.0


class Counter(Env):
    """Counts steps up to a limit; a second state variable identifies the episode."""

    spec = Spec(obs_dim=3, num_actions=3, info=("doubled",))
    obs_scale = (1.0, 1.0, 1.0)
    horizon = 5

    def get_default_params(self, **kwargs):
        return Params(**kwargs)

    def initial(self, rng, params):
        return jnp.stack([jnp.zeros(()), jax.random.uniform(rng)])

    def transition(self, state, action, rng, params):
        return state + jnp.array([1.0, 0.0])

    def observation(self, state, rng, params):
        return jnp.append(state, params.limit)

    def reward(self, state, action, next_state, rng, params):
        return 100 * state[0] + 10 * action + next_state[0]

    def terminal(self, state, rng, params):
        return state[0] >= params.limit

    def transition_info(self, state, action, next_state, params):
        return {"doubled": 2 * next_state[0]}


def always_1(key, obs):
    return jnp.ones(obs.shape[:1], jnp.int32)


coin = random_actions(2)


def test_a_step_returns_the_transition():
    env = Counter()
    env_state = env.reset(jax.random.key(0), World(Params()))
    episode_id = env_state.state[1]
    np.testing.assert_array_equal(env_state.obs, [0, episode_id, 3])
    after, transition = env.step(jax.random.key(1), env_state, jnp.int32(2))
    np.testing.assert_array_equal(transition.obs, [0, episode_id, 3])
    np.testing.assert_array_equal(transition.next_obs, [1, episode_id, 3])
    assert (transition.action, transition.reward, transition.info["doubled"]) == (2, 21, 2)
    assert (transition.first, transition.terminated, transition.truncated) == (True, False, False)
    assert after.time == 1
    _, transition = env.step(jax.random.key(2), after, jnp.int32(0))
    assert (transition.first, transition.reward) == (False, 102)


@pytest.mark.parametrize(
    ("limit", "length", "terminated", "truncated"),
    [(3.0, 3, True, False), (5.0, 5, True, False), (9.0, 5, False, True)],
)
def test_an_episode_is_terminated_or_truncated_and_never_both(limit, length, terminated, truncated):
    env = Counter()
    env_state = env.reset(jax.random.key(0), World(Params(limit)))
    for t in range(length):
        env_state, transition = env.step(jax.random.key(t), env_state, jnp.int32(0))
        ended = (bool(transition.terminated), bool(transition.truncated))
        assert ended == ((terminated, truncated) if t == length - 1 else (False, False))


@pytest.mark.parametrize("limit", [3.0, 9.0])
def test_next_obs_is_the_last_state_at_an_end_and_the_next_obs_is_reset(limit):
    env_states, batch = play(Counter(), World(Params(limit)), always_1, 4, 20)
    ended = batch.terminated | batch.truncated
    length = min(limit, 5)
    np.testing.assert_array_equal(ended.sum(0), np.full(4, 20 // length))
    # within an episode next_obs equals the following obs, and the episode id stays
    np.testing.assert_array_equal(batch.next_obs[:-1][~ended[:-1]], batch.obs[1:][~ended[:-1]])
    np.testing.assert_array_equal(batch.next_obs[..., 1], batch.obs[..., 1])
    # at an end next_obs is the last state, and the following obs is of a new episode
    np.testing.assert_array_equal(batch.next_obs[ended][:, 0], np.full(ended.sum(), length))
    np.testing.assert_array_equal(batch.obs[1:][ended[:-1]][:, 0], np.zeros(ended[:-1].sum()))
    assert (batch.obs[1:][ended[:-1]][:, 1] != batch.obs[:-1][ended[:-1]][:, 1]).all()
    # `first` marks exactly the steps after an end
    np.testing.assert_array_equal(batch.first[1:], ended[:-1])
    assert batch.first[0].all()
    np.testing.assert_array_equal(env_states.time, batch.next_obs[-1, :, 0] * ~ended[-1])


def test_the_rollout_is_a_loop_over_steps():
    env, num_steps, num_envs = CartPole(horizon=20), 50, 3
    shift = box("R", "dynamics", "params", {"force": (5.0, 15.0)})
    worlds = partial(shift, World(env.get_default_params()), 1.0)
    _, batch = play(env, worlds, coin, num_envs, num_steps)
    reset, advance = jax.jit(env.reset), jax.jit(env.step)
    k_reset_all, k_roll = jax.random.split(jax.random.key(0))
    env_states, steps = [], []
    for key in jax.random.split(k_reset_all, num_envs):
        k_world, k_reset = jax.random.split(key)
        env_states.append(reset(k_reset, worlds(k_world)))
    for k_time in jax.random.split(k_roll, num_steps):
        k_act, k_step = jax.random.split(k_time)
        actions = coin(k_act, jnp.zeros((num_envs, 4)))
        for i, key in enumerate(jax.random.split(k_step, num_envs)):
            k_transition, k_world, k_reset = jax.random.split(key, 3)
            env_states[i], transition = advance(k_transition, env_states[i], actions[i])
            steps.append(transition)
            if transition.terminated or transition.truncated:
                env_states[i] = reset(k_reset, worlds(k_world))
    looped = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
    for rolled_out, stepped in zip(*map(jax.tree.leaves, (batch, looped)), strict=True):
        stepped = stepped.reshape(rolled_out.shape)
        np.testing.assert_allclose(rolled_out, stepped, rtol=1e-5, atol=1e-6)
    assert (batch.terminated | batch.truncated).sum() > 4


def test_domain_randomisation_draws_a_world_for_every_episode():
    shift = box("R", "dynamics", "params", {"limit": (2.0, 8.0)})
    worlds = partial(shift, World(Params()), 1.0)
    _, batch = play(Counter(), worlds, always_1, 6, 40)
    limit, ended = batch.obs[..., 2], batch.terminated | batch.truncated
    np.testing.assert_array_equal(limit[1:][~ended[:-1]], limit[:-1][~ended[:-1]])
    assert (limit[1:][ended[:-1]] != limit[:-1][ended[:-1]]).all()
    assert len(np.unique(limit[batch.first])) == batch.first.sum() > 40
    steps = batch.next_obs[..., 0]
    np.testing.assert_array_equal(batch.terminated, steps >= limit)
    np.testing.assert_array_equal(batch.truncated, (steps == 5) & (limit > 5))


def test_environments_start_differently():
    env = Counter()
    env_states = reset_batch(jax.random.key(0), env, lambda _: World(Params()), 16)
    assert len(np.unique(env_states.state[:, 1])) == 16
    assert (env_states.time == 0).all()
    assert env_states.world.params.limit.shape == (16,)


@pytest.mark.slow  # bits of programs that are compiled as for users
def test_the_default_channel_changes_no_bit():
    env = CartPole()
    params = env.get_default_params()
    bare, with_channel = (
        play(env, World(params, channel), coin, 4, 200) for channel in (None, Channel())
    )
    same_bits = jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), bare[1], with_channel[1])
    assert jax.tree.all(same_bits) and bare[0].queue is None
    np.testing.assert_array_equal(bare[0].state, with_channel[0].state)


def test_a_world_without_success_raises_not_implemented():
    with pytest.raises(NotImplementedError, match="Counter must implement success"):
        Counter().success(jnp.zeros(()), jnp.zeros(()))
