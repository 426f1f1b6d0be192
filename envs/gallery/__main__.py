"""Draws every world under every shift: `python -m envs.gallery`.

One sheet per suite with a row per shift and a column per severity, and a page that shows all
sheets. All tiles of a sheet use the same random key and the same actions; only the shift differs.
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
SEVERITIES = (0.5, 1.0)  # in addition to 0, the unshifted world


class ActionScript(NamedTuple):
    """Actions and seed of the episode that a sheet shows.

    Attributes:
        actions: sequence of indices, or of numbers in [-1, 1] where actions are continuous.
        seed: of the episode and of the shifts.
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
"""Suite -> script; a suite without one gets a dozen random actions."""


class OneLineParser(argparse.ArgumentParser):
    """Argument parser that reports an error in one line, without usage."""

    def error(self, message: str) -> None:
        """Prints `error: message` and exits with code 2."""
        self.exit(2, f"error: {message}\n")


def main(argv: list[str]) -> int:
    """Draws the suites chosen on the command line; returns the exit code."""
    flags = OneLineParser(COMMAND, description=__doc__)
    flags.add_argument(
        "--only", nargs="+", metavar="SUITE", help="draw only these, and leave the page as it is"
    )
    flags.add_argument("--out", type=Path, default=FOLDER, help="folder of README.md and gallery/")
    args = flags.parse_args(argv)
    names, pictures = args.only or list(SUITES), args.out / "gallery"
    try:
        suites = {name: load_suite(name) for name in names}
        pictures.mkdir(parents=True, exist_ok=True)
        started, drawn = time.monotonic(), {}
        for i, (name, suite) in enumerate(suites.items(), 1):
            file = pictures / f"{name}.png"
            drawn[name] = draw_suite(suite, file)
            eta, size = (time.monotonic() - started) / i * (len(suites) - i), file.stat().st_size
            print(f"{i}/{len(suites)}  {file}  {size // 1024} KB  ETA {eta:.0f} s", flush=True)
        if not args.only:
            from envs.gallery.page import gallery_page

            (args.out / "README.md").write_text(gallery_page(drawn, pictures.name))
    except (ValueError, OSError) as error:
        flags.error(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130
    return 0


def draw_suite(suite: "Suite", file: Path) -> tuple[str, list["Row"]]:
    """Draws the sheet of a suite to a PNG -> (description of the suite, rows of the sheet)."""
    from envs.gallery.page import describe_world
    from envs.gallery.sheet import draw_sheet

    suite = replace(suite, severities=SEVERITIES)
    description, rows = (
        describe_world(suite.name, type(suite.env)),
        sheet_rows(suite, action_script(suite)),
    )
    draw_sheet(suite.name, description, (0.0, *SEVERITIES), rows).save(file, optimize=True)
    return description, rows


def action_script(suite: "Suite") -> ActionScript:
    """Script of a suite in SCRIPTS, or a dozen random actions."""
    import numpy as np

    if suite.name in SCRIPTS:
        return SCRIPTS[suite.name]
    rng, spec = np.random.default_rng(0), suite.env.spec
    steps = min(12, suite.env.horizon)
    if spec.num_actions:
        return ActionScript(tuple(rng.integers(spec.num_actions, size=steps).tolist()))
    return ActionScript(tuple(rng.uniform(-1, 1, size=steps).tolist()))


def sheet_rows(suite: "Suite", script: ActionScript) -> list["Row"]:
    """Rows of a sheet: one per shift, with tiles at severity 0 and at the suite's severities."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from envs.gallery.sheet import Row

    env, key, columns = suite.env, jax.random.key(script.seed), len(suite.severities)
    actions = jnp.asarray(script.actions)
    if not env.spec.num_actions:
        actions = jnp.repeat(actions[:, None], env.spec.action_dim, 1)
    worlds = jax.tree.map(lambda leaf: leaf[:, 0], suite.worlds(jax.random.fold_in(key, 1), 1))
    recorded = jax.tree.map(np.asarray, (worlds, record_steps(env, worlds, actions, key)))
    cells = [jax.tree.map(lambda leaf, n=n: leaf[n], recorded) for n in range(len(suite.points()))]
    rows = []
    for i, shift in enumerate(suite.shifts):
        first, last = 1 + i * columns, (i + 1) * columns
        sensor = "sensor" in shift.family.split("|")
        tiles = [make_tile(env, cells[n][1], sensor) for n in (0, *range(first, last + 1))]
        rows.append(
            Row(shift.name, shift.family, world_differences(cells[0][0], cells[last][0]), tiles)
        )
    return rows


def record_steps(env: Any, worlds: Any, actions: Any, key: Any) -> dict[str, Any]:
    """Plays actions [T, ...] in each of N worlds, until the end of the episode.

    Returns:
        state, params [N, ...]: at the end or after T steps.
        obs, unshifted_obs [N, D]: of that state, as sensed and as it would be in the first world.
        ended [N]: whether the episode has ended.
        chosen, applied [N, T, ...]: the actions, and those that took effect.
        reward, alive [N, T]: rewards, and whether the step was part of the episode.
    """
    import functools

    import jax

    original = jax.tree.map(lambda leaf: leaf[0], worlds)
    run = functools.partial(_record_world, env=env, original=original, actions=actions, key=key)
    return jax.jit(jax.vmap(run), compiler_options={"xla_backend_optimization_level": 0})(worlds)


def _record_world(world, *, env, original, actions, key):
    """Plays the actions [T, ...] in a single world; returns as `record_steps`, without axis N."""
    import jax
    import jax.numpy as jnp

    from envs import channel
    from envs.world import world_at

    def step(carry, inputs):
        env_state, ended = carry
        action, key = inputs
        k_act = jax.random.split(jax.random.clone(key), 7)[0]  # as `Env.step` splits it
        disturbance, first = world_at(env_state.world, env_state.time).channel, env_state.time == 0
        applied, _ = channel.apply_action(
            k_act, disturbance, env_state.queue, env.spec, first, action, env_state.obs
        )
        next_state, transition = env.step(key, env_state, action)
        kept = jax.tree.map(lambda new, old: jnp.where(ended, old, new), next_state, env_state)
        record = {
            "chosen": action,
            "applied": applied,
            "reward": transition.reward,
            "alive": ~ended,
        }
        return (kept, ended | transition.terminated | transition.truncated), record

    k_reset, k_steps = jax.random.split(key)
    start = env.reset(k_reset, world), jnp.zeros((), bool)
    keys = jax.random.split(k_steps, len(actions))
    (env_state, ended), records = jax.lax.scan(step, start, (actions, keys))
    unshifted_obs = env.observation(env_state.state, jax.random.key(0), original.params)
    params = world_at(world, env_state.time).params
    return records | {
        "params": params,
        "state": env_state.state,
        "obs": env_state.obs,
        "unshifted_obs": unshifted_obs,
        "ended": ended,
    }


def make_tile(env: Any, recorded: dict[str, Any], sensor: bool) -> "Tile":
    """Tile of one world of `record_steps`; unshifted observations only for a sensor shift."""
    from envs.gallery.sheet import Tile

    params, alive = recorded["params"], recorded["alive"]
    _, picture = env.render_image(recorded["state"], env.render_init(params), params)
    return Tile(
        picture=picture,
        obs=recorded["obs"],
        unshifted_obs=recorded["unshifted_obs"] if sensor else recorded["obs"],
        chosen=recorded["chosen"][alive],
        applied=recorded["applied"][alive],
        total_reward=float(recorded["reward"][alive].sum()),
        ended=bool(recorded["ended"]),
    )


def world_differences(original: Any, world: Any) -> list[str]:
    """Lines that list the changed fields of `world`, such as "grip 1 to 0.06"."""
    from envs.schedule import NEVER

    lines = list(_changes(original[:2], world[:2]))
    scheduled = world.scheduled
    if scheduled is not None and scheduled.onset < NEVER:
        later = _changes(world[:2], (scheduled.params, scheduled.channel))
        lines += [f"from step {scheduled.onset}:", *later]
    return lines


def _changes(original: Any, world: Any) -> Iterator[str]:
    """Yields a line for every leaf that differs between two pytrees."""
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(original)
    for (path, old), new in zip(leaves, jax.tree.leaves(world), strict=True):
        name = jax.tree_util.keystr(path[1:], simple=True, separator=" ")
        if np.ndim(old) and (old != new).any():
            yield f"another {name}"
        elif not np.ndim(old) and old != new:
            yield f"{name} {old:.3g} to {new:.3g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
