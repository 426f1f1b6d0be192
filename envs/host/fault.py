"""Faults of environments: what happened, and what its author can do about it."""


class Fault(Exception):
    """Error: one failure of one shard, as (cause, remedy)."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class LastingFault(Fault):
    """Fault that repeating the call cannot mend: an environment that breaks its contract."""
