"""One comparison from its plan to its scores: declared, trained, scored, frozen, sealed."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from envs.host.pool import HostFailure
from envs.suite import Suite
from runs.cli.interrupt import Interrupted
from runs.engine.arm_runner import ArmRunner
from runs.engine.arms import Arm
from runs.engine.eval_protocol import EvalProtocol
from runs.engine.precompile import precompiled
from runs.engine.run_config import RunConfig
from runs.errors import UserError
from runs.lock import hold_lock
from runs.prereg import seal
from runs.prereg.plan_file import Plan
from runs.report.tb_export import safe_name


class Design(NamedTuple):
    """What will be run: worlds, who trains in them, the sizes, the arms, and what was declared.

    `asks` is whether the showpiece's signals are asked what they know.
    """

    suite: Suite
    trainer: Any
    run_config: RunConfig
    arms: tuple[Arm, ...]
    plan: Plan
    asks: bool = True

    def of(self, split: str) -> Suite:
        """The suite with the shifts of a split, "dev" or "sealed"."""
        names = self.plan.splits.names(split)
        return replace(self.suite, shifts=tuple(s for s in self.suite.shifts if s.name in names))

    @property
    def each(self) -> int:
        """Chunks and points of an arm."""
        splits = ("dev", "sealed") if self.plan.sealed else ("dev",)
        return self.run_config.chunks + sum(len(self.of(split).points()) for split in splits)

    @property
    def units(self) -> int:
        """Those of all arms: what progress counts."""
        return len(self.arms) * self.each


def run_comparison(
    what: Design,
    out: Path,
    identity: str,
    progress: Any,
    stopped: Callable[[], bool],
    before: int = 0,
) -> list[dict] | None:
    """Trains and scores every arm, or goes on with it -> public score rows, None if asked to stop.

    Args:
        what: to run.
        out: folder of the study.
        identity: of the settings that it was designed from.
        progress: told how far it is.
        stopped: whether the user asked to stop.
        before: units that were done before.

    Raises:
        UserError: for a folder in use or of another study, a host that fails, a full disk.
    """
    rows: list[dict] = []
    with hold_lock(out), ExitStack() as shut:
        claim_folder(out, identity)
        for line in seal.register(out, what.plan):
            progress.say(f"not as declared: {line}")
        run_config, arms = what.run_config, what.arms
        progress.say(
            f"{what.suite.name}: {len(arms)} arms x {run_config.seeds} seeds x "
            f"{run_config.chunks * run_config.chunk_steps:,} steps, {what.each - run_config.chunks} points -> {out}"
        )
        make = partial(what.trainer, what.of("dev"), run_config=run_config)
        early = partial(_can_precompile, out, what.trainer)
        trainers = shut.enter_context(closing(precompiled(make, arms, early)))
        try:
            for i, arm in enumerate(arms):
                study = _study(out, what, progress, stopped, before + i * what.each)
                with _one_line_errors(out, arm.name), closing(next(trainers)) as running:
                    shown = arm.name == _arm_to_film(arms)
                    rows += study.run(running, shown, shown and what.asks)
            if _freeze_agents(out, progress.say) and what.plan.sealed:
                exam = EvalProtocol(what.of("sealed"), seal.draw_sealed(out))
                for i, arm in enumerate(arms):
                    study = _study(out, what, progress, stopped, before + i * what.each)
                    with _one_line_errors(out, arm.name), closing(make(arm)) as running:
                        study.examine(running, exam)
                seal.enter_scores(out, "sealed")
        except Interrupted:
            return None
    return rows


def _study(out: Path, what: Design, progress: Any, stopped: Any, before: int) -> ArmRunner:
    """The folder of a study, with the progress of an arm that begins after `before` units."""

    def advance(name: str, done: int, now: bool) -> None:
        progress.advance(name, before + done, now)

    return ArmRunner(out, what.suite.name, what.run_config, progress.say, advance, stopped)


@contextmanager
def _one_line_errors(out: Path, arm: str) -> Iterator[None]:
    """Turns what a host or a disk does into one line."""
    try:
        yield
    except HostFailure as error:
        raise UserError(f"arm {arm}: {error}; the same command then goes on") from error
    except OSError as error:
        cause = f"{error.filename or out}: {error.strerror or error}"
        raise UserError(f"{cause}; mend it, then the same command goes on") from error


def _freeze_agents(out: Path, say: Any) -> bool:
    """Enters all agents and their public scores, or says why it cannot, as the report will."""
    try:
        seal.freeze_agents(out)
        seal.enter_scores(out)
    except UserError as error:
        say(f"unverified: {error}")
        return False
    return True


def _arm_to_film(arms: tuple) -> str | None:
    """The arm whose episodes are shown step by step: the one with all heads, or the first head."""
    heads = [arm.name for arm in arms if arm.name == "lesion" or not arm.control]
    return "lesion" if "lesion" in heads else heads[min(1, len(heads) - 1)]


def _can_precompile(out: Path, trainer: Any, arm: Any) -> bool:
    """Whether to prepare an arm ahead: it can be, and has not begun before."""
    begun = out / "checkpoints" / safe_name(arm.name)
    return hasattr(trainer, "prepare") and not begun.exists()


def claim_folder(out: Path, identity: str) -> None:
    """Marks the folder as this study's.

    Raises:
        UserError: if it is another study's.
    """
    mark = out / "identity"
    if not mark.exists():
        beside = out / "identity.part"
        beside.write_text(identity)
        os.replace(beside, mark)
    elif mark.read_text() != identity:
        raise UserError(
            f"{out} holds a study with other settings; choose another --out, or delete it"
        )
