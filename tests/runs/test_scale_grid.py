"""Points of a sweep: grids, samples, lists, and what is refused."""

import itertools

import numpy as np
import pytest

from runs.errors import UserError
from runs.scale.grid import MOST, Range, make_points, parse_axes, point_digest, read_list
from tests.refusal import refused


def test_words_are_read_as_lists_of_values_and_ranges():
    axes = parse_axes(["a=.3,1,3e-4", "b=[ice, fog],[cones]", "c=1e-4:1:log", "d=-2:3", "e=x"])
    assert axes["a"] == [0.3, 1, "3e-4"]  # typed later, by the setting
    assert axes["b"] == [["ice", "fog"], ["cones"]]
    assert axes["c"] == Range(1e-4, 1.0, log=True)
    assert axes["d"] == Range(-2.0, 3.0)
    assert axes["e"] == ["x"]


def test_a_grid_is_the_product_of_its_axes():
    points = make_points({"a": [1, 2, 3], "b": ["x", "y"]})
    assert [tuple(p.values()) for p in points] == list(itertools.product([1, 2, 3], "xy"))
    assert len(make_points({"a": [1, 1, 2]})) == 2  # repetitions are one point


def test_the_digest_of_a_point_depends_on_values_and_not_on_their_order():
    assert point_digest({"a": 1, "b": 2}) == point_digest({"b": 2, "a": 1})
    digests = {point_digest(p) for p in ({"a": 1}, {"a": 2}, {"a": 1.0}, {"b": 1}, {})}
    assert len(digests) == 5


def test_samples_stay_in_their_ranges_and_are_even_in_the_logarithm():
    axes = {"lr": Range(1e-5, 1e-1, log=True), "x": Range(-1, 1), "kind": ["a", "b"]}
    for search in ("sobol", "random"):
        points = make_points(axes, 256, search)
        assert len(points) == 256
        lr = np.log10([point["lr"] for point in points])
        x = np.array([point["x"] for point in points])
        assert -5 <= lr.min() < -4.8 and -1.2 < lr.max() <= -1
        assert abs(lr.mean() + 3) < 0.2 and abs(x.mean()) < 0.1
        assert abs(sum(point["kind"] == "a" for point in points) - 128) < 30
        assert make_points(axes, 100, search) == points[:100]  # more samples go on from these
    assert len(make_points({"kind": ["a", "b"]}, 64)) == 2
    whole = make_points({"n": Range(1, 9), "x": Range(1, 9)}, 32, whole=["n"])
    assert {point["n"] for point in whole} == set(range(1, 10))
    assert not any(point["x"].is_integer() for point in whole)


def test_a_sobol_sequence_fills_space_more_evenly_than_random_numbers():
    axes = {name: Range(0, 1) for name in "ab"}

    def empty_cells(search):
        cells = {tuple(int(8 * v) for v in p.values()) for p in make_points(axes, 64, search)}
        return 64 - len(cells)

    assert empty_cells("sobol") == 0 < empty_cells("random")


def test_a_list_of_settings_is_read_from_a_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("weight,heads.hope.horizon\n.3,5\n3,20\n3,20\n")
    points = make_points(read_list(path))
    assert points == [
        {"weight": 0.3, "heads.hope.horizon": 5},
        {"weight": 3, "heads.hope.horizon": 20},
    ]
    for text, message in [("a,b\n.3\n", "row 1"), ("a\n[1\n", "list.csv"), ("a\n", "0 settings")]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            make_points(read_list(path))


@pytest.mark.parametrize(
    ("words", "samples", "message"),
    [
        (["weight"], 0, "write it as NAME=VALUE"),
        (["=1,2"], 0, "write it as NAME=VALUE"),
        (["a=1", "a=2"], 0, "given twice"),
        (["a=3:1"], 0, "LOW < HIGH"),
        (["a=0:1:log"], 0, "LOW > 0"),
        (["a=[1,2"], 0, "is not YAML"),
        (["a="], 0, "at least one value"),
        ([], 0, "name at least one setting"),
        (["a=1:2"], 0, "give --samples"),
        ([f"{n}={','.join(map(str, range(1000)))}" for n in "abc"], 0, "1,000,000,000 points"),
        (["a=1,2"], -1, "--samples -1"),
        (["a=1,2"], MOST + 1, f"--samples {MOST + 1}"),
    ],
)
def test_a_grid_that_is_none_is_refused_in_one_line(words, samples, message):
    with refused(UserError, match=message):
        make_points(parse_axes(words), samples)
