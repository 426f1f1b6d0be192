"""What every shift promises, checked on the world it is for.

The endemic defect of shifts is to do nothing, or something else: setting a cart's mass changes no
state at all where the total is cached. `violations` finds both, and is run over every registered
suite by the tests.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.schedule import unscheduled
from envs.shift import Shift, with_channel
from envs.world import Env, World

LIVED = ("first", "obs", "states", "reward", "ends")
MAY_TOUCH = {
    "dynamics": {"params", "states", "obs", "reward", "ends"},
    "layout": {"params", "first", "states", "obs", "reward", "ends"},
    "social": {"params", "first", "states", "obs", "reward", "ends"},
    "sensor": {"params", "channel", "first", "obs"},
    "actuator": {"params", "channel", "states", "obs", "reward", "ends"},
    "reward": {"params", "channel", "reward"},
    "time": {"scheduled"},
}
"""What a shift of each family may make different, under the same keys and actions.

`params`, `channel` and `scheduled` are the parts of a world; a shift that comes later is of family time
and its own, such as `time|dynamics`. `first` is the first observation of an episode, `obs` the
others, `states` the true states, `reward` what the learner is paid, `ends` when an episode ends.
"""

STEPS, DRAWS, LEVELS = 64, 16, (0.0, 0.3, 0.7, 1.0)


def violations(shift: Shift, env: Env, world: World) -> list[str]:
    """Returns a line for every promise that a shift breaks on a world; none if it keeps them.

    Raises:
        ValueError: as the shift itself, for a world that lacks its field.
    """
    checks = (_identity_at_0, _pure, _finite, _vmaps)
    return (
        list(_same_shapes(shift, world))
        or [line for check in checks for line in check(shift, world)]
        or list(_effects(shift, env, world))
    )


def _same_shapes(shift: Shift, world: World) -> Iterator[str]:
    """Same tree, shapes and dtypes, on which the other checks rely."""
    home, shifted = _unshifted(shift, world), shift(world, 1.0, jax.random.key(0))
    if jax.tree.structure(home) != jax.tree.structure(shifted):
        yield f"{shift.name}: the shifted world is another tree"
    else:
        for path, old, new in _leaves(home, shifted):
            if old.dtype != new.dtype or old.shape != new.shape:
                yield (
                    f"{shift.name}: {path} was {old.dtype}{list(old.shape)} "
                    f"and becomes {new.dtype}{list(new.shape)}"
                )


def _identity_at_0(shift: Shift, world: World) -> Iterator[str]:
    """Bit for bit, with a severity that is known while tracing and with one that is not."""
    for at in (shift, jax.jit(shift)):
        for path, old, new in _leaves(_unshifted(shift, world), at(world, 0.0, jax.random.key(1))):
            if old.tobytes() != new.tobytes():
                yield f"{shift.name}: severity 0 changes {path} from {old} to {new}"


def _unshifted(shift: Shift, world: World) -> World:
    """The unshifted world, in the form that the shift gives it."""
    lasts = shift(world, 0.0, jax.random.key(0)).scheduled is None
    return with_channel(world) if lasts else unscheduled(with_channel(world))


def _pure(shift: Shift, world: World) -> Iterator[str]:
    """The same key gives the same world."""
    twice = (shift(world, 1.0, jax.random.key(2)) for _ in range(2))
    if any(one.tobytes() != two.tobytes() for _, one, two in _leaves(*twice)):
        yield f"{shift.name}: the same key gives different worlds"


def _finite(shift: Shift, world: World) -> Iterator[str]:
    """No NaN and no infinity, at any severity."""
    for severity in LEVELS:
        for path, _, new in _leaves(
            _unshifted(shift, world), shift(world, severity, jax.random.key(3))
        ):
            if not np.isfinite(new).all():
                yield f"{shift.name}: severity {severity} makes {path} {new}"


def _vmaps(shift: Shift, world: World) -> Iterator[str]:
    """Under `vmap` over severity it is what it is in a loop."""
    mapped = jax.vmap(partial(shift, world), (0, None))(jnp.array(LEVELS), jax.random.key(4))
    for i, severity in enumerate(LEVELS):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], mapped)
        for path, loop, new in _leaves(shift(world, severity, jax.random.key(4)), one):
            if not np.allclose(loop, new, rtol=1e-5, atol=1e-7):
                yield f"{shift.name}: severity {severity} makes {path} {loop}, under vmap {new}"


def _effects(shift: Shift, env: Env, world: World) -> Iterator[str]:
    """It makes a difference at severity 1, and none beyond its family."""
    home, shifted = (
        _stacked(shift(world, severity, key) for key in jax.random.split(jax.random.key(5), DRAWS))
        for severity in (0.0, 1.0)
    )
    lived = [_random_rollout(env, worlds, jax.random.key(6)) for worlds in (home, shifted)]
    changed = {
        part for part in World._fields if _differ(getattr(home, part), getattr(shifted, part))
    }
    felt = {part for part in LIVED if _differ(*(env_state[part] for env_state in lived))}
    allowed = set().union(*(MAY_TOUCH[family] for family in shift.family.split("|")))
    if not changed:
        yield f"{shift.name}: severity 1 changes nothing in the world"
    elif not felt:
        yield f"{shift.name}: severity 1 changes {changed}, but nothing that happens"
    for part in sorted((changed | felt) - allowed):
        yield f"{shift.name}: a shift of family {shift.family} must not touch {part}"


@partial(jax.jit, static_argnums=0)
def _random_rollout(env: Env, worlds: World, key: jax.Array) -> dict[str, Any]:
    """Lives an episode in each world [DRAWS] by random actions; after its end all is 0."""
    k_reset, k_steps = jax.random.split(key)
    start = jax.vmap(env.reset)(jax.random.split(k_reset, DRAWS), worlds)

    def step(carry, key):
        env_states, alive = carry
        k_act, k_step = jax.random.split(key)
        env_states, seen = jax.vmap(env.step)(
            jax.random.split(k_step, DRAWS), env_states, _any_actions(k_act, env)
        )
        lived = {"obs": seen.next_obs, "states": env_states.state, "reward": seen.reward}
        lived["ends"] = {"terminated": seen.terminated, "truncated": seen.truncated}
        return (env_states, alive & ~seen.terminated & ~seen.truncated), _mask_finished(
            alive, lived
        )

    begun = (start, jnp.ones(DRAWS, bool))
    _, lived = jax.lax.scan(step, begun, jax.random.split(k_steps, STEPS))
    return lived | {"first": start.obs}


@jax.vmap
def _mask_finished(alive: jax.Array, lived: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.where(alive, leaf, jnp.zeros_like(leaf)), lived)


def _any_actions(key: jax.Array, env: Env) -> jax.Array:
    if env.spec.num_actions:
        return jax.random.randint(key, (DRAWS,), 0, env.spec.num_actions)
    return jax.random.uniform(key, (DRAWS, env.spec.action_dim), minval=-1.0, maxval=1.0)


def _stacked(worlds: Iterable[World]) -> World:
    """One pytree of strongly typed arrays, so that all shifts of an `env` share one program."""
    return jax.tree.map(lambda *leaves: jnp.array([np.asarray(x) for x in leaves]), *worlds)


def _leaves(old: Any, new: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of leaves as arrays, with their path in words."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True)
    for (path, one), two in pairs:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        yield name, np.asarray(jnp.asarray(one)), np.asarray(jnp.asarray(two))


def _differ(old: Any, new: Any) -> bool:
    return any(one.tobytes() != two.tobytes() for _, one, two in _leaves(old, new))
