"""Division of a sweep into cells, each of which is computed once."""

from collections.abc import Sequence
from dataclasses import replace

from affect import Blend
from envs.host.suite import HostEnv
from runs.cli.study import identity
from runs.describe import describe
from runs.engine.arms import named_arms
from runs.engine.knobs import masked
from runs.experiment import Experiment
from runs.scale.cell import Cell
from runs.scale.grid import Point, digest, point_digest
from runs.scale.points_backend import AT_ONCE, LEAST_DEVICES, numbers_of
from runs.scale.space import Space

Sources = dict[tuple[str, str], str]  # (digest of a point, arm) -> variant


def divide(
    space: Space,
    points: Sequence[Point],
    block: int = 0,
    together: int = 1,
    agent_numbers: bool = False,
) -> tuple[list[Cell], Sources]:
    """Cells of all points x arms x blocks of seeds, and the variant of each point and arm.

    A variant is an arm at points that agree on all that changes its results, such as the one
    without heads where heads are varied; it is computed once. Seeds of a host environment are not
    divided, and a study that is more than one experiment is not divided at all.

    Args:
        space: of the points.
        points: of the sweep.
        block: most seeds of a cell; 0 for all.
        together: most points of a cell, which share a program.
        agent_numbers: whether numbers that only the update of an agent reads may differ in it.
    """
    if space.experiment is None:
        whole = [(point, identity(space.settings_at(point))) for point in points]
        sources = {(point_digest(point), ""): variant for point, variant in whole}
        return [Cell(variant, "", (point,), (variant,), 0, 0) for point, variant in whole], sources
    sources, known = {}, set()
    groups: dict[tuple[str, str], list[tuple[Point, str]]] = {}  # (arm, program) -> its points
    for point in points:
        for arm, (variant, program) in digests(space.at(point), agent_numbers).items():
            sources[point_digest(point), arm] = variant
            if (arm, variant) not in known:
                known.add((arm, variant))
                groups.setdefault((arm, program), []).append((point, variant))
    cells = []
    for (arm, _), group in groups.items():
        first_experiment = space.at(group[0][0])
        hosted, seeds = isinstance(first_experiment.suite.env, HostEnv), first_experiment.seeds
        length, most = (seeds, 1) if hosted else (min(block or seeds, seeds), together)
        for i in range(0, len(group), most):
            of_cell, variants = zip(*group[i : i + most], strict=True)
            for first in range(0, seeds, length):
                count = min(length, seeds - first)
                name = digest([variants, arm, first, count])
                cells.append(Cell(name, arm, of_cell, variants, first, count))
    return cells, sources


def check_name(space: Space, cell: Cell) -> bool:
    """Whether the code and the files of this machine give a cell the variants it has."""
    if space.experiment is None:
        return cell.variants == (identity(space.settings_at(cell.points[0])),)
    return cell.variants == tuple(digests(space.at(p))[cell.arm][0] for p in cell.points)


def digests(experiment: Experiment, agent_numbers: bool = False) -> dict[str, tuple[str, str]]:
    """Name of each arm -> digests of what changes its results, and of what its program compiles."""
    run_config = experiment.run_config
    sizes = replace(run_config, agent=None, seeds=1, rows=1)
    shared = digest(
        [describe(experiment.suite), describe(sizes), experiment.sealed, AT_ONCE, LEAST_DEVICES]
    )
    agent = program = run_config.agent
    if agent_numbers and (names := numbers_of(agent)):
        program = replace(agent, **dict.fromkeys(names, 1.0))
    agent, program = ([shared, describe(part)] for part in (agent, program))
    results = {}
    for arm in named_arms(experiment.arms):
        heads = {name: (1.0, masked(factory)) for name, (_, factory) in arm.blend.heads.items()}
        blend = Blend(arm.blend.tx, arm.blend.epochs, **heads)
        results[arm.name] = (
            digest([*agent, arm.randomised, describe(arm.blend)]),
            digest([*program, arm.randomised, describe(blend), arm.name]),
        )
    return results
