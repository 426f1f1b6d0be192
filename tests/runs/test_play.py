"""Playing by hand: scripted keys, actions of keys, worlds of all kinds, the page in a browser."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from http.server import HTTPServer
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

import affect
from affect import Blend, Curiosity, Hope, Inherited, Mood, Spec, Transition, build
from affect.bridges.gymnasium import AffectReward
from affect.bridges.spaces import ObsReader
from envs import SUITES, load_suite
from envs.adapters.gymnasium_env import WorldEnv
from runs import compare, play, replay
from runs.cli.settings import parse_settings
from runs.engine.arms import CONSTANT_POTENTIALS
from runs.errors import UserError
from runs.playing import server as server_module
from runs.playing.game import Game
from runs.playing.keys import action_of, has_meaning, keys_text, scripted, waits
from runs.playing.server import HOST, Handler, page, serve
from tests.refusal import refused
from tests.runs import drawn_worlds, page_browser
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
EVIL = "<script>alert(1)</script>"
ROOT = Path(__file__).parents[2]
FILE = drawn_worlds.__file__


@pytest.fixture(autouse=True)
def same_devices(monkeypatch):
    """Devices of this process stay as they are."""
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)


# --- keys -----------------------------------------------------------------------------------------


def test_a_script_presses_keys_for_steps():
    steps = list(scripted(["up*2", "up+left", "none", "7"]))
    assert steps == [{"up"}, {"up"}, {"up", "left"}, set(), {"7"}]
    for token in ("jump", "up*", "up*0", "up++left", "*3", ""):
        with pytest.raises(UserError, match="write arrows, digits or none"):
            list(scripted([token]))


@pytest.mark.parametrize(
    ("actions", "pressed", "action"),
    [
        (9, [], 4),
        (9, ["up"], 7),
        (9, ["up", "left"], 6),
        (9, ["down", "right"], 2),
        (9, ["8"], 8),
        (3, ["left"], 0),
        (3, [], 1),
        (2, ["right"], 1),
        (2, ["left"], 0),
        (5, ["up"], 0),
        (5, ["4"], 4),
        (5, ["7"], 0),
        ((3, 2), [], [1, 0]),
        ((3, 2), ["left", "up"], [0, 1]),
        ((3, 2), ["5"], [2, 1]),
        ((4, 3, 3), ["right", "up"], [0, 2, 1]),
    ],
)
def test_keys_are_actions(actions, pressed, action):
    several = isinstance(actions, tuple)
    sizes = {"action_sizes": actions} if several else {"num_actions": actions}
    assert action_of(pressed, Spec(obs_dim=1, **sizes)) == action


def test_keys_are_continuous_actions():
    pressed = ["left", "up"]
    for size, action in ((1, [-1.0]), (2, [-1.0, 1.0]), (3, [-1.0, 1.0, 0.0])):
        assert action_of(pressed, Spec(obs_dim=1, num_actions=0, action_dim=size)) == action


@pytest.mark.parametrize(
    ("shapes", "text", "known", "waiting"),
    [
        ({"num_actions": 2}, "left, right or 0 to 1", ["left", "1"], True),
        ({"num_actions": 3}, "left, right or 0 to 2", ["right", "2"], False),
        ({"num_actions": 3, "masked": True}, "left, right or 0 to 2", ["left"], True),
        ({"num_actions": 9}, "up, down, left, right or 0 to 8", ["up", "8"], False),
        ({"num_actions": 6}, "0 to 5", ["5"], True),
        ({"action_dim": 1}, "left, right", ["left"], False),
        ({"action_sizes": (3, 2)}, "left, right, down, up or 0 to 5", ["up", "5"], True),
        ({"action_sizes": (3, 3)}, "left, right, down, up or 0 to 8", ["down"], False),
    ],
)
def test_a_world_has_its_own_keys(shapes, text, known, waiting):
    spec = Spec(obs_dim=1, **shapes)
    assert (keys_text(spec), waits(spec)) == (text, waiting)
    assert all(has_meaning(key, spec) for key in known) and not has_meaning("9", spec)


# --- worlds ---------------------------------------------------------------------------------------


def play_script(path: Path, *flags: str) -> str:
    """The page of a scripted game."""
    assert play.main([*flags, "--save", str(path)]) == 0
    return path.read_text()


def signals_on(text: str) -> dict[str, list[float]]:
    """Signal of each head at each step, as a page of a replay holds them."""
    curves = re.findall(r'<b>(\w+)</b> <span.*?data-values="(.*?)"', text, re.S)
    return {name: json.loads(values) for name, values in curves}


def other_env(name: str) -> gymnasium.Env:
    """The environment of a world, made by other code than that of a game."""
    if name in SUITES:
        suite = load_suite(name)
        return WorldEnv(suite.env, suite.world)
    if name.startswith("MiniGrid"):
        from minigrid.wrappers import ImgObsWrapper

        return ImgObsWrapper(gymnasium.make(name))
    kind = getattr(drawn_worlds, name, None)
    if kind is drawn_worlds.DrawnLane:
        return WorldEnv(kind())
    return gymnasium.make(name) if kind is None else kind()


def save_heads(folder: Path, env: gymnasium.Env) -> dict[str, Path]:
    """Files of untrained heads for an environment, by name."""
    spec, paths = Spec(ObsReader(env.observation_space).size, num_actions=2), {}
    for head in (Hope, Curiosity, Mood):
        name = head.__name__.lower()
        paths[name] = folder / f"{name}.safetensors"
        build(head, spec, jax.random.key(1)).save(paths[name])
    return paths


def signals_of(env: gymnasium.Env, paths: dict[str, Path], actions: list) -> dict[str, list[float]]:
    """Signals of heads at each step as the wrapper for environments of gymnasium reports them."""
    blend = Blend(**{name: (1.0, Inherited(path)) for name, path in paths.items()})
    wrapper = AffectReward(env, blend, paid="info", learn=False)
    wrapper.reset(seed=0)
    reported = []
    for action in actions:
        _, _, terminated, truncated, info = wrapper.step(action)
        reported.append(info["affect"])
        if terminated or truncated:
            break
    return {name: [step[name] for step in reported] for name in blend.names}


WORLDS = [  # env, keys, the actions that these are
    ("CartPole", "right*3 left 0 1", [1, 1, 1, 0, 0, 1]),
    ("DeepSea", "right*4 none", [1, 1, 1, 1, 0]),
    ("Lava", "3*2 0 1", [3, 3, 0, 1]),
    ("Pendulum", "left*3 none right", [[-1.0]] * 3 + [[0.0], [1.0]]),
    ("CartPole-v1", "right*3 left 0 1", [1, 1, 1, 0, 0, 1]),
    ("Acrobot-v1", "left*2 none 2", [0, 0, 1, 2]),
    ("MountainCarContinuous-v0", "right*3 none left", [[1.0]] * 3 + [[0.0], [-1.0]]),
    ("MiniGrid-DoorKey-5x5-v0", "2 1 0 5 2", [2, 1, 0, 5, 2]),
    ("Walk", "left right*2 none", [0, 2, 2, 1]),
    ("Levers", "right+up 0 5 none", [[2, 1], [0, 0], [2, 1], [1, 0]]),
    ("DrawnLane", "none*2 1", [1, 1, 1]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "keys", "actions"), WORLDS, ids=[case[0] for case in WORLDS])
def test_a_world_of_any_kind_is_played_with_heads_and_without(name, keys, actions, tmp_path):
    env, path = other_env(name), tmp_path / "play.html"
    paths = save_heads(tmp_path, env)
    id = f"{FILE}:{name}" if hasattr(drawn_worlds, name) else name
    flags = "--env", id, "--keys", *keys.split()
    text = play_script(path, *flags, "--heads", *map(str, paths.values()))
    dtype = np.float32 if isinstance(actions[0], list) and len(actions[0]) == 1 else np.int64
    expected = signals_of(env, paths, [np.array(action, dtype) for action in actions])
    shown = signals_on(text)
    assert shown.keys() == expected.keys() and f"{len(expected['hope'])} steps" in text
    for head, values in expected.items():
        np.testing.assert_allclose(shown[head], values, rtol=1e-3, atol=1e-5)
    assert np.ptp(shown["hope"]) > 0 or name == "DrawnLane"  # which stays where it is
    bare = play_script(path, *flags, "--heads")
    assert f"{len(expected['hope'])} steps" in bare and signals_on(bare) == {}


@pytest.mark.slow
def test_an_action_that_the_mask_forbids_is_not_taken(tmp_path):
    env = gymnasium.make("Taxi-v4")
    paths, mask, actions = save_heads(tmp_path, env), env.reset(seed=0)[1]["action_mask"], []
    for i in range(6):
        allowed = np.flatnonzero(mask)
        actions.append(int(allowed[i % len(allowed)]))
        mask = env.step(actions[-1])[-1]["action_mask"]
    flags = "--env", "Taxi-v4", "--heads", *map(str, paths.values()), "--keys", *map(str, actions)
    text = play_script(tmp_path / "play.html", *flags)
    expected = signals_of(env, paths, actions)
    for head, values in signals_on(text).items():
        np.testing.assert_allclose(values, expected[head], rtol=1e-3, atol=1e-5)
    forbidden, first = np.flatnonzero(mask == 0)[0], np.flatnonzero(mask)[0]
    message = f"step 6: action {forbidden} is forbidden now: press one of {first}"
    with pytest.raises(UserError, match=message):
        play.main([*flags, str(forbidden)])


@pytest.mark.slow
def test_a_shift_of_sensors_disturbs_what_heads_read_on_the_host(tmp_path):
    paths = save_heads(tmp_path, gymnasium.make("CartPole-v1"))
    flags = "--env", "CartPole-v1", "--keys", "right*3", "--heads", str(paths["hope"])
    home, noisy = (
        signals_on(play_script(tmp_path / "play.html", *flags, *more))["hope"]
        for more in ((), ("--shift", "noise"))
    )
    assert len(home) == len(noisy) == 3 and np.abs(np.subtract(home, noisy)).min() > 1e-4


@pytest.mark.slow
def test_a_scripted_drive_is_replayed_with_what_the_heads_signalled(tmp_path, capsys):
    flags = "--shift", "ice", "--keys", "up*12", "up+left*4", "none*2"
    text = play_script(tmp_path / "drive.html", *flags)
    assert capsys.readouterr().out.strip().endswith("drive.html")
    assert {name: len(values) for name, values in signals_on(text).items()} == {
        "drive_fear": 18,
        "drive_hope_20": 18,
    }
    assert "18 steps" in text and "Drive, played by hand, under ice" in text


@pytest.mark.slow
def test_what_was_played_before_an_environment_fails_is_saved(tmp_path):
    path = tmp_path / "play.html"
    flags = "--env", f"{FILE}:Tears", "--heads", "--keys", "right*9", "--save", str(path)
    with pytest.raises(UserError, match="its render fails .RuntimeError: the paper tears"):
        play.main(list(flags))
    assert "2 steps" in path.read_text()


ZOO_FEAR = str(affect.zoo.path("drive-fear"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--keys", "jump"), "write arrows"),
        (("--severity", "2"), "must be in 0 to 1"),
        (("--save", "nowhere/at/all.html"), "there is no folder nowhere/at"),
        (("--save", str(ROOT)), "is a folder; name a file"),
        (("--port", "70000"), "--port 70000: must be in 0 to 65535; 0 takes any"),
        (("--port", "-1"), "--port -1: must be in 0 to 65535"),
        (("--seed", "-1"), "--seed -1: must not be negative"),
        (("--shift", "icy", "--keys", "up"), "did you mean ice?"),
        (("--heads", "zoo:drive-feer", "--keys", "up"), "drive-fear"),
        (("--heads", "none.safetensors", "--keys", "up"), "--heads none.safetensors: .* give the"),
        (("--heads", "zoo:drive-fear", ZOO_FEAR, "--keys", "up"), "two are called drive_fear"),
        (("--env", "CartPole", "--keys", "up"), "take zoo:cartpole-value, or none: --heads"),
        pytest.param(
            ("--env", f"{FILE}:Undrawn", "--heads", "--keys", "left"),
            "Undrawn is not drawn: its render gives None",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--env", "CartPole", "--heads", "--keys", "up"),
            "step 0: up is no key here: press left, right or 0 to 1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_played_is_refused(flags, message):
    with refused(UserError, match=message):
        play.main(list(flags))


def test_heads_may_be_one_or_none():
    read = partial(parse_settings, play.Settings, description="")
    assert read(["--head", "zoo:drive-fear"]).heads == ("zoo:drive-fear",)
    assert read(["--heads"]).heads == ()


# --- the game -------------------------------------------------------------------------------------


class StubEpisode:
    """Three actions, of which the second is forbidden; the third step fails."""

    spec, obs = Spec(obs_dim=1, num_actions=3, masked=True), np.float32([0.5, 1, 0, 1])

    def __init__(self):
        self.actions = []

    def step(self, action):
        if len(self.actions) == 2:
            raise ValueError("its step fails")
        self.actions.append(int(action))
        row, flag, number = self.obs[None, None], np.zeros((1, 1), bool), np.ones((1, 1))
        return Transition(row, action[None, None], row, number, flag, flag, flag)

    def frame(self):
        return np.full((4, 4, 3), len(self.actions), np.uint8)


def test_a_game_takes_no_forbidden_step_and_ends_with_a_fault():
    blend, episode = Blend(), StubEpisode()
    state = blend.init(jax.random.key(0), episode.spec, 1)
    game = Game("stub", episode, episode.spec, blend, state)
    for keys, message in (
        (["1"], "action 1 is forbidden now: press one of 0, 2"),
        (["up"], "no key"),
    ):
        with pytest.raises(UserError, match=f"step 0: .*{message}"):
            game.step(keys)
    for key in ("left", "2", "0"):
        assert not game.ended
        game.step([key])
    assert episode.actions == [0, 2] and game.ended == game.fault == "its step fails"
    assert [int(frame[0, 0, 0]) for frame, _ in game.steps] == [0, 1]
    shown = game.shown()
    assert (shown["step"], shown["total"], shown["signals"]) == (2, "2.00", [])


# --- the page -------------------------------------------------------------------------------------


class StubGame:
    """A game that counts steps, and ends after `length` of them."""

    title, names, spec = EVIL, (EVIL,), Spec(obs_dim=1, num_actions=9)

    def __init__(self, length=9):
        self.pressed, self.length = [], length

    @property
    def ended(self):
        return "ended" if len(self.pressed) == self.length else ""

    def step(self, keys):
        if "9" in keys:
            raise UserError("9 is no key here")
        self.pressed.append(keys)

    def shown(self):
        frame = "data:image/png;base64,"
        return {
            "frame": frame,
            "step": len(self.pressed),
            "total": "0.00",
            "signals": [None],
            "ended": self.ended,
        }


def ask(url, body=None, **headers) -> str:
    """The answer to a request."""
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
        return answer.read().decode()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


def when_served(port: int, client) -> threading.Thread:
    """A thread, already started, that calls `client(url)` as soon as there is a server."""

    def call():
        for _ in range(1200):
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                threading.Event().wait(0.1)
        client(f"http://{HOST}:{port}")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_the_page_answers_its_own_requests_alone():
    game = StubGame()
    assert EVIL not in page(game) and "&lt;script&gt;alert(1)" in page(game)
    with HTTPServer((HOST, 0), partial(Handler, game)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{HOST}:{server.server_port}"
        assert "Content-Security-Policy" in ask(url + "/")
        assert json.loads(ask(url + "/step", b'["up", "3"]'))["step"] == 1
        assert json.loads(ask(url + "/step", b'["9"]'))["refused"] == "9 is no key here"
        assert game.pressed == [["up", "3"]]
        refused = [("/other", None, {}), ("/", None, {"Host": "elsewhere.example"})]
        refused += [("/step", b'["up"]', {"Origin": "http://elsewhere.example"})]
        bodies = b'["jump"]', b'{"a": 1}', b"no", b"[" * 900, b"[" * 2000
        for path, body, headers in refused + [("/step", body, {}) for body in bodies]:
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask(url + path, body, **headers)
        server.shutdown()
    assert np.size(game.pressed) == 2


def test_the_server_stops_where_the_episode_ends(capsys):
    port, game, answers = free_port(), StubGame(length=2), []
    idle = []

    def client(url):
        idle.append(socket.create_connection((HOST, port)))  # as browsers open them ahead
        answers.extend(json.loads(ask(url + "/step", b'["up"]')) for _ in range(2))

    thread = when_served(port, client)
    serve(game, port)
    thread.join(10)
    assert [answer["ended"] for answer in answers] == ["", "ended"]
    assert f"http://{HOST}:{port}/" in capsys.readouterr().out


def test_a_port_that_is_taken_is_refused():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: .*; 0 takes any that is free"):
            serve(StubGame(), port)


@pytest.mark.slow
def test_ctrl_c_saves_what_was_played(tmp_path):
    port, path = free_port(), tmp_path / "play.html"
    flags = "--env", "CartPole", "--heads", "--port", str(port), "--save", str(path)
    command = [sys.executable, "-m", "runs.play", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    process = subprocess.Popen(command, **pipes)

    def client(url):
        for key in ("right", "left", "up"):
            ask(url + "/step", json.dumps([key]).encode())
        process.send_signal(signal.SIGINT)

    when_served(port, client).join(200)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == str(path) and "2 steps" in path.read_text()


PRESS = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const measure = async page => {
  const view = page.defaultView, note = page.querySelector(".note");
  const seen = { notes: [], frames: [], values: [], curves: [] };
  const look = () => {
    if (seen.notes.at(-1) === note.textContent) return false;
    seen.notes.push(note.textContent);
    seen.frames.push(page.querySelector("img").src);
    seen.values.push([...page.querySelectorAll("output")].map(output => output.textContent));
    seen.curves.push(page.querySelector("canvas").toDataURL());
    return true;
  };
  look();
  for (const key of KEYS) {
    for (const kind of ["keydown", "keyup"])
      view.dispatchEvent(new view.KeyboardEvent(kind, { key, cancelable: true }));
    for (let i = 0; i < 100 && !look(); i++) await wait(20);
    if (note.textContent.includes("terminal")) break;
  }
  for (let i = 0; i < 200 && !note.textContent.includes("terminal"); i++) {
    await wait(20);
    look();
  }
  const kinds = list => new Set(list).size;
  return { ...seen, frames: kinds(seen.frames), curves: kinds(seen.curves) };
};
"""
GAMES = [  # world, keys pressed, the first notes, the last one
    (
        "CartPole",
        ["5", *["ArrowRight"] * 40],
        ["step 0: 5 is no key here: press left, right or 0 to 1", "step 1, reward so far 1.00"],
        r"step (\d+), reward so far \1.00: ended. The replay .* terminal names.",
    ),
    (
        f"{FILE}:Walk",
        ["ArrowRight"] * 2,
        [f"step {i}, reward so far {min(i, 2)}.00" for i in (1, 2, 3)],
        r"step (12), reward so far 2.00: ended. The replay .* terminal names.",
    ),
]


@pytest.mark.slow
@pytest.mark.skipif(page_browser.CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize(("world", "keys", "first", "last"), GAMES, ids=["by key", "by itself"])
def test_a_browser_plays_an_episode(world, keys, first, last, tmp_path, monkeypatch, capsys):
    script = f"const KEYS = {json.dumps(keys)};{PRESS}{page_browser.IN_FRAMES}"
    icon, frame = '<link rel="icon" href="data:,">', '<iframe id="game" src="/"></iframe>'
    wrapper = f"<!doctype html>{icon}<script>{script}</script><body>{frame}"

    class Wrapping(Handler):
        """Also serves a page that has the game in a frame, and presses its keys."""

        def do_GET(self):
            own = self.path == "/wrapper"
            self._answer(lambda: ("text/html", wrapper), True) if own else super().do_GET()

    monkeypatch.setattr(server_module, "Handler", Wrapping)
    port, path, loaded = free_port(), tmp_path / "play.html", []
    name = world.rpartition(":")[2]
    head = save_heads(tmp_path, other_env(name))["hope"]
    with page_browser.Proxy() as proxy:
        local = proxy.flags[0], "--virtual-time-budget=60000"  # 127.0.0.1 needs no proxy

        def browse(url):
            try:
                home = tmp_path / "profile"
                loaded.append(page_browser.load_page(f"{url}/wrapper", home, *local))
            finally:  # a browser that failed leaves a game that nobody ends
                with suppress(OSError):
                    while True:
                        ask(url + "/step", b'["right"]')

        thread = when_served(port, browse)
        flags = "--env", world, "--heads", str(head), "--port", str(port), "--save", str(path)
        assert play.main(list(flags)) == 0
        thread.join(page_browser.SECONDS)
    [(document, console)] = loaded
    assert (console, proxy.requests) == ([], [])
    seen = page_browser.measures(document)["game"]
    assert seen["notes"][: len(first) + 1] == ["Press a key to begin.", *first]
    length = int(re.fullmatch(last, seen["notes"][-1])[1])
    assert seen["frames"] > 2 and seen["curves"] > 2
    text = path.read_text()
    assert capsys.readouterr().out.splitlines()[-1] == str(path) and f"{length} steps" in text
    [values] = signals_on(text).values()
    shown = [float(value) for [value] in seen["values"] if value]
    assert shown[-1] == values[-1] and set(shown) <= set(values)
    assert len(values) == length
    document, console = page_browser.load_page(path, tmp_path / "replay")
    assert console == [] and 'class="plays"' in document


# --- replays --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_on_the_host_is_replayed_with_two_episodes_side_by_side(tmp_path, capsys):
    out, path = tmp_path / "study", tmp_path / "page.html"
    controls = "constant_plus constant_minus fear_sham fear_untrained fear_constant lesion"
    without = *controls.split(), *CONSTANT_POTENTIALS
    flags = "--smoke", "--env", "CartPole-v1", "--shifts", "noise", "--heads", "fear"
    assert compare.main([*flags, "--without", *without, "--out", str(out)]) == 0
    for more in ((), ("--arms", "none", "fear", "--shift", "noise")):
        assert replay.main([str(out), "--save", str(path), *more]) == 0
        text = path.read_text()
        titles = re.findall("<figcaption><b>(.*?)</b>", text)
        assert len(titles) == 2 and text.count("<b>critic</b>") == 2
    assert titles == ["none under noise, 1", "fear under noise, 1"]
    capsys.readouterr()
