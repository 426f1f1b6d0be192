"""Draws docs/assets/newborns.gif: two new agents learn to drive, one of them with a given value.

Both learn to drive from scratch in Timid, where reward comes at the end alone. One is paid the
value of an agent that has learned in Drive, in two tanh units of 4 bits (`affect.zoo`), as a
potential; the other a constant potential, which knows nothing. The potential is drawn over the
road: what it would be if the car were there. Run from the root of a checkout.
"""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import affect
from affect import Blend, ConstantPotential, Potential
from envs import load_suite
from envs.worlds.drive.drive import EDGE
from envs.worlds.drive.render import ASPHALT, DRIVER_X, ROAD_Y, SCALE, SIZE
from envs.worlds.drive.state import STEP
from runs import Experiment
from runs.inheritance.parent import head_signal

PATH = Path(__file__).parent / "assets" / "newborns.gif"
OUT = Path("runs/logs/newborns")
HEAD, K = "drive-value-2x4", -1.06  # the constant that `python -m runs.inherit` chose
STEPS, SEEDS, SHOWN, TRIPS = 72_000, 5, 0, 3  # steps: four hours of driving
MILLISECONDS, COLOURS, PAUSE, STRIDE, WIDTH = 120, 64, 12, 2, 320
ROWS, COLUMNS = np.linspace(-EDGE, EDGE, 23), np.linspace(-14, 56, 71)  # m, from the driver
LOW, HIGH = -1.5, 1.0  # values of the darkest and the brightest colour
TITLES = {"constant": "a constant potential", "given": "a value of 44 bytes"}


def main() -> None:
    """Train both, record trips of each under the same keys, and write the animation."""
    given = Potential.from_card(affect.zoo.path(HEAD))
    arms = {"constant": Blend(phi=(1.0, ConstantPotential(K))), "given": Blend(phi=(1.0, given))}
    timid = load_suite("Timid")
    timid = replace(timid, shifts=timid.shifts[:1], severities=(1.0,))  # no more than is allowed
    options = {"seeds": SEEDS, "steps": STEPS, "out": OUT, "recordings": False}
    result = Experiment(timid, arms, **options).run()
    print(result.curves.groupby(["arm", "step"])["success"].mean().unstack("arm"))
    home = result.scores.query("shift == 'none'").groupby(["arm", "seed"])["success"].mean()
    print(home)
    head, card = affect.zoo.load(HEAD), given.settings
    values = {
        "constant": lambda obs: jnp.full(obs.shape[:-1], K),
        "given": lambda obs: card["scale"] * head_signal(head, obs) + card["shift"],
    }
    titles = {arm: title(arm, home[arm].mean()) for arm in arms}
    trips = []
    for trip in range(TRIPS):
        states = {arm: episode(timid, result.agent(arm, SHOWN), trip) for arm in arms}
        roads = {arm: over_the_road(timid, states[arm], values[arm]) for arm in arms}
        films = [film(timid, titles[arm], states[arm], roads[arm]) for arm in arms]
        length = max(map(len, films)) + PAUSE
        trips.append(np.concatenate([padded(one, length) for one in films], axis=2))
    both = np.concatenate(trips)
    pictures = [Image.fromarray(x).quantize(COLOURS, dither=Image.Dither.NONE) for x in both]
    options = {"duration": MILLISECONDS, "loop": 0, "optimize": True}
    pictures[0].save(PATH, save_all=True, append_images=pictures[1:], **options)
    print(f"{PATH}: {len(both)} frames, {PATH.stat().st_size:,} bytes")


def episode(suite: object, agent: object, trip: int) -> list:
    """Every other state of an episode of a trained agent, the last one included."""
    env, params, key = suite.env, suite.world.params, jax.random.key(trip)
    key, first = jax.random.split(key)
    states, step = [env.initial(first, params)], jax.jit(env.transition)
    observe, ended = jax.jit(env.observation), jax.jit(env.terminal)
    while not ended(states[-1], key, params):
        key, of_step = jax.random.split(key)
        action = agent.act(np.asarray(observe(states[-1], of_step, params)))
        states.append(step(states[-1], jnp.asarray(action), of_step, params))
    return [*states[:-1:STRIDE], states[-1]]


def over_the_road(suite: object, states: list, value: object) -> np.ndarray:
    """Value [T, 23, 71] of each state if the driver were elsewhere around it."""
    params = suite.world.params

    @jax.jit
    def values(state):
        def at(x, y):
            moved = state._replace(x=state.x + x, y=y)
            return suite.env.observation(moved, jax.random.key(0), params)

        return value(jax.vmap(lambda y: jax.vmap(lambda x: at(x, y))(COLUMNS))(ROWS))

    return np.stack([np.asarray(values(state)) for state in states])


def title(arm: str, success: float) -> np.ndarray:
    """Two lines as a picture [40, WIDTH, 3]: what was given, and how often all seeds arrive."""
    lines = f"{STEPS * STEP / 3600:.0f} hours with {TITLES[arm]}:", f"{success:.0%} of trips arrive"
    picture = Image.new("RGB", (WIDTH, 40), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for line, top in zip(lines, (2, 20), strict=True):
        draw.text((4, top), line, fill="black", font=font)
    return np.asarray(picture)


def film(suite: object, above: np.ndarray, states: list, roads: np.ndarray) -> np.ndarray:
    """Frames [T, H, W, 3] of an episode: a title, and the world with the value over the road."""
    frames = []
    for state, road in zip(states, roads, strict=True):
        _, picture = suite.env.render_image(state, None, suite.world.params)
        picture = coloured(np.asarray(picture), road)
        small = Image.fromarray(picture).resize((WIDTH, WIDTH * SIZE[1] // SIZE[0]))
        frames.append(np.concatenate([above, np.asarray(small)]))
    return np.pad(np.stack(frames), ((0, 0), (0, 0), (0, 8), (0, 0)), constant_values=255)


def coloured(picture: np.ndarray, road: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] with the value, of LOW to HIGH, in place of the asphalt."""
    rows, columns = np.indices(picture.shape[:2])
    x = (columns - DRIVER_X) / SCALE  # m, from the driver
    y = (ROAD_Y - rows) / SCALE
    i = np.abs(y[:, :1] - ROWS).argmin(1)[:, None]
    j = np.abs(x[:1].T - COLUMNS).argmin(1)[None]
    shade = np.clip((road - LOW) / (HIGH - LOW), 0, 1)[i, j]
    colours = (255 * matplotlib.colormaps["viridis"](shade)[..., :3]).astype(np.uint8)
    asphalt = np.array([int(ASPHALT[k : k + 2], 16) for k in (1, 3, 5)])
    is_road = (np.abs(picture.astype(int) - asphalt).max(-1) <= 2) & (np.abs(y) <= EDGE + 1)
    return np.where(is_road[..., None], colours, picture)


def padded(frames: np.ndarray, length: int) -> np.ndarray:
    """Frames with the last one repeated up to a length."""
    return np.concatenate([frames, np.repeat(frames[-1:], length - len(frames), axis=0)])


if __name__ == "__main__":
    main()
