"""The exact solution of FoodShare by dynamic programming: what there is to be learned in it."""

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from envs.worlds.theory.food_share import EAT, HIGH, LOW, PASS, PATIENCE, Params

# A body: energy and steps in a row at low energy. (0, 0) is a low body at the first step.
BODIES = [(1, 0)] + [(0, hungry) for hungry in range(PATIENCE)]
STATES = list(product(BODIES, BODIES))  # own, other's; the end of life is one more, the last


class Optimum(NamedTuple):
    """The best policy and what comes of it, from energies that are high or low, as likely.

    Attributes:
        policy: [S] the action in each of STATES.
        value: [S] discounted utility.
        life: expected steps until either starves; infinite where nobody ever does.
        share: of the steps in the long run at which the meal is passed on; NaN where life ends.
    """

    policy: np.ndarray
    value: np.ndarray
    life: float
    share: float


def optimal_policy(care: float = 0.0, gamma: float = 0.99, params: Params | None = None) -> Optimum:
    """The best policy at a care weight, by policy iteration (Howard, 1960): exact.

    Utility is one's own reduction of drive plus `care` times the other's; the end is worth 0.
    Where both actions are worth the same the agent eats.

    Args:
        care: weight of the other's reduction of drive.
        gamma: discount, below 1.
        params: of the world.
    """
    step, own, other = _model(*map(float, Params() if params is None else params))
    utility = own + care * other
    policy, rows = np.full(len(STATES), EAT), np.arange(len(STATES))
    while True:
        follow = step[policy, rows]
        value = np.linalg.solve(np.eye(len(STATES)) - gamma * follow, utility[policy, rows])
        worth = utility + gamma * step @ value
        better = np.where(worth[PASS] > worth[EAT] + 1e-12, PASS, EAT)
        if (worth[better, rows] <= worth[policy, rows] + 1e-12).all():
            break
        policy = better
    life, share = _lived(step[policy, rows], policy)
    return Optimum(policy, value, life, share)


def least_sufficient_care(gamma: float = 0.99, params: Params | None = None) -> float:
    """The smallest care weight whose best policy lets nobody ever starve, to 1e-6.

    Raises:
        ValueError: if even caring for the other as for oneself does not save both.
    """
    low, high = 0.0, 1.0
    if np.isfinite(optimal_policy(high, gamma, params).life):
        raise ValueError("nobody is immortal in this world at care weight 1: feed them better")
    while high - low > 1e-6:
        middle = (low + high) / 2
        immortal = not np.isfinite(optimal_policy(middle, gamma, params).life)
        low, high = (low, middle) if immortal else (middle, high)
    return high


@cache
def _model(
    own_need: float, other_need: float, plenty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [2, S, S] of going on, expected reductions of drive [2, S]: own, other's."""
    size = len(STATES)
    step, gain = np.zeros((2, size, size)), np.zeros((2, 2, size))
    index = {state: i for i, state in enumerate(STATES)}
    need = own_need, other_need
    for action, (i, bodies) in product((EAT, PASS), enumerate(STATES)):
        # The eater, body `action`, is fed with some probability; the other one runs down.
        chances = [
            _fed(bodies[who], plenty) if who == action else _runs(bodies[who], drop)
            for who, drop in enumerate(need)
        ]
        for (p_own, own), (p_other, other) in product(*chances):
            chance = p_own * p_other
            for who, after in enumerate((own, other)):
                gain[who, action, i] += chance * (_drive(bodies[who]) - _drive(after))
            if (own, other) in index:  # else one of them has starved
                step[action, i, index[own, other]] += chance
    return step, gain[0], gain[1]


def _fed(body: tuple[int, int], plenty: float) -> list[tuple[float, tuple[int, int]]]:
    return [(plenty, (1, 0)), (1 - plenty, _stays(body))]


def _runs(body: tuple[int, int], drop: float) -> list[tuple[float, tuple[int, int]]]:
    return [(drop, (0, body[1] + 1)), (1 - drop, _stays(body))]


def _stays(body: tuple[int, int]) -> tuple[int, int]:
    energy, hungry = body
    return body if energy else (0, hungry + 1)


def _drive(body: tuple[int, int]) -> float:
    return HIGH if body[0] else LOW


def _lived(follow: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
    """Life and share of meals passed on, where the policy's steps are `follow` [S, S]."""
    starts = [STATES.index((own, other)) for own, other in product([(1, 0), (0, 0)], repeat=2)]
    reached = np.zeros(len(STATES), bool)
    reached[starts] = True
    for _ in STATES:
        reached |= (follow[reached] > 0).any(0)
    at = np.flatnonzero(reached)
    follow = follow[np.ix_(at, at)]
    if (follow.sum(1) < 1 - 1e-9).any():
        steps = np.linalg.solve(np.eye(len(at)) - follow, np.ones(len(at)))
        return float(np.mean([steps[at == start] for start in starts])), np.nan
    balance = np.vstack([follow.T - np.eye(len(at)), np.ones(len(at))])
    often = np.linalg.lstsq(balance, np.append(np.zeros(len(at)), 1.0), rcond=None)[0]
    return np.inf, float(often @ (policy[at] == PASS))
