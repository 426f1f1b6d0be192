"""Playing by hand: scripted keys, actions of keys, the page and what it refuses."""

import json
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import HTTPServer

import numpy as np
import pytest

from affect import Spec
from runs import play
from runs.errors import UserError
from runs.playing.keys import action_of, scripted
from runs.playing.server import HOST, Handler, page
from tests.runs.small_study import without_key_check_in_threads

no_key_check = pytest.fixture(scope="module", autouse=True)(without_key_check_in_threads)
EVIL = "<script>alert(1)</script>"


def test_a_script_presses_keys_for_steps():
    steps = list(scripted(["up*2", "up+left", "none", "7"]))
    assert steps == [{"up"}, {"up"}, {"up", "left"}, set(), {"7"}]
    for token in ("jump", "up*", "up++left", "*3", ""):
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
    ],
)
def test_keys_are_actions(actions, pressed, action):
    assert action_of(pressed, Spec(obs_dim=1, num_actions=actions)) == action


def test_keys_are_continuous_actions():
    pressed = ["left", "up"]
    for size, action in ((1, [-1.0]), (2, [-1.0, 1.0]), (3, [-1.0, 1.0, 0.0])):
        assert action_of(pressed, Spec(obs_dim=1, num_actions=0, action_dim=size)) == action


@pytest.mark.slow
def test_a_scripted_drive_is_replayed_with_what_the_heads_signalled(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    flags = "--shift", "ice", "--keys", "up*12", "up+left*4", "none*2", "--save"
    assert play.main([*flags, str(tmp_path / "drive.html")]) == 0
    text = (tmp_path / "drive.html").read_text()
    assert capsys.readouterr().out.strip().endswith("drive.html")
    assert "<b>drive_fear</b>" in text and "<b>drive_hope_20</b>" in text
    assert "18 steps" in text and "Drive, played by hand, under ice" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--keys", "jump"), "write arrows"),
        (("--severity", "2"), "must be in 0 to 1"),
        (("--save", "nowhere/at/all.html"), "there is no folder nowhere/at"),
        (("--shift", "icy", "--keys", "up"), "did you mean ice?"),
        (("--heads", "zoo:drive-feer", "--keys", "up"), "drive-fear"),
        (("--env", "CartPole", "--keys", "up"), "observation"),
    ],
)
def test_what_cannot_be_played_is_refused(flags, message, monkeypatch):
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    with pytest.raises(UserError, match=message):
        play.main(list(flags))


class StubGame:
    """A game that counts steps."""

    title, ended, signals = EVIL, "", {EVIL: []}

    def __init__(self):
        self.pressed = []

    def step(self, keys):
        self.pressed.append(keys)

    def shown(self):
        frame = "data:image/png;base64,"
        return {
            "frame": frame,
            "step": len(self.pressed),
            "total": 0.0,
            "signals": [None],
            "ended": "",
        }


def test_the_page_answers_its_own_requests_alone():
    game = StubGame()
    assert EVIL not in page(game) and "&lt;script&gt;alert(1)" in page(game)
    with HTTPServer((HOST, 0), partial(Handler, game)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{HOST}:{server.server_port}"

        def ask(path, body=None, **headers):
            request = urllib.request.Request(url + path, body, headers)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()

        assert "Content-Security-Policy" in ask("/")
        assert json.loads(ask("/step", b'["up", "3"]'))["step"] == 1
        assert game.pressed == [["up", "3"]]
        refused = [("/other", None, {}), ("/", None, {"Host": "elsewhere.example"})]
        refused += [("/step", body, {}) for body in (b'["jump"]', b'{"a": 1}', b"no", b"[" * 2000)]
        for path, body, headers in refused:
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask(path, body, **headers)
        server.shutdown()
    assert np.size(game.pressed) == 2
