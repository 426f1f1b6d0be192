"""Checks of every shift: identity at severity 0, pure, finite, changing only what its family may.

Typical defects of shifts are to change nothing (a cart's mass, where the total mass is cached) or
more than intended. `violations` finds both; the tests run it on every registered suite.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.channel import random_actions
from envs.schedule import unscheduled
from envs.shift import Shift, with_channel
from envs.world import Env, World, mask_finished

ROLLOUT_PARTS = ("first", "obs", "states", "reward", "ends")
MAY_TOUCH = {
    "dynamics": {"params", "states", "obs", "reward", "ends"},
    "layout": {"params", "first", "states", "obs", "reward", "ends"},
    "social": {"params", "first", "states", "obs", "reward", "ends"},
    "sensor": {"params", "channel", "first", "obs"},
    "actuator": {"params", "channel", "states", "obs", "reward", "ends"},
    "reward": {"params", "channel", "reward"},
    "time": {"scheduled"},
}
"""Family -> what its shifts may change in a rollout with the same keys and actions.

`params`, `channel` and `scheduled` are fields of a world; a shift that begins in mid-episode is of
family time and of its own, such as `time|dynamics`. `first` is the first observation of an episode,
`obs` the later ones, `states` the true states, `reward` the reward that the agent receives, `ends`
when an episode ends.
"""

STEPS, DRAWS, LEVELS = 64, 16, (0.0, 0.3, 0.7, 1.0)


def violations(shift: Shift, env: Env, world: World) -> list[str]:
    """Lists the requirements that a shift violates on a world, a line each; empty if none.

    Raises:
        ValueError: if the world lacks a field that the shift changes.
    """
    checks = (_identity_at_0, _pure, _finite, _vmaps)
    return (
        list(_same_shapes(shift, world))
        or [line for check in checks for line in check(shift, world)]
        or list(_effects(shift, env, world))
    )


def _same_shapes(shift: Shift, world: World) -> Iterator[str]:
    """Checks that a shifted world keeps tree structure, shapes and dtypes."""
    base, shifted = _unshifted(shift, world), shift(world, 1.0, jax.random.key(0))
    if jax.tree.structure(base) != jax.tree.structure(shifted):
        yield f"{shift.name}: the shifted world has another tree structure"
    else:
        for path, old, new in _leaves(base, shifted):
            if old.dtype != new.dtype or old.shape != new.shape:
                yield (
                    f"{shift.name}: {path} was {old.dtype}{list(old.shape)} "
                    f"and becomes {new.dtype}{list(new.shape)}"
                )


def _identity_at_0(shift: Shift, world: World) -> Iterator[str]:
    """Checks that severity 0 changes no bit, with a static and with a traced severity."""
    for fn in (shift, jax.jit(shift)):
        for path, old, new in _leaves(_unshifted(shift, world), fn(world, 0.0, jax.random.key(1))):
            if old.tobytes() != new.tobytes():
                yield f"{shift.name}: severity 0 changes {path} from {old} to {new}"


def _unshifted(shift: Shift, world: World) -> World:
    """Unshifted world with the tree structure of the shifted one (channel, schedule)."""
    constant = shift(world, 0.0, jax.random.key(0)).scheduled is None
    return with_channel(world) if constant else unscheduled(with_channel(world))


def _pure(shift: Shift, world: World) -> Iterator[str]:
    """Checks that the same key gives the same world twice."""
    twice = (shift(world, 1.0, jax.random.key(2)) for _ in range(2))
    if any(old.tobytes() != new.tobytes() for _, old, new in _leaves(*twice)):
        yield f"{shift.name}: the same key gives different worlds"


def _finite(shift: Shift, world: World) -> Iterator[str]:
    """Checks that no severity gives a NaN or an infinity."""
    for severity in LEVELS:
        for path, _, new in _leaves(
            _unshifted(shift, world), shift(world, severity, jax.random.key(3))
        ):
            if not np.isfinite(new).all():
                yield f"{shift.name}: severity {severity} makes {path} {new}"


def _vmaps(shift: Shift, world: World) -> Iterator[str]:
    """Checks that `vmap` over severity gives the same worlds as a loop."""
    mapped = jax.vmap(partial(shift, world), (0, None))(jnp.array(LEVELS), jax.random.key(4))
    for i, severity in enumerate(LEVELS):
        item = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        for path, loop, new in _leaves(shift(world, severity, jax.random.key(4)), item):
            if not np.allclose(loop, new, rtol=1e-5, atol=1e-7):
                yield f"{shift.name}: severity {severity} makes {path} {loop}, under vmap {new}"


def _effects(shift: Shift, env: Env, world: World) -> Iterator[str]:
    """Checks that severity 1 has an effect, and none outside the family of the shift."""
    base, shifted = (
        _stacked(shift(world, severity, key) for key in jax.random.split(jax.random.key(5), DRAWS))
        for severity in (0.0, 1.0)
    )
    rollouts = [_random_rollout(env, worlds, jax.random.key(6)) for worlds in (base, shifted)]
    changed = {
        part for part in World._fields if _differ(getattr(base, part), getattr(shifted, part))
    }
    affected = {part for part in ROLLOUT_PARTS if _differ(*(rollout[part] for rollout in rollouts))}
    allowed = set().union(*(MAY_TOUCH[family] for family in shift.family.split("|")))
    if not changed:
        yield f"{shift.name}: severity 1 changes nothing in the world"
    elif not affected:
        yield f"{shift.name}: severity 1 changes {changed}, but nothing in a rollout"
    for part in sorted((changed | affected) - allowed):
        yield f"{shift.name}: a shift of family {shift.family} must not touch {part}"


@partial(jax.jit, static_argnums=0)
def _random_rollout(env: Env, worlds: World, key: jax.Array) -> dict[str, Any]:
    """Runs an episode of random actions in each world [DRAWS]; steps after its end are 0."""
    k_reset, k_steps = jax.random.split(key)
    start = jax.vmap(env.reset)(jax.random.split(k_reset, DRAWS), worlds)

    def step(carry, key):
        env_states, active = carry
        k_act, k_step = jax.random.split(key)
        actions = random_actions(env.spec, k_act, env_states.obs)
        env_states, transition = jax.vmap(env.step)(
            jax.random.split(k_step, DRAWS), env_states, actions
        )
        row = {"obs": transition.next_obs, "states": env_states.state, "reward": transition.reward}
        row["ends"] = {"terminated": transition.terminated, "truncated": transition.truncated}
        return (
            env_states,
            active & ~transition.terminated & ~transition.truncated,
        ), mask_finished(active, row)

    initial = (start, jnp.ones(DRAWS, bool))
    _, rollout = jax.lax.scan(step, initial, jax.random.split(k_steps, STEPS))
    return rollout | {"first": start.obs}


def _stacked(worlds: Iterable[World]) -> World:
    """Stacks worlds as strongly typed arrays, so that all shifts of an `env` share a program."""
    return jax.tree.map(lambda *leaves: jnp.array([np.asarray(x) for x in leaves]), *worlds)


def _leaves(old: Any, new: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields (dotted path, old leaf, new leaf) of two trees, the leaves as arrays."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True)
    for (path, old_leaf), new_leaf in pairs:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        yield name, np.asarray(jnp.asarray(old_leaf)), np.asarray(jnp.asarray(new_leaf))


def _differ(old: Any, new: Any) -> bool:
    return any(a.tobytes() != b.tobytes() for _, a, b in _leaves(old, new))
