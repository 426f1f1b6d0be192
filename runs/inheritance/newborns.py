"""Train newborns in one compiled program; a row of it is one newborn: parent, numbers, world.

A row is one newborn: its parent (of a pair), its numbers, its world. All rows of a carrier in a
body share a program. The random numbers of a newborn depend on its pair alone, so that newborns of
one pair differ, between carriers, in nothing but what they inherit.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from affect import Blend, Constant, Factory, Head, Potential, Spec, Transition
from affect.head import State
from affect.learn import HeadState
from agents.body import Body
from envs.world import World
from runs.engine.backend import Backend
from runs.engine.config import RunConfig, head_spec
from runs.engine.evaluate import EvalPoints
from runs.engine.phases import Phase, RewardMix, Sampler, Teacher, sample_world
from runs.engine.seeds import Stream, seed_keys, stream_key, take_seeds, vmap_seeds
from runs.engine.train import Learner, RunnerState
from runs.engine.training_loop import Chunk, run_phase
from runs.inheritance.carrier import Carrier, Numbers
from runs.inheritance.parent import Parent

INHERITED, REWARD = "inherited", "constant"  # heads of a newborn
EPOCHS = 2  # gradient steps on each batch of heads of its own


class InheritedSignal(Head):
    """Phi of a carrier at the next observation, 0 where the episode terminated; never trained.

    Args:
        spec: of the world.
        carrier: whose phi it is.
        rngs: unused.
    """

    depends = ("obs",)

    def __init__(self, spec: Spec, carrier: Carrier, *, rngs: nnx.Rngs):
        del rngs
        self.carrier, self.gamma = carrier, spec.discount if carrier.pays == "reward" else 1.0
        self.data = nnx.data(None)  # (what is inherited, numbers), of one newborn

    def __call__(self, state: State, batch: Transition) -> tuple[jax.Array, State]:
        """Phi [T, B]; for a carrier that pays it as a reward, discounted once."""
        phi = jax.lax.stop_gradient(self.carrier.phi(*self.data, batch.next_obs))
        return jnp.where(batch.terminated, 0.0, self.gamma * phi), state


UNTRAINED = Blend(epochs=0, **{REWARD: (1.0, Constant(0.0))})  # before anything is handed over


NOT_PAID = {
    "init",
    "hand_over",
    "copies",
    "schedule",
    "teacher",
    "reward",
    "knobs",
    "source",
    "knows",
    "yoked",
    "teaches",
}
"""Parts of a carrier that do not change what is paid."""


def payer(carrier: Carrier) -> Carrier:
    """The most general carrier with the phi of this one: newborns of both share their program."""
    kind = type(carrier)
    while (base := kind.__base__) is not Carrier and issubclass(base, Carrier):
        own = {name for name in vars(kind) if not name.startswith("_")} - NOT_PAID
        if own or fields(base) != fields(kind):
            break
        kind = base
    return kind(*(getattr(carrier, field.name) for field in fields(carrier)))


@functools.cache
def newborn_blend(carrier: Carrier) -> Blend:
    """The signals of a newborn: what the carrier pays, a constant reward, heads of its own."""
    if not carrier.pays:
        return UNTRAINED
    signal = Factory(InheritedSignal, {"carrier": payer(carrier)})
    paid = Potential(signal) if carrier.pays == "potential" else signal
    own = {name: (1.0, head) for name, head in carrier.beside.items()}
    return Blend(epochs=EPOCHS * bool(own), **{INHERITED: (1.0, paid)}, **UNTRAINED.heads, **own)


class Rows(NamedTuple):
    """R newborns.

    Attributes:
        trial: [R] int, index of the numbers.
        pair: [R] int, index of the parent, and of the random numbers.
        world: [R] int, index of the world.
        numbers: name -> [R], those of carrier and body.
    """

    trial: np.ndarray
    pair: np.ndarray
    world: np.ndarray
    numbers: Mapping[str, np.ndarray]

    @property
    def count(self) -> int:
        """R."""
        return len(self.pair)

    def block(self, first: int, count: int) -> "Rows":
        """`count` rows from the `first` on; where there are fewer, they are repeated."""

        def part(column: np.ndarray) -> np.ndarray:
            return np.resize(column[first : first + count], (count, *column.shape[1:]))

        return jax.tree.map(part, self)


def make_rows(newborns: Sequence[tuple[int, int]], trials: Sequence[Mapping[str, float]]) -> Rows:
    """A row for each trial and newborn, (pair, world), in this order of significance."""
    pairs, worlds = np.array(newborns).T
    trial, newborn = (grid.ravel() for grid in np.indices((len(trials), len(newborns))))
    numbers = {name: np.array([t[name] for t in trials], np.float32)[trial] for name in trials[0]}
    return Rows(trial, pairs[newborn], worlds[newborn], numbers)


@dataclass(frozen=True)
class Upbringing:
    """A carrier in a body, in worlds of one environment: what all its rows have in common.

    Attributes:
        carrier: what is handed over.
        agent: static description of the newborn agent.
        worlds: [W, draws] in which newborns are raised.
        base: constant reward that every newborn gets.
    """

    carrier: Carrier
    agent: Any
    worlds: World
    base: float

    def phase(self, rows: Rows, config: RunConfig, parents: Any, inherited: Any) -> Phase:
        """The training of these rows.

        Args:
            rows: of newborns.
            config: sizes.
            parents: [P] of `Parent`.
            inherited: what the carrier hands on, of [P].
        """
        pools = jax.tree.map(lambda leaf: leaf[rows.world], self.worlds)
        own = sorted(rows.numbers.keys() - self.carrier.knobs.keys())
        teacher = None
        if self.carrier.teaches:
            design, states = self.carrier.teacher(parents, inherited)
            teacher = Teacher(in_body(self.agent, design), of_pairs(states, rows))
        return Phase(
            Sampler(sample_world, pools),
            config.chunks,
            config.updates,
            self.agent,
            newborn_blend(self.carrier),
            self.mix(rows, config),
            heads="learn" if self.carrier.beside else "frozen",
            teacher=teacher,
            per_seed=True,
            numbers={name: jnp.asarray(rows.numbers[name]) for name in own},
        )

    def start(
        self, backend: Backend, phase: Phase, rows: Rows, inherited: Any, key: jax.Array
    ) -> RunnerState:
        """Newborns [R] at the beginning of a phase, with what they inherit of [P]."""
        untrained = replace(phase, blend=UNTRAINED)
        state = backend.init(untrained, seed_keys(key, rows.pair))
        numbers = {name: jnp.asarray(value) for name, value in rows.numbers.items()}
        spec = head_spec(backend.env.spec, self.agent)
        program = entering(self.carrier, spec, backend.run_config.num_envs, rows.count)
        base = jnp.full((rows.count,), self.base, jnp.float32)
        return program(state, of_pairs(inherited, rows), numbers, base)

    def mix(self, rows: Rows, config: RunConfig) -> RewardMix:
        """Weights of the rewards of these rows, which may change with the update."""
        carrier, total = self.carrier, config.chunks * config.updates
        numbers = {name: jnp.asarray(value) for name, value in rows.numbers.items()}
        names = jax.eval_shape(carrier.schedule, one_row(numbers, 0), jnp.zeros(()))

        def at(name: str, update: int) -> jax.Array:
            progress = jnp.full((rows.count,), update / total)
            return jax.vmap(carrier.schedule)(numbers, progress)[name]

        schedules = {name: partial(at, name) for name in names}
        changes = {name: schedules[name] for name in ("teacher",) if name in schedules}
        if "signal" in schedules or carrier.beside:
            ones = jnp.ones((rows.count,))
            inherited = schedules.get("signal", lambda update: ones)
            own = [ones, *(numbers[name] for name in carrier.beside)]
            changes["signals"] = lambda i: jnp.stack([inherited(i), *own], -1)
        if "discount" in schedules:
            changes["discount"] = lambda i: self.agent.gamma * schedules["discount"](i)
        if carrier.yoked:
            changes["yoked"] = jnp.tile(jnp.array([1.0, 0.0]), (rows.count, 1))  # not the constant
        return RewardMix(**changes)


@functools.cache
def entering(carrier: Carrier, spec: Spec, num_envs: int, rows: int) -> Callable:
    """Compiled `enter` of newborns [rows] of a carrier, in worlds of shapes `spec`."""
    changes = {"carrier": carrier, "spec": spec, "num_envs": num_envs}
    return vmap_seeds(partial(enter, **changes), rows, optimise=False)


def enter(
    state: RunnerState,
    inherited: Any,
    numbers: Numbers,
    base: jax.Array,
    *,
    carrier: Carrier,
    spec: Spec,
    num_envs: int,
) -> RunnerState:
    """One untrained learner with what it inherits, and a constant reward `base` []."""
    blend = newborn_blend(carrier)
    key = stream_key(state.key, Stream.OWN_HEADS)  # heads of its own alone are random
    blend_state = blend.init(key, spec, num_envs)
    heads = dict(blend_state.heads)
    constant = heads[REWARD].net
    constant.value = constant.value.replace(base + carrier.reward(numbers))
    heads[REWARD] = HeadState.create(constant, blend.tx)
    if INHERITED in heads:
        heads[INHERITED].net.alone().data = nnx.data((inherited, numbers))
    for name, source in carrier.begins.items():
        net = heads[name].net
        nnx.update(net.alone(), nnx.state(inherited.heads[source]))
        heads[name] = HeadState.create(net, blend.tx)
    agent = carrier.hand_over(state.learner.agent, inherited, numbers)
    return state._replace(learner=Learner(agent, blend_state._replace(heads=heads)))


def in_body(body: Any, agent: Any) -> Any:
    """An agent in the body of another one: as that one's agent inside, if it is a `Body`."""
    return replace(body, agent=agent) if isinstance(body, Body) else agent


def misfit(carrier: Carrier, agent: Any, spec: Spec, parent: Parent, inherited: Any) -> str:
    """Why a carrier cannot enter a body; "" if it can.

    Args:
        carrier: that hands over.
        agent: static description of the newborn.
        spec: of its world.
        parent: one of them.
        inherited: what the carrier hands on, of one parent.
    """
    newborn = jax.eval_shape(partial(agent.init, spec=spec, num_signals=2), jax.random.key(0))
    numbers = dict.fromkeys(carrier.knobs, jnp.ones(()))
    actions = spec.num_actions or spec.action_dim
    if carrier.teaches and not hasattr(agent, "policy"):
        return "a learner without probabilities of actions cannot imitate a teacher"
    if carrier.teaches:
        obs = jnp.zeros((spec.obs_dim,))
        design, state = carrier.teacher(parent, inherited)
        known = jax.eval_shape(design.policy, state, obs)[0].shape[-1]
        if known != actions:
            return f"the teacher has {known} actions and this body {actions}"
    heads = getattr(inherited, "heads", {})
    for name, source in carrier.begins.items():
        if name not in carrier.beside or source not in heads:
            return f"head {name} begins with {source}, which is no head of the parents"
    try:
        result = jax.eval_shape(carrier.hand_over, newborn, inherited, numbers)
        before, after = (jax.tree_util.tree_leaves_with_path(tree) for tree in (newborn, result))
        for (path, old), (_, new) in zip(before, after, strict=True):
            if old.shape != new.shape:
                name = jax.tree_util.keystr(path).removeprefix(".train_state.net.")
                name = name.removesuffix(".value")
                return f"{name} is {new.shape} in the parent and {old.shape} in this body"
    except AttributeError:
        return "this body has no networks to copy into"
    except (TypeError, ValueError) as error:
        return " ".join(str(error).split())[:120]
    return ""


class Raised(NamedTuple):
    """What became of R newborns.

    Attributes:
        curve: [R, chunks] share of training episodes that succeeded, 0 where none ended.
        alive: [R] bool, without a number that is not finite.
        scores: name -> [R, P] at the points at which they were scored; {} without points.
    """

    curve: np.ndarray
    alive: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def area(self) -> np.ndarray:
        """Area [R] under the learning curve: its mean; NaN for those that are not alive."""
        return np.where(self.alive, self.curve.mean(1), np.nan)


def raise_newborns(
    backend: Backend,
    upbringing: Upbringing,
    rows: Rows,
    parents: Any,
    inherited: Any,
    key: jax.Array,
    stopped: Callable[[], bool] = lambda: False,
    on_chunk: Callable[[int], None] = lambda done: None,
    points: EvalPoints | None = None,
    chunks: int = 0,
) -> Raised:
    """Train newborns, in blocks of the backend's rows, and score them -> what became of them.

    Args:
        backend: of their environment.
        upbringing: what they have in common.
        rows: R newborns.
        parents: [P] of `Parent`.
        inherited: what the carrier hands on, [P].
        key: of the newborns; that of a pair is folded in.
        stopped: returns whether the user requested a stop.
        on_chunk: receives, after each chunk of a block, the chunks of single newborns so far.
        points: at which they are scored in the end.
        chunks: of training, after which they are scored; 0 for all.

    Raises:
        Interrupted: if a stop is requested.
    """
    size, parts, done = backend.run_config.rows, [], 0
    config = replace(backend.run_config, chunks=chunks or backend.run_config.chunks)
    for first in range(0, rows.count, size):
        count, curve = min(size, rows.count - first), []

        def keep(chunk: Chunk, count: int = count, curve: list = curve) -> None:
            nonlocal done
            done += count
            curve.append(np.nan_to_num(chunk.metrics["success"][:count]))
            on_chunk(done)

        block = rows.block(first, size)
        phase = upbringing.phase(block, config, parents, inherited)
        start = partial(upbringing.start, backend, phase, block, inherited, key)
        state, alive = run_phase(backend, phase, start, stopped, on_chunk=keep)
        scores: dict[str, np.ndarray] = {}
        if points is not None:
            inputs = state.learner, upbringing.agent, points, stopped
            results = list(backend.evaluate(*inputs, numbers=phase.numbers))
            scores = {name: np.stack([r[name][:count] for r in results], 1) for name in results[0]}
        parts.append(Raised(np.stack(curve, 1), alive[:count], scores))
    return jax.tree.map(lambda *columns: np.concatenate(columns), *parts)


def of_pairs(tree: Any, rows: Rows) -> Any:
    """Leaves [P, ...] of pairs as [R, ...] of rows."""
    return take_seeds(tree, np.asarray(rows.pair))


def one_row(numbers: Mapping[str, jax.Array], row: int) -> dict[str, jax.Array]:
    """Numbers [] of one row."""
    return {name: value[row] for name, value in numbers.items()}
