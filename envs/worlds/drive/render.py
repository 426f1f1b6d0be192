"""Renders Drive: the road from above, scrolling with the driver, and a dashboard."""

import jax
import numpy as np

from envs.draw import Canvas
from envs.worlds.drive.sensors import (
    ANGLES,
    NEVER,
    REACH,
    Boxes,
    ray_observation,
    time_to_collision,
)
from envs.worlds.drive.state import (
    CARS,
    CONE,
    CROSSING,
    HALF_LONG,
    HALF_WIDE,
    LANE,
    LONG,
    ROAD,
    STEP,
    WIDE,
    Params,
    State,
)

SIZE, SCALE, DRIVER_X, ROAD_Y, DASH_Y = (640, 360), 9.0, 128, 128, 256  # pixels, pixels/m
GRASS, VERGE, ASPHALT, ICE, PAINT = "#d9e4cf", "#b9c7ad", "#555c66", "#a9c9de", "#f4f6f8"
DRIVER, CAR, CROSSER, GLASS, BLINK = "#e8862e", "#5f93c9", "#b06fc4", "#cfdbe8", "#ff8c1a"
ORANGE, RAY, HIT, FOG = "#f0641e", "#ffe9a366", "#ffe14d", "#eef1f4dd"
INK, FAINT, PANEL, SAFE, BAD = "#2b2f36", "#8b929c", "#f7f8fa", "#6aa879", "#c8322b"


def render_state(
    state: State,
    boxes: Boxes,
    params: Params,
    goal: float,
    horizon: int,
    ending: str,
    narrow: float = 0.0,
) -> np.ndarray:
    """Draws a state of Drive to scale, uint8 [360, 640, 3].

    Args:
        state: of `envs.worlds.drive.drive.Drive`.
        boxes: other vehicles and cones, relative to the driver.
        params: of the world.
        goal: metres to drive.
        horizon: steps allowed.
        ending: how the episode has ended; empty while it continues.
        narrow: share of the road's width that is lost at the goal, linearly along the road.
    """
    state, params = jax.tree.map(np.asarray, (state, params))
    x, y = float(state.x), float(state.y)
    canvas = Canvas(SIZE, SCALE, (DRIVER_X - SCALE * x, ROAD_Y), GRASS)
    _road(canvas, state, params, goal)
    for side in (-1, 1) if narrow > 0 else ():
        edge = side * ROAD / 2
        far = side * (WIDE + (ROAD / 2 - WIDE) * (1 - narrow))
        canvas.polygon([(0, edge), (goal, edge), (goal, far)], VERGE)
    if ending == "crash":
        _burst(canvas, x, y)
    _traffic(canvas, state)
    sight = float(params.sight)
    if sight < REACH:
        _fog(canvas, x, y, sight)
    _driver(canvas, state, boxes, sight)
    _dashboard(canvas, state, boxes, params, (goal, horizon, ending))
    return canvas.array()


def _road(canvas: Canvas, state: State, params: Params, goal: float) -> None:
    x, grip = float(state.x), float(params.grip)
    asphalt = _blend(ICE, ASPHALT, grip)
    low, high = x - DRIVER_X / SCALE - 1, x + (SIZE[0] - DRIVER_X) / SCALE + 1
    crossers = slice(CARS, CARS + CROSSING)
    for at, dash in zip(state.traffic.x[crossers], state.traffic.dash, strict=True):
        if at > 0:
            canvas.box((at - 2.2, -ROAD_Y / SCALE), (at + 2.2, ROAD_Y / SCALE), asphalt)
            for side in (-1, 1):
                canvas.line((at - 2, side * 7.5), (at + 2, side * 7.5), PAINT, 1)
            _arrow(canvas, (at, -np.sign(dash) * 13.6), float(np.sign(dash)))
    half = ROAD / 2
    canvas.box((low, -half - 0.6), (high, half + 0.6), VERGE)
    canvas.box((low, -half), (high, half), asphalt)
    for side in (-half + 0.15, half - 0.15):
        canvas.line((low, side), (high, side), PAINT, 1.5)
    for start in np.arange(6 * np.floor(low / 6), high, 6.0):
        for line in (-LANE / 2, LANE / 2):
            canvas.line((start, line), (start + 3, line), PAINT, 1.5)
    for post in np.arange(25 * np.ceil(low / 25), min(high, goal), 25.0):
        if 0 <= post < goal:
            canvas.box((post - 0.1, half + 0.6), (post + 0.1, half + 2), FAINT)
            canvas.text(canvas.pixel((post, half + 3.9)), f"{post:.0f} m", FAINT, 12, "ma")
    for row in range(int(ROAD)):
        for column in range(2):
            fill = INK if (row + column) % 2 else PAINT
            corner = goal + column, row - half
            canvas.box(corner, (corner[0] + 1, corner[1] + 1), fill)


def _arrow(canvas: Canvas, at: tuple[float, float], direction: float) -> None:
    (x, y), tip = at, at[1] + 1.1 * direction
    canvas.polygon([(x - 0.8, y), (x + 0.8, y), (x, tip)], CROSSER)


def _traffic(canvas: Canvas, state: State) -> None:
    traffic, x = state.traffic, float(state.x)
    for n in np.flatnonzero(np.abs(traffic.x - x) < 100):
        at = np.array([traffic.x[n], traffic.y[n]], float)
        half = np.array([HALF_LONG[n], HALF_WIDE[n]], float)
        if n >= CARS + CROSSING:
            canvas.dot(at, 1.6 * CONE * SCALE, ORANGE)
            canvas.dot(at, 0.6 * CONE * SCALE, PAINT)
        elif n >= CARS:
            direction = np.array([0.0, np.sign(traffic.dash[n - CARS])])
            _car(canvas, at, half, direction, CROSSER)
        else:
            _car(canvas, at, half, np.array([1.0, 0.0]), CAR)
            turn = float(traffic.lane[n]) - at[1]
            if abs(turn) > 0.3:
                for end in (-0.85, 0.85):
                    canvas.dot(at + half * (end, 0.9 * np.sign(turn)), 2.5, BLINK)
            canvas.text(_shift(canvas.pixel(at), -4, -7), f"{traffic.vx[n]:.0f}", INK, 12, "ma")


def _car(
    canvas: Canvas, at: np.ndarray, half: np.ndarray, direction: np.ndarray, fill: str
) -> None:
    """Draws a car from above, its windscreen at the end in this direction."""
    canvas.box(at - half, at + half, fill, 4)
    across = np.abs(direction[::-1]) * 0.75 * half
    front, back = at + 0.55 * half * direction, at + 0.3 * half * direction
    corners = np.array([front - across, front + across, back - across, back + across])
    canvas.box(corners.min(0), corners.max(0), GLASS, 1)


def _burst(canvas: Canvas, x: float, y: float) -> None:
    """Draws the star of a crash, below the vehicles."""
    turn, reach = np.linspace(0, 2 * np.pi, 25), np.where(np.arange(25) % 2, 4.4, 2.8)
    canvas.polygon(list(zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True)), BAD)


def _fog(canvas: Canvas, x: float, y: float, sight: float) -> None:
    """Covers everything beyond the range of sight with fog."""
    turn = np.linspace(0, 2 * np.pi, 73)
    hole = [(x + sight * np.cos(a), y + sight * np.sin(a)) for a in turn]
    far = [(x + 99, y), (x + 99, 40), (x - 99, 40), (x - 99, -40), (x + 99, -40), (x + 99, y)]
    canvas.polygon([*far, *hole[::-1]], FOG)


def _driver(canvas: Canvas, state: State, boxes: Boxes, sight: float) -> None:
    at = np.array([state.x, state.y], float)
    proximities = np.asarray(jax.jit(ray_observation)(boxes, sight))[: len(ANGLES)]
    for angle, proximity in zip(ANGLES, proximities, strict=True):
        distance = REACH * (1 - float(proximity)) if proximity > 0 else sight
        end = at + distance * np.array([np.cos(angle), np.sin(angle)])
        canvas.line(at, end, RAY, 1)
        if proximity > 0:
            canvas.dot(end, 3, HIT)
    _car(canvas, at, np.array([LONG, WIDE]), np.array([1.0, 0.0]), DRIVER)


def _dashboard(
    canvas: Canvas, state: State, boxes: Boxes, params: Params, task: tuple[float, int, str]
) -> None:
    goal, horizon, ending = task
    x, speed, remaining = float(state.x), float(state.speed), (horizon - int(state.time)) * STEP
    low, high = pixel_position(canvas, (0, DASH_Y)), pixel_position(canvas, SIZE)
    canvas.box((low[0], high[1]), (high[0], low[1]), PANEL)
    ttc = float(jax.jit(time_to_collision, static_argnums=(1, 2))(boxes, LONG, WIDE))
    gauges = (
        (f"{speed:.1f} m/s", speed / 18, DRIVER),
        (f"{max(goal - x, 0):.0f} m to go", x / goal, SAFE),
        (f"{remaining:.0f} s left", remaining / (horizon * STEP), CAR),
        (f"contact in {ttc:.1f} s" if ttc < NEVER else "way is clear", 1 - ttc / NEVER, BAD),
    )
    for n, (label, share, fill) in enumerate(gauges):
        corner = 16 + 156 * n
        canvas.text((corner, DASH_Y + 12), label, INK, 15)
        _bar(canvas, (corner, DASH_Y + 36), 1.0, "#dfe3e8")
        _bar(canvas, (corner, DASH_Y + 36), float(np.clip(share, 0, 1)), fill)
    canvas.text((16, DASH_Y + 66), ", ".join(_signs(params)) or "dry road, clear air", INK, 15)
    colour = {"crash": BAD, "arrived": SAFE}.get(ending, INK)
    canvas.text((SIZE[0] - 16, DASH_Y + 62), ending, colour, 20, "ra")


def _signs(params: Params) -> list[str]:
    """Names of the conditions that differ from a dry road in clear air."""
    signs = {
        f"ice ({float(params.grip):.0%} grip)": params.grip < 1,
        f"fog ({float(params.sight):.0f} m)": params.sight < REACH,
        "cones": params.closed > 0,
        "crossing traffic": params.crossing > 0,
        "pushy drivers": params.cut_in > 0,
        "mirrored traffic": params.mirror > 0,
    }
    return [label for label, active in signs.items() if active]


def _bar(canvas: Canvas, corner: tuple[float, float], share: float, fill: str) -> None:
    if share > 0:
        low = pixel_position(canvas, _shift(corner, 0, 12))
        high = pixel_position(canvas, _shift(corner, 140 * share, 0))
        canvas.box(low, high, fill, 3)


def pixel_position(canvas: Canvas, pixel: tuple[float, float]) -> tuple[float, float]:
    """Converts a pixel to a position in metres, the inverse of `Canvas.pixel`."""
    left, top = canvas.pixel((0.0, 0.0))
    return (pixel[0] - left) / SCALE, (top - pixel[1]) / SCALE


def _shift(pixel: tuple[float, float], right: float, down: float) -> tuple[float, float]:
    return pixel[0] + right, pixel[1] + down


def _blend(colour: str, other: str, share: float) -> str:
    pairs = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
