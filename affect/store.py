"""Files of heads: arrays as safetensors, and a card of JSON in the header; no pickle, no code.

The card says what the arrays are, what the head reads and where it was trained. The bytes of the
arrays come back exactly; a checksum over arrays and card tells a damaged file.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from affect.transition import is_a, is_number, is_whole, one_line

FORMAT = 1
MOST_BYTES = 2**28  # of a file that is read
KEY = "affect"  # of the card in the metadata of a safetensors file
STATE_KEY = "affect-wrapper"  # of what the state of a wrapper depends on
OTHER_KINDS = {
    b"\x80": "a pickle, which could run code when it is read",
    b"PK": "a zip archive, such as of torch or numpy",
    b"\x89HDF": "an HDF5 file",
}


@dataclass(frozen=True)
class Card:
    """What is known of a stored head; all but the first four fields may be empty.

    Attributes:
        head: its class, `affect.NAME` for one of the library.
        settings: of the class, by name.
        reads: what its signal depends on: `obs` {shape, units}, where it reads them `action`
            {num_actions, action_dim}, and `info`, names of the keys.
        wrappers: that it had when it was saved, the outermost first; they are not stored.
        world: in which it was trained.
        steps: environment steps of the training, of each seed.
        seeds: of the training runs that it comes from.
        date: of the file, YYYY-MM-DD.
        licence: under which the file may be used.
        measures: name -> number, such as the AUROC of harm at home and under a shift.
        scale: recommended for `Potential`.
        shift: recommended for `Potential`, in units of the reward.
        chosen: how scale and shift were chosen.
        commands: that made the file.
        format: version of the format.

    Raises:
        ValueError: a field of another type.
    """

    head: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    world: str = ""
    steps: int | None = None
    seeds: tuple[int, ...] = ()
    date: str = ""
    licence: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    scale: float | None = None
    shift: float | None = None
    chosen: str = ""
    commands: tuple[str, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("wrappers", "seeds", "commands"):
            if is_a(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, (expected, fits) in FIELDS.items():
            if not fits(getattr(self, name)):
                raise ValueError(f"{name} of a card is {expected}, not {getattr(self, name)!r}")
        try:
            canonical(self.content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a card holds what JSON can hold: {error}") from None

    @property
    def content(self) -> dict[str, Any]:
        """The fields by name, as JSON holds them."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}


def _is_text(x: Any) -> bool:
    """Whether this is a text without characters that a terminal obeys."""
    return is_a(x, str) and all(c.isprintable() or c == "\n" for c in x)


def _is_texts(x: Any) -> bool:
    return is_a(x, tuple) and all(map(_is_text, x))


def _is_whole(x: Any) -> bool:
    return is_whole(x) and x >= 0


def _is_finite(x: Any) -> bool:
    return is_number(x) and abs(x) < math.inf


def _is_named(x: Any) -> bool:
    return is_a(x, Mapping) and all(map(_is_text, x))


FIELDS = {
    **dict.fromkeys(("head", "world", "licence", "chosen"), ("a text", _is_text)),
    "date": ("YYYY-MM-DD", lambda x: _is_text(x) and re.fullmatch(r"(\d{4}-\d\d-\d\d)?", x)),
    **dict.fromkeys(("wrappers", "commands"), ("a tuple of texts", _is_texts)),
    **dict.fromkeys(("settings", "reads"), ("a dict with names as keys", _is_named)),
    "steps": ("a whole number of steps", lambda x: x is None or _is_whole(x)),
    "seeds": ("a tuple of seeds", lambda x: is_a(x, tuple) and all(map(_is_whole, x))),
    "measures": (
        "a dict of finite numbers by name",
        lambda x: _is_named(x) and all(map(_is_finite, x.values())),
    ),
    **dict.fromkeys(("scale", "shift"), ("a number", lambda x: x is None or _is_finite(x))),
    "format": ("a whole number", _is_whole),
}
"""Name of each field of a card -> (what it must be, whether a value is)."""


def canonical(content: Mapping[str, Any]) -> str:
    """JSON of a card, always the same for the same content.

    Raises:
        TypeError: for a value that JSON cannot hold.
        ValueError: for NaN and infinity.
    """
    options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    return json.dumps(content, default=_plain, **options)


def _plain(value: Any) -> Any:
    """A mapping or a number of NumPy as JSON holds it."""
    if is_a(value, Mapping):
        return dict(value)
    if is_a(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is of {type(value).__name__}")


def digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of arrays by name (names, dtypes, shapes, bytes) and a text."""
    parts = [text.encode()]
    for name in sorted(arrays):
        array = arrays[name]
        parts += [f"\n{name} {array.dtype.str} {array.shape}\n".encode(), array.tobytes()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that arrays hold finite numbers of a type that a file can hold.

    Raises:
        ValueError: naming the array.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype} and not made of finite numbers of NumPy")


def _path_of(path: Any) -> Path:
    """A path as it was given.

    Raises:
        ValueError: it is no path of a file.
    """
    if not is_a(path, str | Path) or not Path(path).name or "\0" in str(path):
        raise ValueError(f"{one_line(path)} is no path of a file: write hope.safetensors, say")
    return Path(path)


def write(path: str | Path, arrays: Mapping[str, np.ndarray], card: Card) -> None:
    """Writes arrays and card; the file is there whole or not at all.

    Raises:
        OSError: the folder does not exist or cannot be written.
        ValueError: arrays that hold no finite numbers, or a path that is none.
    """
    check_arrays(arrays)
    card = dataclasses.replace(card, date=card.date or datetime.date.today().isoformat())
    _write(path, arrays, card.content, KEY)


def write_state(
    path: str | Path, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]
) -> None:
    """Writes the state of a wrapper: arrays by name, whatever is in them, and what it depends on.

    Raises:
        OSError: the folder does not exist or cannot be written.
        ValueError: a path that is none.
    """
    _write(path, arrays, dict(content), STATE_KEY)


def _write(path: str | Path, arrays: Mapping[str, np.ndarray], content: dict, key: str) -> None:
    """Writes arrays, and JSON with a checksum under a key of the metadata; whole or not at all."""
    path = _path_of(path)
    checked = canonical(content | {"checksum": digest(arrays, canonical(content))})
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(safetensors.numpy.save(dict(arrays), metadata={key: checked}))
        partial.replace(path)
    except OSError as error:  # named by the path that was given
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def read_state(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write_state` wrote -> (arrays by name, what it depends on).

    Raises:
        ValueError: no such file, a damaged one, or one of another kind.
    """
    arrays, metadata = _read(path)
    if STATE_KEY not in metadata:
        raise ValueError(f"{path} is no state of a wrapper: it is made by wrapper.save(path)")
    content, checksum = _content(path, metadata[STATE_KEY])
    if checksum != digest(arrays, canonical(content)):
        raise ValueError(f"{path} is corrupt: its checksum does not fit; get the file again")
    return arrays, content


def read(path: str | Path) -> tuple[dict[str, np.ndarray], Card]:
    """Reads a file of a head -> (arrays by name, card).

    Raises:
        ValueError: no such file, a damaged one, one of another kind or of another format.
    """
    arrays, metadata = _read(path)
    if KEY not in metadata:
        raise ValueError(f"{path} has no card: it is no head that was saved with head.save(path)")
    content, checksum = _content(path, metadata[KEY])
    version = content.get("format")
    if version != FORMAT:
        raise ValueError(
            f"{path} is of format {version!r}, and this version of affect-heads reads {FORMAT}: "
            "upgrade it, or save the head anew"
        )
    if checksum != digest(arrays, canonical(content)):
        raise ValueError(f"{path} is corrupt: its checksum does not fit; get the file again")
    try:
        return arrays, Card(**content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has a card that is none: {error}") from None


def _read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays by name and metadata of a file; ValueError if it is none or not safetensors."""
    try:
        if not stat.S_ISREG(_path_of(path).stat().st_mode):  # a pipe would be waited for
            raise ValueError(f"{path} is no ordinary file: give the path of a saved file")
        with _path_of(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}: give the path of a saved file") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes: it is no head")
    try:
        arrays = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        return arrays, json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except Exception as error:  # of the library, for whatever bytes there are
        raise ValueError(_not_safetensors(path, data, error)) from None


def _content(path: str | Path, text: str) -> tuple[dict[str, Any], str]:
    """Content and checksum of JSON that `_write` wrote; ValueError if it is not readable."""
    try:
        content = json.loads(text)
        checksum = content.pop("checksum")
        canonical(content)  # which is as deep as it can be written again
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is corrupt: its card is unreadable; get the file again") from None
    return content, checksum


def _not_safetensors(path: str | Path, data: bytes, error: Exception) -> str:
    """One line that says what a file is instead."""
    for start, kind in OTHER_KINDS.items():
        if data.startswith(start):
            return f"{path} is {kind}: a head is saved with head.save(path), as safetensors"
    cause = " ".join(str(error).split())[:80]
    return f"{path} is corrupt, truncated or no safetensors file ({cause}): get the file again"
