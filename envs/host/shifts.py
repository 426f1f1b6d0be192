"""Shifts under which gymnasium environments are scored: of their physics and of their channel."""

from affect import Spec
from envs.host.known import SIZES
from envs.shift import Shift, ramp, scale

NOISE = ramp("noise", "sensor", "channel.noise", to=0.2)
TIGHTEN = ramp("tighten", "sensor|actuator", "channel.tighten", to=0.5)
_MUJOCO = (
    scale("gravity", "dynamics", "params.gravity", to=1.5),
    scale("mass", "dynamics", "params.mass", to=2.0),
    scale("friction", "dynamics", "params.friction", to=0.2),
    scale("gear", "dynamics", "params.gear", to=0.5),
)
_CROSSING = (ramp("rivers", "layout", "params.layout", to=len(SIZES) - 1.0),)
_HIGHWAY = (
    ramp("aggressive", "social", "params.aggressive", to=1.0),
    scale("density", "layout", "params.density", to=2.0),
)
PHYSICS = {
    "CartPole-v1": (
        scale("force", "dynamics", "params.force", to=0.1),
        scale("length", "dynamics", "params.half_length", to=4.0),
        scale("mass", "dynamics", "params.pole_mass", to=20.0),
    ),
    "HalfCheetah-v5": _MUJOCO,
    "Hopper-v5": _MUJOCO,
    "LunarLander-v3": (
        scale("gravity", "dynamics", "params.gravity", to=0.3),
        ramp("wind", "dynamics", "params.wind", to=20.0),
    ),
    "MiniGrid-DistShift1-v0": (ramp("DistShift2", "layout", "params.layout", to=1.0),),
    "MiniGrid-LavaCrossingS9N1-v0": _CROSSING,
    "MiniGrid-SimpleCrossingS9N1-v0": _CROSSING,
    "Pendulum-v1": (
        scale("gravity", "dynamics", "params.gravity", to=1.5),
        scale("mass", "dynamics", "params.mass", to=1.5),
        scale("length", "dynamics", "params.length", to=1.5),
    ),
    "highway-fast-v0": _HIGHWAY,
    "highway-v0": _HIGHWAY,
}
"""Shifts of the declared setters of `envs.host.known.KNOWN`, by gymnasium id. Their values at
severity 1 are chosen by hand and not calibrated."""


def channel_shifts(spec: Spec) -> tuple[Shift, ...]:
    """Sensor and actuator shifts of an environment of shapes `spec`.

    Those of an image are occlusion, and of its brightness, that and of three colours their mixture.
    Of symbols there is no noise, and of a mask there is one that tightens.
    """
    slip = ("flip", "channel.flip", 0.5) if spec.choices else ("slip", "channel.action_noise", 1.0)
    shifts = () if spec.image and spec.image.symbols else (NOISE,)
    if spec.image:
        shifts += (ramp("occlusion", "sensor", "channel.image.occlusion", to=0.5),)
        if not spec.image.symbols:
            shifts += (ramp("brightness", "sensor", "channel.gain", to=0.4),)
            if spec.image.channels == 3:
                shifts += (ramp("colour", "sensor", "channel.image.colour", to=1.0),)
    shifts += (
        ramp("dropout", "sensor", "channel.dropout", to=0.6),
        ramp(slip[0], "actuator", slip[1], to=slip[2]),
        ramp("delay", "actuator", "channel.delay", to=3.0),
    )
    return (*shifts, TIGHTEN) if spec.masked else shifts
