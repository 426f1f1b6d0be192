"""Base class of heads: modules that map a batch of transitions to one signal per step."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import FrozenDict
from flax.serialization import register_serialization_state

from affect import store
from affect.checks import check_spec
from affect.factory import Factory, HeadType, Origin, picklable
from affect.transition import Spec, Transition, is_a, one_line

State = Any  # a pytree; () for a head that carries nothing across steps


class MissingInfo(ValueError):
    """Raised if a head reads a key of `info` that the world does not report.

    Attributes:
        head: name of the head.
        key: of `Transition.info` that it reads.
        reported: the keys that the world reports.
    """

    def __init__(self, head: str, key: str, reported: tuple[str, ...]):
        self.head, self.key, self.reported = head, key, reported
        keys = ", ".join(reported) or "nothing"
        super().__init__(
            f'{head} reads info["{key}"] and this world reports {keys}: '
            f"choose a world whose spec.info has {key!r}, or leave {head} out"
        )

    def __reduce__(self) -> tuple:
        return MissingInfo, (self.head, self.key, self.reported)


class Head(nnx.Module, metaclass=HeadType):
    """A module from experience to a signal; an NNX module used as a pytree of float parameters.

    A head is built by `Head(spec, *, rngs)`, and anything with that signature makes heads
    (`HeadFactory`): a class, `functools.partial(Fear, horizon=20)`, and the `Factory` that a class
    gives when it is called without a spec, `Fear(horizon=20)` or `Potential(Hope)`.

    Attributes:
        origin: the spec and the settings that it was built with.
        held: settings that are read from attributes of the same names, such as parameters, so that
            heads that differ in these numbers alone share compiled programs.
        depends: which of obs, action and info the signal may depend on, for the card of its file;
            a head that does not depend on the action fits worlds with other actions.
        sign: -1 for a signal that is never positive, 1 for one that is never negative, 0 for
            either. A blend refuses a negative weight where the sign is known: it would reverse
            the meaning of the signal.
    """

    sign: int = 0
    held: tuple[str, ...] = ()
    depends: tuple[str, ...] = ("obs", "action", "info")
    origin: Origin

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        register_serialization_state(cls, named_leaves, with_leaves, override=True)

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks the settings as far as that needs no spec -> the settings, defaults included.

        Called when a factory is made, and again when a head is built.

        Raises:
            ValueError: naming a setting, what is wrong with it and what is expected.
        """
        return settings

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        """A head without parameters."""
        del spec, rngs

    def initial_state(self, num_envs: int) -> State:
        """Initial state carried across steps and chunks, for B = `num_envs` environments."""
        del num_envs
        return ()

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Computes the signal of a batch -> (signal [T, B], state).

        T is 1 while acting, a chunk while training. No gradient flows through the signal.
        Calling step by step and calling on the chunk agree.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __call__, its signal")

    def loss(self, state: State, batch: Transition) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Training loss on the batch -> (scalar, metrics); 0 for a head that is not trained.

        Args:
            state: as it was when the batch began, the one passed to `__call__`.
            batch: [T, B] experience.
        """
        del state, batch
        return jnp.zeros(()), {}

    def factory(self) -> Factory:
        """The factory that builds this head anew: its class and its settings.

        Raises:
            ValueError: a setting cannot be compared by value, so that it was not kept.
        """
        name, settings = type(self).__name__, self.origin.settings
        if settings is None:
            raise ValueError(f"{name} was built with a setting that has no value to compare by")
        held = {key: getattr(self, key) for key in self.held}
        return Factory(type(self), {**settings, **{k: _number(x) for k, x in held.items()}})

    def alone(self) -> "Head":
        """This head without wrappers around it, as a file holds it."""
        return self

    def save(self, path: str | Path, **card: Any) -> None:
        """Saves the parameters and a card: what the head is, reads, and where it was trained.

        What it carries across steps is not saved: running moments begin anew.

        Args:
            path: of the file, such as hope.safetensors.
            **card: fields of `affect.store.Card`, such as world="Drive", steps=200_000, seeds=(0,),
                licence="MIT", scale=2.0, shift=-1.0; `units` of the observations, a text.

        Raises:
            ValueError: a setting that is no number or text (a file holds no code), a field that a
                card does not have, or parameters of several seeds at once.
            OSError: the file cannot be written.
        """
        arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(self).items()}
        expected = named_leaves(template(self.factory(), self.origin.spec))
        if any(arrays[name].dtype != leaf.dtype for name, leaf in expected.items()):
            raise ValueError(f"{type(self).__name__} has parameters of another dtype: convert them")
        if any(arrays[name].shape != leaf.shape for name, leaf in expected.items()):
            raise ValueError(
                f"{type(self).__name__} has parameters of several seeds: save one, as in "
                "jax.tree.map(lambda x: x[0], head).save(path)"
            )
        store.write(path, arrays, make_card(self, card))

    def with_facts(self, **facts: Any) -> "Head":
        """The same head with fields of the card that `save` fills in, such as world="Drive"."""
        head = jax.tree.map(lambda leaf: leaf, self)
        known: FrozenDict = FrozenDict({**self.origin.facts, **facts})
        head.origin = replace(self.origin, facts=known)
        return head

    def __copy__(self) -> "Head":
        """A head of the same structure with the same arrays."""
        return jax.tree.map(lambda leaf: leaf, self)

    def __deepcopy__(self, memo: Any = None) -> "Head":
        """A head of the same structure with copies of its arrays."""
        return jax.tree.map(lambda leaf: copy.deepcopy(leaf, memo), self)

    def __getstate__(self) -> dict[str, Any]:
        """Attributes for picklers: `pickle` itself takes no lambda among them."""
        name, settings = type(self).__name__, self.origin.settings
        state = picklable(name, super().__getstate__())
        if settings is not None:
            settings = FrozenDict(picklable(name, settings))
        return state | {"origin": replace(self.origin, settings=settings)}

    def require(self, spec: Spec, key: str) -> None:
        """Checks that the world reports `info[key]`; called by constructors of heads that read it.

        Raises:
            MissingInfo: the world does not report it.
        """
        if key not in spec.info:
            raise MissingInfo(type(self).__name__, key, spec.info)


def per_env(head: Head) -> State:
    """Tree of bools: which leaves of a head's state have a leading axis of environments."""
    two, three = (jax.eval_shape(partial(head.initial_state, count)) for count in (2, 3))
    return jax.tree.map(lambda two, three: two.shape != three.shape, two, three)


def _number(held: Any) -> Any:
    """A setting held as a float32 parameter, in the fewest digits that give the same bits."""
    if isinstance(held, nnx.Variable):
        shortest = [float(str(x)) for x in np.asarray(held[...]).ravel()]
        return np.reshape(shortest, held.shape).tolist()
    return held


HeadFactory = Callable[..., Head]  # (spec: Spec, *, rngs: nnx.Rngs) -> Head


def check_factory(factory: Any, where: str) -> None:
    """Checks that a factory of heads is no built head and no other thing.

    Raises:
        ValueError: naming where it was given.
    """
    if isinstance(factory, Head):
        name = type(factory).__name__
        raise ValueError(f"{where} got a head that is already built: pass the class {name} itself")
    if not callable(factory):
        raise ValueError(
            f"{where} needs a head such as Fear or Potential(Hope), not {one_line(factory)}"
        )


def build(factory: HeadFactory, spec: Spec, key: jax.Array) -> Head:
    """Builds a head for the shapes `spec`, initialised with `key`.

    Raises:
        ValueError: spec is none, or the factory gives no head that has a signal.
    """
    check_spec(spec)
    try:  # classes of heads check their own settings
        if not is_a(getattr(factory, "func", factory), HeadType):
            inspect.signature(factory).bind(spec, rngs=None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{one_line(factory)} is no factory, called as factory(spec, rngs=rngs): {error}"
        ) from None
    head = factory(spec, rngs=nnx.Rngs(key))
    if not is_a(head, Head) or type(head).__call__ is Head.__call__:
        raise ValueError(
            f"{one_line(factory)} gave {one_line(head)}, expected an affect.Head with a signal: "
            "derive its class from Head and write __call__"
        )
    return head


def named_leaves(head: Head) -> dict[str, Any]:
    """Arrays of a head by name, such as `predictor.hidden.kernel`."""
    leaves = jax.tree_util.tree_leaves_with_path(head)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {
        name.removesuffix(".value"): leaf for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def with_leaves(head: Head, arrays: dict[str, Any]) -> Head:
    """A head of the same structure with other arrays, by name.

    Raises:
        ValueError: names that are not those of the head.
    """
    names = named_leaves(head)
    if names.keys() != arrays.keys():
        raise ValueError(f"{type(head).__name__} has {sorted(names)}, not {sorted(arrays)}")
    return jax.tree.unflatten(jax.tree.structure(head), [arrays[name] for name in names])


def template(factory: HeadFactory, spec: Spec) -> Head:
    """The head of a factory with shapes and dtypes in the place of arrays."""
    return jax.eval_shape(lambda: factory(spec, rngs=nnx.Rngs(0)))


def make_card(head: Head, given: dict[str, Any]) -> store.Card:
    """Card of a head: its class, settings and what it depends on, known facts and given fields.

    Raises:
        ValueError: a setting that is no number or text, or a field that a card does not have.
    """
    cls, spec, settings = type(head), head.origin.spec, head.factory().settings
    for name, value in settings.items():
        if callable(value):
            raise ValueError(
                f"{cls.__name__}({name}={getattr(value, '__name__', value)}): a file holds numbers "
                "and no code: affect.distil(f, on=...) makes numbers of a function"
            )
    card = {**head.origin.facts, **given}
    units, reads = card.pop("units", ""), dict[str, Any]()
    if not is_a(units, str):
        raise ValueError(f"units of a card are a text, not {one_line(units)}")
    if "obs" in cls.depends:
        reads["obs"] = {"shape": [spec.obs_dim], "units": units}
    if "action" in cls.depends:
        reads["action"] = spec.actions
    if "info" in cls.depends:
        reads["info"] = list(spec.info)
    ours = cls.__module__.startswith("affect.") and not cls.__module__.startswith("affect.examples")
    name = f"affect.{cls.__name__}" if ours else cls.__name__
    derived: dict[str, Any] = {"head": name, "settings": settings, "reads": reads}
    if unknown := [key for key in card if key in (*derived, "format") or key not in store.FIELDS]:
        fields = ", ".join(key for key in store.FIELDS if key not in (*derived, "format"))
        raise ValueError(f"a card has no field {unknown[0]!r} to fill in: it has units, {fields}")
    return store.Card(**derived, **card)
