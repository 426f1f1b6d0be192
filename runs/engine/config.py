"""Sizes of a study (seeds, chunks, environments, steps, episodes), shared by all its arms."""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from affect import Spec
from agents.foreign import Foreign
from agents.wrapper import with_settings
from runs.errors import UserError
from runs.names import LARGEST


@dataclass(frozen=True)
class RunConfig:
    """Sizes of training and evaluation of one arm.

    Attributes:
        agent: static description of the agent, such as `PPO`.
        seeds: S, training runs per arm.
        rows: seeds computed: S rounded up to a multiple of the devices; the extra ones are ignored.
        chunks: of training per arm.
        updates: per chunk.
        num_envs: B, environments per seed.
        num_steps: T, steps of each environment per update.
        episodes: evaluated at each point.
        base: seed from which all keys are derived.
        optimise: whether to compile with XLA optimisation (for long runs).
    """

    agent: Any
    seeds: int
    rows: int
    chunks: int
    updates: int
    num_envs: int
    num_steps: int
    episodes: int
    base: int = 0
    optimise: bool = True

    @property
    def batch_steps(self) -> int:
        """Environment steps per seed and update: B x T."""
        return self.num_envs * self.num_steps

    @property
    def chunk_steps(self) -> int:
        """Environment steps per seed and chunk: updates x B x T."""
        return self.updates * self.batch_steps

    @property
    def steps(self) -> int:
        """Environment steps per seed."""
        return self.chunks * self.chunk_steps


def make_run_config(
    agent: Any,
    *,
    seeds: int,
    steps: int,
    num_envs: int,
    num_steps: int,
    episodes: int,
    chunks: int = 60,
    draws: int = 1,
    base: int = 0,
    optimise: bool = True,
) -> RunConfig:
    """Sizes from a number of steps: whole chunks of updates, rows that devices share evenly.

    Args:
        agent: the agent; a step size that is annealed over "all of training" (`anneal` is None)
            gets the number of updates.
        seeds: S.
        steps: environment steps per seed, rounded down to whole chunks, at least one update.
        num_envs: B.
        num_steps: T.
        episodes: evaluated at each point, rounded down to equally many in each of its worlds.
        chunks: into which training is divided, at most.
        draws: worlds at each point.
        base: seed from which all keys are derived.
        optimise: see `RunConfig`.

    Raises:
        UserError: for a size that is no whole number of at least 1, or samples of an update that do
            not divide into the minibatches of the agent.
    """
    import jax

    sizes = {"seeds": seeds, "steps": steps, "num_envs": num_envs, "num_steps": num_steps}
    for name, size in (sizes | {"episodes": episodes}).items():
        whole_number(name, size)
    samples = num_envs * num_steps
    if samples % getattr(agent, "minibatches", 1):
        raise UserError(
            f"num_envs={num_envs} times num_steps={num_steps} samples do not divide into "
            f"minibatches={agent.minibatches} of {type(agent).__name__}; change one of them"
        )
    devices = 1 if isinstance(agent, Foreign) else len(jax.devices())
    updates = max(steps // (num_envs * num_steps), 1)
    chunk_updates = max(updates // chunks, 1)
    chunk_count = updates // chunk_updates
    return RunConfig(
        agent=annealed(agent, chunk_count * chunk_updates),
        seeds=seeds,
        rows=-(-seeds // devices) * devices,
        chunks=chunk_count,
        updates=chunk_updates,
        num_envs=num_envs,
        num_steps=num_steps,
        episodes=episodes - episodes % min(draws, episodes),
        base=base,
        optimise=optimise,
    )


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """The value of a setting as Python's int; UserError unless whole, from `least` to LARGEST."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_whole and least <= value <= LARGEST):
        shown = f"{value!r}" if not is_whole or abs(value) < 10**30 else "a larger one"
        bound = f" of at least {least}" if not is_whole or value < least else f" up to {LARGEST:,}"
        raise UserError(f"{name}={shown}: expected a whole number{bound}")
    return int(value)


def annealed(agent: Any, updates: int) -> Any:
    """The agent with its step size annealed over `updates`, unless its `anneal` is a number."""
    if getattr(agent, "anneal", 0) is None:
        return with_settings(agent, anneal=updates)
    return agent


def head_spec(spec: Spec, agent: Any) -> Spec:
    """The spec that heads are built for: with the discount of the critic of their signals."""
    discount = getattr(agent, "signal_gamma", None)
    return replace(spec, discount=getattr(agent, "gamma", None) if discount is None else discount)


HEAD_STEPS = 600  # gradient steps that a head takes in a training, about
FEWEST_EPOCHS, MOST_EPOCHS = 2, 12  # of a head on one batch


def head_epochs(run_config: RunConfig) -> int:
    """Gradient steps of each head on each batch, so that it takes about HEAD_STEPS in a training.

    With fewer, heads of Drive still take a crash for an arrival at the end of the training.
    """
    epochs = round(HEAD_STEPS / (run_config.chunks * run_config.updates))
    return min(max(epochs, FEWEST_EPOCHS), MOST_EPOCHS)
