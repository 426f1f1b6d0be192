"""A user's environment that hangs, exits or raises where it should not is refused in one line."""

import textwrap
import time
from pathlib import Path

import pytest

from envs import load_suite
from envs.host.fault import HostFailure
from envs.host.local_shard import LocalShard
from envs.host.pool import HostPool
from tests.envs import strange
from tests.faults.bench import report
from tests.refusal import refused
from tests.tiers import slow

HANG = "time.sleep(600)"
BODY = """
import os, sys, time
import gymnasium
import numpy as np

{module}

class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        {init}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        {reset}
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        {step}
        return np.zeros(2, np.float32), 0.0, False, False, {{}}

    def close(self):
        {close}
"""
PLACES = ("module", "init", "reset", "step", "close")
FAULTS = {
    "hangs": (HANG, "gave no answer within 1 s"),
    "ends its process": ("os._exit(7)", "died with exit code 7"),
    "exits": ("sys.exit(3)", "SystemExit: 3"),
    "raises": ("raise KeyError('wheel')", "KeyError: 'wheel'"),
}
CASES = [(place, fault) for place in PLACES for fault in FAULTS]
DEFAULT = [("init", "hangs"), ("module", "ends its process"), ("close", "raises")]


def write(folder: Path, **parts: str) -> str:
    """Writes an environment with some code at some places -> its entry."""
    (folder / "own.py").write_text(
        textwrap.dedent(BODY.format(**dict.fromkeys(PLACES, "pass") | parts))
    )
    return f"{folder / 'own.py'}:Own"


@pytest.mark.parametrize("case", [x if x in DEFAULT else slow(x) for x in CASES], ids="-".join)
def test_it_is_refused_in_one_line(case, tmp_path, record_property):
    place, fault = case
    code, word = FAULTS[fault]
    begun = time.monotonic()
    with refused(ValueError, word):
        load_suite(write(tmp_path, **{place: code}), [], timeout=1.0)
    assert time.monotonic() - begun < 120  # what hangs sleeps for 600 s
    report(record_property, "kinds of fault of an environment", 1)


def test_many_kinds_are_tried():
    assert len(CASES) + len(strange.REFUSED) + len(strange.ACCEPTED) >= 40


def test_an_environment_in_this_process_cannot_end_it(tmp_path):
    class Ends(strange.Small):
        def step(self, action):
            import os

            os._exit(7)

    with (
        pytest.raises(HostFailure, match=r"os._exit\(7\) would end this process"),
        HostPool(Ends, 1, 0, name="Ends", workers=0) as pool,
    ):
        pool.reset()
        pool.step(pool.single_action_space.sample()[None])
    assert isinstance(pool._shards[0], LocalShard)
