"""Play a world by hand, while trained heads watch and show what they signal.

Serves one page on 127.0.0.1: keys are the actions, and under the picture is the signal of each head
at every step. At the end of the episode it is written as a page that replays it. With --keys the
episode is played from a script instead, without a browser: `--keys up*20 up+left*5 none*9`.

Keys are the arrows where a world has 9 actions, as Drive has (up and down are the pedal), 2 or 3,
or continuous ones, and digits, the number of an action, wherever it has numbers. In the browser a
world goes on by itself if it has an action that does nothing; others take a step at each key.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from runs.cli.settings import check_not_negative, parse_settings, run_main
from runs.errors import UserError

COMMAND = "python -m runs.play"


@dataclass(frozen=True)
class Settings:
    """Settings of a game.

    Attributes:
        env: as that of `runs.compare`: one of ours, a gymnasium id, or path/to/file.py:Name.
        heads: that watch: zoo:NAME of `affect.zoo`, or files such as fear.safetensors; none if no
            name follows.
        shift: under which it is played; without one, at home.
        severity: of the shift.
        keys: played in the place of a person: KEY+KEY*STEPS ...
        seed: of the episode.
        port: of the page; 0 for any free one.
        save: the page of the replay.
    """

    env: str = "Drive"
    heads: Annotated[tuple[str, ...], arg(aliases=["--head"])] = (
        "zoo:drive-fear",
        "zoo:drive-hope-20",
    )
    shift: str = ""
    severity: float = 1.0
    keys: tuple[str, ...] = ()
    seed: int = 0
    port: int = 0
    save: Path = Path("play.html")


def main(argv: list[str]) -> int:
    """Play an episode, in a browser or from a script -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not 0 <= settings.severity <= 1:
        raise UserError(f"--severity {settings.severity}: must be in 0 to 1")
    check_not_negative(settings, "seed")
    if not 0 <= settings.port <= 65535:
        raise UserError(f"--port {settings.port}: must be in 0 to 65535; 0 takes any that is free")
    if settings.save.is_dir():
        raise UserError(f"--save {settings.save}: is a folder; name a file, such as play.html")
    if not settings.save.parent.is_dir():
        raise UserError(f"--save {settings.save}: there is no folder {settings.save.parent}")
    from runs.playing.keys import scripted
    from runs.playing.server import serve

    script = list(scripted(settings.keys))
    from runs.engine.devices import prepare_devices

    prepare_devices()
    from runs.playing.game import make_game

    game = make_game(settings)
    try:
        if not script:
            serve(game, settings.port)
        for pressed in script:
            if not game.ended:
                game.step(pressed)
        print(game.save(settings.save) if game.steps else "nothing was played", flush=True)
    finally:
        game.close()
    if game.fault:
        raise UserError(game.fault)
    return 0


if __name__ == "__main__":
    run_main(main)
