"""Signals of recorded steps, in any order, from the heads as they are now."""

from typing import Any

import jax
import numpy as np

from affect.bridges.host import HostSignals
from affect.bridges.stepwise import StepwiseBlend, env_axes, layers
from affect.head import Head
from affect.shaping import Potential
from affect.transition import Spec, Transition, is_a
from affect.wrappers import StatefulWrapper, Wrapper


class Recomputed:
    """Function from single steps to their signals by the heads as they are now.

    A head whose signal depends on the steps before, or on `info`, is left out.

    Args:
        signals: of the environments that the steps come from.
    """

    def __init__(self, signals: HostSignals):
        self.live, self.pay = signals, signals.pay
        heads, spec = signals.state.blend_state.heads, signals.core.spec
        self.known = np.array([is_recomputable(heads[n].net, spec) for n in signals.names], bool)
        self.program = jax.jit(self._feel)

    def __call__(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        next_obs: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        paid: np.ndarray,
    ) -> np.ndarray:
        """Signals [M, K] of M steps.

        Args:
            obs: [M, ...] in the observation space.
            action: [M, ...]; those of a box already mapped to [-1, 1].
            next_obs: [M, ...], the true successors.
            reward: [M], the task's.
            terminated: [M].
            truncated: [M].
            paid: [M, K] signals as they were, which those that are left out keep.
        """
        if not self.known.any():
            return paid
        live = self.live
        read = live.action_reader
        acted = np.asarray(action, np.float32) if read.action_dim else read(action)
        info = {name: np.zeros((len(reward), *shape)) for name, shape in live.info.items()}
        steps = live.obs_reader(obs), acted, live.obs_reader(next_obs), reward
        ends = terminated, truncated, np.ones(len(reward), bool)
        batch = Transition._make((*steps, *ends, info))
        return np.where(self.known, np.asarray(self.program(live.state.blend_state, batch)), paid)

    def _feel(self, blend_state: Any, batch: Transition) -> jax.Array:
        """Signals [M, K] of M steps, as of M environments in the first step of an episode."""
        core, count = self.live.core, batch.reward.shape[0]
        return feel_apart(core, blend_state, jax.tree.map(lambda x: x[None], batch), count)


def feel_apart(core: StepwiseBlend, blend_state: Any, batch: Transition, count: int) -> jax.Array:
    """Signals [M, K] of a batch [1, M], each step by itself.

    What heads carry for each environment begins anew; statistics over environments stay.
    """
    carry = {}
    for name, head in blend_state.heads.items():
        new, axes = head.net.initial_state(count), env_axes(head.net.initial_state)
        old = blend_state.carry[name]
        carry[name] = jax.tree.map(lambda new, old, axis: new if axis >= 0 else old, new, old, axes)
    shapes = type(blend_state.shapes)(core.spec, count, core.blend.names)
    return core.blend.feel(blend_state._replace(carry=carry, shapes=shapes), batch)[0][0]


def is_recomputable(head: Head, spec: Spec) -> bool:
    """Whether a signal is a function of one step: no history of an episode, and no `info`."""
    return all(_is_stateless(layer, spec) for layer in layers(head))


def _is_stateless(layer: Any, spec: Spec) -> bool:
    """Whether one layer of a head, without those inside it, carries nothing along an episode.

    A `Potential` carries its last potential, which where an episode begins is computed anew.
    """
    if spec.info and "info" in layer.depends and not is_a(layer, Wrapper):
        return False
    if is_a(layer, Potential):
        return True
    stateful = is_a(layer, StatefulWrapper)
    if is_a(layer, Wrapper) and not stateful:
        return True
    axes = env_axes(layer.own_state if stateful else layer.initial_state)
    return all(axis < 0 for axis in jax.tree.leaves(axes))
