"""Draws every world under every shift: `python -m envs.gallery`.

A sheet a suite, a row a shift, a column a severity; and a page that shows them all. All tiles of a
sheet begin with the same key and go through the same actions, so that what differs is the shift.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from envs import SUITES, load_suite

if TYPE_CHECKING:
    from envs.gallery.sheet import Row, Tile
    from envs.suite import Suite

COMMAND = "python -m envs.gallery"
FOLDER = Path(__file__).parents[1]
SEVERITIES = (0.5, 1.0)  # beside home


class ActionScript(NamedTuple):
    """What is done before the picture is taken.

    Attributes:
        actions: one after another; an index, or a number in [-1, 1] where actions are continuous.
        seed: of episode, shift and chance.
    """

    actions: tuple[float, ...]
    seed: int = 0


ROAD = ActionScript((4,) * 20 + (1, 1, 3, 3, 3, 4), seed=41)  # coast, brake, go left
SCRIPTS = {
    "Acrobot": ActionScript(((2,) * 6 + (0,) * 6) * 3 + (2,) * 3),
    "BoatRace": ActionScript((0, 0, 0, 1, 0, 1, 0, 1, 0)),
    "Button": ActionScript((0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2)),
    "CartPole": ActionScript((0, 1) * 15),
    "DeepSea": ActionScript((0, 1, 1, 0, 1, 0, 0), seed=2),
    "Drive": ROAD,
    "FoodShare": ActionScript((0, 0, 0, 1) * 5 + (0, 0)),
    "Gamble": ActionScript((0, 1, 2, 3) * 6),
    "HungryThirsty": ActionScript((3, 3, 0, 0, 0, 0, 0, 5, 4, 4, 4), seed=3),
    "MountainCar": ActionScript((0,) * 14 + (2,) * 22),
    "Pendulum": ActionScript(((1.0,) * 16 + (-1.0,) * 16) * 2),
    "Timid": ROAD,
    "Tomatoes": ActionScript((0, 0, 2, 2, 2, 0, 4, 4)),
}
"""By suite; a suite without one gets a dozen random actions."""


class OneLineParser(argparse.ArgumentParser):
    """Flags whose misuse is one line."""

    def error(self, message: str) -> None:
        """Prints the line; exit code 2."""
        self.exit(2, f"error: {message}\n")


def main(argv: list[str]) -> int:
    """Parses, then draws; the exit code."""
    flags = OneLineParser(COMMAND, description=__doc__)
    flags.add_argument(
        "--only", nargs="+", metavar="SUITE", help="draw only these, and leave the page as it is"
    )
    flags.add_argument("--out", type=Path, default=FOLDER, help="folder of README.md and gallery/")
    chosen = flags.parse_args(argv)
    names, pictures = chosen.only or list(SUITES), chosen.out / "gallery"
    try:
        suites = {name: load_suite(name) for name in names}
        pictures.mkdir(parents=True, exist_ok=True)
        began, drawn = time.monotonic(), {}
        for i, (name, suite) in enumerate(suites.items(), 1):
            file = pictures / f"{name}.png"
            drawn[name] = draw_suite(suite, file)
            left, size = (time.monotonic() - began) / i * (len(suites) - i), file.stat().st_size
            print(f"{i}/{len(suites)}  {file}  {size // 1024} KB  ETA {left:.0f} s", flush=True)
        if not chosen.only:
            from envs.gallery.page import gallery_page

            (chosen.out / "README.md").write_text(gallery_page(drawn, pictures.name))
    except (ValueError, OSError) as error:
        flags.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    return 0


def draw_suite(suite: "Suite", file: Path) -> tuple[str, list["Row"]]:
    """Draws the sheet of a suite into a PNG -> what it is about, and the rows of the sheet."""
    from envs.gallery.page import describe_world
    from envs.gallery.sheet import draw_sheet

    suite = replace(suite, severities=SEVERITIES)
    line, rows = (
        describe_world(suite.name, type(suite.env)),
        sheet_rows(suite, action_script(suite)),
    )
    draw_sheet(suite.name, line, (0.0, *SEVERITIES), rows).save(file, optimize=True)
    return line, rows


def action_script(suite: "Suite") -> ActionScript:
    """The suite's own, or a dozen random actions."""
    import numpy as np

    if suite.name in SCRIPTS:
        return SCRIPTS[suite.name]
    rng, spec = np.random.default_rng(0), suite.env.spec
    steps = min(12, suite.env.horizon)
    if spec.num_actions:
        return ActionScript(tuple(rng.integers(spec.num_actions, size=steps).tolist()))
    return ActionScript(tuple(rng.uniform(-1, 1, size=steps).tolist()))


def sheet_rows(suite: "Suite", script: ActionScript) -> list["Row"]:
    """A row for each shift: at home, and at the suite's severities."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from envs.gallery.sheet import Row

    env, key, across = suite.env, jax.random.key(script.seed), len(suite.severities)
    actions = jnp.asarray(script.actions)
    if not env.spec.num_actions:
        actions = jnp.repeat(actions[:, None], env.spec.action_dim, 1)
    worlds = jax.tree.map(lambda leaf: leaf[:, 0], suite.worlds(jax.random.fold_in(key, 1), 1))
    seen = jax.tree.map(np.asarray, (worlds, record_steps(env, worlds, actions, key)))
    each = [jax.tree.map(lambda leaf, n=n: leaf[n], seen) for n in range(len(suite.points()))]
    rows = []
    for i, shift in enumerate(suite.shifts):
        first, last = 1 + i * across, (i + 1) * across
        sensor = "sensor" in shift.family.split("|")
        tiles = [make_tile(env, each[n][1], sensor) for n in (0, *range(first, last + 1))]
        rows.append(
            Row(shift.name, shift.family, world_differences(each[0][0], each[last][0]), tiles)
        )
    return rows


def record_steps(env: Any, worlds: Any, actions: Any, key: Any) -> dict[str, Any]:
    """Goes through actions [T, ...] in worlds [N], which stand still once an episode is over.

    Returns:
        [N, ...] the params by then, the last state, what was sensed of it and what would be at
        home, the first world; [N, T] the actions asked for, those that took effect, the rewards,
        and whether the episode was under way.
    """
    import functools

    import jax

    home = jax.tree.map(lambda leaf: leaf[0], worlds)
    one = functools.partial(_record_step, env=env, home=home, actions=actions, key=key)
    return jax.jit(jax.vmap(one), compiler_options={"xla_backend_optimization_level": 0})(worlds)


def _record_step(world, *, env, home, actions, key):
    import jax
    import jax.numpy as jnp

    from envs import channel
    from envs.world import world_at

    def step(carry, now):
        env_state, over = carry
        action, key = now
        k_act = jax.random.split(jax.random.clone(key), 7)[0]  # as `Env.step` splits it
        disturbed, first = world_at(env_state.world, env_state.time).channel, env_state.time == 0
        done, _ = channel.apply_action(k_act, disturbed, env_state.queue, env.spec, first, action)
        after, seen = env.step(key, env_state, action)
        kept = jax.tree.map(lambda new, old: jnp.where(over, old, new), after, env_state)
        told = {"asked": action, "done": done, "reward": seen.reward, "alive": ~over}
        return (kept, over | seen.terminated | seen.truncated), told

    k_reset, k_steps = jax.random.split(key)
    start = env.reset(k_reset, world), jnp.zeros((), bool)
    keys = jax.random.split(k_steps, len(actions))
    (env_state, over), told = jax.lax.scan(step, start, (actions, keys))
    truth = env.observation(env_state.state, jax.random.key(0), home.params)
    params = world_at(world, env_state.time).params
    return told | {
        "params": params,
        "state": env_state.state,
        "sensed": env_state.obs,
        "truth": truth,
        "over": over,
    }


def make_tile(env: Any, moment: dict[str, Any], sensor: bool) -> "Tile":
    """What is shown of a moment; the truth is shown only beside what a sensor shift does to it."""
    from envs.gallery.sheet import Tile

    params, lived = moment["params"], moment["alive"]
    _, picture = env.render_image(moment["state"], env.render_init(params), params)
    return Tile(
        picture=picture,
        sensed=moment["sensed"],
        truth=moment["truth"] if sensor else moment["sensed"],
        asked=moment["asked"][lived],
        done=moment["done"][lived],
        paid=float(moment["reward"][lived].sum()),
        over=bool(moment["over"]),
    )


def world_differences(home: Any, world: Any) -> list[str]:
    """What is different in `world`, a line each, such as "grip 1 to 0.06"."""
    from envs.schedule import NEVER

    found = list(_changes(home[:2], world[:2]))
    scheduled = world.scheduled
    if scheduled is not None and scheduled.onset < NEVER:
        then = _changes(world[:2], (scheduled.params, scheduled.channel))
        found += [f"from step {scheduled.onset}:", *then]
    return found


def _changes(home: Any, world: Any) -> Iterator[str]:
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(home)
    for (path, old), new in zip(leaves, jax.tree.leaves(world), strict=True):
        name = jax.tree_util.keystr(path[1:], simple=True, separator=" ")
        if np.ndim(old) and (old != new).any():
            yield f"another {name}"
        elif not np.ndim(old) and old != new:
            yield f"{name} {old:.3g} to {new:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
