"""Bodies: a permuted one is the agent in a permuted world; senses, noise, settings inside."""

import copy
import pickle
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Hope, Inherited, Spec, Transition, build
from agents import A2C, PPO, Body, QLearning
from agents.actor_critic import Guide
from agents.qlearning import one_hot_row
from agents.shuffled_rewards import ShuffledRewards
from agents.wrapper import with_settings
from envs.world import World
from envs.worlds.classic.mountain_car import MountainCar
from runs.engine.config import annealed, head_spec, make_run_config
from runs.engine.seeds import FAST_COMPILE
from runs.engine.train import TrainConfig, init_runner, train
from runs.errors import UserError
from runs.prereg.plan_file import make_plan
from tests.affect.cases import KEY, SPEC, experience, same_bits
from tests.agents.probe_envs import Probe, train_on_probes, value
from tests.runs import small_study
from tests.runs.small_study import bits

SAME, ORDER = (0, 1, 2), (1, 2, 0)  # the latter is not its own inverse
AGENT = PPO(width=8, epochs=1, minibatches=2)


# --- in training ------------------------------------------------------------------------------


class Hill(MountainCar):
    """MountainCar with permuted actions and a reward for the last; params are (order, Params)."""

    def transition(self, state, action, rng, params):
        return super().transition(state, params[0][action], rng, params[1])

    def reward(self, state, action, next_state, rng, params):
        return next_state[0] + 0.1 * params[0][action]


def training(in_body: bool) -> Any:
    """Function from an order of actions to the state and metrics after three updates.

    The order is that of a body with all senses, or that of the world of the plain agent.
    """
    env, identity = Hill(horizon=12), jnp.arange(3)

    def run(order):
        agent = Body(AGENT, actions=order, senses=(0, 1)) if in_body else AGENT
        world = World((identity if in_body else order, env.get_default_params()))
        config = TrainConfig(agent, Blend(), 2, 8)
        state = init_runner(KEY, config, env, lambda key: world)
        return train(state, config, env, lambda key: world, 3)

    return jax.jit(run, compiler_options=FAST_COMPILE)


@pytest.mark.slow
def test_a_permuted_body_is_the_agent_in_a_permuted_world_bit_for_bit():
    of_body, of_world = training(True), training(False)
    with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
        results = [(of_body(order), of_world(order)) for order in map(jnp.array, (SAME, ORDER))]
    learners = [[bits(state.learner) for state, *_ in pair] for pair in results]
    returns = [[bits(metrics) for _, metrics, _ in pair] for pair in results]
    for pair in (*learners, *returns):
        assert pair[0] == pair[1]
    assert learners[0] != learners[1] and returns[0] != returns[1]


def test_a_body_that_changes_nothing_is_the_program_of_the_agent():
    state, key, batch = AGENT.init(KEY, SPEC), KEY, experience()
    signals = jnp.zeros((*batch.reward.shape, 0))
    inputs = {
        "act": (state, key, batch.obs),
        "value": (state, batch.obs),
        "policy": (state, batch.obs),
        "update": (state, key, batch, signals),
    }
    for name, of_method in inputs.items():
        methods = [getattr(agent, name) for agent in (AGENT, Body(AGENT))]
        first, second = (jax.jit(method).lower(*of_method).as_text() for method in methods)
        assert first == second, name


# --- the maps ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorder:
    """Agent that chooses what it observes, and whose state after an update are its inputs."""

    def init(self, key, spec, num_signals=0):
        return "untrained"

    def act(self, state, key, obs):
        return obs[..., 0].astype(int) if obs.shape[-1] == 1 else obs

    def policy(self, state, obs):
        return obs, -obs

    def update(self, state, key, *inputs):
        return inputs, {}


def batch_of(obs: jax.Array, action: jax.Array) -> Transition:
    return experience()._replace(obs=obs, next_obs=obs + 1, action=action)


def test_choice_j_is_executed_as_actions_j_and_learned_as_j():
    body, choice = Body(Recorder(), actions=ORDER), jnp.array([[0, 1, 2], [2, 0, 0]])
    executed = body.act((), None, choice[..., None].astype(float))
    np.testing.assert_array_equal(executed, np.array(ORDER)[choice])
    (batch, *_), _ = body.update((), None, batch_of(choice[..., None], executed), None)
    np.testing.assert_array_equal(batch.action, choice)


def test_number_j_of_a_continuous_choice_is_executed_as_number_actions_j():
    body, choice = Body(Recorder(), actions=ORDER), jnp.array([[0.1, 0.2, 0.3]])
    executed = body.act((), None, choice)
    np.testing.assert_array_equal(executed[..., list(ORDER)], choice)
    assert executed.tolist() != choice.tolist()
    (batch, *_), _ = body.update((), None, batch_of(choice, executed), None)
    np.testing.assert_array_equal(batch.action, choice)


def test_policies_outside_are_over_the_actions_of_the_world():
    body, logits = Body(Recorder(), actions=ORDER), jnp.array([[[1.0, 2.0, 3.0]]])
    policy = body.policy((), logits)
    np.testing.assert_array_equal(policy[0][..., list(ORDER)], logits)
    np.testing.assert_array_equal(policy[1], -policy[0])
    batch = batch_of(logits, jnp.zeros((1, 1), int))
    (_, _, guide), _ = body.update((), None, batch, None, Guide(policy, jnp.ones((1, 1))))
    np.testing.assert_array_equal(guide.policy[0], logits)  # a teacher in the same body
    np.testing.assert_array_equal(guide.policy[1], -logits)


def test_missing_senses_are_0():
    body = Body(Recorder(), senses=(0, 2))
    obs = jnp.array([[1.0, jnp.nan, 3.0]])
    np.testing.assert_array_equal(body.perceive(obs), [[1, 0, 3]])
    (batch, *_), _ = body.update((), None, batch_of(obs, jnp.zeros(1)), None)
    np.testing.assert_array_equal(batch.obs, [[1, 0, 3]])
    np.testing.assert_array_equal(batch.next_obs, [[2, 0, 4]])
    assert not Body(Recorder(), senses=()).perceive(obs).any()
    agent = Body(PPO(width=8), senses=(0, 2))
    state, obs = agent.init(KEY, SPEC), experience().obs
    other = obs.at[..., 1].add(5.0)
    for fn in (agent.value, lambda *args: agent.policy(*args)[0]):
        np.testing.assert_array_equal(fn(state, obs), fn(state, other))
        assert (fn(state, obs) != fn(state, obs + 5.0)).any()


@pytest.mark.slow
def test_noise_is_normal_and_a_function_of_the_observation():
    body, obs = Body(Recorder(), noise=0.5), jax.random.normal(jax.random.key(0), (50, 20, 4))
    noise = np.asarray(body.perceive(obs) - obs).reshape(-1, 4)
    assert np.abs(noise.mean(0)).max() < 0.06
    np.testing.assert_allclose(np.cov(noise.T), 0.25 * np.eye(4), atol=0.03)
    correlation = np.corrcoef(noise.T, np.asarray(obs).reshape(-1, 4).T)
    assert np.abs(correlation[:4, 4:]).max() < 0.12
    assert len(np.unique(noise)) > 3990
    acted = jnp.stack([body.act((), None, step) for step in obs[:3]])
    (batch, *_), _ = jax.jit(body.update)((), None, batch_of(obs[:3], acted), None)
    np.testing.assert_allclose(batch.obs, acted, rtol=1e-6)
    grid = jnp.eye(30)  # observations of few different numbers
    assert len(np.unique(np.asarray(body.perceive(grid) - grid).round(6))) > 800
    missing = Body(Recorder(), senses=(0,), noise=0.5).perceive(obs)
    assert not missing[..., 1:].any() and (missing[..., 0] == body.perceive(obs)[..., 0]).all()


def test_a_head_can_read_what_the_agent_gets():
    body, batch = Body(Recorder(), senses=(0, 2), noise=0.5), experience()
    head = build(Hope, SPEC, KEY)
    through = build(Inherited(head, obs=body.perceive), SPEC, jax.random.key(1))
    perceived = batch._replace(obs=body.perceive(batch.obs), next_obs=body.perceive(batch.next_obs))
    signals = [np.asarray(head((), x)[0]) for x in (perceived, batch)]
    np.testing.assert_allclose(through(through.initial_state(4), batch)[0], signals[0], rtol=1e-5)
    assert np.abs(signals[0] - signals[1]).max() > 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": (0, 2)}, r"actions=\(0, 2\), expected a permutation"),
        ({"actions": (0, 0, 1)}, r"actions=\(0, 0, 1\), expected a permutation"),
        ({"actions": [1, 0]}, r"actions=\[1, 0\], expected a permutation"),
        ({"senses": (0, -1)}, r"senses=\(0, -1\), expected indices"),
        ({"senses": (0.5,)}, r"senses=\(0.5,\), expected indices"),
        ({"noise": -0.1}, "noise=-0.1, expected a number"),
    ],
)
def test_bodies_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^Body: {message}"):
        Body(AGENT, **settings)


def test_bodies_that_do_not_fit_the_world_are_refused():
    for body, message in [
        (Body(AGENT, actions=ORDER), "3 actions, expected the world's 2"),
        (Body(AGENT, senses=(0, 3)), "no sense 3: an observation has 3 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            body.init(KEY, SPEC)


# --- settings of the agent inside -------------------------------------------------------------


def test_settings_of_the_agent_inside_are_read_and_changed():
    agent = Body(ShuffledRewards(PPO(gamma=0.9, signal_gamma=0.5)), actions=(1, 0))
    assert (agent.gamma, agent.anneal, agent.width) == (0.9, None, 64)
    assert head_spec(SPEC, agent).discount == 0.5
    changed = with_settings(annealed(agent, 7), gamma=0.8, noise=0.1)
    inside = ShuffledRewards(PPO(gamma=0.8, signal_gamma=0.5, anneal=7))
    assert changed == Body(inside, actions=(1, 0), noise=0.1)
    for same in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert same == agent and hash(same) == hash(agent)
    with pytest.raises(TypeError, match="unexpected keyword argument 'gama'"):
        with_settings(agent, gama=0.9)
    with pytest.raises(AttributeError, match="'PPO' object has no attribute 'gama'"):
        _ = agent.gama


def test_samples_that_do_not_divide_into_the_minibatches_inside_are_refused():
    sizes = {"seeds": 1, "steps": 30, "num_envs": 3, "num_steps": 5, "episodes": 1}
    with pytest.raises(UserError, match="do not divide into minibatches=2 of Body"):
        make_run_config(Body(AGENT), **sizes)


def test_a_plan_names_the_agent_inside():
    run_config = replace(small_study.CONFIG, agent=Body(AGENT, actions=(1, 0)), seeds=3)
    agent = make_plan(small_study.suite(), run_config, ("none", "hope")).agent
    expected = {"kind": "Body", "actions": "(1, 0)", "agent.kind": "PPO", "agent.width": 8}
    assert expected.items() <= agent.items()


def test_a_table_learns_in_a_body():
    spec = Spec(obs_dim=3, num_actions=2)
    table = QLearning(states=3, cell=one_hot_row, epsilon=0.0)
    body, batch = Body(table, actions=(1, 0)), experience()
    signals = jnp.zeros((*batch.reward.shape, 0))
    states = [
        agent.update(agent.init(KEY, spec), None, batch, signals)[0] for agent in (table, body)
    ]
    np.testing.assert_array_equal(states[0].table, states[1].table[:, ::-1])
    assert (states[0].table != states[1].table).any()
    best = [agent.act(x, None, batch.obs) for agent, x in zip((table, body), states, strict=True)]
    different = (states[0].table[:, 0] != states[0].table[:, 1])[one_hot_row(batch.obs)]
    np.testing.assert_array_equal(best[0][different], best[1][different])


# --- shuffled rewards -------------------------------------------------------------------------


def test_shuffled_rewards_are_the_same_rewards_at_other_steps():
    batch = experience(steps=16)
    batch = batch._replace(reward=jnp.arange(64.0).reshape(16, 4))
    orders = []
    for seed in range(2):
        (shuffled,), _ = ShuffledRewards(Recorder()).update((), jax.random.key(seed), batch)
        assert sorted(np.ravel(shuffled.reward)) == list(range(64))
        assert same_bits(shuffled._replace(reward=batch.reward), batch)
        orders.append(np.ravel(shuffled.reward))
    assert (orders[0] != np.arange(64)).mean() > 0.9 and (orders[0] != orders[1]).mean() > 0.9


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.slow
def test_shuffled_rewards_teach_nothing(shuffled):
    """The reward is the cue; its mean is what can be learned of it in random order."""
    agent = A2C(width=8, gamma=0.9, lr=1e-2, anneal=300)
    agent = ShuffledRewards(agent) if shuffled else agent
    results = train_on_probes(agent, {"a cue": Probe(cued=1.0, shown=1.0)})["a cue"]
    learned = value(results, 1.0) - value(results, -1.0)
    assert abs(learned) < 0.3 if shuffled else learned > 1.8
