"""Small strange environments, one kind each, met in reports about this and other stacks.

REFUSED maps each kind to what the message must say; those of ACCEPTED give right values.
"""

import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

UNIT = spaces.Box(-1.0, 1.0, (2,), np.float32)
LARGEST = float(np.finfo(np.float32).max)


class Small(gymnasium.Env):
    """Episodes of 7 steps; from step 3 on `strange` replaces what a step would return."""

    observation_space: spaces.Space = UNIT
    action_space: spaces.Space = spaces.Discrete(2)
    strange: dict[str, Any] = {}
    first: Any = None  # the observation of a reset, where it is not of the usual form

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.action = 0, None
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.action = action
        usual = {"obs": self.observe(), "reward": self.pay(), "terminated": self.steps == 7}
        usual |= {"truncated": False, "info": {}}
        return tuple((usual | (self.strange if self.steps >= 3 else {})).values())

    def observe(self):
        return np.array([self.steps / 7, 0.0], np.float32) if self.first is None else self.first

    def pay(self):
        return 1.0


def kind(name: str, base: type = Small, **attributes: Any) -> type:
    """A class derived from `base`, with these attributes."""
    return type(name, (base,), attributes | {"__module__": __name__, "__qualname__": name})


def returning(name: str, **strange: Any) -> type:
    """An environment that returns these from step 3 on."""
    return kind(name, strange=strange)


def observing(name: str, space: spaces.Space, first: Any, later: Any = None) -> type:
    """An environment of this space that observes `first`, and `later` from step 3 on."""
    later = first if later is None else later
    return kind(name, observation_space=space, first=first, strange={"obs": later})


def acting(name: str, space: spaces.Space) -> type:
    """An environment of this action space; `pay` keeps the action."""
    return kind(name, action_space=space)


def box(low: list[float], high: list[float]) -> spaces.Box:
    """A box whose bounds are set afterwards, so that gymnasium does not check them."""
    space = spaces.Box(-1.0, 1.0, (len(low),))
    space.low, space.high = np.float32(low), np.float32(high)
    return space


def declaring(name: str, **facts: Any) -> type:
    """An environment with these entries in its `spec`."""
    return kind(name, spec=EnvSpec(f"{name}-v0", entry_point="none:None", **facts))


@property
def no_attribute(self) -> Any:
    """A property that raises."""
    raise OSError("the engine is gone")


# --- what draws from elsewhere ----------------------------------------------------------------


class GlobalNumpy(Small):
    def observe(self):
        return np.random.rand(2).astype(np.float32)  # noqa: NPY002


class GlobalNumpySeeded(GlobalNumpy):
    """Two environments in one process share what each of them seeds."""

    def reset(self, *, seed=None, options=None):
        np.random.seed(seed)  # noqa: NPY002
        return super().reset(seed=seed)


class UnseededSpace(Small):
    def __init__(self):
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def observe(self):
        return self.observation_space.sample()


class OwnGenerator(Small):
    """Seeded once, when made: the same in each new environment, another after each reset."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def observe(self):
        return self.rng.random(2, np.float32)


class RandomLevel(Small):
    def __init__(self):
        self.level = np.random.default_rng().random(2, np.float32)

    def observe(self):
        return self.level


class Clock(Small):
    def pay(self):
        return time.perf_counter() * 1e6 % 1


class Remembers(Small):
    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return super().reset(seed=seed)

    def observe(self):
        return np.array([0.0, 1 / (1 + self.resets)], np.float32)


class RewardRemembers(Remembers):
    """Only its rewards remember what came before a reset."""

    observe = Small.observe

    def pay(self):
        return 1 / (1 + self.resets)


class EndRemembers(Remembers):
    """Its first episodes are shorter than those that follow."""

    def observe(self):
        return np.zeros(2, np.float32)

    def step(self, action):
        obs, reward, terminated, *rest = super().step(action)
        return obs, reward, terminated or self.steps > min(self.resets, 5), *rest


class Normalised(gymnasium.wrappers.NormalizeReward):
    """Divides rewards by a deviation of all episodes so far."""

    def __init__(self):
        super().__init__(Small())


# --- what calls differently -------------------------------------------------------------------


class OnlyObservation(Small):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class FourValues(Small):
    def step(self, action):
        obs, reward, terminated, *_ = super().step(action)
        return obs, reward, terminated, {}


class ResetWithoutSeed(Small):
    def reset(self):
        return super().reset()


class InfoNone(Small):
    def step(self, action):
        return *super().step(action)[:4], None


class Raises(Small):
    def step(self, action):
        return {0: 1}[self.steps + 1]


class NeedsSize(Small):
    def __init__(self, size, wind: float = 0.25):
        self.size, self.wind = size, wind

    def pay(self):
        return self.size + self.wind


class Whines(Small):
    def __init__(self):
        import no_such_engine  # noqa: F401


class Spaceless(Small):
    observation_space = None


class Exits(Small):
    def __init__(self):
        sys.exit(4)


class Shrinks(Small):
    def reset(self, *, seed=None, options=None):
        self.action_space = spaces.Discrete(1)
        return super().reset(seed=seed)


class NotClosed(Small):
    def close(self):
        raise OSError("the engine is gone")


Broken = kind("Broken", unwrapped=no_attribute)


class NoEnv:
    """Has the methods of an environment, but not its class."""


PAIR = spaces.Dict(a=UNIT, b=spaces.Discrete(3))
REFUSED = {
    returning("OutOfBounds", obs=np.float32([2, 0])): r"step 2\) .*2.0 at \[0\], .* in \[-1, 1\]",
    returning("NanSeen", obs=np.float32([0, np.nan])): r"step 2\) .* nan at \[1\]",
    returning("Short", obs=np.zeros(1, np.float32)): r"shape \(1,\), expected \(2,\)",
    returning("Nothing", obs=None): r"observation None, expected numbers of shape \(2,\): widen",
    returning("Ragged", obs=[[1.0], 2.0]): r"2\) .*\[\[1.0\], 2.0\], expected numbers of shape",
    returning("RewardRagged", reward=[[1], 2]): r"reward \[\[1\], 2\], expected one number: return",
    returning("Texts", obs=np.array(["a", "b"])): "of dtype <U1, expected float32",
    returning("RewardNone", reward=None): "step 2.* returned reward None, expected one number: ret",
    returning("RewardNan", reward=np.nan): "returned reward nan, expected a finite number",
    returning("RewardText", reward="1"): "returned reward '1', expected one number",
    returning("RewardHuge", reward=1e40): r"returned reward 1e\+40, expected a finite number",
    returning("RewardVector", reward=np.ones(1)): r"returned reward array\(\[1.\]\), expected one",
    returning("FlagNone", terminated=None): "returned terminated None, expected True or False",
    returning("FlagNumber", truncated=0): "returned truncated 0, expected True or False",
    returning("FlagVector", terminated=np.zeros(1, bool)): "terminated array",
    observing("InfiniteSeen", spaces.Box(-np.inf, np.inf, (1,)), np.float32([np.inf])):
        r"inf at \[0\], expected a finite number",
    observing("Vast", spaces.Box(-np.inf, np.inf, (1,), float), np.zeros(1), np.array([1e300])):
        r"1e\+300 at \[0\], expected a finite number of float32 in \[-inf, inf\]",
    observing("SeesNan", box([0, np.nan], [1, 1]), np.zeros(2)):
        r"observation space has the bounds nan and 1.0 at \[1\], expected two .*; correct its",
    observing("Counter", spaces.Box(0, 2**40, (1,), np.int64), [0], np.array([2**24 + 1])):
        r"16777217 at \[0\], expected integers of at most 2\^24",
    observing("OneTooFew", spaces.Discrete(5, start=3), 3, 0): r"0, expected Discrete\(5, st",
    observing("PixelFloat", spaces.Box(0, 9, (1,), np.uint8), np.array([0]), np.array([0.5])):
        "dtype float64, expected uint8",
    observing("PixelWraps", spaces.Box(0, 9, (1,), np.uint8), np.array([0]), np.array([300])):
        r"300 at \[0\], expected a finite number in \[0, 9\]",
    observing("KeyMissing", PAIR, {"a": np.zeros(2), "b": 0}, {"a": np.zeros(2)}): "the keys",
    observing("PartWrong", PAIR, {"a": np.zeros(2), "b": 0}, {"a": np.zeros(2), "b": 3}):
        r"observation\['b'\] 3, expected Discrete\(3\)",
    observing("PairShort", spaces.Tuple([UNIT, UNIT]), (np.zeros(2),) * 2, (np.zeros(2),)): "tuple",
    observing("ManyClasses", spaces.Discrete(20_000), 3): "20000 numbers, .* to its coordinates",
    observing("Speaks", spaces.Text(4), "ab"): "is not made of numbers; keep only numeric keys",
    acting("AlmostUnbounded", spaces.Box(-LARGEST, LARGEST, (2,), np.float32)): "no bounds in",
    acting("Unbounded", spaces.Box(-np.inf, np.inf, (1,))): "no bounds in component 0",
    acting("NanBound", box([np.nan, -1], [1, 1])): r"action space has the bounds nan and 1.0 at",
    acting("Crossed", box([0, 2], [1, 1])): r"the bounds 2.0 and 1.0 at \[1\], expected two",
    acting("NoAction", spaces.Box(-1, 1, (0,))): "has 0 components, expected 1 to 10000; map it by",
    acting("Wide", spaces.Box(-1, 1, (200_000,))): "has 200000 components, expected 1 to 10000",
    acting("Many", spaces.Discrete(2**40)): "has 1099511627776 actions, expected 1 to 10000",
    acting("Pair", spaces.Tuple([spaces.Discrete(2)] * 2)): "neither discrete nor a Box; map it by",
    acting("ManyChoices", spaces.MultiBinary(9999)): "has 19998 actions in 9999 choices",
    GlobalNumpy: "step 0 of two environments with the same seed .* self.np_random",
    GlobalNumpySeeded: "with the same seed .* reproducible=False",
    UnseededSpace: "with the same seed and actions gave another observation",
    OwnGenerator: "replayed its seed and actions to other observations: draw from",
    RandomLevel: "step 0 of two environments with the same seed and actions",
    Clock: "step 1 of two environments .* gave another reward .*expected .*, got",
    Remembers: "replayed its seed and actions to other observations: .* set all state in reset",
    RewardRemembers: "step 1 of an environment that was reset .* another reward .* set all st",
    EndRemembers: "of an environment that was reset .* gave another terminated .* set all",
    Normalised: "step 1 of an environment that was reset .* reward .*reproducible=False",
    declaring("Backwards", max_episode_steps=-5): "max_episode_steps is -5, expected a whole",
    declaring("Half", max_episode_steps=10.5): "max_episode_steps is 10.5, expected a whole number",
    declaring("High", reward_threshold="high"): "reward_threshold is 'high', expected a number",
    kind("NoSpec", spec=no_attribute): r"its spec fails \(OSError: the engine is gone, strange.py:",
    kind("NoSpace", action_space=no_attribute): r"its action_space fails \(OSError: the engine",
    Exits: r"cannot be made \(SystemExit: 4, strange.py:\d+\); fix the environment",
    Shrinks: r"has after reset the action space Discrete\(1\), expected Discrete\(2\): declare one",
    OnlyObservation: r"from reset, expected \(obs, info\): write reset\(self",
    FourValues: r"from step, expected 5 values, the last a dict: return \(obs, reward, term",
    ResetWithoutSeed: "TypeError in reset: .*'seed': write reset",
    InfoNone: "from step, expected 5 values, the last a dict",
    Raises: r"step 0\) raised KeyError: 1 \(strange.py:\d+\), 3 times in a row: fix the env",
    NeedsSize: r'missing 1 required.*; give load_suite\(..., kwargs=\{"size": "..."\}\) or --env-k',
    Whines: r"No module named 'no_such_engine', strange.py:\d+\); install what it imports",
    Spaceless: "observation_space is None; set it to one of gymnasium.spaces",
    NoEnv: "NoEnv is no gymnasium.Env; derive it",
}  # fmt: skip
"""Kind -> regular expression of the message."""


class Mixed(Small):
    """Every part is numeric: 3 + 5 + 2 numbers."""

    observation_space = spaces.Dict(
        cell=spaces.Box(0, 255, (3, 1), np.uint8),
        room=spaces.Discrete(5, start=3),
        lamps=spaces.MultiBinary(2),
    )

    def observe(self):
        cell = np.array([[0], [7], [self.steps]])  # of int64, as many environments have it
        return {"cell": cell, "room": 3 + self.steps % 5, "lamps": np.array([0, 1], np.int8)}


class Constant(Small):
    """The second component never changes, and its bounds say so."""

    observation_space = spaces.Box(np.float32([-1, 0]), np.float32([3, 0]))


class Rounded(Small):
    """Leaves its space by rounding, as cosines do."""

    def observe(self):
        return np.array([1.0000001, -1.0000001])


class ZeroDimensional(Small):
    """Rewards and ends as arrays of no dimension."""

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array(reward), np.array(terminated), np.bool_(truncated), info


class Endless(Small):
    """Never terminates."""

    def step(self, action):
        obs, reward, *_ = super().step(action)
        return obs * 0, reward, False, False, {}


ACCEPTED = (Small, Mixed, Constant, Rounded, ZeroDimensional, Endless)

ACTIONS = (  # (action space, [(action in [-1, 1], what the environment gets)])
    (spaces.Discrete(3, start=-1), [(0, -1), (2, 1)]),
    (spaces.Box(np.float32([0, 2]), np.float32([4, 2])), [([-1, -1], [0, 2]), ([0.5, 9], [3, 2])]),
    (spaces.Box(1.0, np.inf, (1,)), [([-1], [1]), ([0], [2]), ([0.5], [4]), ([9], [2000])]),
    (spaces.Box(-np.inf, 1.0, (1,)), [([1], [1]), ([0], [0]), ([-0.5], [-2]), ([-9], [-1998])]),
    (spaces.Box(-2.0, 2.0, (2, 2)), [([-1, 0, 0.5, 1], [[-2, 0], [1, 2]])]),
    (spaces.Box(-1, 2, (1,), np.int64), [([-1], [-1]), ([-0.4], [0]), ([0.4], [1]), ([1], [2])]),
    (spaces.Box(0, 255, (1, 1), np.uint8), [([-1], [[0]]), ([0], [[128]]), ([1], [[255]])]),
    (spaces.Box(-2.0, 2.0, (), np.float32), [([0.5], 1)]),
    (spaces.Box(np.float32([-LARGEST, 0]), np.float32([0, LARGEST])), [([1, -1], [0, 0])]),
)
