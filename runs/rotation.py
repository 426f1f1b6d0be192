"""Rotation: what does each arm score on sealed families, each sealed in a study of its own?

Open code cannot hide a family. So a suite is studied once for each of its families, with that one
sealed (`python -m runs.compare --sealed FAMILY`), and the reported score is the mean over these
rotations of the scores on the sealed shifts. Every study has to pass `runs.verify`, with the same
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
    """Command-line settings of the summary.

    Attributes:
        folders: of the studies, one for each family of the suite.
    """

    folders: Positional[tuple[Path, ...]] = ()


def main(argv: list[str]) -> int:
    """Parse the arguments and print the summary table -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if len(settings.folders) < 2:
        raise UserError("name the folders of at least two studies, one for each sealed family")
    scores, arms = read_sealed_scores(settings.folders)
    print(markdown(scores, arms, shell_command(COMMAND, argv)))
    return 0


def read_sealed_scores(folders: tuple[Path, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Sealed score of every seed of every arm, mean over rotations -> ({arm: [S]}, arms).

    Raises:
        UserError: for a study that does not verify, or that does not match the others.
    """
    import numpy as np

    from runs.analysis.scores import check_complete, read_scores
    from runs.prereg import audit, plan_file, seal
    from runs.prereg.splits import families, sealed_score

    plans, rows_by_family = [], {}
    for folder in folders:
        plan = plan_file.read_plan(folder / plan_file.PLAN_FILE)
        if message := audit.watermark(folder):
            raise UserError(f"{folder} is {message}; run it again, or leave it out")
        path = folder / seal.SCORES["sealed"]
        if len(plan.sealed) != 1 or not path.exists():
            raise UserError(
                f"{folder} does not seal exactly one family; run it with --sealed FAMILY"
            )
        if plan.sealed[0] in rows_by_family:
            raise UserError(f"{folder}: {plan.sealed[0]} is sealed in another study too; name one")
        rows_by_family[plan.sealed[0]] = check_complete(read_scores(path), path, finite=True)
        plans.append(plan)
    first = plans[0]
    for folder, plan in zip(folders, plans, strict=True):
        for name in ("suite", "arms", "seeds", "steps", "episodes"):
            if getattr(plan, name) != getattr(first, name):
                raise UserError(
                    f"{folder} differs from {folders[0]} in its {name}; run it with the same"
                )
    missing = [family for family in families(first.shifts) if family not in rows_by_family]
    if missing:
        raise UserError(
            f"no study seals {', '.join(missing)}; run one more with --sealed {missing[0]}"
        )

    def sealed_mean(arm: str, seed: int) -> float:
        means = {
            family: _by_shift([r for r in rows if r["arm"] == arm and r["seed"] == seed])
            for family, rows in rows_by_family.items()
        }
        return sealed_score(means, first.shifts)

    scores = {
        arm: np.array([sealed_mean(arm, s) for s in range(first.seeds)]) for arm in first.arms
    }
    return scores, first.arms


def _by_shift(rows: list[dict]) -> dict[str, float]:
    """Mean score under each shift."""
    scores_by_shift: dict[str, list[float]] = {}
    for row in rows:
        scores_by_shift.setdefault(row["shift"], []).append(row["score"])
    return {shift: sum(scores) / len(scores) for shift, scores in scores_by_shift.items()}


def markdown(scores: Mapping[str, Any], arms: tuple[str, ...], command: str) -> str:
    """Table with one row per arm, and the command, as Markdown."""
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
