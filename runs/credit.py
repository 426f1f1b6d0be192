"""Credit assignment: rank correlation of each head's signal with the advantage of every step.

One agent is trained while the heads learn beside it without paying it. Then every step of its
episodes is continued from the same state K times with the action that it took and K times with an
action that its policy draws, which estimates the advantage (`runs.probes.advantage`). The signal
that each head would have paid at that step is compared with it: rank correlation, and steps from a
blunder to the signal's minimum. Baselines: the agent's temporal-difference error, the task's
reward, the untrained heads, and the expected delay of an uninformative signal.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.cli.settings import check_recordable, fingerprint, parse_settings, run_main, shell_command
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import design as comparison_design
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.names import safe_name

COMMAND = "python -m runs.credit"
SHIFTS = ("cones", "aggressive", "cross", "ice")  # of Drive, at full severity
EPISODES, ROLLOUTS = 8, 16  # episodes at each point; pairs of branches at each step


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the study.

    Attributes:
        env: a jitted world: of this package, such as Drive, or of another, such as
            gymnax:CartPole-v1.
        heads: the heads to probe, or your own, my_head.py:Dread.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of shifts to evaluate; by default four of Drive's, elsewhere all.
        out: folder of the study; by default runs/logs/credit/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags override it.
        smoke: a test run of seconds through all of the code, without meaningful results.
        record: also write table and figure to runs/results/.
    """

    env: str = "Drive"
    heads: tuple[str, ...] = ("fear", "hope", "curiosity")
    seeds: int = 10
    steps: int = 0
    shifts: tuple[str, ...] = ()
    out: Path | None = None
    config: Path | None = None
    smoke: bool = False
    record: bool = False


def main(argv: list[str]) -> int:
    """Parse the arguments and run the study -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check_comparison(comparison(settings))
    check_recordable(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def comparison(settings: Settings) -> Comparison:
    """Settings of the comparison (`runs.compare`) with the same worlds, sizes and agent."""
    names = ("env", "heads", "seeds", "steps", "smoke", "out")
    shifts = settings.shifts or (SHIFTS if settings.env in ("Drive", "Timid") else ())
    return Comparison(shifts=shifts, **{name: getattr(settings, name) for name in names})


def study(settings: Settings, command: str, progress, stopped) -> int:
    """Train, branch and report in this process -> exit code."""
    from envs import is_jitted
    from runs.engine import devices

    devices.prepare_devices()
    if not is_jitted(settings.env):
        raise UserError(
            f"--env {settings.env}: branching needs a jitted environment, whose states can be "
            "copied; choose one that python -m envs.coverage lists"
        )
    from runs.engine.comparison import claim_folder
    from runs.engine.custom_head import file_digests

    design = comparison_design(comparison(settings))
    suite = replace(design.suite, severities=(1.0,))
    arm = next(arm for arm in design.arms if arm.name == "lesion")
    digest = fingerprint(settings, ("out", "config", "record"), file_digests(settings.heads))
    out = settings.out or Path("runs/logs/credit") / f"{safe_name(suite.name)}-{digest}"
    progress.total = design.run_config.chunks + design.run_config.rows
    with hold_lock(out), closing(design.trainer(suite, arm, design.run_config)) as trainer:
        claim_folder(out, digest)
        metrics = probe_seeds(trainer, out, settings.smoke, progress, stopped)
    if metrics is None:
        return 0
    progress.close()
    text = markdown(suite, metrics, command)
    print(text)
    for folder in [out] + ([Path("runs/results")] if settings.record else []):
        (folder / f"credit-{safe_name(suite.name)}.md").write_text(text)
        figure(suite, metrics, folder / f"credit-{safe_name(suite.name)}.png")
    return 0


def probe_seeds(trainer: Any, out: Path, smoke: bool, progress, stopped) -> dict[str, Any] | None:
    """Train, then probe every seed -> metrics, each [S, P]; None if interrupted."""
    import jax
    import numpy as np

    from runs.engine.cache import load_part, save_part
    from runs.engine.specialists import worlds_digest
    from runs.engine.train import seed_keys, vmap_seeds
    from runs.engine.training_loop import train_to_end

    run_config, suite = trainer.run_config, trainer.suite
    try:
        state, alive = train_to_end(trainer, out, progress, stopped)
    except Interrupted:
        return None
    together = len(jax.devices())
    probe = partial(_probe_seed, train_config=trainer.config, suite=suite, smoke=smoke)
    program = vmap_seeds(probe, together, 1, run_config.optimise)
    worlds = suite.worlds(jax.random.key(run_config.base + 1), 2 if smoke else EPISODES)
    keys, digest = (
        seed_keys(run_config.base + 7, np.arange(run_config.rows)),
        worlds_digest(jax.tree.leaves(state.learner)),
    )
    groups = []
    for begin in range(0, run_config.rows, together):
        part = out / "asked" / f"{begin}.json"
        saved = load_part(part, digest)
        if saved is None:
            if stopped():
                return None
            inputs = jax.tree.map(lambda x, b=begin: x[b : b + together], (state.learner, keys))
            metrics = program(*inputs, worlds)
            part.parent.mkdir(parents=True, exist_ok=True)
            lists = {name: np.asarray(leaf).tolist() for name, leaf in metrics.items()}
            save_part(part, {"settings": digest, "readouts": lists})
            saved = load_part(part, digest)
        groups.append(saved["readouts"])
        progress.advance("probing", run_config.chunks + begin + together)
    finite_seeds = np.flatnonzero(alive[: run_config.seeds])
    joined = {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}
    return {name: np.asarray(value, float)[finite_seeds] for name, value in joined.items()}


def _probe_seed(learner, key, worlds, *, train_config, suite, smoke):
    """Credit-assignment metrics of one seed, each [P]."""
    from runs.probes.advantage import credit_assignment
    from runs.probes.signals import wrapped_signals

    agent = train_config.agent

    def act(key, obs):
        return agent.act(learner.agent, key, obs)

    def td_error(batch):
        value = agent.value(learner.agent, batch.obs)[..., 0]
        next_value = agent.value(learner.agent, batch.next_obs)[..., 0]
        return batch.reward + agent.gamma * next_value * ~batch.terminated - value

    signals = wrapped_signals(train_config.blend, learner.blend_state, suite.env.spec, key)
    signals |= {"critic": td_error, "reward": lambda batch: batch.reward}
    rollouts = 2 if smoke else ROLLOUTS
    return credit_assignment(signals, act, suite.env, worlds, key, 1, rollouts, gamma=agent.gamma)


# --- report ---------------------------------------------------------------------------------------


def signal_names(metrics: dict) -> list[str]:
    """Names of the probed signals, in their order."""
    return [name.removesuffix("/credit") for name in metrics if name.endswith("/credit")]


def markdown(suite: Any, metrics: dict, command: str) -> str:
    """Report as Markdown: the finding, the table, the command and the machine."""
    from runs.engine import devices

    shifts = [point.shift for point in suite.points()]
    headings = ["signal", "at home", "over shifts", *shifts[1:], "delay", "delay less chance"]
    rows = [[name, *_cells(metrics, name)] for name in signal_names(metrics)]
    blunders, steps = metrics["blunders"].sum(), metrics["steps"].sum()
    error, spread = metrics["error"].mean(), metrics["spread"].mean()
    ceiling = max(1 - (error / spread) ** 2, 0.0) ** 0.5
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    table = "\n".join(map(" | ".join, [headings, ["---"] * len(headings), *rows]))
    return (
        f"# {suite.name}: credit assignment\n\n{finding(suite, metrics)}\n\n"
        f"![Credit by signal](credit-{suite.name.replace('/', '_')}.png)\n\n{table}\n\n"
        "Rank correlation of what a signal pays at a step with the true advantage of the action "
        "taken there, mean over seeds, t intervals at 95 %. The advantage is estimated from "
        f"{ROLLOUTS} pairs of branches (error {error:.3f}, spread {spread:.3f}), with which the "
        f"exact advantage would correlate by about {ceiling:.2f}. "
        f"`delay`: steps from a blunder ({blunders:,.0f} of {steps:,.0f} steps) to the signal's "
        "minimum in the next ten; `delay less chance`: less that of an uninformative signal.\n\n"
        f"`{command}`\n\n{machine}\n"
    )


def finding(suite: Any, metrics: dict) -> str:
    """Sentence with each head's rank correlation less that of the critic, with t intervals."""
    from runs.analysis import stats

    results, count = [], len(metrics["steps"])
    for name in signal_names(metrics):
        if name in ("critic", "reward") or name.endswith("_untrained"):
            continue
        differences = [
            finite(per_seed(metrics[f"{name}/credit"] - metrics[f"{other}/credit"]))
            for other in ("critic", f"{name}_untrained")
        ]
        if min(map(len, differences)) < stats.FEWEST:
            continue
        critic, untrained = (stats.mean(difference) for difference in differences)
        results.append(f"{name} {critic:+.3f} (less untrained {untrained:+.3f})")
    return (
        f"Rank correlation with the true advantage in {suite.name}, less that of the agent's own "
        f"temporal-difference error, mean over home and shifts, {count} seeds, paired t intervals "
        f"at 95 %: {'; '.join(results)}."
    )


def _cells(metrics: dict, name: str) -> list[str]:
    from runs.analysis import stats

    ranks, delay = metrics[f"{name}/credit"], metrics[f"{name}/delay"]

    def mean(seeds):
        kept = finite(seeds)
        return f"{stats.mean(kept):.3f}" if len(kept) >= stats.FEWEST else "-"

    def plain(values):
        kept = finite(values.ravel())
        return f"{kept.mean():.3f}" if len(kept) else "-"

    by_shift = [plain(ranks[:, i]) for i in range(1, ranks.shape[1])]
    delays = [plain(delay), plain(delay - metrics["chance"])]
    return [mean(ranks[:, 0]), mean(per_seed(ranks[:, 1:])), *by_shift, *delays]


def finite(values: Any) -> Any:
    """Finite entries of values [N]."""
    import numpy as np

    return values[np.isfinite(values)]


def per_seed(values: Any) -> Any:
    """Mean of the finite entries of each row of values [S, P], [S]; NaN if there are none."""
    import numpy as np

    is_finite = np.isfinite(values)
    total = np.where(is_finite, values, 0.0).sum(1)
    return np.where(is_finite.any(1), total / np.maximum(is_finite.sum(1), 1), np.nan)


def figure(suite: Any, metrics: dict, path: Path) -> None:
    """Save a figure of rank correlation by signal, one dot per seed, at home and over shifts."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = signal_names(metrics)
    sheet, axis = pyplot.subplots(figsize=(7, 0.42 * len(names) + 1.2), layout="constrained")
    places = {
        "at home": (slice(0, 1), "#2166ac", -0.15),
        "over shifts": (slice(1, None), "#b2182b", 0.15),
    }
    for place, (points, colour, offset) in places.items():
        for row, name in enumerate(names):
            seeds, y = finite(per_seed(metrics[f"{name}/credit"][:, points])), row + offset
            axis.scatter(seeds, np.full(len(seeds), y), 9, colour, alpha=0.45, linewidths=0)
            if len(seeds):
                axis.scatter(seeds.mean(), y, 60, colour, marker="|")
        axis.scatter([], [], 60, colour, marker="|", label=place)
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f"rank correlation with the true advantage, {suite.name}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", fontsize=8)
    sheet.savefig(path, dpi=120)
    pyplot.close(sheet)


if __name__ == "__main__":
    run_main(main)
