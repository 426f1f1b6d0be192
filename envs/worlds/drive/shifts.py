"""The suites of `envs.worlds.drive.drive`: what a learner who knows light traffic has never met."""

from dataclasses import replace

from envs.schedule import Schedule
from envs.shift import Shift, box, ramps
from envs.suite import Suite
from envs.world import World
from envs.worlds.drive.drive import Drive, Timid

WORST = {
    "cones": ("layout", {"params.closed": 0.42}),
    "aggressive": ("social", {"params.headway": 0.3, "params.gap": 3.0, "params.cut_in": 0.2}),
    "cross": ("social", {"params.crossing": 0.5}),
    "mirror": ("layout", {"params.mirror": 1.0}),
    "ice": ("dynamics", {"params.grip": 0.06}),
    "fog": ("sensor", {"params.sight": 4.0}),
    "noise": ("sensor", {"channel.noise": 0.5}),
    "dropout": ("sensor", {"channel.dropout": 0.8}),
    "delay": ("actuator", {"channel.delay": 4.0}),
    "flip": ("actuator", {"channel.flip": 0.5}),
}
"""Family and fields at severity 1: PPO that learned `Drive` (8 seeds, 217,000 steps) loses more
than .1 of its success there, and has more than .5 again after 98,000 steps of learning there
(`runs.calibrate`, which found half of `cross` on ice too much for anybody, .47)."""

SUDDEN = 20  # steps of .2 s until the ice comes, about a third of the way

EASY = {
    "grip": (0.6, 1.0),
    "slow": (6.0, 8.0),
    "fast": (8.0, 10.0),
    "headway": (1.0, 1.8),
    "restless": (0.0, 0.02),
}
"""The training distribution of the arm `random`: everyday variety, nothing like a shift at 1.
Pedals vary by a tenth of what they are."""


def drive_shifts() -> tuple[Shift, ...]:
    """Every way in which the road may differ, alone and in twos, and one that comes on the way."""
    single = {name: ramps(name, *worst) for name, worst in WORST.items()}
    return (
        *single.values(),
        single["ice"] | _part(single["cross"], 0.25),
        _part(single["noise"], 0.5) | single["cones"],
        single["fog"] | single["aggressive"],
        Schedule(SUDDEN)(single["ice"]),
    )


def suite() -> Suite:
    """`Drive` in light traffic, and everything that it is not."""
    return _suite("Drive", Drive())


def timid_suite() -> Suite:
    """`Timid`, under the shifts of `Drive`."""
    return _suite("Timid", Timid())


def _part(shift: Shift, share: float) -> Shift:
    """The same shift, which goes a share of the way."""
    return replace(shift, fn=lambda world, severity, key: shift.fn(world, share * severity, key))


def _suite(name: str, env: Drive) -> Suite:
    params = env.get_default_params()
    pedals = {"gas": params.gas, "brake": params.brake}
    easy = EASY | {name: (0.9 * push, 1.1 * push) for name, push in pedals.items()}
    return Suite(
        name=name,
        env=env,
        world=World(params),
        randomised=box("easy", "dynamics|social", "params", outer=easy),
        shifts=drive_shifts(),
    )
