"""Solver of FoodShare: optimal policies by dynamic programming, the oracle of its tests."""

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from envs.worlds.theory.food_share import EAT, HIGH, LOW, PASS, PATIENCE, Params

# A body: energy and consecutive steps at low energy. (0, 0) is a low body at the first step.
BODIES = [(1, 0)] + [(0, hungry) for hungry in range(PATIENCE)]
STATES = list(product(BODIES, BODIES))  # own, partner's; starved states are left out


class Optimum(NamedTuple):
    """Optimal policy and its results, from initial energies high or low with probability .5.

    Attributes:
        policy: [S] the action in each of STATES.
        value: [S] discounted utility.
        lifetime: expected steps until either body starves; infinite where neither ever does.
        share: long-run share of steps at which the meal is passed on; NaN where a body starves.
    """

    policy: np.ndarray
    value: np.ndarray
    lifetime: float
    share: float


def optimal_policy(care: float = 0.0, gamma: float = 0.99, params: Params | None = None) -> Optimum:
    """Optimal policy at a care weight, exact, by policy iteration (Howard, 1960).

    Utility is the agent's reduction of drive plus `care` times the partner's; the value of the end
    is 0. Where both actions have the same value the agent eats.

    Args:
        care: weight of the partner's reduction of drive.
        gamma: discount, below 1.
        params: of the world.
    """
    step, own, other = _model(*map(float, Params() if params is None else params))
    utility = own + care * other
    policy, rows = np.full(len(STATES), EAT), np.arange(len(STATES))
    while True:
        follow = step[policy, rows]
        value = np.linalg.solve(np.eye(len(STATES)) - gamma * follow, utility[policy, rows])
        q_value = utility + gamma * step @ value
        better = np.where(q_value[PASS] > q_value[EAT] + 1e-12, PASS, EAT)
        if (q_value[better, rows] <= q_value[policy, rows] + 1e-12).all():
            break
        policy = better
    lifetime, share = _lifetime_and_share(step[policy, rows], policy)
    return Optimum(policy, value, lifetime, share)


def least_sufficient_care(gamma: float = 0.99, params: Params | None = None) -> float:
    """Smallest care weight whose optimal policy never lets a body starve, to 1e-6.

    Raises:
        ValueError: if a body starves even at care weight 1.
    """
    low, high = 0.0, 1.0
    if np.isfinite(optimal_policy(high, gamma, params).lifetime):
        raise ValueError(
            "a body starves even at care weight 1 in this world; lower the needs or raise plenty"
        )
    while high - low > 1e-6:
        mid = (low + high) / 2
        immortal = not np.isfinite(optimal_policy(mid, gamma, params).lifetime)
        low, high = (low, mid) if immortal else (mid, high)
    return high


@cache
def _model(
    own_need: float, other_need: float, plenty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition probabilities [2, S, S] and expected drive reductions [2, S]: own, partner's."""
    size = len(STATES)
    step, gain = np.zeros((2, size, size)), np.zeros((2, 2, size))
    index = {state: i for i, state in enumerate(STATES)}
    need = own_need, other_need
    for action, (i, bodies) in product((EAT, PASS), enumerate(STATES)):
        # Body `action` eats and is fed with probability `plenty`; the other may lose energy.
        chances = [
            _eats(bodies[k], plenty) if k == action else _fasts(bodies[k], drop)
            for k, drop in enumerate(need)
        ]
        for (p_own, own), (p_other, other) in product(*chances):
            chance = p_own * p_other
            for k, after in enumerate((own, other)):
                gain[k, action, i] += chance * (_drive(bodies[k]) - _drive(after))
            if (own, other) in index:  # else a body has starved
                step[action, i, index[own, other]] += chance
    return step, gain[0], gain[1]


def _eats(body: tuple[int, int], plenty: float) -> list[tuple[float, tuple[int, int]]]:
    return [(plenty, (1, 0)), (1 - plenty, _unfed(body))]


def _fasts(body: tuple[int, int], drop: float) -> list[tuple[float, tuple[int, int]]]:
    return [(drop, (0, body[1] + 1)), (1 - drop, _unfed(body))]


def _unfed(body: tuple[int, int]) -> tuple[int, int]:
    energy, hungry = body
    return body if energy else (0, hungry + 1)


def _drive(body: tuple[int, int]) -> float:
    return HIGH if body[0] else LOW


def _lifetime_and_share(follow: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
    """Expected lifetime and share of meals passed on, given the policy's transitions [S, S]."""
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
    frequency = np.linalg.lstsq(balance, np.append(np.zeros(len(at)), 1.0), rcond=None)[0]
    return np.inf, float(frequency @ (policy[at] == PASS))
