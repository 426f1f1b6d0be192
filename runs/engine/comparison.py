"""Run a comparison: register its plan, train and score all arms, then score the sealed worlds."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from envs.host.pool import HostFailure
from envs.suite import Suite
from runs.engine.arm_runner import ArmRunner
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.precompile import precompiled
from runs.engine.run_config import RunConfig
from runs.errors import Interrupted, UserError
from runs.lock import hold_lock
from runs.names import safe_name
from runs.prereg import seal
from runs.prereg.plan_file import Plan


class Design(NamedTuple):
    """Design of a comparison.

    Attributes:
        suite: the environment with all its shifts.
        trainer: `JaxBackend` or `HostBackend`, the class.
        run_config: sizes of each arm.
        arms: to train and score.
        plan: preregistered, with the splits of the shifts.
        probe_signals: whether to measure readouts of the signals of one arm.
    """

    suite: Suite
    trainer: Any
    run_config: RunConfig
    arms: tuple[Arm, ...]
    plan: Plan
    probe_signals: bool = True

    def of(self, split: str) -> Suite:
        """Restrict the suite to the shifts of a split, "dev" or "sealed"."""
        names = self.plan.splits.names(split)
        return replace(self.suite, shifts=tuple(s for s in self.suite.shifts if s.name in names))

    @property
    def units_per_arm(self) -> int:
        """Units of progress per arm: training chunks plus evaluation points."""
        splits = ("dev", "sealed") if self.plan.sealed else ("dev",)
        return self.run_config.chunks + sum(len(self.of(split).points()) for split in splits)

    @property
    def units(self) -> int:
        """Units of progress of all arms."""
        return len(self.arms) * self.units_per_arm


def run_comparison(
    design: Design,
    out: Path,
    identity: str,
    progress: Any,
    stopped: Callable[[], bool],
    units_before: int = 0,
) -> list[dict] | None:
    """Train and score every arm, resuming if possible; return the public score rows.

    Args:
        design: of the comparison.
        out: study folder.
        identity: digest of the settings, which the folder must carry.
        progress: `runs.cli.interrupt.Progress`.
        stopped: returns whether the user requested a stop.
        units_before: units of progress completed before this comparison.

    Returns:
        Score rows of the public ("dev") points; None if stopped by the user.

    Raises:
        UserError: for a folder in use or of another study, a failing host environment, a full disk.
    """
    rows: list[dict] = []
    with hold_lock(out), ExitStack() as stack:
        claim_folder(out, identity)
        for departure in seal.register(out, design.plan):
            progress.say(f"not as declared: {departure}")
        run_config, arms = design.run_config, design.arms
        progress.say(
            f"{design.suite.name}: {len(arms)} arms x {run_config.seeds} seeds x "
            f"{run_config.chunks * run_config.chunk_steps:,} steps, "
            f"{design.units_per_arm - run_config.chunks} points -> {out}"
        )
        make_trainer = partial(design.trainer, design.of("dev"), run_config=run_config)
        can_precompile = partial(_can_precompile, out, design.trainer)
        trainers = stack.enter_context(closing(precompiled(make_trainer, arms, can_precompile)))
        try:
            for i, arm in enumerate(arms):
                runner = _arm_runner(
                    out, design, progress, stopped, units_before + i * design.units_per_arm
                )
                with _as_user_error(out, arm.name), closing(next(trainers)) as trainer:
                    is_showpiece = arm.name == _arm_to_film(arms)
                    rows += runner.run(trainer, is_showpiece, is_showpiece and design.probe_signals)
            if _freeze_agents(out, progress.say) and design.plan.sealed:
                protocol = EvalProtocol(design.of("sealed"), seal.draw_sealed(out))
                for i, arm in enumerate(arms):
                    runner = _arm_runner(
                        out, design, progress, stopped, units_before + i * design.units_per_arm
                    )
                    with _as_user_error(out, arm.name), closing(make_trainer(arm)) as trainer:
                        runner.rescore(trainer, protocol)
                seal.enter_scores(out, "sealed")
        except Interrupted:
            return None
    return rows


def _arm_runner(
    out: Path, design: Design, progress: Any, stopped: Any, units_before: int
) -> ArmRunner:
    """Build the runner of one arm, with progress counted on from `units_before` units."""

    def advance(name: str, done: int, fresh: bool) -> None:
        progress.advance(name, units_before + done, fresh)

    return ArmRunner(out, design.suite.name, design.run_config, progress.say, advance, stopped)


@contextmanager
def _as_user_error(out: Path, arm: str) -> Iterator[None]:
    """Convert host environment and disk errors to a UserError with the remedy."""
    try:
        yield
    except HostFailure as error:
        raise UserError(f"arm {arm}: {error}; rerun the command to resume") from error
    except OSError as error:
        cause = f"{error.filename or out}: {error.strerror or error}"
        raise UserError(f"{cause}; fix this and rerun the command to resume") from error


def _freeze_agents(out: Path, say: Any) -> bool:
    """Enter all agents and public scores in the ledger; print why and return False on failure."""
    try:
        seal.freeze_agents(out)
        seal.enter_scores(out)
    except UserError as error:
        say(f"unverified: {error}")
        return False
    return True


def _arm_to_film(arms: tuple) -> str | None:
    """Name of the arm whose episodes are recorded: `lesion` if present, else the first head."""
    heads = [arm.name for arm in arms if arm.name == "lesion" or not arm.control]
    return "lesion" if "lesion" in heads else heads[min(1, len(heads) - 1)]


def _can_precompile(out: Path, trainer: Any, arm: Any) -> bool:
    """Whether an arm can be compiled ahead: the trainer can `prepare`, no checkpoint exists."""
    checkpoints = out / "checkpoints" / safe_name(arm.name)
    return hasattr(trainer, "prepare") and not checkpoints.exists()


def claim_folder(out: Path, identity: str) -> None:
    """Write the study's identity into its folder, or check that it matches.

    Raises:
        UserError: if the folder holds another identity.
    """
    marker = out / "identity"
    if not marker.exists():
        partial_file = out / "identity.part"
        partial_file.write_text(identity)
        os.replace(partial_file, marker)
    elif marker.read_text() != identity:
        raise UserError(
            f"{out} holds a study with other settings; choose another --out, or delete it"
        )
