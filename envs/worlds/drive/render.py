"""A picture of `envs.worlds.drive.drive`: the road from above, scrolling with the driver, and a dashboard."""

from typing import TYPE_CHECKING

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
from envs.worlds.drive.traffic import (
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
)

if TYPE_CHECKING:
    from envs.worlds.drive.drive import Params, State

SIZE, SCALE, HERE, MIDDLE, DASH = (640, 360), 9.0, 128, 128, 256  # pixels; pixels in a metre
GRASS, VERGE, ASPHALT, ICE, PAINT = "#d9e4cf", "#b9c7ad", "#555c66", "#a9c9de", "#f4f6f8"
DRIVER, CAR, CROSSER, GLASS, BLINK = "#e8862e", "#5f93c9", "#b06fc4", "#cfdbe8", "#ff8c1a"
ORANGE, RAY, HIT, FOG = "#f0641e", "#ffe9a366", "#ffe14d", "#eef1f4dd"
INK, FAINT, PANEL, SAFE, BAD = "#2b2f36", "#8b929c", "#f7f8fa", "#6aa879", "#c8322b"


def render_state(
    state: "State", boxes: Boxes, params: "Params", goal: float, horizon: int, ending: str
) -> np.ndarray:
    """Draws a state to scale, uint8 [360, 640, 3].

    Args:
        state: of `envs.worlds.drive.drive.Drive`.
        boxes: all others, as the driver's rays meet them.
        params: of its world.
        goal: metres to drive.
        horizon: steps allowed.
        ending: how the episode has ended; empty while it goes on.
    """
    state, params = jax.tree.map(np.asarray, (state, params))
    x, y = float(state.x), float(state.y)
    sheet = Canvas(SIZE, SCALE, (HERE - SCALE * x, MIDDLE), GRASS)
    _road(sheet, state, params, goal)
    if ending == "crash":
        _burst(sheet, x, y)
    _others(sheet, state)
    sight = float(params.sight)
    if sight < REACH:
        _fog(sheet, x, y, sight)
    _driver(sheet, state, boxes, sight)
    _dashboard(sheet, state, boxes, params, (goal, horizon, ending))
    return sheet.array()


def _road(sheet: Canvas, state: "State", params: "Params", goal: float) -> None:
    x, grip = float(state.x), float(params.grip)
    asphalt = _blend(ICE, ASPHALT, grip)
    low, high = x - HERE / SCALE - 1, x + (SIZE[0] - HERE) / SCALE + 1
    crossers = slice(CARS, CARS + CROSSING)
    for at, dash in zip(state.traffic.x[crossers], state.traffic.dash, strict=True):
        if at > 0:
            sheet.box((at - 2.2, -MIDDLE / SCALE), (at + 2.2, MIDDLE / SCALE), asphalt)
            for side in (-1, 1):
                sheet.line((at - 2, side * 7.5), (at + 2, side * 7.5), PAINT, 1)
            _arrow(sheet, (at, -np.sign(dash) * 13.6), float(np.sign(dash)))
    half = ROAD / 2
    sheet.box((low, -half - 0.6), (high, half + 0.6), VERGE)
    sheet.box((low, -half), (high, half), asphalt)
    for side in (-half + 0.15, half - 0.15):
        sheet.line((low, side), (high, side), PAINT, 1.5)
    for start in np.arange(6 * np.floor(low / 6), high, 6.0):
        for line in (-LANE / 2, LANE / 2):
            sheet.line((start, line), (start + 3, line), PAINT, 1.5)
    for post in np.arange(25 * np.ceil(low / 25), min(high, goal), 25.0):
        if 0 <= post < goal:
            sheet.box((post - 0.1, half + 0.6), (post + 0.1, half + 2), FAINT)
            sheet.text(sheet.pixel((post, half + 3.9)), f"{post:.0f} m", FAINT, 12, "ma")
    for row in range(int(ROAD)):
        for column in range(2):
            fill = INK if (row + column) % 2 else PAINT
            corner = goal + column, row - half
            sheet.box(corner, (corner[0] + 1, corner[1] + 1), fill)


def _arrow(sheet: Canvas, at: tuple[float, float], way: float) -> None:
    (x, y), tip = at, at[1] + 1.1 * way
    sheet.polygon([(x - 0.8, y), (x + 0.8, y), (x, tip)], CROSSER)


def _others(sheet: Canvas, state: "State") -> None:
    others, x = state.traffic, float(state.x)
    for n in np.flatnonzero(np.abs(others.x - x) < 100):
        at = np.array([others.x[n], others.y[n]], float)
        half = np.array([HALF_LONG[n], HALF_WIDE[n]], float)
        if n >= CARS + CROSSING:
            sheet.dot(at, 1.6 * CONE * SCALE, ORANGE)
            sheet.dot(at, 0.6 * CONE * SCALE, PAINT)
        elif n >= CARS:
            way = np.array([0.0, np.sign(others.dash[n - CARS])])
            _car(sheet, at, half, way, CROSSER)
        else:
            _car(sheet, at, half, np.array([1.0, 0.0]), CAR)
            turn = float(others.lane[n]) - at[1]
            if abs(turn) > 0.3:
                for end in (-0.85, 0.85):
                    sheet.dot(at + half * (end, 0.9 * np.sign(turn)), 2.5, BLINK)
            sheet.text(_shift(sheet.pixel(at), -4, -7), f"{others.vx[n]:.0f}", INK, 12, "ma")


def _car(sheet: Canvas, at: np.ndarray, half: np.ndarray, way: np.ndarray, fill: str) -> None:
    """A car seen from above, its windscreen on the side that it is heading for."""
    sheet.box(at - half, at + half, fill, 4)
    across = np.abs(way[::-1]) * 0.75 * half
    front, back = at + 0.55 * half * way, at + 0.3 * half * way
    corners = np.array([front - across, front + across, back - across, back + across])
    sheet.box(corners.min(0), corners.max(0), GLASS, 1)


def _burst(sheet: Canvas, x: float, y: float) -> None:
    """The star of a crash, under those who crash."""
    turn, reach = np.linspace(0, 2 * np.pi, 25), np.where(np.arange(25) % 2, 4.4, 2.8)
    sheet.polygon(list(zip(x + reach * np.cos(turn), y + reach * np.sin(turn), strict=True)), BAD)


def _fog(sheet: Canvas, x: float, y: float, sight: float) -> None:
    """White beyond what is seen: a sheet with a round hole."""
    turn = np.linspace(0, 2 * np.pi, 73)
    hole = [(x + sight * np.cos(a), y + sight * np.sin(a)) for a in turn]
    far = [(x + 99, y), (x + 99, 40), (x - 99, 40), (x - 99, -40), (x + 99, -40), (x + 99, y)]
    sheet.polygon([*far, *hole[::-1]], FOG)


def _driver(sheet: Canvas, state: "State", boxes: Boxes, sight: float) -> None:
    at = np.array([state.x, state.y], float)
    near = np.asarray(jax.jit(ray_observation)(boxes, sight))[: len(ANGLES)]
    for angle, close in zip(ANGLES, near, strict=True):
        away = REACH * (1 - float(close)) if close > 0 else sight
        end = at + away * np.array([np.cos(angle), np.sin(angle)])
        sheet.line(at, end, RAY, 1)
        if close > 0:
            sheet.dot(end, 3, HIT)
    _car(sheet, at, np.array([LONG, WIDE]), np.array([1.0, 0.0]), DRIVER)


def _dashboard(
    sheet: Canvas, state: "State", boxes: Boxes, params: "Params", task: tuple[float, int, str]
) -> None:
    goal, horizon, ending = task
    x, speed, left = float(state.x), float(state.speed), (horizon - int(state.time)) * STEP
    low, high = pixel_position(sheet, (0, DASH)), pixel_position(sheet, SIZE)
    sheet.box((low[0], high[1]), (high[0], low[1]), PANEL)
    soon = float(jax.jit(time_to_collision, static_argnums=(1, 2))(boxes, LONG, WIDE))
    gauges = (
        (f"{speed:.1f} m/s", speed / 18, DRIVER),
        (f"{max(goal - x, 0):.0f} m to go", x / goal, SAFE),
        (f"{left:.0f} s left", left / (horizon * STEP), CAR),
        (f"contact in {soon:.1f} s" if soon < NEVER else "way is clear", 1 - soon / NEVER, BAD),
    )
    for n, (words, share, fill) in enumerate(gauges):
        corner = 16 + 156 * n
        sheet.text((corner, DASH + 12), words, INK, 15)
        _bar(sheet, (corner, DASH + 36), 1.0, "#dfe3e8")
        _bar(sheet, (corner, DASH + 36), float(np.clip(share, 0, 1)), fill)
    sheet.text((16, DASH + 66), ", ".join(_signs(params)) or "dry road, clear air", INK, 15)
    colour = {"crash": BAD, "arrived": SAFE}.get(ending, INK)
    sheet.text((SIZE[0] - 16, DASH + 62), ending, colour, 20, "ra")


def _signs(params: "Params") -> list[str]:
    """What a driver should be warned of, in words."""
    signs = {
        f"ice ({float(params.grip):.0%} grip)": params.grip < 1,
        f"fog ({float(params.sight):.0f} m)": params.sight < REACH,
        "cones": params.closed > 0,
        "crossing traffic": params.crossing > 0,
        "pushy drivers": params.cut_in > 0,
        "mirrored traffic": params.mirror > 0,
    }
    return [words for words, shown in signs.items() if shown]


def _bar(sheet: Canvas, corner: tuple[float, float], share: float, fill: str) -> None:
    if share > 0:
        low = pixel_position(sheet, _shift(corner, 0, 12))
        high = pixel_position(sheet, _shift(corner, 140 * share, 0))
        sheet.box(low, high, fill, 3)


def pixel_position(sheet: Canvas, pixel: tuple[float, float]) -> tuple[float, float]:
    """The position of a pixel."""
    left, top = sheet.pixel((0.0, 0.0))
    return (pixel[0] - left) / SCALE, (top - pixel[1]) / SCALE


def _shift(pixel: tuple[float, float], right: float, down: float) -> tuple[float, float]:
    return pixel[0] + right, pixel[1] + down


def _blend(one: str, two: str, share: float) -> str:
    pairs = [(int(one[i : i + 2], 16), int(two[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
