"""Care: a head that is trained on the agent's transitions and evaluated on another agent's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from affect.checks import finite_batch
from affect.head import HeadFactory, State
from affect.transition import Spec, Transition, is_a, one_line
from affect.wrappers import StatefulWrapper

Swap = Callable[[Transition], Transition]


def other_perspective(batch: Transition) -> Transition:
    """Replaces the agent's own fields by those of `info["other"]`, the other agent.

    Its keys are fields of `Transition` (obs, next_obs, reward, ...) or keys of `info` (body, ...);
    all others stay as they are.

    Raises:
        ValueError: it is no dict, an empty one, or has a key that is neither.
    """
    other = batch.info["other"]
    known = {*Transition._fields, *batch.info, "harm", "body", "foregone"}
    if not is_a(other, Mapping) or not other or not known.issuperset(other):
        raise ValueError(
            f'info["other"] is {one_line(other)}, expected a dict of fields of another agent, such '
            "as obs and next_obs, or of keys of info"
        )
    fields = {key: value for key, value in other.items() if key in Transition._fields}
    info_keys = {key: value for key, value in other.items() if key not in fields}
    return batch._replace(info=batch.info | info_keys)._replace(**fields)


class Care(StatefulWrapper):
    """The inner head, trained on the agent's own experience, evaluated on the other agent's.

    The head is never trained on the other's experience: the parameters of the agent's own hope,
    fear or hunger are applied to it. Parameters are shared, but there is a state for each
    perspective: the other's for the signal, the agent's own for the loss.

    Args:
        head: the inner head, a factory.
        swap: batch -> the same steps from the other's perspective, same shapes and dtypes. By
            default the fields in `info["other"]` replace the agent's own. Numbers of its result
            that are not finite count as 0.

    Raises:
        MissingInfo: the world reports no `other` and the default swap needs it.
        ValueError: the swap changes a shape or dtype, or loses a field; `other` has an unknown key.
    """

    @classmethod
    def checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Checks that swap is a function."""
        if not callable(settings["swap"]):
            raise ValueError(f"swap is a function of a batch, not {settings['swap']!r}")
        return super().checked(settings)

    def __init__(
        self, spec: Spec, head: HeadFactory, swap: Swap = other_perspective, *, rngs: nnx.Rngs
    ):
        super().__init__(spec, head, rngs=rngs)
        if swap is other_perspective:
            self.require(spec, "other")
        self.swap = swap

    def own_state(self, num_envs: int) -> State:
        """Inner head's initial state for the other's perspective."""
        return self.inner.initial_state(num_envs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Signal [T, B] of the inner head on the other agent's experience."""
        theirs, own = state
        _, own = self.inner(own, batch)
        swapped = _checked_swap(self.swap(batch), batch)
        if self.swap is not other_perspective:  # whose numbers are those of the batch
            swapped, _ = finite_batch(swapped)
        signal, theirs = self.inner(theirs, swapped)
        return jax.lax.stop_gradient(signal), (theirs, own)


def _checked_swap(swapped: Transition, batch: Transition) -> Transition:
    """Returns the swapped batch after checking its fields, shapes and dtypes against the batch."""
    if not is_a(swapped, Transition):
        raise ValueError(f"the swap of Care returned {one_line(swapped)}, expected a Transition")
    swapped_leaves = dict(jax.tree_util.tree_leaves_with_path(swapped))
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        name = jax.tree_util.keystr(path).lstrip(".")
        swapped_leaf = swapped_leaves.get(path)
        if swapped_leaf is None:
            raise ValueError(f"the swap of Care lost {name}: it must keep every field")
        expected, actual = (f"{x.dtype}{list(x.shape)}" for x in (leaf, swapped_leaf))
        if expected != actual:
            raise ValueError(
                f"the swap of Care changed {name} from {expected} to {actual}: keep both"
            )
    return swapped
