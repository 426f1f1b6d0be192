"""Environments for the tests of the host pool: one with configurable faults, and MiniGrid."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np


def distshift():
    """Makes a MiniGrid environment with image observations."""
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(gymnasium.make("minigrid:MiniGrid-DistShift1-v0"))


class Faulty(gymnasium.Env):
    """Random observations, rewards and ends; fails in a chosen way at a chosen step or reset.

    Args:
        fault: "" or raise, exit, kill, hang, hang_here, slow, make, reset, close, remember or
            scribble.
        at: the step of an episode at which raise, exit, kill, hang (with a child) and hang_here
            (for 2 s) happen.
        marker: file that the first fault (or close) creates; once it exists there are no more
            faults. If empty, every episode fails.
        ends: the probability that a step ends the episode.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fault="", at=5, marker="", ends=0.1):
        self.fault, self.at, self.marker, self.ends = fault, at, marker, ends
        self.resets = 0
        if fault == "make":
            raise OSError("no such\nmap")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets += 1
        if self.fault == "reset" and self.resets > 1:
            raise ValueError("no level for this seed")
        self.steps, self.action = 0, 0.0
        return self._obs(), {}

    def step(self, action):
        if self.steps == self.at and self.fault in {"raise", "exit", "kill", "hang", "hang_here"}:
            self._fail()
        if self.fault == "slow":
            time.sleep(0.2)
        self.steps += 1
        self.action = float(action[0])
        if self.fault == "scribble":
            action *= 2.0
        ended = bool(self.np_random.random() < self.ends)
        info = {"action": self.action, "jax": "jax" in sys.modules}
        return self._obs(), self.np_random.normal(), ended, False, info

    def close(self):
        if self.fault == "close":
            Path(self.marker).touch()

    def _obs(self):
        resets = self.resets if self.fault == "remember" else 0
        return np.array([self.steps + resets, self.np_random.normal(), self.action])

    def _fail(self):
        if self.marker:
            try:
                Path(self.marker).touch(exist_ok=False)
            except FileExistsError:
                return
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "hang_here":
            time.sleep(2)
        if self.fault == "hang":
            child = subprocess.Popen(["sleep", "1000"])
            if self.marker:
                Path(self.marker).write_text(f"{child.pid}")
            child.wait()
        raise ZeroDivisionError("a wheel\ncame off")
