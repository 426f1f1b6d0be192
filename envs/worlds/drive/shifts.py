"""Shifts of Drive and Timid: cones, aggressive and crossing traffic, ice, fog, sensor faults."""

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
"""Shift -> (family, {field: value at severity 1}). PPO trained on `Drive` (8 seeds, 217,000 steps)
loses more than .1 of its success there, and exceeds .5 after 98,000 further steps of training there
(`runs.calibrate`; with half of `cross` on ice it reaches only .47)."""

ICE_ONSET = 20  # steps of .2 s until the ice begins, after about a third of the road

EASY = {
    "grip": (0.6, 1.0),
    "slow": (6.0, 8.0),
    "fast": (8.0, 10.0),
    "headway": (1.0, 1.8),
    "restless": (0.0, 0.02),
}
"""Training distribution of the arm `random`: intervals much milder than the shifts at severity 1.
Gas and brake vary by a tenth of their default values."""


def drive_shifts(params: str = "params") -> tuple[Shift, ...]:
    """Shifts of Drive: each of WORST, three pairs of them, and ice that begins in mid-episode.

    `params` is the path of Drive's parameters in the world.
    """
    single = {}
    for name, (family, ends) in WORST.items():
        moved = {path.replace("params", params, 1): end for path, end in ends.items()}
        single[name] = ramps(name, family, moved)
    return (
        *single.values(),
        single["ice"] | _part(single["cross"], 0.25),
        _part(single["noise"], 0.5) | single["cones"],
        single["fog"] | single["aggressive"],
        Schedule(ICE_ONSET)(single["ice"]),
    )


def suite() -> Suite:
    """Suite Drive: training in light traffic, evaluation under `drive_shifts`."""
    return _suite("Drive", Drive())


def timid_suite() -> Suite:
    """Suite Timid: training in `Timid`, evaluation under the shifts of Drive."""
    return _suite("Timid", Timid())


def _part(shift: Shift, share: float) -> Shift:
    """Weakens a shift: at severity s it has the effect of severity `share` * s."""
    return replace(shift, fn=lambda world, severity, key: shift.fn(world, share * severity, key))


def _suite(name: str, env: Drive) -> Suite:
    params = env.get_default_params()
    pedals = {"gas": params.gas, "brake": params.brake}
    easy = EASY | {name: (0.9 * value, 1.1 * value) for name, value in pedals.items()}
    return Suite(
        name=name,
        env=env,
        world=World(params),
        randomised=box("easy", "dynamics|social", "params", outer=easy),
        shifts=drive_shifts(),
    )
