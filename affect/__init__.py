"""Affect heads: small modules that turn experience into one signal per step for an RL agent."""

from affect import zoo
from affect.blend import Blend, BlendState
from affect.bridges.offline import transitions_from
from affect.care import Care
from affect.constant import Constant
from affect.curiosity import Curiosity
from affect.distil import Distillation, distil
from affect.factory import Factory
from affect.fear import Fear
from affect.genome import Distilled
from affect.head import Head, HeadFactory, MissingInfo, build
from affect.homeostasis import Homeostasis
from affect.hope import Hope
from affect.image import Image
from affect.inheritance import load, read_card
from affect.inherited import Inherited
from affect.innate import Innate
from affect.learn import TrainState, gradient_step
from affect.monitor import Monitor
from affect.mood import Mood
from affect.satiation import Satiation
from affect.shaping import GRM, ConstantPotential, Potential
from affect.store import Card
from affect.transition import Spec, Transition
from affect.value import Value
from affect.wrappers import ConstantOf, Lesion, Normalised, Sham, Untrained

__version__ = "0.2.0"

HEADS = (Hope, Fear, Value, Curiosity, Mood, Satiation)  # those without required arguments
WRAPPERS = (Potential, GRM, Normalised, Care, Lesion, ConstantOf, Sham, Untrained)

__all__ = [
    "GRM",
    "Blend",
    "Card",
    "Care",
    "Constant",
    "ConstantOf",
    "ConstantPotential",
    "Curiosity",
    "Distillation",
    "Distilled",
    "Factory",
    "Fear",
    "BlendState",
    "Head",
    "HeadFactory",
    "Homeostasis",
    "Hope",
    "Image",
    "Inherited",
    "Innate",
    "Lesion",
    "MissingInfo",
    "Monitor",
    "Mood",
    "Normalised",
    "Potential",
    "Satiation",
    "Untrained",
    "Sham",
    "Spec",
    "TrainState",
    "Transition",
    "Value",
    "build",
    "distil",
    "gradient_step",
    "load",
    "read_card",
    "transitions_from",
    "zoo",
]


def __getattr__(name: str) -> object:
    """Raise an error for a name that `affect` lacks, with the present name of a renamed one."""
    from affect.renamed import PUBLIC

    if name in PUBLIC:
        raise ImportError(f"affect.{name} was renamed: use affect.{PUBLIC[name]}")
    raise AttributeError(f"module 'affect' has no attribute {name!r}")
