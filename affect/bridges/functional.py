"""Signals as reward around jitted environments of gymnax's kind: a state in, a state out.

    env = AffectEnv(env, Blend(novelty=(0.1, Curiosity)), params, num_envs=64)

`reset` and `step` have the arguments and results of gymnax, 0.0.9 or 1, so that PureJaxRL's scripts
and rejax take the environment as any other.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect.blend import Blend
from affect.bridges.gymnax_steps import GymnaxSteps, Step, gymnax_spec, numbers_of_action
from affect.bridges.lanes import over_lanes
from affect.bridges.options import check_discounts, check_options, with_weights
from affect.bridges.stepwise import LEARN_EVERY, StepState, StepwiseBlend
from affect.head import Head
from affect.transition import Transition, is_a, is_whole


class AffectState(NamedTuple):
    """State of an environment with signals; under `vmap` of B environments, leaves [B, ...].

    Attributes:
        env_state: of the environment.
        obs: the last observation.
        first: bool, the next step is the first of an episode.
        window: the last transitions of this environment [N, ...], or ().
        shared: heads and what they carry for all environments, the same in each copy.
    """

    env_state: Any
    obs: jax.Array
    first: jax.Array
    window: Any
    shared: StepState


class AffectEnv:
    """Environment of gymnax's kind whose reward includes the signals of a blend.

    `info` of a step has the task's reward as `task_reward`, and each weighted signal by its name in
    `affect`. The environment gets the keys and actions that it would get without signals. `task` is
    the environment itself: evaluate in that.

    Args:
        env: the environment itself, without wrappers where gymnax is 0.0.9 (those belong outside).
        blend: the heads, with their weights.
        params: of the environment; None for `env.default_params`.
        num_envs: B, the environments that one `vmap` steps together: they share heads, and heads
            learn from all. None: a single environment, under `vmap` each with heads of its own.
        paid: "add", "replace" or "info", as in `affect.bridges.host.HostSignals`.
        weights: head -> its weight, in place of that of the blend.
        learn: whether heads are trained.
        learn_every: transitions of all B environments together between two trainings.
        share: of these that are learned from, in (0, 1].
        gamma: the discount of the agent that learns from the reward, for potentials.
        info: key of `info` that heads read -> its shape.

    Raises:
        ValueError: an option that does not fit, spaces that heads cannot read, or a wrapper inside
            that hides the last observations of episodes.
    """

    def __init__(
        self,
        env: Any,
        blend: Blend,
        params: Any = None,
        *,
        num_envs: int | None = None,
        paid: str = "add",
        weights: Mapping[str, float] | None = None,
        learn: bool = True,
        learn_every: int = LEARN_EVERY,
        share: float = 1.0,
        gamma: float | None = None,
        info: Mapping[str, tuple[int, ...]] | None = None,
    ):
        check_options(blend, paid, learn, 0)
        if num_envs is not None and (not is_whole(num_envs) or num_envs < 1):
            raise ValueError(f"num_envs is a number of environments or None, not {num_envs!r}")
        params = env.default_params if params is None else params
        self.task, self.num_envs, self.paid = env, num_envs, paid
        self.steps = GymnaxSteps(env, params)
        self.names = blend.names
        spec = gymnax_spec(env, params, self.steps.obs_shape, info, gamma)
        if missing := [key for key in spec.info if key not in self.steps.info_keys]:
            raise ValueError(
                f"info of the environment has no {missing[0]!r}, only "
                f"{', '.join(map(str, self.steps.info_keys)) or 'nothing'}: leave it out of info="
            )
        every = learn_every if learn else 0
        blend = with_weights(blend, weights)
        self.core = StepwiseBlend(blend, spec, num_envs or 1, every, share, dict(info or {}))
        state = jax.eval_shape(self.core.init, jax.random.key(0))  # so that what is wrong is said
        if gamma is not None:
            check_discounts(state.blend_state, gamma)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the environment has."""
        if name.startswith("__") or name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    def reset(self, key: jax.Array, params: Any = None) -> tuple[Any, AffectState]:
        """Begins an episode with untrained heads -> (obs, state)."""
        params = self.task.default_params if params is None else params
        (obs, lane), shared = over_lanes(self._reset, self.num_envs, key, (), params)
        return obs, AffectState._make((*lane, shared))

    def step(self, key: jax.Array, state: AffectState, action: Any, params: Any = None) -> tuple:
        """Takes one step; an episode that ends is followed by the next one.

        Returns:
            As the environment does, (obs, state, reward, done, info) in gymnax 0.0.9 and (obs,
            state, reward, terminated, truncated, info) in gymnax 1, with the reward that is paid.
        """
        params = self.task.default_params if params is None else params
        lane = key, action, tuple(state)[:-1]
        results, shared = over_lanes(self._step, self.num_envs, lane, state.shared, params)
        obs, lane, rest = results
        return obs, AffectState._make((*lane, shared)), *rest

    def _reset(self, keys: jax.Array, _: Any, params: Any, axes: Any) -> tuple[tuple, StepState]:
        """Begins episodes of B environments -> ((obs, lanes of the state), shared state)."""
        obs, env_state = jax.vmap(self.task.reset, (0, axes))(keys, params)
        shared = self.core.init(jax.random.fold_in(_typed(keys[0]), 0))
        window = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), shared.window)
        first = jnp.ones((self.core.num_envs,), bool)
        return (obs, (env_state, obs, first, window)), shared._replace(window=())

    def _step(
        self, lanes: tuple, shared: StepState, params: Any, axes: Any
    ) -> tuple[tuple, StepState]:
        """Steps B environments -> ((obs, lanes of the state, other results), shared state)."""
        keys, actions, (env_state, obs, first, window) = lanes
        stepped: Step
        after, env_state, stepped, info = jax.vmap(self.steps.step, (0, 0, 0, axes))(
            keys, env_state, actions, params
        )
        task = jnp.asarray(stepped.reward, jnp.float32).reshape(self.core.num_envs)
        transition = Transition(
            self._vectors(obs),
            numbers_of_action(self.core.spec, self.task.action_space(params), actions),
            self._vectors(stepped.successor),
            task,
            stepped.terminated,
            stepped.truncated,
            first,
            {name: info[name] for name in self.core.spec.info},
        )
        swap = partial(jax.tree.map, lambda leaf: jnp.swapaxes(leaf, 0, 1))
        signals, shared = self.core.step(shared._replace(window=swap(window)), transition)
        ends = stepped.terminated, stepped.truncated
        lane = env_state, after, ends[0] | ends[1], swap(shared.window)
        by_name = {name: signals[:, k] for k, name in enumerate(self.names)}
        info = {**info, "affect": by_name, "task_reward": stepped.reward}
        reward = self._pay(stepped.reward, signals)
        flags = ends if self.steps.two_flags else (ends[0] | ends[1],)
        return (after, lane, (reward, *flags, info)), shared._replace(window=())

    def _vectors(self, obs: jax.Array) -> jax.Array:
        """Observations as vectors [B, D] float32."""
        return jnp.asarray(obs, jnp.float32).reshape(self.core.num_envs, -1)

    def _pay(self, reward: jax.Array, signals: jax.Array) -> jax.Array:
        """What the agent is paid, of the shape and dtype of the task's reward [B, ...]."""
        if self.paid == "info":
            return reward
        dtype = jnp.promote_types(reward.dtype, jnp.float32)
        total = signals.sum(-1).reshape(reward.shape).astype(dtype)
        if self.paid == "replace":
            return total
        return jnp.where(total == 0, reward.astype(dtype), reward.astype(dtype) + total)

    def head(self, state: Any, name: str) -> Head:
        """The head of this name in a state, however other wrappers have wrapped that.

        Args:
            state: of one seed, as the training loop has it.
            name: of the head.

        Raises:
            ValueError: no such head, or no such state.
        """
        leaves = jax.tree.leaves(state, is_leaf=lambda node: is_a(node, AffectState))
        states = [leaf for leaf in leaves if is_a(leaf, AffectState)]
        if not states or name not in states[0].shared.blend_state.heads:
            raise ValueError(
                f"there is no head {name!r} in this state: heads are {', '.join(self.names)}, and "
                "the state is that of the environment, env_state"
            )
        net = states[0].shared.blend_state.heads[name].net
        return net if self.num_envs is None else jax.tree.map(lambda leaf: leaf[0], net)


def _typed(key: jax.Array) -> jax.Array:
    """A typed key; a copy, so that jax's check of reused keys allows it after the original."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jax.random.clone(key)
    return jax.random.wrap_key_data(key)
