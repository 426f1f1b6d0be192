"""Thread-safe jitted function: one thread compiles it while others that call it wait."""

import threading
from collections.abc import Callable
from typing import Any

import jax


class Program:
    """A function of seeds, compiled by `runs.engine.seeds.vmap_seeds`, for several threads.

    Without the lock, threads that need the same program at once would each compile it.

    Args:
        fn: the function, of `jax.jit`.
    """

    def __init__(self, fn: Callable):
        self.fn, self.lock = fn, threading.Lock()

    def __call__(self, *args: Any) -> Any:
        """Start the computation -> its results, which may not be computed yet."""
        with self.lock:
            return self.fn(*args)

    def compile(self, *args: Any) -> Any:
        """Compile ahead of the first call -> shapes of the results, in the place of arrays.

        Args:
            *args: of the call, or their shapes as from another program's `compile`.
        """
        with self.lock:
            lowered = self.fn.lower(*args)
            compiled = lowered.compile()

        def shape(result: Any, sharding: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(result.shape, result.dtype, sharding=sharding)

        return jax.tree.map(shape, lowered.out_info, compiled.output_shardings)
