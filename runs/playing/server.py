"""Page of a game on 127.0.0.1: it sends pressed keys and shows the frame and the signals."""

import base64
import hashlib
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from markupsafe import escape

from runs.errors import UserError
from runs.playing.keys import ARROWS, keys_text, waits
from runs.report.arm_style import STYLE_SHEET

HOST = "127.0.0.1"
SCRIPT = Path(__file__).with_name("play.js").read_text()
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    f"base-uri 'none'; form-action 'none'; script-src 'sha256-{_DIGEST}'"
)
LONGEST = 1_000  # bytes of a request


def serve(game: Any, port: int) -> None:
    """Serve a game until its episode ends, or Ctrl-C.

    Raises:
        UserError: for a port that is taken.
    """
    try:
        server = Server((HOST, port), partial(Handler, game))
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; 0 takes any that is free") from None
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # that of runs exits at once
    try:
        with server:
            print(f"http://{HOST}:{server.server_port}/\n\nCtrl-C ends it.", flush=True)
            while not game.ended:
                server.handle_request()
    except KeyboardInterrupt:
        print()
    finally:
        signal.signal(signal.SIGINT, handler)


class BadRequest(Exception):
    """Error: a request of another form, or for another address."""


class Server(HTTPServer):
    """Server that passes over broken connections, and no other error."""

    def handle_error(self, *_: Any) -> None:
        """Raise the error of a request, unless its connection broke."""
        if not isinstance(sys.exception(), OSError):
            raise


class Handler(BaseHTTPRequestHandler):
    """Answers GET / with the page, and POST /step with the next moment of the game."""

    timeout = 1.0  # seconds: browsers open connections ahead, on which they send nothing

    def __init__(self, game: Any, *given: Any):
        self.game = game
        super().__init__(*given)

    def do_GET(self) -> None:
        """Send the page."""
        self._answer(lambda: ("text/html", page(self.game)), self.path == "/")

    def do_POST(self) -> None:
        """Take a step with the keys of the request, a JSON list of at most four, and send it."""
        self._answer(lambda: ("application/json", self._step()), self.path == "/step")

    def _step(self) -> str:
        """The next moment as JSON, or the same one and why no step was taken.

        Raises:
            BadRequest: for one of another form.
        """
        keys, refused = self._keys(), ""
        try:
            if not self.game.ended:
                self.game.step(keys)
        except UserError as error:
            refused = str(error)
        return json.dumps(self.game.shown() | {"refused": refused})

    def _keys(self) -> list[str]:
        """Keys of the request; raises as `_step` does."""
        try:
            size = int(self.headers.get("Content-Length", 0))
            keys = json.loads(self.rfile.read(size)) if 0 < size <= LONGEST else None
        except (ValueError, RecursionError):
            keys = None
        known = (*ARROWS, *map(str, range(10)))
        if not isinstance(keys, list) or not all(key in known for key in keys):
            raise BadRequest("send a list of keys")
        return keys

    def _answer(self, make: Callable[[], tuple[str, str]], known: bool) -> None:
        """Send what `make` returns, to this machine's own page alone."""
        own = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        host, origin = self.headers.get("Host"), self.headers.get("Origin")  # no origin: the page
        try:
            if not known or not {host, (origin or f"http://{host}").removeprefix("http://")} <= own:
                raise BadRequest("there is nothing here")
            code, (kind, text) = 200, make()
        except BadRequest as error:
            code, kind, text = 400, "text/plain", str(error)
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def page(game: Any) -> str:
    """The page of a game, with the moment it is in."""
    rows = "".join(
        f'<div class="signal"><div class="words"><b>{escape(name)}</b><output></output></div>'
        '<canvas class="curve" width="600" height="60"></canvas></div>'
        for name in game.names
    )
    state = escape(json.dumps(game.shown()))
    waiting = waits(game.spec)
    how = "each takes a step" if waiting else "after the first the game goes on by itself"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{escape(game.title)}</title><style>{STYLE_SHEET}</style></head>"
        f'<body class="play" data-state="{state}" data-waits="{waiting}">'
        f'<header><p class="kicker">Play</p><h1>{escape(game.title)}</h1></header>'
        f'<main><img alt="the world" width="640">'
        f'<p class="quiet">Keys: {keys_text(game.spec)}; {how}.</p><p class="note"></p>{rows}'
        f"</main><script>{SCRIPT}</script></body></html>"
    )
