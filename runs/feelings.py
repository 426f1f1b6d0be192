"""Signal traces: what does each head emit at every step of one episode?

Trains an agent on the task reward alone, and beside it every head whose inputs the environment
reports, then draws one episode: frames above, the signal of each head below.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.cli.settings import StudySettings, run_main
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, run_study
from runs.errors import UserError
from runs.names import checked_choice, safe_name
from runs.report.page import Page, markdown_table, page_text
from runs.report.plots import new_figure, save_figure

COMMAND = "python -m runs.feelings"
NUM_ENVS = 8
PICTURES, GAP = 6, 8  # frames in the figure, and pixels between them
REWARD = "(task reward)"


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the figure.

    Attributes:
        env: an environment of this project, such as FoodShare.
        shift: applied to the drawn episode; none by default.
        severity: of that shift, in [0, 1].
        steps: environment steps of training.
        seed: of all random numbers.
    """

    env: str = "FoodShare"
    shift: str = ""
    severity: float = 1.0
    steps: int = 3_000
    seed: int = 0


def check(settings: Settings) -> None:
    """Reject invalid settings, without importing jax.

    Raises:
        UserError: for an unknown environment, a number out of range, or recording a smoke run.
    """
    from envs import SUITES

    checked_choice("env", settings.env, SUITES)
    if settings.steps < 1 or not 0 <= settings.severity <= 1:
        raise UserError("--steps must be positive and --severity within [0, 1]")
    check_shared(settings)


def study(job: Job) -> Page:
    """Train, record one episode, and report the range of each signal."""
    settings = job.settings
    title = settings.env + (f"-{settings.shift}" if settings.shift else "")
    name = f"feelings-{safe_name(title)}"
    frames, signals = record_episode(job)
    rows = [(head, f"{x.min():+.3f}", f"{x.max():+.3f}") for head, x in signals.items()]
    sections = [
        f"![Signals]({name}.png)",
        markdown_table(("signal", "least", "most"), rows),
        f"One episode of {len(frames)} steps, whose actions are drawn from the policy.",
    ]
    text = page_text(f"{title}: signal of each head over one episode", sections, job.command)
    return Page(name, text, {"": partial(draw_episode, frames, signals, title)})


def record_episode(job: Job) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Train, then record one episode -> frames [T, H, W, 3], signals by head and the reward [T].

    Raises:
        UserError: for an unknown shift.
        Interrupted: if the user requested a stop.
    """
    import jax

    from runs.engine.episodes import episode_length, record_horizon, render_states
    from runs.engine.presets import find_suite
    from runs.engine.seeds import FAST_COMPILE, Stream, stream_key

    settings = job.settings
    suite = find_suite(settings.env, (settings.shift,) if settings.shift else ())
    phase, learner = train(job, suite)

    def play(learner, world, key):
        act = partial(phase.agent.act, learner.agent)
        states, batch = record_horizon(act, suite.env, NUM_ENVS, world, key)
        return states, batch, phase.blend.feel(learner.blend_state, batch)[0]

    world = suite.world
    if settings.shift:
        key = stream_key(settings.seed, Stream.EVALUATION_WORLDS)
        world = suite.shifts[0](world, settings.severity, key)
    program = jax.jit(play, compiler_options=FAST_COMPILE)
    states, batch, signals = program(learner, world, stream_key(settings.seed, Stream.FILM))
    length, signals = episode_length(batch), np.asarray(signals)
    by_name = {name: signals[:, 0, k] for k, name in enumerate(phase.blend.names)}
    by_name[REWARD] = np.asarray(batch.reward)[:, 0]
    frames = render_states(suite.env, world, states, length)
    return frames, {name: signal[:length] for name, signal in by_name.items()}


def train(job: Job, suite: Any) -> tuple[Any, Any]:
    """Train one seed on the task reward, heads beside it -> (phase, learner).

    Raises:
        Interrupted: if the user requested a stop.
    """
    from affect import Blend
    from agents.ppo import PPO
    from runs.engine.backend import make_backend
    from runs.engine.config import head_epochs, make_run_config
    from runs.engine.phases import Phase, RewardMix, one_world, signal_weights
    from runs.engine.seeds import take_seeds
    from runs.engine.training_loop import run_phase

    smoke = job.settings.smoke
    config = make_run_config(
        PPO(lr=1e-3, anneal=0),
        seeds=1,
        steps=1 if smoke else job.settings.steps,
        num_envs=NUM_ENVS,
        num_steps=32 if smoke else 128,
        episodes=1,
        base=job.settings.seed,
        optimise=not smoke,
    )
    heads = {name: (1.0, factory) for name, factory in available_factories(suite).items()}
    blend = Blend(epochs=head_epochs(config), **heads)
    sizes = config.chunks, config.updates, config.agent, blend
    task_only = RewardMix(signals=signal_weights(blend, {}))
    phase = Phase(one_world(suite.world), *sizes, mix=task_only)
    backend, job.progress.total = make_backend(suite.env, config), config.chunks
    trained = run_phase(
        backend,
        phase,
        partial(backend.init, phase),
        job.stopped,
        on_chunk=lambda chunk: job.progress.advance("training", chunk.index + 1),
    )
    return phase, take_seeds(trained.state.learner, 0)


def available_factories(suite: Any) -> dict[str, Any]:
    """Factories by name of all heads whose inputs the environment reports, without weights."""
    import jax
    from flax import nnx

    from affect import Care, Curiosity, Fear, Homeostasis, Hope, MissingInfo, Mood, Satiation

    body = partial(Homeostasis, setpoint=suite.setpoint)
    factories = {
        "hope": Hope,
        "fear": Fear,
        "curiosity": Curiosity,
        "mood": Mood,
        "satiation": Satiation,
        "homeostasis": body,
        "care": Care(body),
    }
    if suite.innate is not None:
        factories["innate"] = suite.innate

    def fits(factory):
        try:
            jax.eval_shape(lambda: factory(suite.env.spec, rngs=nnx.Rngs(0)))
        except MissingInfo:
            return False
        return True

    return {name: factory for name, factory in factories.items() if fits(factory)}


def draw_episode(
    frames: np.ndarray, signals: dict[str, np.ndarray], title: str, path: Path
) -> None:
    """Draw frames of the episode, and below them each signal against the same steps."""
    steps = np.linspace(0, len(frames) - 1, min(PICTURES, len(frames))).round().astype(int)
    size, count = (10, 1.9 + 0.75 * len(signals)), len(signals)
    figure, axes = new_figure(1 + count, 1, size, height_ratios=[2.3] + [1] * count)
    pictures, *panels = axes[:, 0]
    shown = np.pad(frames[steps], ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    pictures.imshow(np.concatenate(shown, axis=1))
    for i, step in enumerate(steps):
        pictures.text(i * shown.shape[2], 0, f"step {step}", va="bottom", fontsize=9)
    pictures.set_axis_off()
    for axis, (name, signal) in zip(panels, signals.items(), strict=True):
        axis.plot(signal, color="#777777" if name == REWARD else "#2166ac", linewidth=1.4)
        axis.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        for step in steps:
            axis.axvline(step, color="#dddddd", linewidth=0.6, zorder=0)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        axis.tick_params(labelsize=8, labelbottom=name == REWARD)
    panels[-1].set_xlabel("step")
    figure.suptitle(f"Signal of each head over one episode of {title}", fontsize=11)
    save_figure(figure, path)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
