"""Does a feeling say which step was the good one, and how soon after a blunder?

One agent learns to act while the heads learn beside it, cut from it. Then every step of its
episodes is lived again, with the action that it took and with its own choice, K times each from the
same state: the true advantage (`runs.probes.advantage`). What each feeling would have paid at that
step is held against it: rank correlation, and steps from a blunder to the signal's lowest value.
Beside the heads stand the agent's own temporal-difference error, the task's reward, the heads
untrained, and what a signal that knows nothing would get.
"""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from runs.cli.settings import check_recordable, fingerprint, parse_settings, run_main, shell_command
from runs.compare import Settings as Comparison
from runs.compare import check as check_comparison
from runs.compare import design as compared
from runs.errors import UserError

COMMAND = "python -m runs.credit"
SHIFTS = ("cones", "aggressive", "cross", "ice")  # of Drive, at full severity
EPISODES, ROLLOUTS = 8, 16  # episodes at each point, and branches of each kind a step


@dataclass(frozen=True)
class Settings:
    """Settings of the study.

    Attributes:
        env: a jitted world: ours, such as Drive, or anybody's, such as gymnax:CartPole-v1.
        heads: the feelings to ask, or one's own, my_head.py:Dread.
        seeds: training runs, at least 3.
        steps: environment steps a seed; 0 for as many as runs.compare takes.
        shifts: names of shifts to ask under; by default four of Drive's, elsewhere all.
        out: folder of the study; by default runs/logs/credit/ENV-FINGERPRINT.
        config: a YAML file of these settings; flags go before it.
        smoke: a run of seconds that touches everything and means nothing.
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
    """Parses, then runs; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    check_comparison(comparison(settings))
    check_recordable(settings)
    from runs.cli.interrupt import run_with_progress

    command = shell_command(COMMAND, argv)
    return run_with_progress(command, partial(study, settings, command))


def comparison(settings: Settings) -> Comparison:
    """The comparison whose worlds, sizes and agent these are."""
    named = ("env", "heads", "seeds", "steps", "smoke", "out")
    shifts = settings.shifts or (SHIFTS if settings.env in ("Drive", "Timid") else ())
    return Comparison(shifts=shifts, **{name: getattr(settings, name) for name in named})


def study(settings: Settings, command: str, progress, stopped) -> int:
    """Training, branching and report in this process; the exit code."""
    from envs import is_jitted
    from runs.engine import devices

    devices.prepare_devices()
    if not is_jitted(settings.env):
        raise UserError(
            f"--env {settings.env}: a world has to be a function to be lived again; choose one "
            "that python -m envs.coverage lists"
        )
    from runs.engine.comparison import claim_folder
    from runs.engine.custom_head import file_digests
    from runs.lock import hold_lock
    from runs.report.tb_export import safe_name

    what = compared(comparison(settings))
    suite = replace(what.suite, severities=(1.0,))
    arm = next(arm for arm in what.arms if arm.name == "lesion")
    mark = fingerprint(settings, ("out", "config", "record"), file_digests(settings.heads))
    out = settings.out or Path("runs/logs/credit") / f"{safe_name(suite.name)}-{mark}"
    progress.total = what.run_config.chunks + what.run_config.rows
    with hold_lock(out), closing(what.trainer(suite, arm, what.run_config)) as trainer:
        claim_folder(out, mark)
        told = probe_seeds(trainer, out, settings.smoke, progress, stopped)
    if told is None:
        return 0
    progress.close()
    text = markdown(suite, told, command)
    print(text)
    for folder in [out] + ([Path("runs/results")] if settings.record else []):
        (folder / f"credit-{safe_name(suite.name)}.md").write_text(text)
        figure(suite, told, folder / f"credit-{safe_name(suite.name)}.png")
    return 0


def probe_seeds(trainer: Any, out: Path, smoke: bool, progress, stopped) -> dict[str, Any] | None:
    """Trains, then asks every seed -> what was told, each [S, P]; None if asked to stop."""
    import jax
    import numpy as np

    from runs.cli.interrupt import Interrupted
    from runs.engine.cache import load_part, save_part
    from runs.engine.specialists import worlds_digest
    from runs.engine.train import seed_keys, vmap_seeds
    from runs.engine.training_loop import train_to_end

    run_config, suite = trainer.run_config, trainer.suite
    try:
        run, alive = train_to_end(trainer, out, progress, stopped)
    except Interrupted:
        return None
    together = len(jax.devices())
    ask = partial(_probe_seed, train_config=trainer.train_config, suite=suite, smoke=smoke)
    program = vmap_seeds(ask, together, 1, run_config.optimise)
    worlds = suite.worlds(jax.random.key(run_config.base + 1), 2 if smoke else EPISODES)
    keys, mark = (
        seed_keys(run_config.base + 7, np.arange(run_config.rows)),
        worlds_digest(jax.tree.leaves(run.learner)),
    )
    told = []
    for begin in range(0, run_config.rows, together):
        part = out / "asked" / f"{begin}.json"
        found = load_part(part, mark)
        if found is None:
            if stopped():
                return None
            mine = jax.tree.map(lambda x, b=begin: x[b : b + together], (run.learner, keys))
            answer = program(*mine, worlds)
            part.parent.mkdir(parents=True, exist_ok=True)
            lists = {name: np.asarray(leaf).tolist() for name, leaf in answer.items()}
            save_part(part, {"recipe": mark, "told": lists})
            found = load_part(part, mark)
        told.append(found["told"])
        progress.advance("asking", run_config.chunks + begin + together)
    left = np.flatnonzero(alive[: run_config.seeds])
    joined = {name: np.concatenate([one[name] for one in told]) for name in told[0]}
    return {name: np.asarray(value, float)[left] for name, value in joined.items()}


def _probe_seed(learner, key, worlds, *, train_config, suite, smoke):
    """What one seed is told, each [P]."""
    from runs.probes.advantage import credit_assignment
    from runs.probes.signals import wrapped_signals

    agent = train_config.agent

    def act(key, obs):
        return agent.act(learner.agent, key, obs)

    def error(batch):
        here = agent.value(learner.agent, batch.obs)[..., 0]
        ahead = agent.value(learner.agent, batch.next_obs)[..., 0]
        return batch.reward + agent.gamma * ahead * ~batch.terminated - here

    signals = wrapped_signals(train_config.blend, learner.blend_state, suite.env.spec, key)
    signals |= {"critic": error, "reward": lambda batch: batch.reward}
    rollouts = 2 if smoke else ROLLOUTS
    return credit_assignment(signals, act, suite.env, worlds, key, 1, rollouts, gamma=agent.gamma)


# --- what was found -------------------------------------------------------------------------------


def signal_names(told: dict) -> list[str]:
    """The signals that were asked, in their order."""
    return [name.removesuffix("/credit") for name in told if name.endswith("/credit")]


def markdown(suite: Any, told: dict, command: str) -> str:
    """The finding, the tables, and what made them."""
    from runs.engine import devices

    shifts = [point.shift for point in suite.points()]
    heads = ["signal", "at home", "over shifts", *shifts[1:], "steps late", "less chance"]
    rows = [[name, *_cells(told, name)] for name in signal_names(told)]
    blunders, steps = told["blunders"].sum(), told["steps"].sum()
    error, spread = told["error"].mean(), told["spread"].mean()
    most = max(1 - (error / spread) ** 2, 0.0) ** 0.5
    machine = "; ".join(f"{key} {value}" for key, value in devices.describe_machine().items())
    table = "\n".join(map(" | ".join, [heads, ["---"] * len(heads), *rows]))
    return (
        f"# {suite.name}: who gets the credit?\n\n{finding(suite, told)}\n\n"
        f"![Credit by signal](credit-{suite.name.replace('/', '_')}.png)\n\n{table}\n\n"
        "Rank correlation of what a signal pays at a step with the true advantage of the action "
        "taken there, mean over seeds, t intervals at 95 %. The truth is an estimate from "
        f"{ROLLOUTS} pairs of branches (error {error:.3f}, spread {spread:.3f}), with which even a "
        f"signal that knew it all would correlate by about {most:.2f}. "
        f"`steps late`: from a blunder ({blunders:,.0f} of {steps:,.0f} steps) to the signal's "
        "lowest among the next ten; `less chance`: beside that of a signal that knows nothing.\n\n"
        f"`{command}`\n\n{machine}\n"
    )


def finding(suite: Any, told: dict) -> str:
    """Which head gives more credit than the agent's own critic, whichever way it falls."""
    from runs.analysis import stats

    said, count = [], len(told["steps"])
    for name in signal_names(told):
        if name in ("critic", "reward") or name.endswith("_untrained"):
            continue
        less = [
            finite(per_seed(told[f"{name}/credit"] - told[f"{other}/credit"]))
            for other in ("critic", f"{name}_untrained")
        ]
        if min(map(len, less)) < stats.FEWEST:
            continue
        critic, untrained = (stats.mean(one) for one in less)
        said.append(f"{name} {critic:+.3f} (less untrained {untrained:+.3f})")
    return (
        f"Rank correlation with the true advantage in {suite.name}, less that of the agent's own "
        f"temporal-difference error, mean over home and shifts, {count} seeds, paired t intervals "
        f"at 95 %: {'; '.join(said)}."
    )


def _cells(told: dict, name: str) -> list[str]:
    from runs.analysis import stats

    ranks, delay = told[f"{name}/credit"], told[f"{name}/delay"]

    def mean(seeds):
        left = finite(seeds)
        return f"{stats.mean(left):.3f}" if len(left) >= stats.FEWEST else "-"

    def plain(values):
        left = finite(values.ravel())
        return f"{left.mean():.3f}" if len(left) else "-"

    by_shift = [plain(ranks[:, i]) for i in range(1, ranks.shape[1])]
    late = [plain(delay), plain(delay - told["chance"])]
    return [mean(ranks[:, 0]), mean(per_seed(ranks[:, 1:])), *by_shift, *late]


def finite(values: Any) -> Any:
    """Those of values [N] that are numbers."""
    import numpy as np

    return values[np.isfinite(values)]


def per_seed(values: Any) -> Any:
    """The mean of each row of values [S, P] over what is a number there, [S]."""
    import numpy as np

    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(1)
    return np.where(there.any(1), total / np.maximum(there.sum(1), 1), np.nan)


def figure(suite: Any, told: dict, path: Path) -> None:
    """Every seed a dot: credit by signal, at home and over shifts."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = signal_names(told)
    sheet, axis = pyplot.subplots(figsize=(7, 0.42 * len(chosen) + 1.2), layout="constrained")
    places = {
        "at home": (slice(0, 1), "#2166ac", -0.15),
        "over shifts": (slice(1, None), "#b2182b", 0.15),
    }
    for place, (points, colour, aside) in places.items():
        for row, name in enumerate(chosen):
            seeds, y = finite(per_seed(told[f"{name}/credit"][:, points])), row + aside
            axis.scatter(seeds, np.full(len(seeds), y), 9, colour, alpha=0.45, linewidths=0)
            if len(seeds):
                axis.scatter(seeds.mean(), y, 60, colour, marker="|")
        axis.scatter([], [], 60, colour, marker="|", label=place)
    axis.axvline(0, color="#888888", linewidth=0.8)
    axis.set_yticks(range(len(chosen)), chosen)
    axis.invert_yaxis()
    axis.set_xlabel(f"rank correlation with the true advantage, {suite.name}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", fontsize=8)
    sheet.savefig(path, dpi=120)
    pyplot.close(sheet)


if __name__ == "__main__":
    run_main(main)
