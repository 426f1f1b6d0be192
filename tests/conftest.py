"""Settings for every test: a strict JAX, two devices, compiled programs kept between runs.

Most of the default tests' time is spent compiling programs that run once, so they are compiled
without most optimisations, here and in the processes that tests start. Slow tests are not.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

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


LONGEST = ("test_examples.py", "test_compare.py", "test_experiment.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no worker of `-n 2` is alone with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Compiled programs are dropped with their module: of all tests they fill gigabytes."""
    yield
    jax.clear_caches()
