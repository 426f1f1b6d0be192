"""Shared by the tests of affect: all heads and wrappers to test, and random batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import affect
from affect import (
    GRM,
    Care,
    Constant,
    Curiosity,
    Fear,
    Homeostasis,
    Hope,
    Innate,
    Mood,
    Potential,
    Spec,
    Transition,
)

SPEC = Spec(obs_dim=3, num_actions=2, info=("harm", "body", "foregone", "other"))
T, B = 6, 4
SEEDS = 2


def constant(spec, *, rngs):
    """Factory of a constant signal of .5."""
    return Constant(spec, 0.5, rngs=rngs)


def homeostasis(spec, *, rngs):
    """Factory of homeostasis of two variables with setpoints 0 and 1."""
    return Homeostasis(spec, setpoint=(0.0, 1.0), rngs=rngs)


def innate(spec, *, rngs):
    """Factory of a fixed signal: closeness of the first coordinate to 0, minus harm."""
    return Innate(spec, fn=_closeness, reads=("harm",), rngs=rngs)


def _closeness(batch: Transition) -> jax.Array:
    harm = batch.info.get("harm", jnp.zeros_like(batch.terminated))
    return jnp.exp(-jnp.abs(batch.next_obs[..., 0])) - harm


BARE = (*affect.HEADS, constant, homeostasis, innate)
KINDS = (Fear, Curiosity, Mood)  # no state; running moments; a state reset every episode


def matrix() -> dict[str, affect.Factory]:
    """Name -> factory: every head, bare and as a potential; every wrapper around every kind."""
    cases = {head.__name__: head for head in BARE}
    pairs = [(Potential, head) for head in BARE]
    pairs += [(wrap, head) for wrap in affect.WRAPPERS for head in KINDS]
    cases |= {f"{wrap.__name__}({head.__name__})": wrap(head) for wrap, head in pairs}
    return cases | {
        "Sham(Potential(Fear), centred)": affect.Sham(Potential(Fear), centred=True),
        "Normalised(Potential(Hope))": affect.Normalised(Potential(Hope)),
        "Potential(Normalised(Curiosity))": Potential(affect.Normalised(Curiosity)),
        "Potential(Untrained(Fear))": Potential(affect.Untrained(Fear)),
        "Lesion(ConstantOf(Constant))": affect.Lesion(affect.ConstantOf(constant)),
        "GRM(Curiosity, longer than the chunk)": GRM(Curiosity, delay=T + 3),
        "Potential(Care(Mood))": Potential(Care(Mood)),
        "Care(homeostasis)": Care(homeostasis),
        "Care(Potential(Mood))": Care(Potential(Mood)),
        "Care(Care(Curiosity))": Care(Care(Curiosity)),
    }


CASES = matrix()


def experience(seed: int = 0, steps: int = T, envs: int = B, obs_dim: int = 3) -> Transition:
    """Random batch [steps, envs] of episodes that terminate or are truncated at random."""
    rng = np.random.default_rng(seed)
    next_obs = rng.normal(size=(steps, envs, obs_dim))
    initial_obs = rng.normal(size=(steps, envs, obs_dim))
    terminated = rng.random((steps, envs)) < 0.25
    truncated = ~terminated & (rng.random((steps, envs)) < 0.2)
    first = np.concatenate([np.ones((1, envs), bool), (terminated | truncated)[:-1]])
    obs = np.where(first[..., None], initial_obs, np.roll(next_obs, 1, axis=0))
    reward = rng.choice([-0.7, 0.0, 1.0], (steps, envs))
    harm = terminated & (reward <= 0) | (rng.random((steps, envs)) < 0.1)
    body, other_body = rng.normal(size=(2, steps, envs, 2))
    other = {
        "obs": rng.normal(size=obs.shape),
        "next_obs": rng.normal(size=obs.shape),
        "reward": rng.choice([-1.0, 0.0, 0.4], (steps, envs)),
        "body": other_body,
    }
    foregone = rng.normal(size=(steps, envs, 2))
    info = {"body": body, "foregone": foregone, "other": other}
    batch = Transition(
        obs=obs.astype(np.float32),
        action=rng.integers(0, 2, (steps, envs)).astype(np.int32),
        next_obs=next_obs.astype(np.float32),
        reward=reward.astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        first=first,
        info={"harm": harm.astype(np.int32)}
        | jax.tree.map(lambda leaf: leaf.astype(np.float32), info),
    )
    return jax.tree.map(jnp.asarray, batch)


def chunk(batch: Transition, start: int, stop: int) -> Transition:
    """Steps start to stop of a batch."""
    return jax.tree.map(lambda leaf: leaf[start:stop], batch)


@jax.jit
def apply_head(head: affect.Head, state: affect.head.State, batch: Transition):
    """Evaluates a head on a batch, compiled -> (signal [T, B], state)."""
    return head(state, batch)


@jax.jit
def apply_heads(heads: affect.Head, states: affect.head.State, batch: Transition):
    """Evaluates the heads of S seeds on a batch -> (signals [S, T, B], states [S])."""
    apply_each = jax.vmap(lambda head, state: head(state, batch), axis_size=SEEDS)
    return apply_each(heads, states)


def assert_close(actual, expected, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Asserts that two pytrees have the same structure and nearly the same numbers."""
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)


def same_bits(first, second) -> bool:
    """Whether two pytrees have the same structure and the same bits."""
    bits, others = ([np.asarray(x).tobytes() for x in jax.tree.leaves(t)] for t in (first, second))
    return jax.tree.structure(first) == jax.tree.structure(second) and bits == others
