"""Policies of models of Stable-Baselines3 and SBX: parameters as arrays, and actions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

PARTS = ("params", "batch_stats")  # of a train state of flax that a policy reads


def parameters(policy: Any) -> list[np.ndarray]:
    """Copies of the parameters of a policy, in torch or in train states of flax."""
    arrays = [x.detach().cpu().numpy() for x in policy.state_dict().values()]
    return [np.array(x) for x in arrays or jax.tree.leaves(_flax_states(policy))]


def set_parameters(policy: Any, arrays: Sequence[np.ndarray]) -> None:
    """Replace the parameters of a policy, in the order of `parameters`."""
    if names := list(policy.state_dict()):
        import torch

        tensors = (torch.tensor(np.asarray(x)) for x in arrays)
        policy.load_state_dict(dict(zip(names, tensors, strict=True)))
        return
    structure = jax.tree.structure(_flax_states(policy))
    for name, parts in jax.tree.unflatten(structure, list(arrays)).items():
        setattr(policy, name, getattr(policy, name).replace(**parts))


def _flax_states(policy: Any) -> dict[str, dict[str, Any]]:
    """Parts of each train state of a policy, by its attribute."""
    return {
        name: {part: getattr(state, part) for part in PARTS if hasattr(state, part)}
        for name, state in vars(policy).items()
        if hasattr(state, "params")
    }


class ForeignPolicies:
    """Policies of S models that act by their modes, made when they are first needed.

    Args:
        make: makes the policy of an untrained model.
        count: S.
    """

    def __init__(self, make: Callable[[], Any], count: int):
        self._make, self._count, self._policies = make, count, []

    def acting(self, arrays: Sequence[Any]) -> Callable[[Any], np.ndarray]:
        """Function from observations [R, B, D] to actions [R, B] int32 or [R, B, A] float32.

        Args:
            arrays: parameters of R policies, leaves [R, ...]; those of S models once or several
                times, one after another, or of the first of them.
        """
        leaves = [np.asarray(x) for x in arrays]
        count = min(len(leaves[0]), self._count)
        self._policies += [self._make() for _ in range(count - len(self._policies))]
        for i, policy in enumerate(self._policies[:count]):
            set_parameters(policy, [x[i] for x in leaves])

        def act(obs: Any) -> np.ndarray:
            obs = np.asarray(obs)
            repeated = obs.reshape(-1, count, *obs.shape[1:])  # [points, S, B, D]
            chosen = []
            for i, policy in enumerate(self._policies[:count]):
                rows = np.ascontiguousarray(repeated[:, i]).reshape(-1, obs.shape[-1])
                actions, _ = policy.predict(rows, deterministic=True)
                chosen.append(actions.reshape(len(repeated), obs.shape[1], *actions.shape[1:]))
            actions = np.stack(chosen, 1).reshape(*obs.shape[:2], *chosen[0].shape[2:])
            return actions.astype(np.float32 if actions.dtype.kind == "f" else np.int32)

        return act
