"""One call before jax wakes up: a virtual device a core, and compiled programs kept on disk."""

import os
from pathlib import Path


def prepare_devices() -> None:
    """Gives jax one virtual CPU device a core, and a compilation cache.

    A process does not fill the cores with small networks; seeds sharded over devices do. An
    accelerator, where there is one, is used as it is. Set JAX_COMPILATION_CACHE_DIR to move the
    cache.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", cores())
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(home / "affect-heads" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def describe_machine() -> dict[str, str]:
    """What a result depends on beside the code: machine, cores and versions."""
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
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
