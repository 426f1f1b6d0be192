"""Searches in the unit cube: an evolution strategy of the library `cma`, and random points.

A search is a function of its seed and of what it has been told, so that a study that was killed
goes on with the points that it would have had.
"""

from typing import Any

import numpy as np

from runs.scale.processes import optional_package

SIGMA = 0.2  # initial standard deviation of members, as a share of an interval


def import_cma() -> Any:
    """The library of evolution strategies; raises UserError with how to install it."""
    return optional_package("cma", "evolve", "extra")


class RandomSearch:
    """Points drawn uniformly from the unit cube; the favourite is the fittest so far.

    Args:
        start: the favourite before any is told, [n].
        population: points of a generation.
        seed: of its random numbers.
    """

    def __init__(self, start: np.ndarray, population: int, seed: tuple[int, ...]):
        self.rng, self.population = np.random.default_rng(seed), population
        self.best, self.fitness = start, -np.inf
        self.points: Any = []  # of the generation that was asked for last

    def ask(self) -> np.ndarray:
        """Points [population, n] of the next generation."""
        self.points = self.rng.random((self.population, len(self.best)))
        return self.points

    def tell(self, fitness: np.ndarray) -> None:
        """The fitness [population] of the points that were asked for."""
        if fitness.max() > self.fitness:
            self.fitness, self.best = fitness.max(), self.points[int(fitness.argmax())]

    @property
    def favourite(self) -> np.ndarray:
        """The point [n] that the search would give now."""
        return self.best


class EvolutionStrategy(RandomSearch):
    """CMA-ES (Hansen & Ostermeier, 2001) in the unit cube; the favourite is its mean; n above 1."""

    def __init__(self, start: np.ndarray, population: int, seed: tuple[int, ...]):
        super().__init__(start, population, seed)
        options = {
            "popsize": population,
            "bounds": [0.0, 1.0],
            "seed": np.nan,  # leave the generator of numpy alone
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "verbose": -9,
            "verb_log": 0,
        }
        self.strategy = import_cma().CMAEvolutionStrategy(start, SIGMA, options)

    def ask(self) -> np.ndarray:
        """Points [population, n] of the next generation."""
        self.points = self.strategy.ask()
        return np.array(self.points)

    def tell(self, fitness: np.ndarray) -> None:
        """The fitness [population] of the points that were asked for."""
        self.strategy.tell(self.points, (-fitness).tolist())

    @property
    def favourite(self) -> np.ndarray:
        """The mean [n] of the next generation."""
        return np.clip(self.strategy.result.xfavorite, 0.0, 1.0)
