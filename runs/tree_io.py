"""Convert the leaves of a pytree to named numpy arrays and back, for checkpoints; read .npz."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from runs.errors import UserError

MOST_BYTES = 2**32  # of all arrays of a .npz file, unpacked


def named_leaves(tree: Any) -> dict[str, Any]:
    """Map path -> leaf, such as `.agent.layers[0].kernel.value`, in the order of the tree."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    if len(leaves) < len(paths):
        raise TypeError("two leaves of the tree have the same path and cannot be told apart")
    return leaves


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed jax PRNG key."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def encode_leaf(name: str, leaf: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Convert a leaf to its manifest record (shape, dtype) and the array that Orbax stores.

    The dtype of a typed key is `key<implementation>`, that of a Python number its type's name.
    """
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    is_python = type(leaf) in (bool, int, float, complex)
    is_numeric = array.dtype == bool or jax.dtypes.issubdtype(array.dtype, np.number)
    if not (is_numeric and (is_python or isinstance(leaf, jax.Array | np.ndarray | np.generic))):
        raise TypeError(f"leaf {name} is of {type(leaf)}, which a checkpoint cannot hold")
    dtype = leaf.dtype if _is_key(leaf) else type(leaf).__name__ if is_python else array.dtype.name
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return {"shape": list(array.shape), "dtype": str(dtype)}, array


def decode_leaf(array: np.ndarray, like: Any) -> Any:
    """Convert a stored array to the leaf type of `like`, on the devices of `like`."""
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    if not isinstance(like, jax.Array):
        return type(like)(array.item())
    if _is_key(like):
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    # An uncommitted array may join arrays on any devices, so it must not come back committed.
    return jax.device_put(array, like.sharding if like.committed else None)


def leaves_digest(tree: Any) -> str:
    """First 10 hex digits of the SHA-256 of all leaves of a pytree of arrays."""
    leaves = (np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))
    return hashlib.sha256(b"".join(leaves)).hexdigest()[:10]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name; no object is unpickled.

    Raises:
        UserError: for a file that is missing or damaged, or whose arrays would take more than
            MOST_BYTES.
    """
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(info.file_size for info in file.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked, at most {MOST_BYTES:,} are read")
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # damaged bytes may make a decoder raise anything
        cause = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path} cannot be read ({cause}): delete it, and it is made again"
        ) from None
