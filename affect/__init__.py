"""Affect heads: small, simple signals that tell a learner mid-way how it is doing."""

from affect.blend import Blend, Feelings
from affect.constant import Constant
from affect.couplings import ConstantOf, Lesion, Normalised, Potential, Scrambled, Sham
from affect.curiosity import Curiosity
from affect.fear import Fear
from affect.head import Factory, Head, build
from affect.hope import Hope
from affect.learn import Trained, descend, trainable
from affect.transition import Spec, Transition

__version__ = "0.1.0"

HEADS = (Hope, Fear, Curiosity)
COUPLINGS = (Potential, Normalised, Lesion, ConstantOf, Sham, Scrambled)

__all__ = [
    "Blend",
    "Constant",
    "ConstantOf",
    "Curiosity",
    "Factory",
    "Fear",
    "Feelings",
    "Head",
    "Hope",
    "Lesion",
    "Normalised",
    "Potential",
    "Scrambled",
    "Sham",
    "Spec",
    "Trained",
    "Transition",
    "build",
    "descend",
    "trainable",
]
