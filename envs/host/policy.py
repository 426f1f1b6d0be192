"""Policies with layers of tanh units in NumPy, so that environments act where they are stepped.

No jax. The rows of one seed are always multiplied together, whatever part of them is asked for, so
that an action does not depend on how environments are divided among processes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLIP = 10.0  # deviations at which a whitened observation is clipped, as in `affect.moments.whiten`
LARGEST_PRODUCT = 2**20  # multiplications of one matrix product that BLAS does in one thread


class TanhPolicy(NamedTuple):
    """Policies of S seeds for B environments each.

    Attributes:
        layers: kernel [S, inputs, outputs] and bias [S, 1, outputs] of tanh layers and the last
            one, whose outputs are logits or means.
        discrete: whether actions are the classes 0 .. outputs - 1, or several choices.
        mean, scale: [S, 1, D] of whitened observations; None if they are not whitened.
        sizes: numbers of actions of several choices, whose logits are one after another; () of one.
        forbidden: logit of an action that the mask at the end of an observation does not allow;
            None where there is no mask.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    discrete: bool
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    sizes: tuple[int, ...] = ()
    forbidden: float | None = None

    def act(self, obs: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Actions [S, B] int32, [S, B, n] of several choices, or [S, B, A], at obs [S, B, D].

        Args:
            obs: observations.
            noise: [S, B, A] added to the last outputs, of a Gumbel distribution for a sample of a
                categorical one; None for the mode.
        """
        if self.forbidden is not None:
            count = self.layers[-1][0].shape[-1]
            obs, mask = obs[..., :-count], obs[..., -count:]
        if self.mean is not None:
            obs = np.clip((obs - self.mean) / self.scale, -CLIP, CLIP)
        for kernel, bias in self.layers[:-1]:
            obs = np.matmul(obs, kernel)
            obs += bias
            np.tanh(obs, out=obs)
        kernel, bias = self.layers[-1]
        out = np.matmul(obs, kernel)
        out += bias
        if self.forbidden is not None:
            out[mask <= 0] = self.forbidden
        if noise is not None:
            out += noise
        if not self.sizes:
            return out.argmax(-1).astype(np.int32) if self.discrete else out
        parts = np.split(out, np.cumsum(self.sizes)[:-1], -1)
        return np.stack([part.argmax(-1) for part in parts], -1).astype(np.int32)

    def of_seeds(self, seeds: slice) -> TanhPolicy:
        """The policies of some of the seeds."""
        layers = tuple((kernel[seeds], bias[seeds]) for kernel, bias in self.layers)
        mean, scale = (None if x is None else x[seeds] for x in (self.mean, self.scale))
        return self._replace(layers=layers, mean=mean, scale=scale)


def executed(actions: np.ndarray) -> np.ndarray:
    """Actions as they are taken: continuous ones within [-1, 1], and 0 for NaN."""
    return np.clip(np.nan_to_num(actions), -1, 1) if actions.dtype.kind == "f" else actions


def is_small(inputs: int, width: int, outputs: int, rows: int) -> bool:
    """Whether products of `rows` rows run in one thread, so that their bits are always the same."""
    return rows * width * max(inputs, width, outputs) <= LARGEST_PRODUCT
