"""Check a user's heads before training: build, signal, loss and two updates on random actions.

The first arm with such a head is traced for batches of T = 1 and 5 steps of B = 1, 4 and 8
environments, and computed on two batches of random actions in the suite's world; the others, whose
wrappers are this project's, are traced for one shape.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Head, Sham, Spec, Transition, Untrained
from envs.channel import random_actions
from envs.host.rows import random_action
from envs.host.suite import HostEnv
from envs.host.user_code import cause_of
from envs.suite import Suite
from envs.world import reset_batch, rollout
from runs.engine.arms import Arm, is_own
from runs.engine.config import RunConfig, head_spec
from runs.engine.knobs import chain_of
from runs.errors import UserError

STEPS, ENVS = (1, 5), (1, 4, 8)  # T and B that are traced
REMEDY = "correct the head; nothing was trained"


def try_heads(arms: Sequence[Arm], suite: Suite, run_config: RunConfig) -> None:
    """Try the heads of arms that are not of this project.

    Raises:
        UserError: naming arm, fault and the line of the user's file where it arose.
    """
    tried = [arm for arm in arms if any(is_own(head) for _, head in arm.blend.heads.values())]
    if not tried:
        return
    spec, batches = head_spec(suite.env.spec, run_config.agent), sample_batches(suite)
    for arm in tried:
        try:
            shapes = list(itertools.product(STEPS, ENVS)) if arm is tried[0] else [(5, 4)]
            faults = _traced_faults(arm.blend, spec, batches, shapes)
            if arm is tried[0]:
                faults = itertools.chain(faults, _faults(arm.blend, spec, batches))
            fault = next(faults, None)
        except (Exception, SystemExit) as error:
            fault = f"its head fails: {cause_of(error)}"
            if "different pytree metadata" in str(error):  # of the head before and after
                fault = "its head sets an attribute while it computes: carry that in its state"
        if fault is not None:
            raise UserError(f"{arm.name} in {suite.name}: {fault}; {REMEDY}")


def sample_batches(suite: Suite) -> list[Transition]:
    """Two batches [5, 8] of random actions in the world of a suite."""
    shape = max(STEPS), max(ENVS)
    if isinstance(suite.env, HostEnv):
        return _host_batches(suite, *shape)
    env, worlds = suite.env, lambda key: suite.world
    act = partial(random_actions, env.spec)

    def sample(key: jax.Array) -> list[Transition]:
        k_reset, *keys = jax.random.split(key, 3)
        states, batches = reset_batch(k_reset, env, worlds, shape[1]), []
        for k_batch in keys:
            states, batch = rollout(k_batch, env, worlds, act, states, shape[0])
            batches.append(batch)
        return batches

    return jax.jit(sample)(jax.random.key(0))


def _host_batches(suite: Suite, steps: int, envs: int) -> list[Transition]:
    """Two batches [T, B] of random actions in a host environment, from one after the other."""
    env, spec, rng = suite.env.maker(suite.world)(), suite.env.spec, np.random.default_rng(0)
    rows, obs, first = [], env.reset(seed=0)[0], True
    for _ in range(2 * steps * envs):
        allowed = obs[-spec.mask_dim :] if spec.masked else None
        action = random_action(env.action_space, rng, allowed)
        obs = np.array(obs)  # which the environment may change in place
        after, reward, terminated, truncated, _ = env.step(action)
        after = np.array(after)
        rows.append((obs, action, after, np.float32(reward), terminated, truncated, first))
        first = bool(terminated or truncated)
        obs = env.reset()[0] if first else after
    env.close()
    columns = []
    for column in map(np.array, zip(*rows, strict=True)):
        by_env = column.reshape(2, envs, steps, *column.shape[1:])
        columns.append(jnp.asarray(by_env.swapaxes(1, 2)))
    info = {key: jnp.zeros((steps, envs)) for key in spec.info}
    return [Transition(*(x[i] for x in columns), info) for i in range(2)]


def _traced_faults(
    blend: Blend, spec: Spec, batches: list[Transition], shapes: Sequence[tuple[int, int]]
) -> Iterator[str]:
    """Faults of the heads of a blend for numbers (T, B), without computing."""
    sham = any(cls is Sham for _, head in blend.heads.values() for cls, _ in chain_of(head))
    for steps, envs in shapes:
        if sham and envs == 1:  # it needs a neighbour
            continue
        cut = [jax.tree.map(lambda x, t=steps, b=envs: x[:t, :b], batch) for batch in batches]
        run = partial(_two_updates, blend, spec, envs)
        before, after, *_ = jax.eval_shape(run, jax.random.key(0), *cut)
        for name in blend.names:
            yield from _changed_types(name, before.carry[name], after.carry[name])
            yield from _changed_types(name, before.heads[name], after.heads[name])


def _faults(blend: Blend, spec: Spec, batches: list[Transition]) -> Iterator[str]:
    """Faults of the heads of a blend in two updates; those that raise an exception are raised."""
    cut = [jax.tree.map(lambda x: x[:, :4], batch) for batch in batches]
    before, after, *metrics = jax.jit(partial(_two_updates, blend, spec, 4))(
        jax.random.key(0), *cut
    )
    for values in metrics:
        for name, value in values.items():
            if not np.isfinite(value).all():
                yield f"{name} is {float(np.mean(value))} on a batch of random actions"
    for name in blend.names:
        carried = jax.tree.leaves((after.heads[name], after.carry[name]))
        if not all(np.isfinite(x).all() for x in carried if jnp.issubdtype(x.dtype, jnp.inexact)):
            yield f"{name} has parameters, or a state, that are not finite after two batches"
        parameters = [jax.tree.leaves(state.heads[name].net) for state in (before, after)]
        same = all(np.array_equal(*pair) for pair in zip(*parameters, strict=True))
        if same and parameters[0] and _learns(blend.heads[name][1]) and blend.epochs != 0:
            yield f"the loss of {name} moves none of its parameters in two batches"


def _two_updates(
    blend: Blend, spec: Spec, envs: int, key: jax.Array, first: Transition, second: Transition
) -> tuple[Any, Any, dict, dict]:
    """State of a blend before and after two updates, and the metrics of both."""
    start = blend.init(key, spec, envs)
    _, between, metrics = blend.update(start, first)
    blend.feel(between, second)
    _, end, more = blend.update(between, second)
    return start, end, metrics, more


def _changed_types(name: str, before: Any, after: Any) -> Iterator[str]:
    """Differences of structure, shapes and types of what a head carries or learns."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        yield f"{name} carries another structure after a batch than before it"
        return
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            place = jax.tree_util.keystr(path) or "its state"
            yield (
                f"{name}: {place} is {old.dtype}{list(old.shape)} before a batch and "
                f"{new.dtype}{list(new.shape)} after it"
            )


def _learns(factory: Callable[..., Head]) -> bool:
    """Whether a head of a user's has a loss of its own, and no wrapper that freezes it."""
    classes = [cls for cls, _ in chain_of(factory)]
    own = [cls for cls in classes if isinstance(cls, type) and is_own(cls)]
    return Untrained not in classes and any(cls.loss is not Head.loss for cls in own)
