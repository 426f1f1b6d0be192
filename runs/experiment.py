"""Experiment, from Python: train arms over seeds, score them under every shift, compare them.

experiment = Experiment(load_suite("Drive"), arms={"none": Blend(), "hope": Blend(...)}, seeds=8)
result = experiment.run()
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax

from affect import Blend
from agents.foreign import Foreign
from envs.host.fault import HostFailure
from envs.host.suite import HostEnv
from envs.suite import Suite
from runs.arm_runner import ArmRunner, Reporter
from runs.cli.interrupt import run_with_progress
from runs.describe import describe
from runs.engine.arms import Arm, check_arms, named_arms
from runs.engine.backend import Backend, make_backend
from runs.engine.config import RunConfig, head_epochs, make_run_config, whole_number
from runs.engine.devices import unused_cores
from runs.engine.evaluate import EvalPoints, draw_points
from runs.engine.jax_backend import DRAWS
from runs.engine.numpy_policy import acts_in_numpy
from runs.engine.phases import Phase, one_world, random_worlds
from runs.engine.precompile import compile_ahead
from runs.engine.presets import foreign_agent, preset
from runs.engine.resources import check_resources
from runs.engine.training_loop import Trained
from runs.engine.trial import try_heads
from runs.errors import UserError
from runs.lock import claim_folder, hold_lock
from runs.prereg import seal
from runs.prereg.manifest import check_kept
from runs.prereg.plan_file import Plan, make_plan
from runs.prereg.splits import HOME, RANDOM, refuse_training_on
from runs.result import Result

LONG = 2_000_000  # steps of all seeds, above which optimised programs save more than they cost


@dataclass(frozen=True)
class Experiment:
    """Arms x seeds in one suite: trained at home, scored under every shift.

    Attributes:
        suite: world, shifts and severities (`envs.load_suite`).
        arms: name -> the arm's heads, or `runs.engine.arms.Arm`s; the first one is the control.
        agent: any frozen dataclass with `init`, `act` and `update` (see `agents`); an algorithm of
            another library, `agents.Foreign("sb3:PPO")`, in an environment of gymnasium; None for
            PPO with the settings of the suite's preset.
        seeds: training runs an arm, at least 3.
        steps: environment steps a seed; None for those of the preset.
        out: folder, in which an interrupted experiment is resumed by running it again; None keeps
            nothing beyond the result.
        num_envs: B, environments a seed; None for those of the preset.
        num_steps: T, steps of each environment an update; None for those of the preset.
        episodes: scored at each point; None for those of the preset.
        sealed: families of shifts that are scored only after every agent is frozen.
        primary: the declared contrast (arm, reference); None for that of `make_plan`.
        without: arms that were left out on request, which the report names.
        base: seed of all seeds.
        recordings: also film the arms with heads, and record an episode of one of them step by
            step, for the report; None to do so only if `out` is given.
        probe_signals: with the recordings, also measure what the signals of one arm predict; not
            of images of pixels.
        optimise: whether to compile with optimisation, which takes longer and runs faster; None to
            do so only if training and scoring an arm take more than LONG steps.
    """

    suite: Suite
    arms: Mapping[str, Blend] | Sequence[Arm]
    agent: Any = None
    seeds: int = 8
    steps: int | None = None
    out: Path | str | None = None
    num_envs: int | None = None
    num_steps: int | None = None
    episodes: int | None = None
    sealed: tuple[str, ...] = ()
    primary: tuple[str, str] | None = None
    without: tuple[str, ...] = ()
    base: int = 0
    recordings: bool | None = None
    probe_signals: bool = True
    optimise: bool | None = None

    def __post_init__(self):
        """Check types before anything is computed, and turn whole numbers of NumPy into int.

        Raises:
            UserError: for a field of a wrong type.
        """
        for name in ("seeds", "base", "steps", "num_envs", "num_steps", "episodes"):
            value = getattr(self, name)
            if value is not None or name in ("seeds", "base"):
                whole = whole_number(name, value, 0 if name == "base" else 1)
                object.__setattr__(self, name, whole)
        for name, fits, expected in (
            ("suite", isinstance(self.suite, Suite), "a suite of envs.load_suite"),
            ("agent", _is_agent(self.agent), "an agent, such as PPO(), or None"),
            ("out", _is_path(self.out), "a folder, or None"),
            ("primary", self.primary is None or _are_names(self.primary), "two arms, or None"),
            ("sealed", _are_names(self.sealed), "families in a tuple, such as ('sensor',)"),
            ("without", _are_names(self.without), "arms in a tuple, such as ('random',)"),
        ):
            if not fits:
                raise UserError(f"{name}={getattr(self, name)!r:.60}: expected {expected}")

    def run(self) -> Result:
        """Train and score all arms, with a progress bar; an interrupted experiment is resumed.

        Raises:
            UserError: for arms that do not fit the suite, a folder in use or of another
                experiment, a failing host environment, a full disk.
            KeyboardInterrupt: after Ctrl-C; finished work is kept if `out` was given.
        """
        folder = None if self.out else tempfile.TemporaryDirectory(prefix="experiment-")
        out = Path(self.out or folder.name)
        stopped_message = (
            f"stopped; finished work is in {out}: run the experiment again to go on"
            if self.out
            else "stopped; nothing is kept of an experiment without a folder (out=...)"
        )
        if run_with_progress(stopped_message, partial(self._run_locked, out)):
            raise KeyboardInterrupt
        result = Result(self, out, folder)
        try:
            if self.out:
                result.report()
        except OSError as error:
            raise UserError(_disk_message(error, out)) from error
        return result

    def _run_locked(self, out: Path, progress: Any, stopped: Callable[[], bool]) -> int:
        """Run in a locked folder that holds this experiment or nothing -> exit code."""
        progress.total = self.units
        if cores := unused_cores():
            progress.say(f"jax was used before: {cores} cores are idle; import runs first")
        with hold_lock(out):
            claim_folder(out, self.identity)
            check_kept(out)
            seal.check_scores(out)
            self.run_arms(out, progress, stopped)
        return 0

    def run_arms(
        self, out: Path, progress: Any, stopped: Callable[[], bool], units_before: int = 0
    ) -> list[dict]:
        """Train and score every arm in a folder that the caller has locked -> public score rows.

        Args:
            out: the folder.
            progress: `runs.cli.interrupt.Progress`.
            stopped: returns whether the user requested a stop.
            units_before: units of progress done before this experiment.

        Raises:
            Interrupted: if the user requested a stop; finished work is kept.
            UserError: for a failing host environment or a full disk.
        """
        check_resources(self.phases.values(), self.suite, self.run_config, out)
        if not all(seal.has_checkpoint(out, arm.name) for arm in self.all_arms):
            try_heads(self.all_arms, self.suite, self.run_config)
        for departure in seal.register(out, self.plan):
            progress.say(f"not as declared: {departure}")
        run_config = self.run_config
        progress.say(
            f"{self.suite.name}: {len(self.all_arms)} arms x {run_config.seeds} seeds x "
            f"{run_config.steps:,} steps, {self.units_per_arm - run_config.chunks} points -> {out}"
        )
        try:
            with closing(self.make_backend()) as backend:
                if backend.stepping:
                    progress.say(backend.stepping)
                runner = partial(self._runner, out, backend, progress, stopped, units_before)
                rows = self._score_public(runner, out, backend)
                if self._freeze(out, progress.say) and self.sealed:
                    self._score_sealed(runner, out, backend)
        except HostFailure as error:
            raise UserError(f"{error}; run it again to resume") from error
        except OSError as error:
            raise UserError(_disk_message(error, out)) from error
        return rows

    # --- what is run --------------------------------------------------------------------------

    @cached_property
    def all_arms(self) -> tuple[Arm, ...]:
        """The arms, checked against the suite.

        Raises:
            UserError: for what is no arm, a name that no folder can have, or a head that does not
                fit the worlds.
        """
        arms = named_arms(self.arms)
        check_arms(arms, self.suite, self.run_config)
        return arms

    @cached_property
    def run_config(self) -> RunConfig:
        """Sizes: those given, and the preset's."""
        sizes = preset(self.suite)

        def chosen(value: Any, default: Any) -> Any:
            return default if value is None else value

        if isinstance(self.agent, Foreign):
            foreign_agent(self.agent.name, self.agent.settings, self.suite)  # or refuses it
        steps, episodes = chosen(self.steps, sizes.steps), chosen(self.episodes, sizes.episodes)
        most_scored = len(self.suite.points()) * episodes * self.suite.env.horizon
        return make_run_config(
            chosen(self.agent, sizes.agent),
            seeds=self.seeds,
            steps=steps,
            num_envs=chosen(self.num_envs, sizes.num_envs),
            num_steps=chosen(self.num_steps, sizes.num_steps),
            episodes=episodes,
            chunks=sizes.chunks,
            draws=DRAWS if sizes.jitted else 1,
            base=self.base,
            optimise=chosen(self.optimise, self.seeds * (steps + most_scored) > LONG),
        )

    @cached_property
    def plan(self) -> Plan:
        """The plan that is registered before training.

        Raises:
            UserError: for an inconsistent plan, or an arm that would be trained on sealed worlds.
        """
        names = [arm.name for arm in self.all_arms]
        options = {"primary": self.primary, "sealed": self.sealed, "without": self.without}
        plan = make_plan(self.suite, self.run_config, names, **options)
        for arm in self.all_arms:
            refuse_training_on(RANDOM if arm.randomised else HOME, plan.splits)
        if not self.suite.shifts:
            raise UserError(f"{self.suite.name} has no shifts: give one to score under")
        if not plan.splits.names("dev"):
            raise UserError("sealed: no public shift is left to score; seal fewer families")
        return plan

    @cached_property
    def phases(self) -> dict[str, Phase]:
        """The one phase of each arm, by its name: training at home, or in randomised worlds."""
        run_config = self.run_config
        home, epochs = one_world(self.suite.world), head_epochs(run_config)
        return {
            arm.name: Phase(
                random_worlds(self.suite) if arm.randomised else home,
                run_config.chunks,
                run_config.updates,
                run_config.agent,
                arm.blend.with_epochs(epochs),
            )
            for arm in self.all_arms
        }

    @cached_property
    def identity(self) -> str:
        """Digest of all that changes a result, the number of devices included."""
        heads = {arm.name: describe(arm.blend) for arm in self.all_arms}
        setting = [describe(part) for part in (self.suite, self.run_config.agent)]
        content = [self.plan.hash, heads, setting, self.run_config.rows, len(jax.devices())]
        agent, host = self.run_config.agent, self.suite.env
        if isinstance(host, HostEnv) and acts_in_numpy(agent, host, self.run_config.num_envs):
            content.append("acts in NumPy")
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

    def make_backend(self) -> Backend:
        """The backend of the suite's environment; close it after use."""
        return make_backend(self.suite.env, self.run_config)

    def split(self, name: str) -> Suite:
        """The suite with the shifts of a split alone, "dev" or "sealed"."""
        names = self.plan.splits.names(name)
        return replace(self.suite, shifts=tuple(s for s in self.suite.shifts if s.name in names))

    @property
    def units_per_arm(self) -> int:
        """Units of progress per arm: training chunks plus evaluation points."""
        splits = ("dev", "sealed") if self.sealed else ("dev",)
        return self.run_config.chunks + sum(len(self.split(name).points()) for name in splits)

    @property
    def units(self) -> int:
        """Units of progress of all arms."""
        return len(self.all_arms) * self.units_per_arm

    # --- how it is run ------------------------------------------------------------------------

    def _runner(
        self,
        out: Path,
        backend: Backend,
        progress: Any,
        stopped: Callable[[], bool],
        units_before: int,
        index: int,
    ) -> ArmRunner:
        """Runner of the arm at an index, with progress counted on from the arms before it."""
        before = units_before + index * self.units_per_arm

        def advance(name: str, done: int, fresh: bool) -> None:
            progress.advance(name, before + done, fresh)

        return ArmRunner(out, self.split("dev"), backend, Reporter(progress.say, advance, stopped))

    def _score_public(
        self, runner_of: Callable[[int], ArmRunner], out: Path, backend: Backend
    ) -> list[dict]:
        """Train every arm and score it at the public points -> score rows."""
        rows: list[dict] = []
        points = draw_points(self.split("dev"), backend.draws, self.base)
        untrained = [
            None if seal.has_checkpoint(out, arm.name) else self.phases[arm.name]
            for arm in self.all_arms
        ]
        with closing(compile_ahead(backend, untrained)) as compiled:
            for i, arm in enumerate(self.all_arms):
                next(compiled)
                runner, phase = runner_of(i), self.phases[arm.name]
                trained = runner.train(arm, phase)
                file, before = seal.SCORES["dev"], self.run_config.chunks
                arm_rows = runner.score(arm, phase, trained, points, file, before)
                self._record(runner, arm, phase, trained, points, arm_rows)
                rows += arm_rows
        return rows

    def _record(
        self,
        runner: ArmRunner,
        arm: Arm,
        phase: Phase,
        trained: Trained,
        points: EvalPoints,
        rows: list[dict],
    ) -> None:
        """Film an arm with heads, and record and probe the signals of one of them."""
        if not (self.out if self.recordings is None else self.recordings):
            return
        agent = phase.agent
        if not arm.control:
            runner.film(arm, phase, trained.state.learner)
        if arm.name == self._recorded_arm() and hasattr(agent, "value"):
            runner.save_timelines(arm, phase, trained.state.learner, points, rows)
            image = self.suite.env.spec.image  # episodes of large ones would fill the memory
            probes = self.probe_signals and (image is None or image.symbols)
            if probes and hasattr(agent, "gamma"):
                runner.save_readouts(arm, phase, trained, points)

    def _recorded_arm(self) -> str | None:
        """Name of the arm whose signals are recorded: `lesion` if present, else the first head."""
        names = [arm.name for arm in self.all_arms if arm.name == "lesion" or not arm.control]
        return "lesion" if "lesion" in names else names[:2][-1] if names else None

    def _score_sealed(
        self, runner_of: Callable[[int], ArmRunner], out: Path, backend: Backend
    ) -> None:
        """Draw the sealed worlds, score every frozen arm there, and enter the scores."""
        suite, digest = self.split("sealed"), seal.draw_sealed(out)
        points = draw_points(suite, backend.draws, seal.seal_key(digest))
        before = self.run_config.chunks + len(self.split("dev").points())
        for i, arm in enumerate(self.all_arms):
            runner, phase = runner_of(i), self.phases[arm.name]
            trained = runner.load(arm, phase)
            runner.score(arm, phase, trained, points, seal.SCORES["sealed"], before)
        seal.enter_scores(out, "sealed")

    def _freeze(self, out: Path, say: Callable[[str], None]) -> bool:
        """Enter all agents and public scores in the ledger -> whether they were accepted."""
        try:
            seal.freeze_agents(out)
            seal.enter_scores(out)
        except UserError as error:
            say(f"unverified: {error}")
            return False
        return True


def _disk_message(error: OSError, out: Path) -> str:
    """Message of a file that could not be read or written."""
    cause = f"{error.filename or out}: {error.strerror or error}"
    return f"{cause}; mend this and run it again to resume"


def _is_agent(agent: Any) -> bool:
    """Whether this is None, of another library, or an object with the methods of an agent."""
    methods = (getattr(agent, name, None) for name in ("init", "act", "update"))
    is_ours = not isinstance(agent, type) and all(map(callable, methods))
    return agent is None or isinstance(agent, Foreign) or is_ours


def _is_path(path: Any) -> bool:
    """Whether this is None, or a path."""
    return path is None or (isinstance(path, str | os.PathLike) and "\0" not in os.fspath(path))


def _are_names(value: Any) -> bool:
    """Whether this is a collection of names."""
    named = isinstance(value, Collection) and not isinstance(value, str)
    return named and all(isinstance(name, str) for name in value)
