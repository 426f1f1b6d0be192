"""Inherited: puts a head that was trained before, from a file or from memory, into a blend.

It composes with every wrapper, and stays frozen unless `learn=True`.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect import store
from affect.factory import Factory, shown
from affect.head import Head, State
from affect.inheritance import Inheritance
from affect.transition import Spec, Transition, is_a, is_whole, one_line
from affect.wrappers import Wrapper


class Inherited(Wrapper):
    """A trained head: from a file, or from memory; frozen unless `learn` is set.

    With several it is the mean of their signals, or one of them that is drawn by the key with which
    the head is initialised, so one a seed. Frozen means that its loss is 0: an optimiser that
    changes parameters without a gradient, as by weight decay, would still change it.

    Args:
        source: path of a file, a trained head (its wrappers are left out), or a list of them.
        learn: whether it is trained further, on its own loss.
        obs: which numbers of an observation [..., D] the head reads: None for all, a slice such as
            slice(0, 8), a tuple or an array of indices, or a function to [..., D'], D' as it was
            trained. Indices can be pickled, compared by value, and are named in the card.
        draw: draw one of several, in place of their mean.
        head: class of the heads in the files, where that is not one of the library.
        rngs: draw one of several.

    Raises:
        ValueError: a file that is missing, damaged, of another kind, format or class, a head for
            other observations or actions, no head at all, heads that differ in structure, or one
            that is to learn and has no loss.
    """

    held = ("source",)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Reads the files, and checks that the heads are alike."""
        source, kind = settings["source"], settings["head"]
        several = is_a(source, list | tuple)
        members = tuple(Inheritance.of(one, kind) for one in (source if several else [source]))
        if not members:
            raise ValueError("Inherited got no head: give at least one file")
        if len({_shape(one) for one in members}) > 1:
            raise ValueError(
                "Inherited got heads of different classes, settings or observations: give heads of "
                "one kind, or put each into the blend by itself"
            )
        if settings["learn"] and members[0].cls.loss is Head.loss:
            raise ValueError(f"{members[0].cls.__name__} has no loss to learn by: leave learn out")
        source = members if several else members[0]
        return settings | {"source": source, "obs": _indices(settings["obs"])}

    def __init__(
        self,
        spec: Spec,
        source: Any,
        learn: bool = False,
        obs: Any = None,
        draw: bool = False,
        head: type[Head] | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        members = source if is_a(source, tuple) else (source,)
        if obs is not None and members[0].obs_dim is not None:
            spec = replace(spec, obs_dim=_selected(obs, spec, members[0]))
        built = [member.build(spec) for member in members]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *built)
        self.number = 0 if draw or len(built) == 1 else len(built)
        if self.number:
            self.inner = stacked
        elif len(built) == 1:
            self.inner = built[0]
        else:
            index = jax.random.randint(rngs.params(), (), 0, len(built))
            self.inner = jax.tree.map(lambda leaf: leaf[index], stacked)
        self.learn, self.obs, self.sign = learn, obs, built[0].sign

    def factory(self) -> Factory:
        """The factory of this head as it is now."""
        members: Any = self.inner
        if self.number:
            split = [
                jax.tree.map(lambda leaf, i=i: leaf[i], self.inner) for i in range(self.number)
            ]
            members = split
        return Factory(Inherited, {**dict(self.origin.settings or {}), "source": members})

    def save(self, path: str | Path, **card: Any) -> None:
        """Saves the inner head as it is now; its card names `learn`, `obs` and `draw` if given.

        Raises:
            ValueError: it is a mean of several heads (see also `Head.save`).
        """
        settings: Any = self.origin.settings or {}
        given = ((key, settings.get(key)) for key in ("learn", "obs", "draw"))
        if shown_settings := ", ".join(f"{key}={shown(x)}" for key, x in given if x):
            card["wrappers"] = (*card.get("wrappers", ()), f"Inherited({shown_settings})")
        self.alone().save(path, **card)

    def alone(self) -> Head:
        """The inner head.

        Raises:
            ValueError: it is a mean of several heads.
        """
        if self.number:
            raise ValueError("a mean of several heads is saved head by head, or distilled")
        return self.inner

    def initial_state(self, num_envs: int) -> State:
        """Inner head's initial state, of several heads [N, ...]."""
        if not self.number:
            return self.inner.initial_state(num_envs)
        return jax.vmap(lambda head: head.initial_state(num_envs))(self.inner)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal of the head, or mean of the signals of several, [T, B]."""
        batch = self._seen(batch)
        if not self.number:
            return self.inner(state, batch)
        signals, state = jax.vmap(lambda head, state: head(state, batch))(self.inner, state)
        return signals.mean(0), state

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of the head, or mean of the losses of several; 0 if it is frozen."""
        if not self.learn:
            return jnp.zeros(()), {}
        batch = self._seen(batch)
        if not self.number:
            return self.inner.loss(state, batch)
        losses = jax.vmap(lambda head, state: head.loss(state, batch))(self.inner, state)
        return jax.tree.map(lambda leaf: leaf.mean(0), losses)

    def _seen(self, batch: Transition) -> Transition:
        """The batch with the observations that the head reads."""
        if self.obs is None:
            return batch
        return batch._replace(
            obs=select(self.obs, batch.obs), next_obs=select(self.obs, batch.next_obs)
        )


def _shape(member: Inheritance) -> tuple:
    """What heads of one kind have in common."""
    arrays = sorted((name, x.shape, str(x.dtype)) for name, x in member.arrays.items())
    content = {"settings": member.card.settings, "reads": member.card.reads}
    held = {k: v for k, v in content["settings"].items() if k not in member.cls.held}
    return member.cls, store.canonical(content | {"settings": held}), tuple(arrays)


def _indices(obs: Any) -> Any:
    """A slice, a range, a list or an array of indices as a tuple; a function as it is.

    Raises:
        ValueError: it is none of these, or a slice without an end.
    """
    if is_a(obs, slice):
        start, step = obs.start or 0, obs.step or 1
        if not all(is_whole(x) and x >= 0 for x in (start, obs.stop, step)):
            raise ValueError(
                f"obs={obs}: give a slice with an end, of numbers that are not negative"
            )
        obs = tuple(range(start, obs.stop, step))
    if is_a(obs, list | range | np.ndarray | jax.Array):
        obs = tuple(obs if is_a(obs, list) else np.asarray(obs).tolist())
    is_indices = is_a(obs, tuple) and obs and all(is_whole(i) and i >= 0 for i in obs)
    if obs is not None and not callable(obs) and not is_indices:
        raise ValueError(f"obs is a slice, a tuple of indices or a function, not {one_line(obs)}")
    return tuple(map(int, obs)) if is_indices else obs


def select(obs: Any, x: jax.Array) -> jax.Array:
    """The numbers [..., D'] that a head reads of observations x [..., D]."""
    return x[..., np.array(obs)] if is_a(obs, tuple) else obs(x)


def _selected(obs: Any, spec: Spec, member: Inheritance) -> int:
    """Length of what `obs` selects, which must be that of the head.

    Raises:
        ValueError: an index beyond the observation, or another number of numbers.
    """
    if is_a(obs, tuple) and max(obs) >= spec.obs_dim:
        raise ValueError(
            f"obs selects number {max(obs)}, and an observation has {spec.obs_dim}: from 0 on"
        )
    try:
        shape = jax.eval_shape(partial(select, obs), jnp.zeros((1, 1, spec.obs_dim))).shape
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"obs={shown(obs)} gives no array for observations: {one_line(error, 120)}"
        ) from error
    if shape != (1, 1, member.obs_dim):
        raise ValueError(
            f"obs gives {shape} for observations (1, 1, {spec.obs_dim}), and the head was trained "
            f"on {member.obs_dim} numbers: give [T, B, {member.obs_dim}]"
        )
    return shape[-1]
