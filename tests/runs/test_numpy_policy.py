"""Policies in NumPy: the actions of the compiled ones, and the sizes that choose between them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Image, Spec
from affect.moments import running_moments
from agents.a2c import A2C
from agents.body import Body
from agents.ppo import PPO
from envs.host.suite import HostEnv
from runs.engine.numpy_policy import (
    action_keys,
    acts_in_numpy,
    drawn_noise,
    numpy_policy,
    policy_noise,
)
from tests.runs import small_study
from tests.tiers import slow

no_key_check = pytest.fixture(scope="module", autouse=True)(small_study.without_key_check)
SEEDS, NUM_ENVS, STEPS = 2, 3, 50
DISCRETE, CONTINUOUS = Spec(obs_dim=4, num_actions=5), Spec(obs_dim=4, action_dim=2)
MASKED = Spec(obs_dim=4, num_actions=5, masked=True)
SEVERAL = Spec(obs_dim=4, action_sizes=(3, 2), masked=True)


def host(spec, **changes):
    return replace(HostEnv("Fake-v0", spec, 100, (1.0,) * 4, False, None), **changes)


@pytest.mark.parametrize(
    ("spec", "normalise", "width"),
    [
        (DISCRETE, True, 16),
        slow(CONTINUOUS, False, 16),
        slow(DISCRETE, False, 0),
        (MASKED, True, 16),
        (SEVERAL, False, 16),
    ],
)
def test_actions_are_those_of_the_compiled_policy(spec, normalise, width):
    agent, rng = PPO(width=width, normalise=normalise), np.random.default_rng(0)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    states = [agent.init(key, spec) for key in keys]
    obs = rng.normal(3.0, 2.0, (STEPS, SEEDS, NUM_ENVS, 4)).astype(np.float32)
    obs[..., 1] = 1.0  # nearly constant, which is not enlarged
    if normalise:
        for k, state in enumerate(states):
            moments = running_moments(state.moments, jnp.asarray(obs[:, k]))[1]
            states[k] = state._replace(moments=moments)
    if spec.masked:
        mask = rng.random((*obs.shape[:-1], 5)) < 0.5
        mask[..., [0, 3]] = True  # an action of each choice
        obs = np.concatenate([obs, mask.astype(np.float32)], -1)
    for state in states:  # logits that are far from equal
        actor = state.train_state.net.actor
        kernel = rng.standard_normal(actor.out.kernel.shape).astype(np.float32)
        actor.out.kernel[...] = jnp.asarray(kernel)
        actor.log_std[...] -= 1.0
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    draw = partial(drawn_noise, spec=spec, num_envs=NUM_ENVS, steps=STEPS)
    noise, policy = policy_noise(state, jax.vmap(draw)(keys)), numpy_policy(agent, state)
    sample = jax.jit(jax.vmap(agent.act))
    mode = jax.jit(jax.vmap(lambda state, obs: agent.act(state, None, obs)))
    for t in range(STEPS):
        k_act = jax.vmap(lambda key, t=t: action_keys(key, t)[0])(keys)
        pairs = (
            (policy.act(obs[t], noise[t]), sample(state, k_act, obs[t])),
            (policy.act(obs[t], None), mode(state, obs[t])),
        )
        for action, expected in pairs:
            assert (action.dtype, action.shape) == (expected.dtype, expected.shape)
            np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-4)
    if spec is DISCRETE:
        actions = [policy.act(obs[t], noise[t]) for t in range(STEPS)]
        assert len(np.unique(actions)) == 5


class OtherActions(PPO):
    """Agent that acts in another way."""

    def act(self, state, key, obs):
        return jnp.zeros(obs.shape[:-1], jnp.int32)


def test_small_networks_of_actor_critics_act_in_numpy():
    assert acts_in_numpy(PPO(), host(DISCRETE), 8) and acts_in_numpy(A2C(), host(CONTINUOUS), 8)
    assert acts_in_numpy(PPO(width=0), host(DISCRETE), 8)
    assert acts_in_numpy(PPO(), host(MASKED), 8) and acts_in_numpy(PPO(), host(SEVERAL), 8)
    assert not acts_in_numpy(PPO(), host(replace(DISCRETE, image=Image(7, 7, 3))), 8)
    assert not acts_in_numpy(OtherActions(), host(DISCRETE), 8)
    assert not acts_in_numpy(Body(PPO()), host(DISCRETE), 8)
    assert not acts_in_numpy(object(), host(DISCRETE), 8)
    assert not acts_in_numpy(PPO(width=1024), host(DISCRETE), 8)
    assert not acts_in_numpy(PPO(), host(replace(DISCRETE, obs_dim=10_000)), 8)
    assert not acts_in_numpy(PPO(), host(DISCRETE, reproducible=False), 8)
