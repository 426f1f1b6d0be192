"""Held-out shifts of Drive, for final tests alone: gusts of wind, a heavy car, a narrowing road.

Newborns of `runs.inherit` meet them. Nothing is developed on them: they are no part of the suite
Drive, and a study gets them from `envs.load_sealed_suite` with the digest of its sealed draw
(`runs.prereg.seal.draw_sealed`). `runs.calibrate_sealed` alone measured, before, how hard they are.
"""

from envs.shift import ramps
from envs.suite import Suite
from envs.world import World
from envs.worlds.drive.any_drive import AnyDrive

WORST = {
    "gusts": ("dynamics", {"params.wind": 4.5}),
    "heavy": ("dynamics|layout", {"params.mass": 12.0, "params.base.start": 18.0}),
    "narrowing": ("layout", {"params.narrow": 0.4}),
}
"""Shift -> (family, {field: value at severity 1}). PPO trained on `Drive` loses more than .1 of its
success there and exceeds .5 after further training there; PPO from scratch learns it, but not at
once (`runs.calibrate_sealed`). A heavy car starts at 18 m/s: at the usual 12, even 30 times the
mass costs only .03 of success; that start alone costs .02."""


def sealed_suite() -> Suite:
    """Suite of the sealed shifts: home is that of `Drive`, evaluation under each of WORST."""
    env = AnyDrive()
    shifts = tuple(ramps(name, *worst) for name, worst in WORST.items())
    return Suite("Drive", env, World(env.default_params), shifts, severities=(0.5, 1.0))
