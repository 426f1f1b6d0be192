"""Scores in the Iowa Gambling Task: human data, slopes over blocks and deficits, without jax.

A score is the net (C + D) - (A + B) of a block of 20 cards.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

PEOPLE = Path(__file__).parents[1] / "data" / "igt_human_blocks.csv"
HEALTHY = "healthy_pool_100_trials"
STUDIES = (0.2, 26.6)  # lowest and highest mean total of healthy people over studies


class OrderScores(NamedTuple):
    """Scores [people, 5] of an arm, for the usual order of the cards and with early losses."""

    usual: np.ndarray
    shuffled: np.ndarray


def total_deficits(intact: OrderScores, lesioned: OrderScores) -> OrderScores:
    """Cards by which each lesioned person's total is lower, [people] for both orders."""
    return OrderScores(*((x - y).sum(1) for x, y in zip(intact, lesioned, strict=True)))


def slope(blocks: np.ndarray) -> np.ndarray:
    """Least-squares slope of the score over the blocks [..., 5], in cards a block."""
    return blocks @ np.arange(-2.0, 3.0) / 10.0


def human_scores() -> "DataFrame":
    """Scores of people by group: n, block1 to block5, their errors, the total, and shares."""
    import pandas as pd

    return pd.read_csv(PEOPLE, index_col="group")


def group_curve(group: str = HEALTHY) -> np.ndarray:
    """The five block scores of a group of people, [5]."""
    return human_scores().loc[group, [f"block{k}" for k in range(1, 6)]].to_numpy(float)


def healthy_band() -> tuple[np.ndarray, np.ndarray]:
    """Curve of healthy people [5], moved to the lowest and to the highest total of a study."""
    healthy = group_curve()
    least, most = (healthy + (total - healthy.sum()) / len(healthy) for total in STUDIES)
    return least, most
