"""Signal traces: what does each head emit at every step of one episode?

Trains an agent on the task reward alone, and beside it every head whose inputs the environment
reports (at weight 0), then draws one episode: frames above, the signal of each head below.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError
from runs.names import checked_choice

COMMAND = "python -m runs.feelings"
PICTURES = 6


@dataclass(frozen=True)
class Settings:
    """Settings of the figure.

    Attributes:
        env: an environment of this project, such as FoodShare.
        shift: applied to the drawn episode; none by default.
        severity: of that shift, in [0, 1].
        steps: environment steps of training.
        seed: of all random numbers.
        out: file of the figure; by default runs/logs/feelings/ENV.png.
        config: a YAML file of these settings; flags override it.
        smoke: a run of seconds to test the code; its figure means nothing.
        record: write the figure to runs/results/ instead.
    """

    env: str = "FoodShare"
    shift: str = ""
    severity: float = 1.0
    steps: int = 3_000
    seed: int = 0
    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Train, play one episode and draw it -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if settings.steps < 1 or not 0 <= settings.severity <= 1:
        raise UserError("--steps must be positive and --severity within [0, 1]")
    name = settings.env + (f"-{settings.shift}" if settings.shift else "")
    folder = Path("runs/results" if settings.record else "runs/logs/feelings")
    path = settings.out or folder / (f"feelings-{name}.png" if settings.record else f"{name}.png")
    frames, signals, reward = episode(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_episode(frames, signals | {"(task reward)": reward}, name, path)
    for head, signal in signals.items():
        print(f"{head:12} {signal.min():+.3f} to {signal.max():+.3f}")
    print(f"{len(reward)} steps, drawn in {path}")
    return 0


def episode(settings: Settings) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Train, then play one episode -> frames [T, H, W, 3], signals by head [T], reward [T].

    Raises:
        UserError: for an unknown environment or shift.
    """
    from runs.engine import devices

    devices.prepare_devices()
    import jax
    import jax.numpy as jnp

    from affect import Blend
    from agents.ppo import PPO
    from envs import SUITES, load_suite
    from runs.engine.jax_backend import record_horizon
    from runs.engine.jax_backend import render_states as render
    from runs.engine.train import FAST_COMPILE, TrainConfig, init_runner, train
    from runs.report.episode_trace import episode_length

    suite = load_suite(checked_choice("env", settings.env, SUITES))
    world = suite.world
    if settings.shift:
        shifts = {shift.name: shift for shift in suite.shifts}
        shift = shifts[checked_choice("shift", settings.shift, shifts)]
        world = shift(world, settings.severity, jax.random.key(settings.seed))
    num_envs, num_steps = 8, 32 if settings.smoke else 128
    updates = 1 if settings.smoke else max(settings.steps // (num_envs * num_steps), 1)
    blend = Blend(
        parts=num_envs,
        **{name: (0.0, factory) for name, factory in available_factories(suite).items()},
    )
    train_config = TrainConfig(PPO(lr=1e-3), blend, num_envs, num_steps)
    unshifted = lambda key: suite.world  # noqa: E731

    @partial(jax.jit, compiler_options=FAST_COMPILE if settings.smoke else None)
    def learn(key):
        run = init_runner(key, train_config, suite.env, unshifted)
        return train(run, train_config, suite.env, unshifted, updates)[0].learner

    learner = learn(jax.random.key(settings.seed))
    blend_state = learner.blend_state._replace(weights=jnp.ones_like(learner.blend_state.weights))
    learner = learner._replace(blend_state=blend_state)
    play = jax.jit(
        partial(record_horizon, train_config, suite.env, world, greedy=False),
        compiler_options=FAST_COMPILE,
    )
    states, batch, signals = play(learner, jax.random.key(settings.seed + 1))
    length = episode_length(batch)
    frames = render(suite.env, world, states, length)
    signals = np.asarray(signals)[:length, 0]
    by_head = {name: signals[:, k] for k, name in enumerate(blend.names)}
    return frames, by_head, np.asarray(batch.reward)[:length, 0]


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


def draw_episode(frames: np.ndarray, rows: dict[str, np.ndarray], title: str, path: Path) -> None:
    """Draw frames of the episode, and below them each signal against the same steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = np.linspace(0, len(frames) - 1, min(PICTURES, len(frames))).round().astype(int)
    figure = pyplot.figure(figsize=(10, 1.9 + 0.75 * len(rows)), constrained_layout=True)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.7, 0.75 * len(rows)])
    for axis, step in zip(upper.subplots(1, len(steps), squeeze=False)[0], steps, strict=True):
        axis.imshow(frames[step])
        axis.set_title(f"step {step}", fontsize=9)
        axis.set_axis_off()
    axes = lower.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, signal) in zip(axes, rows.items(), strict=True):
        axis.plot(signal, color="#2166ac" if name[0] != "(" else "#777777", linewidth=1.4)
        axis.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
        for step in steps:
            axis.axvline(step, color="#dddddd", linewidth=0.6, zorder=0)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("step")
    figure.suptitle(f"Signal of each head over one episode of {title}", fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    run_main(main)
