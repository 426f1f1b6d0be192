"""Rotation: score of each arm on held-out shifts, over studies that each hold out one family.

Open code cannot hide a family. So a suite is studied once for each of its families, with that one
sealed (`python -m runs.compare --sealed FAMILY`), and the reported score is the mean over these
rotations of the scores on the sealed shifts. Every study has to pass `runs.verify`, with the same
arms, seeds and worlds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from runs.analysis import stats
from runs.analysis.scores import check_complete, read_scores, seed_means
from runs.cli.settings import parse_settings, run_main, shell_command
from runs.errors import UserError
from runs.report.page import markdown_table

COMMAND = "python -m runs.rotation"
SAME = ("suite", "arms", "seeds", "steps", "episodes")  # fields of the plans that must be equal


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
    print(markdown(sealed_scores(settings.folders), shell_command(COMMAND, argv)))
    return 0


def sealed_scores(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """Sealed score of every seed of every arm, mean over rotations -> {arm: [S]}.

    Raises:
        UserError: for a study that does not verify, or that does not match the others.
    """
    from runs.prereg import audit, seal
    from runs.prereg.plan_file import PLAN_FILE, read_plan
    from runs.prereg.splits import families

    first = read_plan(folders[0] / PLAN_FILE)
    means: dict[str, dict[str, np.ndarray]] = {}  # sealed family -> arm -> [S]
    for folder in folders:
        plan = read_plan(folder / PLAN_FILE)
        if message := audit.watermark(folder):
            raise UserError(f"{folder} is {message}; run it again, or leave it out")
        path = folder / seal.SCORES["sealed"]
        if len(plan.sealed) != 1 or not path.exists():
            raise UserError(
                f"{folder} does not seal exactly one family; run it with --sealed FAMILY"
            )
        (family,) = plan.sealed
        if family in means:
            raise UserError(f"{folder}: {family} is sealed in another study too; name one")
        for name in SAME:
            if getattr(plan, name) != getattr(first, name):
                raise UserError(
                    f"{folder} differs from {folders[0]} in its {name}; run it with the same"
                )
        rows = check_complete(read_scores(path), path, finite=True)
        means[family] = seed_means(rows, plan.arms)
        for arm in plan.arms:
            if len(means[family][arm]) < plan.seeds:
                raise UserError(f"{path}: some seeds of {arm} have no scores; run it without {arm}")
    missing = [family for family in families(first.shifts) if family not in means]
    if missing:
        raise UserError(
            f"no study seals {', '.join(missing)}; run one more with --sealed {missing[0]}"
        )
    return {arm: np.mean([scores[arm] for scores in means.values()], 0) for arm in first.arms}


def markdown(scores: Mapping[str, np.ndarray], command: str) -> str:
    """Table with one row per arm, and the command, as Markdown."""
    rows = []
    for arm, seed_scores in scores.items():
        gain = "-"
        if arm != "none" and "none" in scores:
            gain = f"{stats.difference(seed_scores, scores['none']):+.3f}"
        rows.append([arm, f"{stats.mean(seed_scores):.3f}", gain])
    table = markdown_table(["arm", "sealed score, mean over rotations", "difference to none"], rows)
    return f"{table}\n\nPer-seed means first; t and Welch intervals at 95 %.\n\n`{command}`"


if __name__ == "__main__":
    run_main(main)
