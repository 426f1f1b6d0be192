"""Signals of a blend one step at a time, and training of its heads on the steps so far.

What all bridges share: a pure function of a state and one step of B environments. `Blend.feel`
gives the signals of a step, before anything is learned from it; `Blend.learn` trains the heads on
the last steps once there are enough of them. Where heads are trained at every step, that is
`Blend.update`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from affect.blend import Blend, BlendState
from affect.bridges.vmap_cond import cond_if_any
from affect.head import Head
from affect.transition import Spec, Transition, is_number, is_whole

LEARN_EVERY = 128  # transitions between two trainings, where nobody gives another number


class StepState(NamedTuple):
    """State of a blend that is stepped; a pytree of arrays.

    Attributes:
        blend_state: the heads, and what they carry after the last step.
        start: what they carried before the first step of the window.
        window: the last N transitions of each environment [N, B, ...]; () without one.
        fresh: int [B], transitions of each environment since heads were trained.
        key: raw data of the key that draws parts of a window.
        metrics: of the last training, NaN before the first.
    """

    blend_state: BlendState
    start: dict[str, Any]
    window: Any
    fresh: jax.Array
    key: jax.Array
    metrics: dict[str, jax.Array]


@dataclass(frozen=True)
class StepwiseBlend:
    """A blend that gets one step of B environments at a time.

    Heads are trained on the last N = `learn_every` / B steps (at least one) of each environment,
    each time that every environment has made N since the last training. So the number of gradient
    steps goes by the transitions seen, whatever the number of environments.

    Attributes:
        blend: of the heads.
        spec: shapes of the environment, and the discount.
        num_envs: B.
        learn_every: transitions of all environments together between two trainings; 0: frozen.
        share: of these steps that are learned from: a stretch of N share steps, drawn at random.
        info: key of `Spec.info` -> its shape for one environment.

    Raises:
        ValueError: a number that is out of range.
    """

    blend: Blend
    spec: Spec
    num_envs: int
    learn_every: int = LEARN_EVERY
    share: float = 1.0
    info: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.learn_every) or self.learn_every < 0:
            raise ValueError(
                f"learn_every is a number of transitions, or 0 for frozen heads, "
                f"not {self.learn_every!r}"
            )
        if not is_number(self.share) or not 0 < self.share <= 1:
            raise ValueError(
                f"share is the part of a batch that is learned from, in (0, 1], not {self.share!r}"
            )

    @property
    def steps(self) -> int:
        """N, steps of a window; 0 if nothing is trained."""
        trains = self.learn_every and self.blend.heads
        return max(1, round(self.learn_every / self.num_envs)) if trains else 0

    @property
    def used(self) -> int:
        """Steps of a window that are learned from."""
        return max(1, round(self.share * self.steps))

    def init(self, key: jax.Array) -> StepState:
        """State before the first step; its heads are those of `blend.init(key, ...)`.

        Raises:
            ValueError, MissingInfo: as `Blend.init` does.
        """
        blend_state = self.blend.init(key, self.spec, self.num_envs)
        window: Any = ()
        metrics = {}
        if self.steps:
            window = self.empty_window()
            used = jax.tree.map(lambda leaf: leaf[: self.used], window)
            _, shapes = jax.eval_shape(self.blend.learn, blend_state, used)
            metrics = {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in shapes.items()}
        key = jax.random.key_data(jax.random.fold_in(key, self.num_envs))
        start = jax.tree.map(jnp.copy, blend_state.carry)
        fresh = jnp.zeros((self.num_envs,), jnp.int32)
        return StepState(blend_state, start, window, fresh, key, metrics)

    def empty_window(self) -> Transition:
        """Transitions [N, B, ...] of zeros."""
        grid, spec = (self.steps, self.num_envs), self.spec
        obs, flags = jnp.zeros((*grid, spec.obs_dim)), jnp.zeros(grid, bool)
        kind = jnp.int32 if spec.choices else jnp.float32
        action = jnp.zeros((*grid, *spec.action_shape), kind)
        info = {name: jnp.zeros((*grid, *(self.info or {})[name])) for name in spec.info}
        return Transition(obs, action, obs, jnp.zeros(grid), flags, flags, flags, info)

    def step(
        self, state: StepState, transition: Transition, valid: jax.Array | None = None
    ) -> tuple[jax.Array, StepState]:
        """Computes the signals of one step, then trains the heads if it is time to.

        Args:
            state: before the step.
            transition: of the step, [B, ...], its successors those before any reset.
            valid: bool [B], which environments made a step. The others get signals of 0, are not
                learned from, and what heads carry for them stays. None: all.

        Returns:
            (weighted signals [B, K], state).
        """
        batch = jax.tree.map(lambda leaf: leaf[None], transition)
        if self.steps == 1 and valid is None:
            signals, blend_state, metrics = self.blend.update(state.blend_state, batch)
            kept = {name: metrics[name] for name in state.metrics}
            fresh = jnp.zeros_like(state.fresh)
            state = state._replace(blend_state=blend_state, fresh=fresh, metrics=kept)
            return signals[0], state._replace(start=blend_state.carry)
        if valid is None:
            signals, blend_state = self.blend.feel(state.blend_state, batch)
            signals = signals[0]
        else:
            signals, blend_state = self._feel_each(state.blend_state, batch, valid)
        state = state._replace(blend_state=blend_state)
        if not self.steps:
            return signals, state
        state = self._remember(state, transition, valid)
        ready = (state.fresh >= self.steps).all()
        return signals, cond_if_any(ready, self._learn, state)

    def cut(self, state: StepState, where: jax.Array) -> StepState:
        """Marks the last transition of environments as truncated: they were reset on the way.

        Args:
            state: before the next step.
            where: bool [B], those that were reset though their episode had not ended.
        """
        if not self.steps:
            return state
        lanes = jnp.arange(self.num_envs)
        slot = (state.fresh - 1) % self.steps
        truncated = state.window.truncated
        marked = truncated[slot, lanes] | (where & (state.fresh > 0))
        truncated = truncated.at[slot, lanes].set(marked)
        return state._replace(window=state.window._replace(truncated=truncated))

    def _remember(
        self, state: StepState, transition: Transition, valid: jax.Array | None
    ) -> StepState:
        """Writes a step over the oldest of each environment's window."""
        lanes, slot = jnp.arange(self.num_envs), state.fresh % self.steps

        def write(window: jax.Array, row: jax.Array) -> jax.Array:
            row = row.astype(window.dtype)
            if valid is not None:
                row = jnp.where(_expand(valid, row), row, window[slot, lanes])
            return window.at[slot, lanes].set(row)

        made = 1 if valid is None else valid.astype(jnp.int32)
        known = {name: transition.info[name] for name in self.spec.info}
        window = jax.tree.map(write, state.window, transition._replace(info=known))
        return state._replace(window=window, fresh=state.fresh + made)

    def _learn(self, state: StepState) -> StepState:
        """Trains the heads on the window, and begins another."""
        age = jnp.arange(self.steps)[:, None]
        order, lanes = (state.fresh[None] + age) % self.steps, jnp.arange(self.num_envs)[None]
        batch = jax.tree.map(lambda leaf: leaf[order, lanes], state.window)
        key = state.key
        if self.used < self.steps:
            k_next, k_draw = jax.random.split(jax.random.wrap_key_data(key))
            first = jax.random.randint(k_draw, (), 0, self.steps - self.used + 1)
            take = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=self.used)
            batch, key = jax.tree.map(take, batch), jax.random.key_data(k_next)
        before = state.blend_state._replace(carry=state.start)
        trained, metrics = self.blend.learn(before, batch)
        carry = state.blend_state.carry
        return StepState(
            trained._replace(carry=carry),
            carry,
            state.window,
            jnp.zeros_like(state.fresh),
            key,
            metrics,
        )

    def _feel_each(
        self, blend_state: BlendState, batch: Transition, valid: jax.Array
    ) -> tuple[jax.Array, BlendState]:
        """Computes signals [B, K] one environment after another, leaving out those not valid.

        Only so do statistics over environments, as of `Curiosity`, take in what is valid alone.
        """
        axes = {name: env_axes(head.net.initial_state) for name, head in blend_state.heads.items()}
        alone = replace(blend_state.shapes, num_envs=1)

        def one(carry: dict, b: jax.Array) -> tuple[dict, jax.Array]:
            own = jax.tree.map(partial(_take, b), carry, axes)
            row = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, b, 1, 1), batch)
            state = blend_state._replace(carry=own, shapes=alone)
            signals, after = self.blend.feel(state, row)
            new = jax.tree.map(partial(_put, b), carry, after.carry, axes)
            carry = jax.tree.map(lambda new, old: jnp.where(valid[b], new, old), new, carry)
            return carry, jnp.where(valid[b], signals[0, 0], 0.0)

        carry, signals = jax.lax.scan(one, blend_state.carry, jnp.arange(self.num_envs))
        return signals, blend_state._replace(carry=carry)


def env_axes(initial_state: Callable[[int], Any]) -> Any:
    """The axis of environments of each leaf of a state that is made for B, -1 where it has none."""
    two, three = (jax.eval_shape(partial(initial_state, count)) for count in (2, 3))

    def differing(two: Any, three: Any) -> int:
        pairs = enumerate(zip(two.shape, three.shape, strict=True))
        return next((axis for axis, (m, n) in pairs if m != n), -1)

    return jax.tree.map(differing, two, three)


def layers(head: Any) -> list[Any]:
    """A head and those inside it, the outermost first."""
    inside = vars(head).get("inner")
    return [head, *(layers(inside) if isinstance(inside, Head) else [])]


def _take(b: jax.Array, leaf: jax.Array, axis: int) -> jax.Array:
    """The part of environment b of a leaf; all of it where it has no axis of environments."""
    return leaf if axis < 0 else jax.lax.dynamic_slice_in_dim(leaf, b, 1, axis)


def _put(b: jax.Array, leaf: jax.Array, part: jax.Array, axis: int) -> jax.Array:
    """The leaf with another part for environment b."""
    return part if axis < 0 else jax.lax.dynamic_update_slice_in_dim(leaf, part, b, axis)


def _expand(mask: jax.Array, like: jax.Array) -> jax.Array:
    """A mask [B] with as many axes as an array [B, ...]."""
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))
