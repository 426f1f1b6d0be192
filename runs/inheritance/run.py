"""Steps of `runs.inherit` in order, on `StudyRun`, and the newborns of each step as a table.

    parents trained -> numbers chosen in development worlds -> plan registered, parents and numbers
    frozen -> sealed worlds drawn -> claims -> exploratory part

A part is all newborns of one carrier in one body at one step, in a file of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Blend
from agents.shuffled_rewards import ShuffledRewards
from envs.schedule import unscheduled
from envs.suite import Point
from runs.cli.study import Job
from runs.describe import describe
from runs.engine.backend import Backend, make_backend
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.jax_backend import DRAWS
from runs.engine.phases import Phase, flat_worlds, world_pool
from runs.engine.seeds import Stream, stream_key, stream_keys
from runs.errors import UserError
from runs.inheritance.bodies import BodyKind
from runs.inheritance.carrier import Carrier
from runs.inheritance.design import InheritDesign, place_points
from runs.inheritance.homes import Place
from runs.inheritance.newborns import Raised, Rows, Upbringing, make_rows, misfit, raise_newborns
from runs.inheritance.parent import Parent, make_parent, one_parent, stack
from runs.inheritance.tuning import Numbers
from runs.scale.grid import digest
from runs.signal_arms import AT_HOME
from runs.study_run import StudyRun
from runs.tree_io import leaves_digest

RECORDED = 128  # episodes at home of a parent, and of each that was stopped, to fit something on
LEAST_SUCCESS = 0.5  # of parents at home


class Cell(NamedTuple):
    """Newborns of one carrier in one body.

    Attributes:
        carrier, body: names.
        trials: numbers of each trial.
        newborns: (parent, world) of those of each trial.
        robust: whether they are also scored under every shift of the suite they were raised in.
        source: of which parents; empty for those of the carrier.
        draw: indices of their random numbers, which differ between draws; () for the only one.
        chunks: of their training, after which they are scored; 0 for all.
    """

    carrier: str
    body: str
    trials: Sequence[Numbers]
    newborns: Sequence[tuple[int, Place]]
    robust: bool = False
    source: str = ""
    draw: tuple[int, ...] = ()
    chunks: int = 0

    @property
    def count(self) -> int:
        """Number of newborns."""
        return len(self.trials) * len(self.newborns)


class InheritRun(StudyRun):
    """The study in its folder.

    Attributes:
        design: of the study.
        suites: name -> suite of the worlds; the claims add the sealed one.
        base: constant reward of every newborn, in units of 1 - gamma: 0 or 1.
        parents: "trained", "untrained", "shuffled", or of `stopped_at` -> [P] of `Parent`.
        observations: that each parent met at home, stopped or trained, [P] of [N, D].
    """

    def __init__(self, design: InheritDesign, job: Job):
        rows = -(-design.parents // (2 * len(jax.devices()))) * 2 * len(jax.devices())
        home = replace(design.config, seeds=design.parents, rows=rows)
        super().__init__(job, design.suite.env, home)
        self.design, self.suites, self.base = design, dict(design.suites), 0.0
        self.units_an_update = design.parents
        self.parents: dict[str, Parent] = {}
        self.observations: list[np.ndarray] = []
        self._inherited: dict[tuple[str, str], Any] = {}
        self._backends: dict[str, Backend] = {}

    # --- parents ----------------------------------------------------------------------------------

    def train_parents(self) -> np.ndarray:
        """Train parents, and others on shuffled rewards, or restore -> success at home [P].

        Raises:
            UserError: if the parents fail at home.
        """
        home, blend, agent = self.home, self.design.blend, self.home.agent
        pool = flat_worlds(self._home_points().worlds, [0])
        sizes, folder = (home.chunks, home.updates), self.out / "parents"
        phase = Phase(world_pool(pool), *sizes, agent, blend, AT_HOME.mix(blend))
        trained = self.train("parents", phase, folder=folder / "trained")
        twins = Phase(world_pool(pool), *sizes, ShuffledRewards(agent), Blend())
        shuffled = self.train("shuffled parents", twins, folder=folder / "shuffled")
        info = self.design.suite.env.spec.info
        learners = []
        for share in self.design.stops:
            name = stopped_at(share)
            shorter = replace(phase, chunks=max(round(share * home.chunks), 1))
            learners.append(self.train(name, shorter, folder=folder / name).state.learner)
            self.parents[name] = make_parent(agent, learners[-1], info)
        untrained = self.backend.init(phase, stream_keys(home, Stream.TWINS))
        for name, learner in (
            ("trained", trained.state.learner),
            ("shuffled", shuffled.state.learner),
            ("untrained", untrained.learner),
        ):
            self.parents[name] = make_parent(agent, learner, info)
        learner = trained.state.learner
        success = self.home_success(learner)
        recorded = [self._observations(learner) for learner in (*learners, learner)]
        self.observations = [np.concatenate(of_parent) for of_parent in zip(*recorded, strict=True)]
        return success

    def home_success(self, learner: Any) -> np.ndarray:
        """Success at home of parents [P].

        Raises:
            UserError: if they fail there.
        """
        (score,) = self.scores(learner, self._home_points())
        success = np.asarray(score["success"])
        if not success.mean() > LEAST_SUCCESS and self.home.optimise:
            raise UserError(
                f"{self.design.suite.name}: parents succeed in {success.mean():.0%} of episodes at "
                f"home, expected more than {LEAST_SUCCESS:.0%}: there is nothing to inherit"
            )
        return success

    def _observations(self, learner: Any) -> list[np.ndarray]:
        """Observations [N, D] of episodes at home, of each of the learners [P]."""
        inputs = learner, self.home.agent, self._home_points(), self.stopped, RECORDED
        batch, alive = next(iter(self.backend.record(*inputs)))
        seen, alive = np.asarray(batch.obs), np.asarray(alive)
        return [seen[i][alive[i]] for i in range(self.design.parents)]

    def inherited(self, carrier: str, source: str = "") -> Any:
        """What a carrier hands on, leaves [P, ...]; it is made once.

        Args:
            carrier: its name.
            source: of which parents; empty for those of the carrier.
        """
        kind = self.design.carriers[carrier]
        source = source or kind.source
        if (carrier, source) not in self._inherited:
            parents, pairs = self.parents[source], enumerate(self.observations)
            if type(kind).init is not Carrier.init:
                parents = stack([kind.init(one_parent(parents, i), obs) for i, obs in pairs])
            self._inherited[carrier, source] = parents
        return self._inherited[carrier, source]

    def _home_points(self) -> EvalPoints:
        """Worlds of the parents, as one point."""
        return place_points(self.design.suite, Place(self.design.suite.name), self.home.base)

    # --- newborns ---------------------------------------------------------------------------------

    def raise_cell(self, step: str, cell: Cell, source: int | jax.Array) -> pd.DataFrame:
        """Raise the newborns of a cell, or load them -> a row each.

        Columns: trial, pair, place; alive; area (under the learning curve), `curve_0` and so on;
        success, harm and length at the end, in the world it was raised in; with `robust` also
        `shifted`, the mean success under the other shifts of the parents' suite at full severity.

        Args:
            step: of the study, for the name of the part.
            cell: of newborns.
            source: base seed, or key, of their worlds.
        """
        design, config = self.design, self.design.newborn_config
        config = replace(config, chunks=cell.chunks or config.chunks)
        key = drawn_key(stream_key(config.base, Stream.NEWBORNS), cell.draw)
        carrier, body = design.carriers[cell.carrier], design.bodies[cell.body]
        agent = body.agent(config.agent)
        places = list(dict.fromkeys(place for _, place in cell.newborns))
        points = join(place_points(self.suites[p.suite], p, source) for p in places)
        rows = make_rows([(i, places.index(place)) for i, place in cell.newborns], cell.trials)
        rows = with_order(rows, body)
        scored = points
        if cell.robust:
            shifted = replace(design.suite, severities=(1.0,))
            scored = join([points, draw_points(shifted, DRAWS, config.base)])
        upbringing = Upbringing(carrier, agent, points.worlds, self.base * (1 - agent.gamma))
        handed = self.inherited(cell.carrier, cell.source)
        backend = self.newborns_backend(body.env(self.suites[places[0].suite].env))
        sizes = config.chunks, config.updates, config.num_envs, config.num_steps, config.episodes
        parts = [describe(part) for part in (carrier, agent, backend.env, sizes, upbringing.base)]
        data = handed, points.worlds, scored.worlds, rows
        content = leaves_digest(data), parts, *filter(None, (list(cell.draw),))
        label = ", ".join(filter(None, (step, cell.carrier, cell.body, cell.source)))
        before = self.done

        def compute() -> dict[str, list]:
            raised = raise_newborns(
                backend,
                upbringing,
                rows,
                self.parents["trained"],
                handed,
                key,
                self.stopped,
                lambda done: self.progress.advance(label, before + done * config.updates, True),
                scored,
                cell.chunks,
            )
            return columns_of(raised, rows, places, scored.points)

        updates = config.chunks * config.updates * rows.count
        return pd.DataFrame(self.part(label, digest(content), updates, compute))

    def newborns_backend(self, env: Any) -> Backend:
        """Backend of newborns in an environment, made once for all that are equal."""
        key = digest(describe(env))
        if key not in self._backends:
            self._backends[key] = make_backend(env, self.design.newborn_config)
        return self._backends[key]

    def __exit__(self, *error: Any) -> None:
        for backend in self._backends.values():
            backend.close()
        super().__exit__(*error)

    def misfit(self, carrier: str, body: str) -> str:
        """Why a carrier cannot enter a body; "" if it can."""
        hands, kind = self.design.carriers[carrier], self.design.bodies[body]
        spec = kind.env(self.design.suite.env).spec
        agent, parent = kind.agent(self.home.agent), one_parent(self.parents["trained"], 0)
        return misfit(hands, agent, spec, parent, one_parent(self.inherited(carrier), 0))


def drawn_key(key: jax.Array, draw: Iterable[int]) -> jax.Array:
    """Key of a draw: its indices are folded in one after another; of none, the key itself."""
    for index in draw:
        key = jax.random.fold_in(key, index)
    return key


def stopped_at(share: float) -> str:
    """Name of the parents whose training was stopped after a share of it."""
    return f"parents at {share:.0%}"


def with_order(rows: Rows, body: BodyKind) -> Rows:
    """Rows with the permutation of actions of each pair, if the body has several."""
    if not body.orders:
        return rows
    orders = np.array(body.orders)[rows.pair % len(body.orders)]
    return rows._replace(numbers={**rows.numbers, "actions": orders})


def columns_of(
    raised: Raised, rows: Rows, places: Sequence[Place], points: Sequence[Point]
) -> dict[str, list]:
    """Columns of a table of newborns (see `InheritRun.raise_cell`).

    Args:
        raised: what became of them.
        rows: the newborns.
        places: in which they were raised.
        points: at which they were scored, those of the places first.
    """
    own = np.arange(rows.count), rows.world
    columns: dict[str, Any] = {
        "trial": rows.trial,
        "pair": rows.pair,
        "place": np.array([place.name for place in places])[rows.world],
        "alive": raised.alive,
        "area": raised.area,
        **{name: raised.scores[name][own] for name in ("success", "harm", "length")},
        **{f"curve_{i}": column for i, column in enumerate(raised.curve.T)},
    }
    if len(points) > len(places):
        shifts = np.array([point.shift for point in points])
        others = (shifts != "none") & (np.arange(len(points)) >= len(places))
        others = others & (shifts != shifts[rows.world][:, None])
        columns["shifted"] = np.nanmean(np.where(others, raised.scores["success"], np.nan), 1)
    return {name: np.asarray(column).tolist() for name, column in columns.items()}


def join(parts: Iterable[EvalPoints]) -> EvalPoints:
    """The points of all parts in their order; episodes have the keys of the last one."""
    parts = list(parts)
    worlds = [part.worlds for part in parts]
    if any(world.scheduled is not None for world in worlds):
        worlds = [jax.vmap(jax.vmap(unscheduled))(world) for world in worlds]
    worlds = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *worlds)
    points = tuple(point for part in parts for point in part.points)
    return parts[-1]._replace(points=points, worlds=worlds)
