"""Care: what another is going through, felt with the circuits that feel one's own."""

from collections.abc import Callable

import jax
from flax import nnx

from affect.head import Factory, State
from affect.transition import Spec, Transition
from affect.wrappers import StatefulWrapper, wrapper

Swap = Callable[[Transition], Transition]


def other_perspective(batch: Transition) -> Transition:
    """The batch with everything that `info["other"]` shows in place of one's own.

    Its keys are fields of `Transition` (obs, next_obs, reward, ...) or keys of `info` (body, ...);
    what it does not show stays as it is.
    """
    other = batch.info["other"]
    fields = {key: value for key, value in other.items() if key in Transition._fields}
    facts = {key: value for key, value in other.items() if key not in fields}
    return batch._replace(info=batch.info | facts)._replace(**fields)


@wrapper
class Care(StatefulWrapper):
    """The inner head, learned in one's own seat and read, frozen, from the other's.

    Nothing is learned about the other: the same parameters that feel one's own hope, fear or
    hunger are put into its place. What is *learned* belongs to the circuit and is shared; what
    is *carried* belongs to a seat, so both seats have a state: the other's for the reading, one's
    own for the learning.

    Args:
        head: the feeling, a factory.
        swap: batch -> the same moments from the other's seat, same shapes and dtypes. By default
            what `info["other"]` shows takes the place of one's own.

    Raises:
        MissingInfo: the world reports no `other` and the default swap needs it.
        ValueError: the swap changes a shape or dtype, or loses a field.
    """

    def __init__(
        self, spec: Spec, head: Factory, swap: Swap = other_perspective, *, rngs: nnx.Rngs
    ):
        super().__init__(spec, head, rngs=rngs)
        if swap is other_perspective:
            self.require(spec, "other")
        self.swap = swap

    def own_state(self, num_envs: int) -> State:
        """What the inner head carries in the other's seat."""
        return self.inner.initial_state(num_envs)

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """What the inner head would feel in the other's seat, [T, B]."""
        theirs, own = state
        _, own = self.inner(own, batch)
        signal, theirs = self.inner(theirs, _checked_swap(self.swap(batch), batch))
        return jax.lax.stop_gradient(signal), (theirs, own)


def _checked_swap(swapped: Transition, batch: Transition) -> Transition:
    """The swapped batch, if all there was before is still there, in the same shapes and dtypes."""
    there = dict(jax.tree_util.tree_leaves_with_path(swapped))
    for path, mine in jax.tree_util.tree_leaves_with_path(batch):
        name = jax.tree_util.keystr(path).lstrip(".")
        theirs = there.get(path)
        if theirs is None:
            raise ValueError(f"the swap of Care lost {name}: it must keep every field")
        ours, got = (f"{x.dtype}{list(x.shape)}" for x in (mine, theirs))
        if ours != got:
            raise ValueError(f"the swap of Care turned {name} from {ours} into {got}: keep both")
    return swapped
