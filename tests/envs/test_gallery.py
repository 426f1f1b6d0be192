"""Gallery: contents of a sheet, the page, and the command."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from envs import SUITES, load_suite
from envs.gallery import __main__
from envs.gallery.__main__ import ActionScript, action_script, main, sheet_rows, world_differences
from envs.gallery.page import describe_shift, describe_world, gallery_page
from envs.gallery.sheet import LEFT, TOP, draw_sheet
from envs.schedule import Schedule, unscheduled
from envs.shift import with_channel
from envs.worlds.proxy.boat_race import BoatRace

ENVS = Path(__main__.__file__).parents[1]
COLUMNS = 1 + len(__main__.SEVERITIES)


@pytest.fixture(scope="module")
def boats():
    """Rows of the sheet of BoatRace by shift."""
    suite = replace(load_suite("BoatRace"), severities=__main__.SEVERITIES)
    return {row.shift: row for row in sheet_rows(suite, action_script(suite))}


def equal(first, second) -> bool:
    """Whether two tiles are equal."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def colours(picture) -> np.ndarray:
    return np.unique(picture.reshape(-1, 3), axis=0)


@pytest.mark.slow
def test_rows_have_a_nonblank_tile_per_column_from_unshifted_to_shifted(boats):
    assert list(boats) == [shift.name for shift in load_suite("BoatRace").shifts]
    original = boats["farm"].tiles[0]
    for row in boats.values():
        assert len(row.tiles) == COLUMNS and row.changes
        assert equal(row.tiles[0], original) and not equal(row.tiles[-1], original)
        assert all(len(colours(tile.picture)) > 3 for tile in row.tiles)


@pytest.mark.slow
def test_a_tile_shows_what_its_shift_changes_and_nothing_else(boats):
    original, half, full = boats["farm"].tiles
    assert original.total_reward < half.total_reward < full.total_reward
    assert np.array_equal(original.picture, full.picture) and np.array_equal(original.obs, full.obs)
    original, _, full = boats["noise"].tiles
    assert np.array_equal(original.picture, full.picture)
    np.testing.assert_array_equal(full.unshifted_obs, original.obs)
    assert np.abs(full.obs - full.unshifted_obs).max() > 0.1
    for tile in boats["reverse"].tiles + boats["flip"].tiles:  # no marked observations
        np.testing.assert_array_equal(tile.unshifted_obs, tile.obs)


def test_applied_actions_are_those_that_moved_the_boat():
    suite = load_suite("BoatRace")
    flip = tuple(shift for shift in suite.shifts if shift.name == "flip")
    flip_suite = replace(suite, shifts=flip, severities=(0.5, 1.0))
    (row,) = sheet_rows(flip_suite, ActionScript((0,) * 40, seed=1))
    differed = [bool((tile.chosen != tile.applied).any()) for tile in row.tiles]
    assert differed[0] is False and differed[-1] is True
    start = None
    for tile in row.tiles:
        cell = int(tile.obs[: BoatRace.spec.obs_dim // 2].argmax())
        moved = int(np.where(tile.applied == 0, 1, -1).sum())
        start = (cell - moved) % 8 if start is None else start
        assert cell == (start + moved) % 8


@pytest.mark.slow
def test_ended_episode_stays_in_its_last_state():
    suite = replace(load_suite("BoatRace"), env=BoatRace(horizon=4), severities=(1.0,))
    short_suite = replace(suite, shifts=suite.shifts[:1])
    (longer,), (exact,) = (sheet_rows(short_suite, ActionScript((0,) * steps)) for steps in (9, 4))
    for tile, expected in zip(longer.tiles, exact.tiles, strict=True):
        assert tile.ended and len(tile.chosen) == 4 and equal(tile, expected)


def test_changes_are_listed(boats):
    assert boats["farm"].changes == ["again 0 to 1"]
    assert boats["reverse"].changes == ["course 1 to -1"]
    suite = load_suite("BoatRace")
    home = unscheduled(with_channel(suite.world))
    late = Schedule(7)(suite.shifts[0])(suite.world, 1.0, None)
    assert world_differences(home, late) == ["from step 7:", "again 0 to 1"]
    assert world_differences(home, home) == []


def test_sheet_shows_all_tiles_and_is_deterministic(boats):
    rows = list(boats.values())
    first, second = (draw_sheet("BoatRace", "boats", (0.0, 0.5, 1.0), rows) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    pixels = np.asarray(first.convert("RGB"))
    across, down = (first.width - LEFT) // COLUMNS, (first.height - TOP) // len(rows)
    for r in range(len(rows)):
        for c in range(COLUMNS):
            cut = pixels[TOP + r * down :, LEFT + c * across :][: down - 20, : across - 20]
            assert len(colours(cut)) > 3, (r, c)


def test_long_observations_are_shades_and_continuous_actions_hues(boats):
    row, (original, half, full) = boats["noise"], boats["noise"].tiles
    rng = np.random.default_rng(0)
    actions = rng.uniform(-2, 2, (9, 2)).astype(np.float32)
    actions = {"chosen": actions, "applied": actions[::-1]}
    long_obs = rng.normal(size=(2, 100)).astype(np.float32)
    tiles = [
        tile._replace(obs=obs, unshifted_obs=long_obs[0], **actions)
        for tile, obs in zip((original, half, full), long_obs[[0, 1, 0]], strict=True)
    ]
    pixels = np.asarray(draw_sheet("A", "a", (0.0, 0.5, 1.0), [row._replace(tiles=tiles)]))
    cuts = [pixels[-80:, LEFT + c * (pixels.shape[1] - LEFT) // 3 :][:, :200] for c in range(3)]
    assert np.array_equal(cuts[0], cuts[2]) and not np.array_equal(cuts[0], cuts[1])
    assert all(len(np.unique(cut)) > 10 for cut in cuts)


# --- the page ---------------------------------------------------------------------------------


def test_page_shows_every_suite_in_small_files():
    text = (ENVS / "README.md").read_text()
    for name in SUITES:
        assert f"\n## {name}\n" in text and f"](gallery/{name}.png)" in text
        with Image.open(ENVS / "gallery" / f"{name}.png") as picture:
            assert picture.width > 500
    assert sum(path.stat().st_size for path in (ENVS / "gallery").glob("*.png")) < 2_000_000


def test_page_has_a_line_per_world_and_per_shift(boats):
    text = gallery_page({"BoatRace": ("A ring.", list(boats.values()))}, "pictures")
    assert "## BoatRace\n\nA ring.\n" in text and "](pictures/BoatRace.png)" in text
    assert "| farm | reward | a buoy pays again and again | again 0 to 1 |" in text
    cells = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(cells) == {5}


def test_shift_descriptions():
    assert describe_shift("Pendulum", "slip", ()) != describe_shift("DeepSea", "slip", ())
    assert describe_shift("Drive", "ice|cross", ()) == "; ".join(
        describe_shift("Drive", part, ()) for part in ("ice", "cross")
    )
    assert describe_shift("Drive", "late_ice", ()).endswith(describe_shift("Drive", "ice", ()))
    assert describe_shift("A", "unknown", ["x 0 to 1", "y 1 to 2"]) == "x 0 to 1, y 1 to 2"


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_a_description_and_valid_actions(name):
    suite = load_suite(name)
    assert len(describe_world(name, type(suite.env))) > 20
    spec, actions = suite.env.spec, np.array(action_script(suite).actions)
    assert 0 < len(actions) <= suite.env.horizon
    if spec.num_actions:
        assert np.isin(actions, range(spec.num_actions)).all()
    else:
        assert np.abs(actions).max() <= 1


# --- the command ------------------------------------------------------------------------------


@pytest.mark.slow
def test_command_draws_only_the_chosen_suites(tmp_path, capsys):
    assert main(["--only", "Button", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.glob("*/*")] == ["Button.png"]
    assert "1/1" in capsys.readouterr().out and not (tmp_path / "README.md").exists()


def test_command_writes_the_page_when_it_draws_all_suites(tmp_path, monkeypatch):
    monkeypatch.setattr(__main__, "SUITES", ("BoatRace", "Button"))
    monkeypatch.setattr(__main__, "sheet_rows", lambda suite, script: [])
    monkeypatch.setattr("envs.gallery.sheet.draw_sheet", lambda *_: Image.new("P", (9, 9)))
    assert main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "README.md").read_text()
    assert "## BoatRace" in text and "## Button" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "Drve"], "did you mean Drive"),
        (["--only"], "expected at least one"),
        (["--colour", "red"], "--colour"),
        (["--out", __file__, "--only", "Button"], "Not a directory|File exists|test_gallery"),
    ],
)
def test_wrong_arguments_print_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    output = capsys.readouterr().err
    assert stop.value.code == 2 and output.startswith("error: ") and output.count("\n") == 1
    assert any(part in output for part in message.split("|"))


def test_help_does_not_import_jax():
    code = (
        "import sys; from envs.gallery.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'jax' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ENVS.parent, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert "usage: python -m envs.gallery" in process.stdout
