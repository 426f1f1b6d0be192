"""Configure jax before first use: one virtual CPU device per core, and a compilation cache."""

import contextlib
import os
from pathlib import Path


def prepare_devices(least: int = 1) -> None:
    """Give jax one virtual CPU device per core, at `least` so many, and an on-disk program cache.

    One program of small networks does not use all cores; seeds sharded over devices do. An
    accelerator is used as it is. Set JAX_COMPILATION_CACHE_DIR to move the cache. Where jax has
    computed something before, it keeps the devices that it has (`unused_cores`).
    """
    import jax

    with contextlib.suppress(RuntimeError):  # jax was used before
        jax.config.update("jax_num_cpu_devices", max(cores(), least))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(cache / "affect-heads" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """Number of CPU cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def unused_cores() -> int:
    """Number of CPU cores beyond those that jax uses, because it was used before; 0 on a GPU."""
    import jax

    return max(cores() - len(jax.devices()), 0) if jax.devices()[0].platform == "cpu" else 0


def describe_machine() -> dict[str, str]:
    """Describe what results depend on beside the code: processor, devices, package versions."""
    import platform
    from importlib.metadata import version

    import jax

    kind = jax.devices()[0].device_kind
    packages = ("jax", "flax", "optax", "gymnasium")
    return {
        "machine": f"{_processor()}, {cores()} cores",
        "devices": f"{len(jax.devices())} x {kind}",
        "python": platform.python_version(),
    } | {name: version(name) for name in packages}


def _processor() -> str:
    """Model name of the processor, from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
