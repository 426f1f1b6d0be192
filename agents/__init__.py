"""Agents, one algorithm per file; they receive the signals of heads, never the heads."""

from agents.a2c import A2C
from agents.body import Body
from agents.foreign import Foreign
from agents.ppo import PPO
from agents.qlearning import QLearning

__all__ = ["A2C", "PPO", "Body", "Foreign", "QLearning"]
