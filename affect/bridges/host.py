"""Signals for environments that are stepped in Python: arrays of one step in, signals out.

What the bridges to gymnasium and Stable-Baselines3 share: spaces as vectors, one compiled program
(`StepwiseBlend.step`), what is paid, statistics, and the state on disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect import store
from affect.blend import Blend
from affect.bridges.describe import blend_text
from affect.bridges.options import check_discounts, check_options, with_weights
from affect.bridges.saved import check_same, restored
from affect.bridges.spaces import ActionReader, ObsReader, spec_of
from affect.bridges.statistics import SignalStatistics
from affect.bridges.stepwise import LEARN_EVERY, StepState, StepwiseBlend
from affect.checks import check_gamma
from affect.head import Head
from affect.transition import Transition, one_line

GIVE_DISCOUNT = "give gamma=0.99, say, the discount of the agent that learns from the reward"


class HostSignals:
    """Signals of a blend for B environments of gymnasium spaces, step by step.

    Args:
        blend: of the heads.
        observation_space: of one environment.
        action_space: of one environment.
        num_envs: B.
        paid: "add" pays the task's reward and the signals, "replace" the signals alone, "info" the
            task's reward alone: signals are reported and heads trained.
        weights: head -> its weight, in place of that of the blend.
        learn: whether heads are trained.
        learn_every: transitions of all environments together between two trainings.
        share: of these that are learned from, in (0, 1].
        gamma: the discount of the agent that learns from the reward, for potentials.
        seed: of the heads' initial weights.
        obs_keys: which keys of a `Dict` observation heads read.
        info: key of `info` that heads read -> its shape for one environment, () for a number.

    Raises:
        ValueError: an argument that does not fit, or a head that refuses the environment.
    """

    def __init__(
        self,
        blend: Blend,
        observation_space: Any,
        action_space: Any,
        num_envs: int,
        *,
        paid: str = "add",
        weights: Mapping[str, float] | None = None,
        learn: bool = True,
        learn_every: int = LEARN_EVERY,
        share: float = 1.0,
        gamma: float | None = None,
        seed: int = 0,
        obs_keys: Sequence[str] | None = None,
        info: Mapping[str, tuple[int, ...]] | None = None,
    ):
        check_options(blend, paid, learn, seed)
        check_gamma("the wrapper", gamma)
        self.obs_reader = ObsReader(observation_space, obs_keys)
        self.action_reader = ActionReader(action_space)
        spec = spec_of(self.obs_reader, self.action_reader, info, gamma)
        self.paid, self.seed, self.info = paid, seed, dict(info or {})
        every = learn_every if learn else 0
        blend = with_weights(blend, weights)
        self.core = StepwiseBlend(blend, spec, num_envs, every, share, self.info)
        self.names = blend.names
        self.first = np.ones(num_envs, bool)  # the next step is the first of an episode
        self.ended = np.zeros(num_envs, bool)  # the last step was the last of one
        self.obs = np.zeros((num_envs, spec.obs_dim), np.float32)
        self.waiting = ""  # why there is no state yet
        self._leaves: list[jax.Array] = []
        self.statistics = SignalStatistics(self.names)
        self._build(gamma)

    # --- state ----------------------------------------------------------------------------------

    def _build(self, gamma: float | None) -> None:
        """Builds the heads, unless they need a discount that is not known yet."""
        key = jax.random.key(self.seed)
        try:
            state = self.core.init(key)
        except ValueError as error:
            if gamma is not None:
                raise
            other = replace(self.core, spec=replace(self.core.spec, discount=0.5))
            other.init(key)  # raises the same, unless nothing but the discount is missing
            self.waiting = f"{error}; {GIVE_DISCOUNT}"
            return
        self.waiting = ""
        self._leaves, self._structure = jax.tree.flatten(state)
        self._leaves = [jnp.array(leaf, leaf.dtype, copy=True) for leaf in self._leaves]
        self.program = jax.jit(self._step, donate_argnums=0)

    def use_discount(self, gamma: float) -> None:
        """Takes the discount of the agent that learns, or checks that it is the one in use.

        Raises:
            ValueError: a potential was built with another one.
        """
        spec = self.core.spec
        if self.waiting:
            self.core = replace(self.core, spec=replace(spec, discount=float(gamma)))
            self._build(gamma)
            return
        if spec.discount not in (None, gamma):
            raise ValueError(
                f"the wrapper was given gamma={spec.discount}, and the agent that learns has "
                f"gamma={gamma}: give both the same, or the wrapper none"
            )
        check_discounts(self.state.blend_state, gamma)

    @property
    def state(self) -> StepState:
        """State of the blend now; its arrays are used up by the next step.

        Raises:
            ValueError: a potential has no discount yet.
        """
        if self.waiting:
            raise ValueError(self.waiting)
        return jax.tree.unflatten(self._structure, self._leaves)

    def head(self, name: str) -> Head:
        """The head of this name as it is now, a copy; `head(name).save(path)` writes it."""
        heads = self.state.blend_state.heads
        if name not in heads:
            raise ValueError(f"there is no head {name!r}: they are {', '.join(self.names)}")
        return jax.tree.map(jnp.copy, heads[name].net)

    # --- steps ----------------------------------------------------------------------------------

    def start(self, obs: np.ndarray, where: np.ndarray | None = None) -> None:
        """Begins episodes at the first observations [B, D], in all environments or where [B]."""
        where = np.ones(len(self.first), bool) if where is None else np.asarray(where, bool)
        interrupted = where & ~self.first
        if interrupted.any() and not self.waiting:
            self._leaves = jax.tree.leaves(self.core.cut(self.state, jnp.asarray(interrupted)))
        self.obs = np.where(where[:, None], obs, self.obs)
        self.first, self.ended = self.first | where, self.ended & ~where

    def step(
        self,
        action: np.ndarray,
        successor: np.ndarray,
        after: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        info: Mapping[str, np.ndarray] | None = None,
        valid: np.ndarray | None = None,
    ) -> np.ndarray:
        """Signals [B, K] of one step, after which heads may be trained.

        Args:
            action: [B, ...] in the action space.
            successor: [B, D] observations after the step, before any reset.
            after: [B, D] observations to act on next.
            reward: [B], the task's.
            terminated: [B].
            truncated: [B].
            info: key -> [B, ...], those that heads read.
            valid: [B], which environments made a step; None: all. The others began an episode.
        """
        if self.waiting:
            raise ValueError(self.waiting)
        made = np.ones(len(self.first), bool) if valid is None else np.array(valid, bool)
        terminated = np.array(terminated, bool)
        truncated = np.array(truncated, bool) & ~terminated
        signals = np.zeros((len(self.first), len(self.names)), np.float32)
        if self.names and made.any():
            values = {name: self._info(name, info or {}) for name in self.info}
            acted, task = self.action_reader(action), np.array(reward, np.float32)
            ends = terminated, truncated, self.first
            transition = Transition._make((self.obs, acted, successor, task, *ends, values))
            mask = None if made.all() else made
            returned, self._leaves = self.program(self._leaves, transition, mask)
            signals = np.asarray(returned)
        self.ended = made & (terminated | truncated)
        self.obs, self.first = after, self.ended | ~made
        self.statistics.add(np.where(made, reward, 0.0), signals, int(made.sum()))
        return signals

    def _step(
        self, leaves: list[jax.Array], transition: Transition, valid: jax.Array | None
    ) -> tuple[jax.Array, list[jax.Array]]:
        """`StepwiseBlend.step` of leaves, whose dtypes stay as they are."""
        state = jax.tree.unflatten(self._structure, leaves)
        signals, state = self.core.step(state, transition, valid)
        after = jax.tree.leaves(state)
        return signals, [jnp.asarray(x, old.dtype) for x, old in zip(after, leaves, strict=True)]

    def _info(self, name: str, info: Mapping[str, Any]) -> np.ndarray:
        """Values [B, ...] of a key of `info`.

        Raises:
            ValueError: it is missing, or of another shape.
        """
        given, shape = info.get(name), self.info[name]
        value = np.asarray(given)
        if value.shape != (len(self.first), *shape) or value.dtype.kind not in "biuf":
            got = "missing" if given is None else one_line(value)
            raise ValueError(
                f'info["{name}"] is {got}, expected numbers of shape {list(shape)} of each '
                "environment at every step: report it, or leave it out of info="
            )
        return value.astype(np.float32)

    def pay(self, received: np.ndarray, signals: np.ndarray) -> np.ndarray:
        """What the agent is paid [B], of the dtype of `received`.

        Args:
            received: [B], the reward without signals; the same bits where they sum to 0.
            signals: [B, K].
        """
        if self.paid == "info":
            return received
        received = received if received.dtype.kind == "f" else received.astype(np.float64)
        total = signals.sum(-1).astype(received.dtype)
        if self.paid == "replace":
            return total
        return np.where(total == 0, received, received + total)

    def by_name(self, signals: np.ndarray) -> dict[str, np.ndarray]:
        """Signals by head, each [B]."""
        return dict(zip(self.names, np.moveaxis(signals, -1, 0), strict=True))

    def take_statistics(self) -> dict[str, float]:
        """Statistics since the last call (`SignalStatistics.take`), empty without a step."""
        return self.statistics.take({} if self.waiting else self.state.metrics)

    # --- disk -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Saves heads, what they carry, and the steps they have not learned from yet.

        Raises:
            OSError: the file cannot be written.
            ValueError: a potential has no discount yet.
        """
        leaves = enumerate(jax.tree.leaves(self.state))
        arrays = {f"{i:04}": np.array(leaf, order="C") for i, leaf in leaves}
        steps = {"first": self.first, "ended": self.ended, "obs": self.obs}
        store.write_state(path, arrays | steps, self.content)

    def load(self, path: str | Path) -> None:
        """Continues from a saved state; the weights of the heads stay those of this blend.

        Raises:
            ValueError: a file of another kind, or of a wrapper of another blend, environment or
                other settings.
        """
        arrays, content = store.read_state(path)
        if self.waiting and content.get("discount") is not None:
            self.use_discount(content["discount"])
        check_same(path, content, self.content)
        weights = self.state.blend_state.weights
        self._leaves = restored(path, arrays, self._leaves)
        blend_state = self.state.blend_state._replace(weights=weights)
        self._leaves = jax.tree.leaves(self.state._replace(blend_state=blend_state))
        self.first, self.ended = arrays["first"].copy(), arrays["ended"].copy()
        self.obs = arrays["obs"].copy()

    @property
    def content(self) -> dict[str, Any]:
        """What a saved state depends on, as JSON holds it."""
        core, spec = self.core, self.core.spec
        return {
            "heads": blend_text(core.blend),
            "environments": core.num_envs,
            "observations": spec.obs_dim,
            "actions": list(spec.actions.values()),
            "info": {name: list(shape) for name, shape in self.info.items()},
            "discount": spec.discount,
            "learn_every": core.learn_every,
            "share": float(core.share),
        }
