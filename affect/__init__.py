"""Affect heads: small, simple signals that tell a learner mid-way how it is doing."""

from affect.blend import Blend, Feelings
from affect.care import Care
from affect.constant import Constant
from affect.couplings import ConstantOf, Lesion, Normalised, Scrambled, Sham
from affect.curiosity import Curiosity
from affect.fear import Fear
from affect.head import Factory, Head, MissingInfo, build
from affect.homeostasis import Homeostasis
from affect.hope import Hope
from affect.innate import Innate
from affect.learn import Trained, descend, trainable
from affect.mood import Mood
from affect.satiation import Satiation
from affect.shaping import GRM, Potential
from affect.transition import Spec, Transition

__version__ = "0.1.0"

HEADS = (Hope, Fear, Curiosity, Mood, Satiation)  # those that need to be told nothing
COUPLINGS = (Potential, GRM, Normalised, Care, Lesion, ConstantOf, Sham, Scrambled)

__all__ = [
    "GRM",
    "Blend",
    "Care",
    "Constant",
    "ConstantOf",
    "Curiosity",
    "Factory",
    "Fear",
    "Feelings",
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
    "Scrambled",
    "Sham",
    "Spec",
    "Trained",
    "Transition",
    "build",
    "descend",
    "trainable",
]
