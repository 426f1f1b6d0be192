"""Phase: a stretch of training in some worlds, with some rewards, some parts reinitialised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, TrainState
from envs.suite import Suite
from envs.world import World
from runs.errors import UserError

Sampler = jax.tree_util.Partial  # key -> World; its leaves are data, its function is compiled in
Value = Any  # a number, an array, or a function of the index of the update that returns one


class RewardMix(NamedTuple):
    """Weights of the rewards that an agent is trained on; None leaves a reward as it is.

    Each is a number or an array, which all arms of one compiled program may have differently, or a
    function of the index of the update within its phase, such as a weight that fades.

    Attributes:
        task: weight of the task's reward, [] or [1, B] (one for each environment).
        signals: weights [K] of the blend's signals, on top of the blend's own. A frozen head of
            weight 0 is not computed.
        yoked: [] or [K], 1 to use a signal of the neighbouring environment, less its mean over
            the batch, 0 to use the environment's own.
        discount: [] of the agent, instead of its own; potentials keep the one they were built with.
        teacher: [] weight of the imitation of the phase's teacher.
    """

    task: Value = None
    signals: Value = None
    yoked: Value = None
    discount: Value = None
    teacher: Value = None

    def at(self, updates: np.ndarray) -> "RewardMix":
        """Evaluate the mix at update indices [U] -> the mix with leading axis U, float32."""

        def evaluate(value: Value) -> np.ndarray:
            values = [value(int(i)) if callable(value) else value for i in updates]
            return np.stack([np.asarray(value, np.float32) for value in values])

        return RewardMix(*(None if value is None else evaluate(value) for value in self))


TASK = RewardMix()


def signal_weights(blend: Blend, weights: Mapping[str, float]) -> jax.Array:
    """Weights [K] of a blend's signals from weights by name; heads not named get 0.

    Raises:
        ValueError: for a name that is not in the blend.
    """
    for name in weights:
        if name not in blend.names:
            available = ", ".join(blend.names) or "none"
            raise ValueError(f"{name} is no head of this blend: its heads are {available}")
    return jnp.array([weights.get(name, 0.0) for name in blend.names], jnp.float32)


class Teacher(NamedTuple):
    """Whose policy the learners of a phase imitate, with the weight `RewardMix.teacher`.

    Attributes:
        agent: its static description, with `policy(state, obs)` (`agents.actor_critic`).
        state: of all seeds, leaves [S, ...].
    """

    agent: Any
    state: Any


@dataclass(frozen=True)
class Phase:
    """A stretch of a learner's training.

    Attributes:
        worlds: key -> the world of an episode (`one_world`, `random_worlds`, `world_pool`).
        chunks: into which it is divided, for checkpoints and metrics.
        updates: in a chunk.
        agent: static description of the agent; it may differ from that of the phase before.
        blend: the heads; those of a name that the phase before had keep their state.
        mix: weights of task reward and signals.
        heads: whether the heads learn or are frozen.
        renew: parts of the learner that begin anew: of RENEWABLE.
        hand_over: how the learner enters, (learner, untrained learner) of one seed -> learner; it
            is applied after `renew`, for example to soften a policy.
        teacher: whose policy the agent imitates; None for none.
        per_seed: whether each of S seeds has worlds and a mix of its own: all leaves of `worlds`
            and all values of `mix` have a leading axis [S]. In jitted worlds alone.
        numbers: settings of the agent that are data of the program of training, instead of its own
            values: name -> [S, ...], one for each seed, such as {"lr": [S]}, or {"actions": [S, A]}
            of a body; the teacher gets those that it has. Heads are built for the agent's own
            discount. In jitted worlds alone.
    """

    worlds: Sampler
    chunks: int
    updates: int
    agent: Any
    blend: Blend
    mix: RewardMix = TASK
    heads: Literal["learn", "frozen"] = "learn"
    renew: tuple[str, ...] = ()
    hand_over: Callable[[Any, Any], Any] | None = None
    teacher: Teacher | None = None
    per_seed: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        unknown = [name for name in self.renew if name not in RENEWABLE]
        if unknown:
            raise ValueError(f"renew: {unknown[0]} is none of {', '.join(RENEWABLE)}")
        if (self.teacher is None) != (self.mix.teacher is None):
            raise ValueError("a phase with a teacher needs the weight mix.teacher, and no other")
        for name in self.numbers:
            if not isinstance(getattr(self.agent, name, None), float | tuple):
                kind = type(self.agent).__name__
                raise ValueError(f"numbers: {name} of {kind} is no float or tuple to replace")

    def mixes(self, first: int) -> list[RewardMix]:
        """Mix of each update of a chunk from `first` on: leaves [...], or [S, ...] of each seed."""
        mix = self.mix.at(np.arange(first, first + self.updates))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], mix) for i in range(self.updates)]

    def check_seeds(self, count: int) -> None:
        """Check that all data that each seed has of its own are given for `count` = S seeds.

        Raises:
            UserError: for data without a leading axis of this length.
        """
        data: dict[str, Any] = {"numbers": dict(self.numbers)}
        if self.per_seed:
            data |= {"worlds": self.worlds, "mix": self.mixes(0)[0]}
        for path, leaf in jax.tree_util.tree_leaves_with_path(data):
            if (shape := jnp.shape(leaf))[:1] != (count,):
                raise UserError(
                    f"{jax.tree_util.keystr(path)} has the shape {shape}: where each seed has its "
                    f"own, the first axis is that of the {count} seeds that are computed"
                )


# --- worlds -----------------------------------------------------------------------------------


def one_world(world: World) -> Sampler:
    """Sampler of one and the same world, which becomes a constant of the compiled program."""
    return Sampler(lambda key: world)


def random_worlds(suite: Suite) -> Sampler:
    """Sampler of the suite's domain randomisation at full severity."""
    return Sampler(lambda key: suite.randomised(suite.world, 1.0, key))


def world_pool(worlds: World) -> Sampler:
    """Sampler that draws uniformly from worlds [N], which are data: all pools share a program."""
    return Sampler(sample_world, worlds)


def sample_world(pool: World, key: jax.Array) -> World:
    """Draw one world uniformly from a pool [N]."""
    index = jax.random.randint(key, (), 0, pool.channel.noise.shape[0])
    return jax.tree.map(lambda leaf: leaf[index], pool)


def flat_worlds(worlds: World, points: list[int]) -> World:
    """Flatten the worlds [P, draws] of some points into one pool [N]."""
    return jax.tree.map(lambda leaf: leaf[np.array(points)].reshape(-1, *leaf.shape[2:]), worlds)


# --- what is carried from phase to phase ------------------------------------------------------

PARTS = {
    "policy": ("actor",),
    "critic": ("critic",),
    "trunk": ("actor.trunk", "critic.trunk", "encoder"),
    "output": ("actor.out", "critic.out"),
}
RENEWABLE = ("agent", "optimiser", "heads", *PARTS)
"""Parts of a learner that a phase can begin anew; those of PARTS are of an actor-critic network."""


def carry_over(
    learner: Any,
    untrained: Any,
    renew: tuple[str, ...] = (),
    hand_over: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Learner of one seed at the beginning of a phase, from the one before and an untrained one.

    The optimiser state is new whenever a part of the network is, or if "optimiser" is renewed.

    Args:
        learner: at the end of the phase before.
        untrained: of the phase, with new keys.
        renew: parts that begin anew, of RENEWABLE.
        hand_over: applied last (see `Phase`).
    """
    agent, heads = learner.agent, learner.blend_state
    if "agent" in renew:
        agent = untrained.agent
    elif renewed := [part for part in renew if part != "heads"]:
        agent = _renewed_agent(agent, untrained.agent, renewed)
    if "heads" in renew or heads.heads.keys() != untrained.blend_state.heads.keys():
        heads = _shared_heads(heads, untrained.blend_state, "heads" in renew)
    learner = learner._replace(agent=agent, blend_state=heads)
    return learner if hand_over is None else hand_over(learner, untrained)


def _renewed_agent(agent: Any, untrained: Any, parts: list[str]) -> Any:
    """Agent state with some parts of its network, and its optimiser, from an untrained one."""
    net = jax.tree.map(lambda leaf: leaf, agent.train_state.net)  # a copy, to be changed
    for path in (path for part in parts for path in PARTS.get(part, ())):
        parent, _, name = path.rpartition(".")
        module = attrgetter(parent)(net) if parent else net
        setattr(module, name, attrgetter(path)(untrained.train_state.net))
    return agent._replace(train_state=TrainState(net, untrained.train_state.opt_state))


def _shared_heads(heads: Any, untrained: Any, renew: bool) -> Any:
    """Blend state of the new blend, with the heads that the old one also had unless `renew`."""
    if renew:
        return untrained
    kept = {name: heads.heads.get(name, state) for name, state in untrained.heads.items()}
    carry = {name: heads.carry.get(name, state) for name, state in untrained.carry.items()}
    return untrained._replace(heads=kept, carry=carry)
