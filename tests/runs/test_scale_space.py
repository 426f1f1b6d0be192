"""Settings that a sweep may vary: names, types, values that are refused, and what they change."""

import itertools
from dataclasses import replace
from functools import partial

import pytest

from affect import Blend, Constant, Fear, Hope, Potential, Sham
from agents import PPO
from agents.qlearning import QLearning
from runs import compare, selection_bias
from runs.engine.knobs import knob_values, with_knobs, with_setting
from runs.engine.seeds import largest_divisor
from runs.errors import UserError
from runs.experiment import Experiment
from runs.scale.division import check_name, digests, divide
from runs.scale.grid import Range, point_digest
from runs.scale.points_backend import (
    AT_ONCE,
    LEAST_DEVICES,
    numbers_of,
    padded_rows,
    rows_at_once,
)
from runs.scale.space import Space
from tests.refusal import refused
from tests.runs import small_study

SIZES = {"seeds": 4, "steps": 48, "num_envs": 2, "num_steps": 8, "episodes": 2}
PLUS = partial(Constant, value=0.01)
ARMS = {
    "none": Blend(),
    "hope": Blend(hope=(1.0, Potential(Hope))),
    "sham": Blend(hope=(1.0, Sham(Potential(Hope))), constant=(1.0, PLUS)),
}
SUITE = replace(small_study.suite(), severities=(1.0,))


@pytest.fixture(scope="module")
def space():
    return Space(Experiment(SUITE, ARMS, PPO(width=8, epochs=1, minibatches=2), **SIZES))


@pytest.fixture(scope="module")
def study():
    settings = compare.Settings(env="CartPole", heads=("hope",), seeds=4)
    return Space(compare.make_experiment(settings), settings)


def test_settings_of_study_agent_heads_and_wrappers_have_names_and_types(study):
    kinds = study.kinds()
    assert kinds["steps"] is int and kinds["shifts"] == tuple[str, ...]
    assert kinds["agent.lr"] is float and kinds["agent.normalise"] is bool
    assert kinds["heads.hope.horizon"] is float and kinds["heads.hope.width"] is int
    assert kinds["heads.hope.scale"] is float  # of its wrapper
    assert kinds["heads.hope.centred"] is bool  # of the control's wrapper
    assert kinds["heads.hope.weight"] is kinds["weight"] is float
    assert not {"out", "record", "heads.constant.spec", "agent.gamma"} & kinds.keys()


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"heads.hope.horizn": 5}, "did you mean heads.hope.horizon?"),
        ({"agent.lrr": 1e-3}, "did you mean agent.lr?"),
        ({"head.hope.horizon": 5}, "did you mean heads.hope.horizon?"),
        ({"heads.hope.horizon": "long"}, "heads.hope.horizon must be float, not 'long'"),
        ({"heads.hope.width": 8.5}, "heads.hope.width must be int, not 8.5"),
        ({"heads.hope.horizon": 0.5}, "a horizon is at least 1 step, not 0.5"),
        ({"steps": -1}, "must not be negative"),
        ({"shifts": ["forze"]}, "did you mean force?"),
        ({"env": "Cartpol"}, "did you mean CartPole?"),
        ({"agent.minibatches": 7}, "do not divide into minibatches=7"),
    ],
)
def test_a_point_that_does_not_fit_is_refused_in_one_line(study, point, message):
    with refused(UserError, message):
        study.points([point])


def test_every_value_of_a_grid_is_checked_not_the_first_alone(study):
    points = [{"heads.hope.horizon": h, "weight": w} for h in (5, 10) for w in (1, -1, 2)]
    fear = Space(Experiment(SUITE, {"none": Blend(), "fear": Blend(fear=(1.0, Fear))}, **SIZES))
    with pytest.raises(UserError, match="a weight of -1"):
        fear.points([{"weight": point["weight"]} for point in points])
    assert len(study.points(points)) == 6  # a potential has no sign


def test_values_are_converted_and_drawn_numbers_rounded(study):
    (typed,) = study.points([{"heads.hope.horizon": 5, "agent.lr": "3e-4", "shifts": ("force",)}])
    assert typed == {"heads.hope.horizon": 5.0, "agent.lr": 3e-4, "shifts": ("force",)}
    assert isinstance(typed["heads.hope.horizon"], float)
    drawn = study.points({"heads.hope.width": Range(7, 9), "weight": Range(1, 2)}, samples=4)
    assert {point["heads.hope.width"] for point in drawn} <= {7, 8, 9}


def test_a_setting_reaches_every_arm_that_has_its_head(space):
    point = {"heads.hope.horizon": 7.0, "heads.hope.scale": 2.0, "weight": 3.0, "agent.lr": 0.1}
    experiment = space.at(point)
    arms = {arm.name: arm.blend for arm in experiment.arms}
    assert arms["none"] is ARMS["none"]  # the same object, which shares its programs
    assert arms["hope"].heads["hope"] == (3.0, Potential(Hope(horizon=7.0), scale=2.0))
    assert arms["sham"].heads["hope"] == (3.0, Sham(Potential(Hope(horizon=7.0), scale=2.0)))
    assert arms["sham"].heads["constant"] == (1.0, PLUS)  # `weight` is not that of constants
    assert experiment.run_config.agent.lr == 0.1
    assert ARMS["hope"].heads["hope"] == (1.0, Potential(Hope))
    values = knob_values(experiment.run_config.agent, arms["sham"])
    expected = {"heads.hope.horizon": 7.0, "heads.hope.width": 16, "heads.hope.scale": 2.0}
    expected |= {"heads.hope.weight": 3.0, "agent.lr": 0.1, "heads.constant.value": 0.01}
    assert expected.items() <= values.items()


def test_sizes_of_an_experiment_and_settings_of_a_study_are_settings(space, study):
    assert space.at({"steps": 96}).run_config.steps == 96
    assert study.at({"episodes": 32}).run_config.episodes == 32
    assert study.at({"episodes": 32}) is study.at({"episodes": 32})  # made once


def test_a_wrapper_shadows_the_setting_of_its_head():
    assert with_setting(Potential(Hope), "horizon", 3.0) == Potential(Hope(horizon=3.0))
    assert with_setting(Potential(Hope), "shift", 3.0) == Potential(Hope, shift=3.0)
    assert with_setting(Fear, "no_such_setting", 3.0) is None
    assert with_knobs(ARMS["none"], {"weight": 2.0}) is ARMS["none"]


# --- cells ------------------------------------------------------------------------------------


def test_points_share_a_program_where_only_data_differ(space):
    data = [{"weight": 2.0}, {"heads.hope.scale": 2.0}, {"heads.hope.shift": -1.0, "weight": 3.0}]
    other = [{"heads.hope.horizon": 5.0}, {"agent.lr": 0.1}, {"steps": 96}, {}]
    programs = {point_digest(p): digests(space.at(p))["hope"][1] for p in data + other}
    scaled = [programs[point_digest(point)] for point in data[1:]]
    assert len(set(scaled)) == 1
    assert programs[point_digest(data[0])] == programs[point_digest({})]  # no scale: no operation
    assert len(set(programs.values())) == 5
    agents = [digests(space.at(p), agent_numbers=True)["hope"][1] for p in ({"agent.lr": 0.1}, {})]
    assert len(set(agents)) == 1
    assert numbers_of(PPO()) == ("lr", "entropy", "critic", "max_norm", "lam", "clip")
    assert numbers_of(QLearning(states=2, cell=None)) == ()  # of a rule that is not known


def test_an_arm_that_no_setting_changes_is_one_cell(space):
    points = space.points([{"weight": w, "heads.hope.horizon": h} for w in (1, 2) for h in (5, 9)])
    cells, sources = divide(space, points, together=8)
    by_arm = {arm: [cell for cell in cells if cell.arm == arm] for arm in ARMS}
    assert len(by_arm["none"]) == 1 and by_arm["none"][0].points == (points[0],)
    assert {sources[point_digest(p), "none"] for p in points} == set(by_arm["none"][0].variants)
    assert sorted(len(cell.points) for cell in by_arm["hope"]) == [2, 2]  # a program a horizon
    assert len({sources[point_digest(p), "hope"] for p in points}) == 4


def test_blocks_cover_every_seed_once_and_names_tell_cells_apart(space):
    points = space.points([{"weight": w} for w in (1, 2, 3)])
    cells, _ = divide(space, points, block=3, together=2)
    hope = [cell for cell in cells if cell.arm == "hope"]
    assert sorted((len(c.points), c.first, c.seeds) for c in hope) == [
        (1, 0, 3),
        (1, 3, 1),
        (2, 0, 3),
        (2, 3, 1),
    ]
    assert len({cell.name for cell in cells}) == len(cells)
    again, _ = divide(space, points[::-1][::-1], block=3, together=2)
    assert [cell.name for cell in again] == [cell.name for cell in cells]
    longer = divide(space, space.points([{"weight": 1, "steps": 96}]), block=3)[0]
    assert not {cell.name for cell in longer} & {cell.name for cell in cells}


def test_every_device_computes_whole_blocks_and_none_waits_for_another():
    for devices, count in itertools.product((1, 2, 3, 8, 64), range(1, 40)):
        rows = padded_rows(count, devices, AT_ONCE)
        least, rounds = -(-count // AT_ONCE), -(-rows // (devices * AT_ONCE))
        assert rows % AT_ONCE == 0 and rows >= count
        assert rounds == -(-least // devices)  # as few as can be
        used = largest_divisor(rows // AT_ONCE, devices)  # as `vmap_seeds` chooses
        assert rows == used * rounds * AT_ONCE and used >= min(devices, LEAST_DEVICES)
        assert (used - 1) * rounds < max(least, 2)  # none more than needed
        assert rows_at_once(count, devices, "cpu") == AT_ONCE
        block = rows_at_once(count, devices, "gpu")  # all that a device has, evenly many
        assert block % 2 == 0 and count <= padded_rows(count, devices, block) <= 2 * block + count


def test_a_study_that_is_more_than_one_experiment_is_one_cell_a_point():
    study = Space(None, selection_bias.Settings())
    points = study.points({"researchers": [200, 300]})
    cells, sources = divide(study, points, block=1)
    assert [cell.points for cell in cells] == [(point,) for point in points]
    assert len(set(sources.values())) == 2 and check_name(study, cells[0])
    assert not check_name(study, cells[0]._replace(points=cells[1].points))
    for point, message in [
        ({"reseachers": 200}, "did you mean researchers?"),
        ({"researchers": "many"}, "researchers must be int"),
        ({"researchers": 5}, "needs at least 100"),
    ]:
        with pytest.raises(UserError, match=message):
            study.points([point])
