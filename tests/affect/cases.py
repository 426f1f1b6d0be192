"""Shared by the tests of affect: all heads and wrappers to test, random batches, running a head."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import affect
from affect import (
    GRM,
    Care,
    Constant,
    ConstantPotential,
    Curiosity,
    Distilled,
    Fear,
    Homeostasis,
    Hope,
    Innate,
    Mood,
    Potential,
    Spec,
    Transition,
    build,
)
from affect.examples.e3b import E3B
from affect.examples.icm import ICM
from affect.examples.learning_progress import LearningProgress
from affect.examples.regret import Regret
from tests.tiers import representative

INFO = ("harm", "body", "foregone", "other")
SPEC = Spec(obs_dim=3, num_actions=2, info=INFO, discount=0.99)
KEY = jax.random.key(0)
T, B = 6, 4


def _closeness(batch: Transition) -> jax.Array:
    """Closeness of the first coordinate to 0, minus harm."""
    harm = batch.info.get("harm", jnp.zeros_like(batch.terminated))
    return jnp.exp(-jnp.abs(batch.next_obs[..., 0])) - harm


HOMEOSTASIS = partial(Homeostasis, setpoint=(0.0, 1.0))
CONSTANT = partial(Constant, value=0.5)
CORE = {head.__name__: head for head in affect.HEADS} | {
    "Constant": CONSTANT,
    "Homeostasis": HOMEOSTASIS,
    "Innate": partial(Innate, fn=_closeness, reads=("harm",)),
}
EXAMPLES = {"E3B": E3B, "ICM": ICM, "Regret": Regret}
KINDS = (Mood, Curiosity, Fear)  # a state reset every episode; running moments; no state
WRAPPED = {f"Potential({name})": Potential(head) for name, head in CORE.items()} | {
    f"{w.__name__}({head.__name__})": w(head) for w in affect.WRAPPERS for head in KINDS
}
CASES = (  # name -> factory: every head, bare and as a potential; every wrapper around every kind
    CORE
    | EXAMPLES
    | WRAPPED
    | {
        "Sham(Potential(Fear), centred)": affect.Sham(Potential(Fear), centred=True),
        "Normalised(Potential(Hope))": affect.Normalised(Potential(Hope)),
        "Potential(Normalised(Curiosity))": Potential(affect.Normalised(Curiosity)),
        "Potential(Untrained(Fear))": Potential(affect.Untrained(Fear)),
        "Lesion(ConstantOf(Constant))": affect.Lesion(affect.ConstantOf(CONSTANT)),
        "GRM(Curiosity, longer than the chunk)": GRM(Curiosity, delay=T + 3),
        "Potential(Care(Mood))": Potential(Care(Mood)),
        "Care(Homeostasis)": Care(HOMEOSTASIS),
        "Care(Potential(Mood))": Care(Potential(Mood)),
        "Care(Care(Curiosity))": Care(Care(Curiosity)),
        "LearningProgress(Curiosity)": LearningProgress(Curiosity),
        "Potential(Fear, scaled)": Potential(Fear, scale=2.0, shift=-1.0),
        "ConstantPotential(Constant)": ConstantPotential(-1.0),
        "Distilled": Distilled(layers=(2,), bits=4),
    }
)


def kind_of(name: str) -> str:
    """The kind of a case: its wrapper, `nested` for a wrapper around another, or itself."""
    if name.count("(") > 1:
        return "nested"
    return name.partition("(")[0] if name in WRAPPED else name


CHOSEN = representative(CASES, kind_of)
"""Names of all cases; the first of each kind is a default test, and the others are slow."""


def experience(seed: int = 0, steps: int = T, envs: int = B) -> Transition:
    """Random batch [steps, envs] of episodes that terminate or are truncated at random."""
    rng = np.random.default_rng(seed)
    next_obs = rng.normal(size=(steps, envs, 3))
    initial_obs = rng.normal(size=(steps, envs, 3))
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
    action = rng.integers(0, 2, (steps, envs))
    info = {"harm": 1 * harm, "body": body, "foregone": foregone, "other": other}
    batch = Transition(obs, action, next_obs, reward, terminated, truncated, first, info)
    return jax.tree.map(jnp.asarray, batch)


def chunk(batch: Transition, start: int, stop: int) -> Transition:
    """Steps start to stop of a batch."""
    return jax.tree.map(lambda leaf: leaf[start:stop], batch)


def episodes(batch: Transition):
    """Yields (environment, steps, whether it terminated) of every episode that ends in a batch."""
    ended = np.asarray(batch.terminated | batch.truncated)
    for b in range(ended.shape[1]):
        start = 0
        for t in np.flatnonzero(ended[:, b]):
            yield b, slice(start, t + 1), bool(batch.terminated[t, b])
            start = t + 1


@jax.jit
def apply_head(head: affect.Head, state: affect.head.State, batch: Transition):
    """Evaluates a head on a batch, compiled -> (signal [T, B], state)."""
    return head(state, batch)


def run_head(factory: affect.HeadFactory, batch: Transition, size: int | None = None):
    """Builds a head and evaluates it on a batch -> (head, signal [T, B], state).

    Args:
        factory: of the head.
        batch: experience [T, B].
        size: steps of the chunks in which it gets the batch; None for all at once.
    """
    head = build(factory, SPEC, KEY)
    state, signals = head.initial_state(batch.reward.shape[1]), []
    size = size or len(batch.reward)
    for start in range(0, len(batch.reward), size):
        signal, state = apply_head(head, state, chunk(batch, start, start + size))
        signals.append(signal)
    return head, jnp.concatenate(signals), state


def assert_close(actual, expected, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Asserts that two pytrees have the same structure and nearly the same numbers."""
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)


def same_bits(first, second) -> bool:
    """Whether two pytrees have the same structure and the same bits."""
    bits, others = ([np.asarray(x).tobytes() for x in jax.tree.leaves(t)] for t in (first, second))
    return jax.tree.structure(first) == jax.tree.structure(second) and bits == others
