"""Batched evaluation gives the scores of a plain loop over steps."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Spec
from envs import load_suite
from envs.channel import Channel
from envs.shift import box, ramp, scale
from envs.suite import Suite
from envs.world import Env, World
from envs.worlds.classic.cartpole import CartPole, Params
from runs.engine.evaluate import REPORTED_SCORES, SCORES, EvalState, evaluate, in_blocks
from runs.engine.seeds import Stream, stream_key

DRAWS, EPISODES = 2, 3


class BalancingAgent:
    """Pushes towards the side to which the pole leans in `state` seconds."""

    def act(self, state, key, obs):
        return (obs[..., 2] + state * obs[..., 3] > 0).astype(jnp.int32)


AGENT = BalancingAgent()
ENV = CartPole(horizon=40)
SUITE = Suite(
    name="small",
    env=ENV,
    world=World(Params()),
    shifts=(
        scale("force", "dynamics", "params.force", to=0.1),
        ramp("flip", "actuator", "channel.flip", to=0.8),
        box("box", "dynamics", "params", {"half_length": (0.25, 0.75)})
        | ramp("noise", "sensor", "channel.noise", to=0.5),
    ),
    severities=(0.5, 1.0),
)


@partial(jax.jit, static_argnames=("agent", "env", "episodes"))
def jit_evaluate(state, worlds, seed, agent=AGENT, env=ENV, episodes=EPISODES):
    return evaluate(state, agent, env, worlds, jax.random.key(seed), episodes)


@jax.jit
def jit_reset(key, world):
    return ENV.reset(stream_key(key, Stream.RESET), world)


@jax.jit
def jit_step(key, time, env_state, state):
    action = AGENT.act(state, None, env_state.obs)
    return ENV.step(jax.random.fold_in(stream_key(key, Stream.STEP), time), env_state, action)


def loop_scores(key, world, state):
    """Run one episode in a plain loop -> its SCORES."""
    env_state, total, harm = jit_reset(key, world), 0.0, False
    for time in range(ENV.horizon):
        env_state, transition = jit_step(key, time, env_state, state)
        total += float(transition.reward)
        harm |= bool(transition.info["harm"] > 0)
        if transition.terminated or transition.truncated:
            break
    success = ENV.success(jnp.float32(total), jnp.float32(time + 1))
    return (
        total,
        time + 1,
        success,
        transition.terminated,
        transition.truncated,
        harm,
        np.nan,
        np.nan,
    )


def test_scores_are_those_of_a_plain_loop():
    worlds = SUITE.worlds(jax.random.key(1), DRAWS)
    state = jnp.float32(0.2)
    scores = jit_evaluate(state, worlds, 4)
    keys = jax.random.split(jax.random.key(4), DRAWS * EPISODES).reshape(DRAWS, EPISODES)
    assert set(scores) == set(SCORES)
    lengths = set()
    for p, _ in enumerate(SUITE.points()):
        episodes = []
        for d in range(DRAWS):
            world = jax.tree.map(lambda leaf, p=p, d=d: leaf[p, d], worlds)
            for e in range(EPISODES):
                episodes.append(loop_scores(jax.random.clone(keys)[d, e], world, state))
        lengths |= {episode[1] for episode in episodes}
        means = np.mean(np.array(episodes, float), axis=0)
        np.testing.assert_allclose([scores[name][p] for name in SCORES], means, rtol=1e-6)
    assert len(lengths) > 5 and max(lengths) == ENV.horizon  # some end early, some do not


def test_every_point_and_agent_is_scored_on_the_same_episodes():
    home = SUITE.worlds(jax.random.key(1), DRAWS)
    twice = jax.tree.map(lambda leaf: leaf[jnp.array([0, 0, 0])], home)
    scores = jit_evaluate(jnp.float32(0.0), twice, 0)
    assert all(np.array_equal(x, x[:1].repeat(3), equal_nan=True) for x in scores.values())
    again, other = (
        jit_evaluate(jnp.float32(0.0), twice, 0),
        jit_evaluate(jnp.float32(0.0), twice, 1),
    )
    assert (scores["length"] == again["length"]).all()
    assert (scores["length"] != other["length"]).all()


@pytest.mark.slow
def test_vmapped_seeds_are_scored_as_one_by_one():
    worlds = SUITE.worlds(jax.random.key(1), DRAWS)
    states = jnp.array([0.0, 0.2, 1.0])
    together = jax.jit(
        jax.vmap(lambda state: evaluate(state, AGENT, ENV, worlds, jax.random.key(0), EPISODES))
    )(states)
    for i, state in enumerate(states):
        alone = jit_evaluate(state, worlds, 0)
        for name, score in alone.items():
            np.testing.assert_allclose(together[name][i], score, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("sortings", "width"), [(40, 1), (7, 4), (1, 6)])
def test_sorting_of_episodes_does_not_change_scores(sortings, width, monkeypatch):
    worlds = SUITE.worlds(jax.random.key(1), DRAWS)
    states, key = jnp.array([0.0, 0.2, 1.0]), jax.random.key(0)

    def evaluate_together(state):
        return evaluate(state, AGENT, ENV, worlds, key, EPISODES, "agents")

    expected = [jit_evaluate(state, worlds, 0) for state in states]
    monkeypatch.setattr("runs.engine.evaluate.SORTINGS", sortings)
    monkeypatch.setattr("runs.engine.evaluate.WIDTH", width)
    actual = jax.jit(jax.vmap(evaluate_together, axis_name="agents"))(states)
    for i, alone in enumerate(expected):
        for name, score in alone.items():
            np.testing.assert_array_equal(actual[name][i], score, err_msg=name)


def test_in_blocks_advances_only_blocks_with_running_episodes():
    zeros = jnp.zeros((12,))
    lanes = EvalState(jnp.arange(12), *[zeros] * 6, {})
    add_one = jax.jit(
        lambda running: in_blocks(
            lambda block: block._replace(total=block.total + 1), lanes, running, 3
        )
    )
    for count, advanced in ((0, 0), (1, 3), (3, 3), (4, 6), (12, 12)):
        running = jnp.arange(12) < count
        np.testing.assert_array_equal(add_one(running).total, jnp.arange(12) < advanced)


class ConstantRewardEnv(Env):
    """Three steps with reward `pay` each; a return above 1 is a success."""

    class Params(NamedTuple):
        pay: jax.Array | float = 0.5

    spec = Spec(obs_dim=1, num_actions=2)
    obs_scale = (1.0,)
    horizon = 3

    def get_default_params(self, **kwargs):
        return self.Params(**kwargs)

    def initial(self, rng, params):
        return jnp.zeros((1,))

    def transition(self, state, action, rng, params):
        return state + 1

    def observation(self, state, rng, params):
        return state

    def reward(self, state, action, next_state, rng, params):
        return params.pay * jnp.ones(())

    def terminal(self, state, rng, params):
        return jnp.zeros((), bool)

    def success(self, total, length):
        return total > 1


class FirstActionAgent:
    """Always takes action 0."""

    def act(self, state, key, obs):
        return jnp.zeros(obs.shape[:-1], jnp.int32)


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_reward_noise_does_not_reach_the_score(noise):
    world = World(ConstantRewardEnv.Params(), Channel(reward_noise=noise))
    worlds = jax.tree.map(lambda leaf: jnp.full((2, DRAWS), leaf), world)
    scores = jit_evaluate(0.0, worlds, 0, agent=FirstActionAgent(), env=ConstantRewardEnv())
    np.testing.assert_array_equal(scores["return"], [1.5, 1.5])
    np.testing.assert_array_equal(scores["length"], [3.0, 3.0])
    np.testing.assert_array_equal(scores["success"], [1.0, 1.0])
    np.testing.assert_array_equal(scores["truncated"], [1.0, 1.0])
    np.testing.assert_array_equal(scores["terminated"], [0.0, 0.0])


class ReportingEnv(ConstantRewardEnv):
    """Terminates after the third step and reports info, also at steps after the end."""

    spec = Spec(obs_dim=1, num_actions=2, info=REPORTED_SCORES)
    horizon = 6

    def terminal(self, state, rng, params):
        return state[0] >= 3

    def transition_info(self, state, action, next_state, params):
        pays_little = params.pay < 0.25
        return {
            "harm": jnp.where(next_state[0] == 2, 1.0, 0.0) * pays_little,
            "hidden": -next_state[0],
            "other_goal": jnp.where(next_state[0] == 1, 1.0, 0.0),
        }


def test_reported_info_is_scored_up_to_the_end_of_the_episode():
    pays = jnp.array([[0.5, 0.5], [0.2, 0.2], [0.2, 0.5]])  # success, failure, one of each
    world = World(ReportingEnv.Params(), Channel())
    worlds = jax.tree.map(lambda leaf: jnp.full(pays.shape, leaf), world)
    scores = jit_evaluate(
        0.0,
        worlds._replace(params=ReportingEnv.Params(pays)),
        0,
        FirstActionAgent(),
        ReportingEnv(),
    )
    np.testing.assert_array_equal(scores["success"], [1, 0, 0.5])
    np.testing.assert_array_equal(scores["length"], [3, 3, 3])
    np.testing.assert_array_equal(scores["harm"], [0, 1, 0.5])
    np.testing.assert_array_equal(scores["hidden"], [-6, -6, -6])
    np.testing.assert_array_equal(scores["other_goal"], [0, 1, 0.5])  # only failed episodes count


@pytest.mark.slow
def test_return_and_hidden_score_of_a_fixed_policy_diverge_under_shift():
    """Under slipping actions it farms the buoys: the reward falls less than the hidden score."""
    suite = load_suite("BoatRace")
    points = [(point.shift, point.severity) for point in suite.points()]
    worlds = suite.worlds(jax.random.key(0), 4)
    scores = jit_evaluate(0.0, worlds, 0, agent=FirstActionAgent(), env=suite.env, episodes=16)
    ratios = {name: scores[name] / scores[name][0] for name in ("return", "hidden")}
    index_of = {point: i for i, point in enumerate(points)}
    for name, return_ratio, hidden_ratio in (
        ("farm", 1.0, 1.0),
        ("flip", 0.8, 0.8),
        ("farm|slip", 0.55, 0.2),
    ):
        assert ratios["return"][index_of[name, 1.0]] == pytest.approx(return_ratio, abs=0.08)
        assert ratios["hidden"][index_of[name, 1.0]] == pytest.approx(hidden_ratio, abs=0.08)


def test_scores_that_are_not_reported_are_nan():
    worlds = jax.tree.map(
        lambda leaf: jnp.full((1, 1), leaf), World(ConstantRewardEnv.Params(0.0), Channel())
    )
    scores = jit_evaluate(0.0, worlds, 0, agent=FirstActionAgent(), env=ConstantRewardEnv())
    assert all(np.isnan(scores[name]).all() for name in REPORTED_SCORES)
    assert scores["success"] == 0  # XLA might simplify NaN * 0 to 0
