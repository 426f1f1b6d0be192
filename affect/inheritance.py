"""Load trained heads from files or memory; `Head.save` writes files (format: `affect.store`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from affect import store
from affect.constant import Constant
from affect.curiosity import Curiosity
from affect.factory import Factory, HeadType
from affect.fear import Fear
from affect.genome import Distilled
from affect.head import Head, MissingInfo, make_card, named_leaves, template, with_leaves
from affect.homeostasis import Homeostasis
from affect.hope import Hope
from affect.mood import Mood
from affect.satiation import Satiation
from affect.transition import Spec, is_a, one_line
from affect.value import Value

STORED = (Constant, Curiosity, Distilled, Fear, Homeostasis, Hope, Mood, Satiation, Value)
KNOWN = {f"affect.{cls.__name__}": cls for cls in STORED}
"""Classes of heads that a file may name; no other is looked up by its name."""
NOT_FACTS = ("head", "settings", "reads", "format", "date")  # of a card, which saving makes anew


@dataclass(frozen=True, eq=False)
class Inheritance:
    """A trained head as data: its class, its card and its arrays; equal if class and bits are.

    Attributes:
        cls: class of the head.
        card: of its file.
        arrays: parameters by name.
        digest: SHA-256 of arrays, class and settings.
    """

    cls: type[Head]
    card: store.Card
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    digest: str

    @classmethod
    def of(cls, source: Any, head: type[Head] | None = None) -> "Inheritance":
        """The inheritance in a file, or of a built head without its wrappers.

        Raises:
            ValueError: a file that cannot be read or whose class is not known, or a thing that is
                neither.
        """
        if is_a(source, Inheritance):
            return source
        if is_a(source, Head):
            source = source.alone()
            arrays = {name: np.asarray(leaf) for name, leaf in named_leaves(source).items()}
            return cls._made(type(source), make_card(source, {}), arrays)
        if not is_a(source, str | Path):
            raise ValueError(
                f"Inherited needs the path of a file, a trained head, or a list of them, "
                f"not {one_line(source)}"
            )
        arrays, card = store.read(source)
        return cls._made(known_class(source, card, head), card, arrays)

    @classmethod
    def _made(cls, kind: type[Head], card: store.Card, arrays: Mapping) -> "Inheritance":
        store.check_arrays(arrays)
        text = store.canonical({"head": card.head, "settings": card.settings})
        return cls(kind, card, arrays, store.digest(arrays, text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Inheritance) and (self.cls, self.digest) == (
            other.cls,
            other.digest,
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def obs_dim(self) -> int | None:
        """Length of the observations that the head reads; None if it reads none."""
        shape = self.card.reads.get("obs", {}).get("shape")
        return shape[0] if shape else None

    def build(self, spec: Spec) -> Head:
        """The trained head for worlds of shapes `spec`.

        Raises:
            ValueError: the head reads other observations or other actions, or its arrays are those
                of another head.
        """
        name = self.card.head.removeprefix("affect.")
        if self.obs_dim not in (None, spec.obs_dim):
            raise ValueError(
                f"{name} was trained on {self.obs_dim} numbers an observation and gets "
                f"{spec.obs_dim}: say which, as in Inherited(..., obs=slice(0, {self.obs_dim})), "
                "or by a function"
            )
        actions = spec.actions
        if self.card.reads.get("action", actions) != actions:
            raise ValueError(
                f"{name} reads actions, of {self.card.reads['action']}, and gets {actions}: "
                "inherit a head that does not read them, such as Value"
            )
        try:
            like = template(Factory(self.cls, self.card.settings), spec)
            expected = named_leaves(like)
        except MissingInfo:
            raise
        except Exception as error:  # the settings of a file may be anything
            cause = " ".join(str(error).split())
            raise ValueError(
                f"{name} cannot be built with the settings of its card: {cause}"
            ) from (error if is_a(error, ValueError) else None)
        shapes = {key: (leaf.shape, leaf.dtype) for key, leaf in expected.items()}
        if shapes != {key: (leaf.shape, leaf.dtype) for key, leaf in self.arrays.items()}:
            raise ValueError(f"the arrays of the file are not those of a {name}: get it again")
        return with_leaves(like, {key: jnp.asarray(x) for key, x in self.arrays.items()})

    def spec(self) -> Spec:
        """The least spec that the head can be built for."""
        reads = self.card.reads
        actions = reads.get("action", {"num_actions": 1})
        return Spec(self.obs_dim or 1, info=tuple(reads.get("info", ())), **actions)


def known_class(path: Any, card: store.Card, head: type[Head] | None) -> type[Head]:
    """The class that a card names: of the library, or the one that is given.

    Raises:
        ValueError: neither, or the card names another class than the one given.
    """
    if head is None and card.head in KNOWN:
        return KNOWN[card.head]
    if head is None:
        raise ValueError(
            f"{path} holds a head of the class {card.head}, which affect does not know: give the "
            f"class, as in affect.load(path, head={card.head.rpartition('.')[2] or 'Dread'})"
        )
    if not is_a(head, HeadType):
        raise ValueError(f"head is a class of heads such as Dread, not {one_line(head)}")
    if head.__name__ != card.head.removeprefix("affect."):
        raise ValueError(f"{path} holds a head of the class {card.head}, not {head.__name__}")
    return head


def load(path: str | Path, head: type[Head] | None = None) -> Head:
    """The head of a file, as it was saved by `head.save(path)`.

    Args:
        path: of the file.
        head: its class, where that is not one of the library.

    Raises:
        ValueError: no such file, a damaged one, one of another kind or format, or one whose class
            is not known.
    """
    inheritance = Inheritance.of(path, head)
    try:
        spec = inheritance.spec()
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ValueError(f"{path} has a card that is none: {error}") from None
    card, obs = inheritance.card.content, inheritance.card.reads.get("obs", {})
    known = {k: v for k, v in card.items() if k not in NOT_FACTS and v not in ("", None, ())}
    facts = {k: FrozenDict(v) if is_a(v, Mapping) else v for k, v in known.items()}
    return inheritance.build(spec).with_facts(**facts, units=obs.get("units", ""))


def read_card(path: str | Path) -> store.Card:
    """The card of a file: what its head is and reads, where it was trained, what it measured.

    Raises:
        ValueError: no such file, a damaged one, one of another kind or format.
    """
    return store.read(path)[1]
