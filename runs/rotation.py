"""What is an arm worth in families of shifts that were kept back, each in its turn?

Open code cannot hide a family. So a suite is studied once for each of its families, with that one
sealed (`python -m runs.compare --sealed FAMILY`), and the score that counts is the mean over these
rotations of what was scored under seal. Every study has to verify, and all have to be of the same
arms, seeds and worlds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main, shell_command
from runs.errors import UserError

COMMAND = "python -m runs.rotation"


@dataclass(frozen=True)
class Settings:
    """Settings of the summary.

    Attributes:
        folders: of the studies, one for each family of the suite.
    """

    folders: Positional[tuple[Path, ...]] = ()


def main(argv: list[str]) -> int:
    """Parses, then summarises; the exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if len(settings.folders) < 2:
        raise UserError("name the folders of at least two studies, one for each sealed family")
    scores, arms = read_sealed_scores(settings.folders)
    print(markdown(scores, arms, shell_command(COMMAND, argv)))
    return 0


def read_sealed_scores(folders: tuple[Path, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sealed score of every seed of every arm -> ({arm: [S]}, arms).

    Raises:
        UserError: for a study that does not verify, or that does not belong to the others.
    """
    import numpy as np

    from runs.analysis.scores import check_complete, read_scores
    from runs.prereg import audit, plan_file, seal
    from runs.prereg.splits import families, sealed_score

    plans, turns = [], {}
    for folder in folders:
        plan = plan_file.read_plan(folder / plan_file.PLAN_FILE)
        if wrong := audit.watermark(folder):
            raise UserError(f"{folder} is {wrong}; run it again, or leave it out")
        path = folder / seal.SCORES["sealed"]
        if len(plan.sealed) != 1 or not path.exists():
            raise UserError(f"{folder} sealed no single family; run it with --sealed FAMILY")
        if plan.sealed[0] in turns:
            raise UserError(f"{folder}: {plan.sealed[0]} had its turn in another study; name one")
        turns[plan.sealed[0]] = check_complete(read_scores(path), path, finite=True)
        plans.append(plan)
    first = plans[0]
    for folder, plan in zip(folders, plans, strict=True):
        for name in ("suite", "arms", "seeds", "steps", "episodes"):
            if getattr(plan, name) != getattr(first, name):
                raise UserError(f"{folder} differs from {folders[0]} in its {name}; run it alike")
    missing = [family for family in families(first.shifts) if family not in turns]
    if missing:
        raise UserError(
            f"{', '.join(missing)} had no turn; run one more with --sealed {missing[0]}"
        )

    def of(arm: str, seed: int) -> float:
        means = {
            family: _by_shift([r for r in rows if r["arm"] == arm and r["seed"] == seed])
            for family, rows in turns.items()
        }
        return sealed_score(means, first.shifts)

    scores = {arm: np.array([of(arm, s) for s in range(first.seeds)]) for arm in first.arms}
    return scores, first.arms


def _by_shift(rows: list[dict]) -> dict[str, float]:
    """The mean score under each shift."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["shift"], []).append(row["score"])
    return {shift: sum(scores) / len(scores) for shift, scores in found.items()}


def markdown(scores: Mapping[str, Any], arms: tuple[str, ...], command: str) -> str:
    """A line an arm, and the command."""
    from runs.analysis import stats

    lines = ["arm | sealed score, mean over rotations | difference to none", "--- | --- | ---"]
    for arm in arms:
        gain = "-"
        if arm != "none" and "none" in scores:
            gain = f"{stats.difference(scores[arm], scores['none']):+.3f}"
        lines.append(f"{arm} | {stats.mean(scores[arm]):.3f} | {gain}")
    return "\n".join(
        [*lines, "", "Per-seed means first; t and Welch intervals at 95 %.", f"`{command}`"]
    )


if __name__ == "__main__":
    run_main(main)
