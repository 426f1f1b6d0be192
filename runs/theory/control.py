"""T14: weighted signals change the policy; lesions, weights of 0 and resuming change no bit.

Also, frozen networks stay as they are, and `Sham` gives the signal of another environment. Checked
on the training code itself, with PPO and heads on CartPole.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Curiosity, Fear, Hope, Lesion, Sham
from agents.ppo import PPO
from envs.worlds.classic.cartpole import CartPole
from runs.engine.checkpoint import Checkpoints
from runs.engine.seeds import vmap_seeds
from runs.engine.train import RunnerState
from runs.theory import Target
from runs.theory.simulation import Training, fixed_rollout, head_output
from runs.tree_io import encode_leaf

SEEDS, UPDATES = 2, 4
PREFIX = f"PPO on CartPole, {UPDATES} updates, {SEEDS} seeds: "
HEADS = {"fear": Fear, "hope": Hope, "curiosity": Lesion(Curiosity)}


def targets(smoke: bool) -> Iterator[Target]:
    """All targets; `smoke` changes nothing."""
    del smoke
    keys = jax.random.split(jax.random.key(0), SEEDS)
    start, update = training_programs(HEADS)
    initial = start(keys, jnp.array([0.0, 0.0, 1.0]))
    zero_weight, weighted = update(initial), update(start(keys, jnp.array([0.1, 0.1, 1.0])))
    start_empty, update_empty = training_programs({})
    without_heads = update_empty(start_empty(keys, jnp.zeros(0)))
    yield lesion_is_no_head(zero_weight, without_heads)
    yield signals_reach_policy(weighted, zero_weight)
    yield random_net_is_frozen(initial, zero_weight)
    yield resumed_run(zero_weight, update)
    yield neighbour_hope()


def training_programs(heads: dict) -> tuple[Callable, Callable]:
    """Compiled (start, update) of PPO on CartPole, with the signals' weights [K] as data.

    `start` makes states [S] from keys [S] and weights, `update` trains for a few updates; compiled
    apart, as in a study.
    """
    agent = PPO(width=16, epochs=2, lr=1e-3)
    blend = Blend(**{name: (1.0, head) for name, head in heads.items()})
    training = Training(CartPole(), agent, num_envs=4, num_steps=32, blend=blend)

    def update(state):
        return training.train(state, UPDATES)[0]

    return vmap_seeds(training.init, SEEDS, shared=1, optimise=False), vmap_seeds(update, SEEDS)


def lesion_is_no_head(zero_weight: RunnerState, without_heads: RunnerState) -> Target:
    """Heads lesioned or with a weight of 0 against no heads, in everything that both runs have."""

    def compared_bytes(state):
        return leaf_bytes(
            (state.learner.agent.train_state.net, state.env_states, state.episode_stats)
        )

    same = compared_bytes(zero_weight) == compared_bytes(without_heads)
    return Target(
        "T14",
        PREFIX + "weights of 0 and a lesion against an empty blend",
        "the same policy, critic, environments and returns, bit for bit",
        "the same" if same else "different",
        same,
    )


def signals_reach_policy(weighted: RunnerState, zero_weight: RunnerState) -> Target:
    """The smallest change by weighted signals of any parameter array of the policy."""
    policies = (state.learner.agent.train_state.net.actor for state in (weighted, zero_weight))
    pairs = zip(*map(jax.tree.leaves, policies), strict=True)
    changes = [float(jnp.abs(leaf - other).max()) for leaf, other in pairs if leaf.size]
    return Target(
        "T14",
        PREFIX + "weights of .1 against 0",
        "every parameter array of the policy differs",
        f"moved by {min(changes):.1e} to {max(changes):.1e}",
        min(changes) > 0,
    )


def random_net_is_frozen(initial: RunnerState, trained: RunnerState) -> Target:
    """Curiosity's frozen random network and its predictor, before and after training."""
    before, after = (
        state.learner.blend_state.heads["curiosity"].net.inner for state in (initial, trained)
    )
    random_same, predictor_same = (
        leaf_bytes(getattr(before, part)) == leaf_bytes(getattr(after, part))
        for part in ("random", "predictor")
    )
    return Target(
        "T14",
        PREFIX + "Curiosity's frozen random net, and its predictor",
        "the one never moves, the other does",
        f"{'still' if random_same else 'moved'}, {'still' if predictor_same else 'moved'}",
        random_same and not predictor_same,
    )


def resumed_run(state: RunnerState, update: Callable) -> Target:
    """A run that is saved, restored and resumed, against an uninterrupted one."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(1, state)
        _, restored = checkpoints.restore(state)
    same = leaf_bytes(update(restored)) == leaf_bytes(update(state))
    return Target(
        "T14",
        PREFIX + "saved, restored and resumed, against uninterrupted",
        "the same in every bit",
        "the same" if same else "different",
        same,
    )


def neighbour_hope() -> Target:
    """The sham of hope against hope, for an untrained policy in CartPole."""
    env, agent = CartPole(), PPO(width=16)

    def simulate(key):
        k_agent, *keys = jax.random.split(key, 3)
        learner = agent.init(k_agent, env.spec)
        return fixed_rollout(keys, env, lambda key, obs: agent.act(learner, key, obs), 64, 512)

    batch = jax.jit(simulate)(jax.random.key(5))
    signals = (np.asarray(head_output(factory, batch).signal) for factory in (Sham(Hope), Hope))
    sham, own = (signal[128:] for signal in signals)  # all start alike; by then they differ
    same_values = (np.sort(sham, 1) == np.sort(own, 1)).all()
    correlation = np.corrcoef(sham.ravel(), own.ravel())[0, 1]
    return Target(
        "T14",
        "Sham(Hope) over 384 steps of 64 CartPoles, against Hope",
        "the same numbers at every step, |correlation| < .1",
        f"{'the same' if same_values else 'others'}, {correlation:+.3f}",
        bool(same_values and abs(correlation) < 0.1),
    )


def leaf_bytes(tree: Any) -> list[bytes]:
    """Bytes of every leaf of a tree."""
    return [encode_leaf("", leaf)[1].tobytes() for leaf in jax.tree.leaves(tree)]
