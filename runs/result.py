"""Result of an experiment: scores, curves, contrasts, reports, and the trained heads and agents."""

import html
import json
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from affect import Head, Transition
from affect.observation import reading
from agents.foreign import Foreign
from runs.analysis.contrasts import Contrast, contrasts
from runs.analysis.scores import check_complete, read_scores, seed_means
from runs.arm_runner import METRICS, ArmRunner, Reporter
from runs.engine.critic_head import critic_head
from runs.engine.evaluate import draw_points
from runs.engine.knobs import knob_values
from runs.engine.phases import Phase
from runs.engine.seeds import take_seeds
from runs.engine.train import Learner
from runs.errors import UserError
from runs.names import checked_choice
from runs.prereg import audit, ledger, plan_file, seal
from runs.prereg.manifest import enter_manifest
from runs.probes.signals import unwrapped
from runs.report.comparison import report_comparison
from runs.report.episode_trace import EpisodeTrace
from runs.report.tables import comparison_table
from runs.report.verdict import Study, verdict_sentence


class Result:
    """Result of a finished experiment, read from its folder.

    Args:
        experiment: that was run, a `runs.experiment.Experiment`.
        out: its folder.
        folder: the temporary folder that `out` is, to be deleted with the result; None otherwise.
    """

    def __init__(self, experiment: Any, out: Path, folder: Any = None):
        self.experiment, self.out, self._folder = experiment, Path(out), folder
        self._learners: dict[str, Learner] = {}

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores at the public points: a row per arm, seed, shift and severity.

        `score` is `success`, or `return` where the environment defines no success; `harm`,
        `hidden` and `other_goal` are NaN where it reports none. Shift "none" is unshifted.
        """
        return pd.DataFrame(self.rows("dev"))

    @cached_property
    def sealed_scores(self) -> pd.DataFrame:
        """Scores of the sealed shifts, as `scores`; empty without sealed shifts."""
        return pd.DataFrame(self.rows("sealed"))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Training metrics: a row per arm, seed and step, a column per metric.

        `return`, `length` and `success` are means over the episodes that ended since the step
        before; those of heads are called `HEAD/METRIC`. NaN where no episode ended.
        """
        rows = []
        for line in map(json.loads, (self.out / METRICS).read_text().splitlines()):
            for seed in range(self.experiment.run_config.seeds):
                values = {name: column[seed] for name, column in line["metrics"].items()}
                rows.append({"arm": line["arm"], "seed": seed, "step": line["step"]} | values)
        return pd.DataFrame(rows).astype({"step": int})

    def rows(self, split: str) -> list[dict]:
        """Score rows of a split, "dev" or "sealed", in the order of the arms."""
        path = self.out / seal.SCORES[split]
        rows = read_scores(path) if path.exists() else []
        order = {arm.name: i for i, arm in enumerate(self.experiment.all_arms)}
        return sorted(rows, key=lambda row: order.get(row["arm"], len(order)))

    def contrast(self, arm: str, reference: str, paired: bool = False) -> Contrast:
        """Difference of two arms in the mean over shifts, with its interval and p-value.

        Args:
            arm: the arm whose scores are compared.
            reference: the arm whose scores are subtracted.
            paired: by a paired t test over seeds; otherwise by Welch's test.

        Raises:
            UserError: for an unknown arm.
        """
        for name in (arm, reference):
            self._arm(name)
        scores = seed_means(self.rows("dev"), (arm, reference), paired=paired)
        return contrasts(scores, [(arm, reference)], paired)[0]

    def report(self) -> Path:
        """Write tables, figures, TensorBoard aggregates and the HTML report -> its path."""
        path = report_comparison(self.out, self._complete_rows(), self.study(), quiet=True)
        enter_manifest(self.out)
        return path

    def print_report(self, command: str, record: bool) -> None:
        """Write all reports and print the tables, the verdict, and where the files are."""
        report_comparison(self.out, self._complete_rows(), self.study(command), record)
        enter_manifest(self.out)

    def tensorboard(self) -> Path:
        """Folder of the TensorBoard files: give it to `tensorboard --logdir`."""
        return self.out / "tb"

    @property
    def verdict(self) -> str:
        """The declared contrast in one sentence."""
        return verdict_sentence(self._complete_rows(), self.study())

    def head(self, arm: str, name: str, seed: int = 0) -> Head:
        """The trained head of one seed, without its wrappers.

        Args:
            arm: of the experiment.
            name: of the head in the arm's blend.
            seed: of the training run.

        Raises:
            UserError: for an unknown arm, head or seed.
        """
        blend_state = self._learner(arm, seed).blend_state
        checked_choice("head", name, blend_state.heads)
        head, _ = unwrapped(blend_state.heads[name].net, blend_state.carry[name])
        return self._with_facts(head, seed)

    def value(self, arm: str, seed: int = 0) -> Head:
        """The critic of the agent of one seed as a head, `affect.Value`: the value of the task.

        Args:
            arm: of the experiment.
            seed: of the training run.

        Raises:
            UserError: for an unknown arm or seed, or an agent without a critic network.
        """
        agent, state = self.experiment.run_config.agent, self._learner(arm, seed).agent
        env = self.experiment.suite.env
        if isinstance(agent, Foreign):
            from runs.engine.foreign_training import foreign_critic

            return self._with_facts(foreign_critic(agent, state, env), seed)
        return self._with_facts(critic_head(agent, state, env.spec), seed)

    def agent(self, arm: str, seed: int = 0) -> "TrainedAgent":
        """The trained agent of one seed, which acts and values observations as NumPy arrays.

        Raises:
            UserError: for an unknown arm or seed, or an agent of another library.
        """
        agent = self.experiment.run_config.agent
        if isinstance(agent, Foreign):
            raise UserError(f"{agent.name} acts by its library: read its scores and recordings")
        dtype = self.experiment.suite.env.spec.dtype
        return TrainedAgent(agent, self._learner(arm, seed).agent, dtype)

    def recordings(self, arm: str, episodes: int) -> Iterator[tuple[Transition, np.ndarray]]:
        """Whole episodes of the trained agents -> (transitions, alive), each [S, T, B].

        At home first, then at each public point.

        Raises:
            UserError: for an unknown arm.
        """
        self._learner(arm, 0)
        experiment = self.experiment
        with closing(experiment.make_backend()) as backend:
            points = draw_points(experiment.split("dev"), backend.draws, experiment.base)
            agent, learner = experiment.run_config.agent, self._learners[arm]
            yield from backend.record(learner, agent, points, lambda: False, episodes)

    def episode(
        self, arm: str, shift: str = "none", severity: float = 0.0, seed: int = 0
    ) -> tuple[str, EpisodeTrace]:
        """Record one episode of a trained agent with the signal of each step -> (title, trace).

        Every arm and shift is recorded under the same random key. `runs.report.html.write_replay`
        plays episodes.

        Args:
            arm: of the experiment.
            shift: public, or "none".
            severity: one that was scored.
            seed: of the training run.

        Raises:
            UserError: for an unknown arm, shift, severity or seed, or a world that is not drawn.
        """
        experiment, messages = self.experiment, []
        suite = experiment.split("dev")
        places = [(point.shift, point.severity) for point in suite.points()]
        if (shift, severity) not in places:
            checked_choice("shift", shift, dict(places))
            scored = ", ".join(f"{place[1]:g}" for place in places if place[0] == shift)
            raise UserError(f"severity {severity:g} of {shift}: not scored, only {scored}")
        learner = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self._learner(arm, seed))
        with closing(experiment.make_backend()) as backend:
            points = draw_points(suite, backend.draws, experiment.base)
            reporter = Reporter(messages.append, lambda *progress: None, lambda: False)
            runner = ArmRunner(self.out, experiment.suite, backend, reporter)
            index, phase = places.index((shift, severity)), experiment.phases[arm]
            traced = runner.trace(self._arm(arm), phase, learner, points, index)
        if traced is None:
            raise UserError(messages[-1])
        return traced

    def study(self, command: str = "") -> Study:
        """What reports state about this experiment beside its scores."""
        plan, run_config = self.experiment.plan, self.experiment.run_config
        try:
            declared = plan_file.read_plan(self.out / plan_file.PLAN_FILE)
        except UserError:
            declared = None
        compares = declared is not None and declared.primary  # a single arm has no contrast
        entries = ledger.read_entries(self.out / ledger.NAME)
        return Study(
            env=plan.env,
            arms=plan.arms,
            seeds=run_config.seeds,
            steps=run_config.steps,
            episodes=run_config.episodes,
            command=command,
            contrasts=(declared.primary, *declared.secondary) if compares else (),
            declared_seeds=declared.seeds if declared else 0,
            plan_hash=declared.hash if declared else "",
            without=plan.without,
            changes=plan_file.plan_changes(declared, plan) if declared else (),
            watermark=audit.watermark(self.out),
            looks=audit.looks_sentence(self.out),
            ledger=[entry for entry in entries if entry.split != ledger.FILES],
            sealed_rows=self.rows("sealed"),
            knobs={
                arm.name: knob_values(run_config.agent, arm.blend)
                for arm in self.experiment.all_arms
            },
            reading=reading(self.experiment.suite.env.spec),
        )

    def _with_facts(self, head: Head, seed: int) -> Head:
        """The head with what the card of its file states about its training."""
        steps = self.experiment.run_config.steps
        return head.with_facts(world=self.experiment.suite.name, steps=steps, seeds=(seed,))

    def _repr_html_(self) -> str:
        """The verdict and the table of scores, for a notebook."""
        rows = self._complete_rows()
        table = comparison_table(rows, self.experiment.plan.arms, self.experiment.suite.name)
        return f"<p>{html.escape(self.verdict)}</p>{table.cells.to_html(index=False)}"

    def _complete_rows(self) -> list[dict]:
        """Public score rows, after checking that none is missing or occurs twice."""
        return check_complete(self.rows("dev"), self.out / seal.SCORES["dev"])

    def _arm(self, name: str) -> Any:
        """The arm of this name."""
        arms = {arm.name: arm for arm in self.experiment.all_arms}
        return arms[checked_choice("arm", name, arms)]

    def _learner(self, name: str, seed: int) -> Learner:
        """Learner of one seed of an arm, from its checkpoint."""
        arm, seeds = self._arm(name), self.experiment.run_config.seeds
        if not 0 <= seed < seeds:
            raise UserError(f"seed {seed}: the experiment has seeds 0 to {seeds - 1}")
        if name not in self._learners:
            phase: Phase = self.experiment.phases[name]
            backend = self.experiment.make_backend()
            try:
                reporter = Reporter(print, lambda *progress: None, lambda: False)
                runner = ArmRunner(self.out, self.experiment.suite, backend, reporter)
                self._learners[name] = runner.load(arm, phase).state.learner
            finally:
                backend.close()
        return take_seeds(self._learners[name], seed)


class TrainedAgent:
    """A trained agent with a NumPy interface.

    Args:
        agent: its static description, such as `PPO`.
        state: of one seed.
        dtype: of observations: uint8 if they hold an image (`affect.observation`).
    """

    def __init__(self, agent: Any, state: Any, dtype: Any = np.float32):
        self.static, self.state, self.dtype = agent, state, dtype
        self._act, self._value = jax.jit(partial(agent.act, state, None)), None

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Best actions [...] at observations [..., D]."""
        return np.asarray(self._act(np.asarray(obs, self.dtype)))

    def value(self, obs: np.ndarray) -> np.ndarray:
        """Values [...] of the task at observations [..., D].

        Raises:
            TypeError: for an agent without a critic.
        """
        if not hasattr(self.static, "value"):
            raise TypeError(f"{type(self.static).__name__} has no critic: it defines no value()")
        if self._value is None:
            self._value = jax.jit(partial(self.static.value, self.state))
        return np.asarray(self._value(np.asarray(obs, self.dtype))[..., 0])
