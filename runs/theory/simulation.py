"""Simulations that several targets share: over seeds, in one fixed world, of one head."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, HeadFactory, Spec, Transition, build
from envs.world import Env, World, reset_batch, rollout
from runs.engine.seeds import seed_keys, vmap_seeds
from runs.engine.train import RunnerState, TrainConfig, init_runner, train


def run_seeds(fn: Callable, seeds: int, *shared: Any, base: int = 0, **static: Any) -> Any:
    """Run `fn(key, *shared, **static)` for S seeds in one program -> its results [S, ...], NumPy.

    Args:
        fn: function of one seed.
        seeds: S.
        *shared: pytrees, the same for all seeds.
        base: of the random numbers; those of a seed do not depend on the other seeds.
        **static: hashable; another value is another program to compile.
    """
    program = _program(fn, seeds, len(shared), tuple(static.items()))
    return jax.tree.map(np.asarray, program(seed_keys(jax.random.key(base), range(seeds)), *shared))


@lru_cache(maxsize=8)
def _program(fn: Callable, seeds: int, shared: int, static: tuple) -> Callable:
    return vmap_seeds(partial(fn, **dict(static)), seeds, shared)


class Training:
    """Training of one seed in the default world of an environment, by the functions of the engine.

    Args:
        env: the environment.
        agent: with `init`, `act` and `update`.
        num_envs: B, environments.
        num_steps: T, steps of each per update.
        blend: the heads.
    """

    def __init__(
        self, env: Env, agent: Any, num_envs: int, num_steps: int, blend: Blend | None = None
    ):
        self.env, self.worlds = env, fixed_world(env)
        self.config = TrainConfig(agent, blend or Blend(), num_envs, num_steps)

    def init(self, key: jax.Array, weights: jax.Array | None = None) -> RunnerState:
        """Initialise agent, heads and environments; `weights` [K] replace those of the blend."""
        state = init_runner(key, self.config, self.env, self.worlds)
        if weights is None:
            return state
        blend_state = state.learner.blend_state._replace(weights=weights)
        return state._replace(learner=state.learner._replace(blend_state=blend_state))

    def train(self, state: RunnerState, updates: int) -> tuple[RunnerState, dict[str, jax.Array]]:
        """Train for some updates -> (state, metrics averaged over them)."""
        state, metrics, _ = train(state, self.config, self.env, self.worlds, updates)
        return state, metrics


def fixed_world(env: Env, **params: Any) -> Callable[[jax.Array], World]:
    """Sampler of worlds that returns the default world, but for `params`, at every key.

    Its numbers have types of their own, as those of a restored checkpoint have: a program compiled
    for Python's numbers would be compiled again for them.
    """
    values = env.get_default_params(**params)
    world = World(jax.tree.map(lambda value: jnp.asarray(value, jnp.result_type(value)), values))
    return lambda key: world


def fixed_rollout(
    keys: Sequence[jax.Array], env: Env, act: Callable, num_envs: int, num_steps: int
) -> Transition:
    """Steps [T, B] of a policy in the default world.

    Args:
        keys: two, of the resets and of the steps.
        env: the environment.
        act: (key, obs [B, D]) -> actions [B].
        num_envs: B.
        num_steps: T.
    """
    k_reset, k_rollout = keys
    worlds = fixed_world(env)
    env_states = reset_batch(k_reset, env, worlds, num_envs)
    return rollout(k_rollout, env, worlds, act, env_states, num_steps)[1]


class HeadOutput(NamedTuple):
    """A head, its signal [T, B] on a batch, and the state that it carries on."""

    head: Any
    signal: jax.Array
    carried: Any


def head_output(factory: HeadFactory, batch: Transition) -> HeadOutput:
    """Build a head and compute its signal on a batch [T, B], from its initial state."""
    spec = Spec(obs_dim=batch.obs.shape[-1], num_actions=2, info=tuple(batch.info))
    head = build(factory, spec, jax.random.key(0))
    call = jax.jit(lambda state, batch: head(state, batch))
    return HeadOutput(head, *call(head.initial_state(batch.reward.shape[1]), batch))
