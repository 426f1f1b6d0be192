"""Settings for every test: a strict JAX, two devices, compiled programs kept between runs.

The check of key reuse dispatches every call in Python and traces every slice anew, ten times as
slow; calls that neither get nor give a key cannot reuse one and are made without it.

Most of the default tests' time is spent compiling programs that run once, so they are compiled
without most optimisations, here and in the processes that tests start. Slow tests are not.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from jax._src import core, pjit
from jax.experimental.key_reuse import _core as key_reuse

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

if not jax.config.jax_compilation_cache_dir:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update("jax_compilation_cache_dir", str(cache / "affect-heads" / "jax-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


FASTER_COMPILATION = "--xla_cpu_use_fusion_emitters=false"  # and slower programs


def pytest_configure(config: pytest.Config) -> None:
    """Without slow tests, programs are compiled quickly."""
    if config.option.markexpr == "not slow":
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        jax.config.update("jax_disable_most_optimizations", True)
        if jax.__version_info__[:2] == (0, 10):  # XLA ends a process that gives a flag it lacks
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FASTER_COMPILATION}"


def have_key(values: Iterable[Any]) -> bool:
    """Whether one of some arrays or their abstract values is of random keys."""
    types = (getattr(value, "dtype", None) for value in values)
    return any(jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) for dtype in types if dtype)


def check_only_calls_with_keys() -> None:
    """Operations and compiled functions without keys are called as if nothing were checked."""
    check, call = key_reuse.call_impl_with_key_reuse_checks, pjit._run_python_pjit

    def operate(primitive, operation, /, *args, **params):
        if primitive is pjit.jit_p or have_key(args):
            return check(primitive, operation, *args, **params)
        with jax.debug_key_reuse(False):
            return operation(*args, **params)

    def call_compiled(program, flat, *rest):
        jaxpr = program.params["jaxpr"]
        if not core.trace_state_clean() or have_key([*flat, *jaxpr.consts, *jaxpr.out_avals]):
            return call(program, flat, *rest)
        with jax.debug_key_reuse(False):
            return call(program, flat, *rest)

    key_reuse.call_impl_with_key_reuse_checks = operate
    pjit._run_python_pjit = call_compiled


if hasattr(pjit, "_run_python_pjit"):  # of some versions of JAX
    check_only_calls_with_keys()

LONGEST = ("test_examples.py", "test_compare.py", "test_experiment.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no worker of `-n 2` is alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Compiled programs are dropped with their module: of all tests they fill gigabytes."""
    yield
    jax.clear_caches()
