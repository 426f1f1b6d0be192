"""Faults of environments: what happened, and what its author can do about it."""


class Fault(Exception):
    """Error: one failure of one shard, as (cause, remedy)."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class LastingFault(Fault):
    """Fault that repeating the call cannot mend: an environment that breaks its contract."""


class HostFailure(RuntimeError):
    """Error: an environment failed several times in a row on a step, or broke its contract.

    Attributes:
        indices, seeds: environments that may be at fault, nearly always one; their episode seeds.
        cause: what happened, such as "died with exit code 3".
    """

    def __init__(self, message: str, indices: list[int], seeds: list[int], cause: str):
        super().__init__(message)
        self.indices, self.seeds, self.cause = indices, seeds, cause
