"""Affect heads: small, simple signals that tell a learner mid-way how it is doing."""

from affect.blend import Blend, BlendState
from affect.care import Care
from affect.constant import Constant
from affect.curiosity import Curiosity
from affect.fear import Fear
from affect.head import Factory, Head, MissingInfo, build
from affect.homeostasis import Homeostasis
from affect.hope import Hope
from affect.innate import Innate
from affect.learn import TrainState, gradient_step
from affect.mood import Mood
from affect.satiation import Satiation
from affect.shaping import GRM, Potential
from affect.transition import Spec, Transition
from affect.wrappers import ConstantOf, Lesion, Normalised, Sham, Untrained

__version__ = "0.1.0"

HEADS = (Hope, Fear, Curiosity, Mood, Satiation)  # those that need to be told nothing
WRAPPERS = (Potential, GRM, Normalised, Care, Lesion, ConstantOf, Sham, Untrained)

__all__ = [
    "GRM",
    "Blend",
    "Care",
    "Constant",
    "ConstantOf",
    "Curiosity",
    "Factory",
    "Fear",
    "BlendState",
    "Head",
    "Homeostasis",
    "Hope",
    "Innate",
    "Lesion",
    "MissingInfo",
    "Mood",
    "Normalised",
    "Potential",
    "Satiation",
    "Untrained",
    "Sham",
    "Spec",
    "TrainState",
    "Transition",
    "build",
    "gradient_step",
]
