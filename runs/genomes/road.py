"""Values over the road of Drive: what a genome and its parent's critic give at each place."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from envs.worlds.drive.drive import EDGE, FASTEST, Drive
from envs.worlds.drive.sensors import REACH, Boxes, ray_observation
from envs.worlds.drive.state import LANE, LONG, ROAD, STEP, WIDE
from runs.genomes.newborns import GenomeRun
from runs.inheritance.parent import one_parent
from runs.report.plots import new_figure, save_figure

SPEED, SLOWER = 12.0, 7.0  # m/s, of the driver and of the others
CARS = np.array([[45.0, -LANE], [80.0, 0.0], [115.0, LANE]])  # m, along and across the road
X, Y = np.linspace(0.0, Drive.goal, 151), np.linspace(-EDGE, EDGE, 52)


def road_observations() -> jax.Array:
    """Observations [52, 151, 37] of a driver at each place across and along the road.

    The driver goes straight at 12 m/s, since the start; three cars go at 7 m/s.
    """

    def observe(x: jax.Array, y: jax.Array) -> jax.Array:
        ones = jnp.ones(len(CARS))
        boxes = Boxes(
            x=jnp.asarray(CARS[:, 0], jnp.float32) - x,
            y=jnp.asarray(CARS[:, 1], jnp.float32) - y,
            long=LONG * ones,
            wide=WIDE * ones,
            vx=(SLOWER - SPEED) * ones,
            vy=0.0 * ones,
        )
        time = x / (SPEED * STEP * Drive().horizon)
        own = jnp.stack([SPEED / FASTEST + 0 * x, y / EDGE, 0 * x, x / Drive.goal, time])
        return jnp.concatenate([own, ray_observation(boxes, REACH)])

    x, y = (jnp.asarray(axis, jnp.float32) for axis in (X, Y))
    return jax.jit(jax.vmap(lambda b: jax.vmap(lambda a: observe(a, b))(x)))(y)


def road_values(run: GenomeRun, carrier: str, parent: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [52, 151] over the road of a parent's critic, and of its genome."""
    obs = road_observations()
    common = one_parent(run.inherited(carrier), parent)
    critic = one_parent(run.parents["trained"], parent)
    values = jax.jit(critic.value)(obs), jax.jit(lambda obs: common(obs)[..., 0])(obs)
    return np.asarray(values[0]), np.asarray(values[1])


def draw_road(values: tuple[np.ndarray, np.ndarray], num_bytes: int, path: Path) -> None:
    """Heat maps of the values over the road, with the three cars; colours are shared."""
    from matplotlib.patches import Rectangle

    figure, axes = new_figure(2, 1, (9.0, 4.2), sharex=True)
    low, high = min(map(np.min, values)), max(map(np.max, values))
    for axis, value, title in zip(
        axes[:, 0], values, ("the parent's critic", f"its genome of {num_bytes} bytes"), strict=True
    ):
        extent = (X[0], X[-1], Y[0], Y[-1])
        image = axis.imshow(
            value, origin="lower", extent=extent, aspect="auto", vmin=low, vmax=high, cmap="viridis"
        )
        for x, y in CARS:
            corner, size = (x - LONG, y - WIDE), (2 * LONG, 2 * WIDE)
            axis.add_patch(Rectangle(corner, *size, facecolor="white", edgecolor="black"))
        for line in (-LANE / 2, LANE / 2):
            axis.axhline(line, color="white", linewidth=0.6, linestyle=(0, (8, 8)))
        axis.set(title=title, ylabel="metres across", ylim=(-ROAD / 2, ROAD / 2))
    axes[-1, 0].set_xlabel("metres along the road")
    figure.colorbar(image, ax=axes[:, 0], label="value where the driver is")
    save_figure(figure, path)
