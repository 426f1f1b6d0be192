"""Settings that no study can have are refused by its `check` in one line that names the flag."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

from runs.cli.index import list_studies
from runs.errors import UserError
from tests.refusal import refused

STUDIES = [study.name for study in list_studies(Path(__file__).parents[2]) if study.recorded]
SHARED = (
    ({"seeds": 2}, "--seeds 2: an interval needs at least 3 seeds"),
    ({"steps": -1}, "--steps "),
    ({"further": -1}, "--further -1: must not be negative"),
    ({"episodes": -1}, "--episodes -1"),
    ({"record": True, "smoke": True}, "only a complete study can be recorded; leave --smoke out"),
)
"""Refused by every study that has these settings."""
OWN = {
    "benchmark": (
        ({"parts": ("trianing",)}, "did you mean training"),
        ({"parts": ()}, "--parts"),
        ({"repeats": 0}, "--repeats 0"),
    ),
    "breadth": (({"env": "Drve"}, "unknown suite 'Drve'"),),
    "bridges": (({"part": "timid"}, "unknown part 'timid'; did you mean timid_ppo"),),
    "calibrate": (
        ({"env": "Drve"}, "unknown suite 'Drve'; did you mean Drive"),
        ({"env": "LunarLander-v3"}, "unknown suite"),
        ({"record": True, "shifts": ("ice",)}, "leave --shifts out"),
    ),
    "constant": (
        ({"worlds": ("Deepsea",)}, "unknown world 'Deepsea'; did you mean DeepSea"),
        ({"worlds": ()}, "one at least"),
        ({"worlds": ("DeepSea", "DeepSea")}, "at most once"),
        ({"steps": 0}, "--steps 0"),
        ({"episodes": 0}, "--episodes 0"),
        ({"size": 1}, "--size 1: must be at least 2"),
    ),
    "continual": (
        ({"env": "Drvie"}, "did you mean Drive"),
        ({"env": "LunarLander-v9"}, "did you mean LunarLander-v3"),
        ({"pay": ()}, "--pay : name at least one"),
        ({"heads": ("fear", "fear")}, "name at least one, and each once"),
        ({"pay": ("sometimes",)}, "unknown schedule 'sometimes'"),
    ),
    "credit": (({"env": "CartPole-v1"}, "branching needs a jitted environment"),),
    "evolve": (
        ({"population": 1}, "--population 1: selection needs at least 4"),
        ({"evolutions": 2}, "--evolutions 2"),
        ({"generations": 0}, "--generations 0"),
        ({"life": 14}, "--life 14"),
        ({"arms": ("home only",)}, "add evolved"),
    ),
    "feelings": (
        ({"env": "CartPoole"}, "did you mean CartPole"),
        ({"severity": 1.5}, "within"),
        ({"steps": 0}, "positive"),
    ),
    "first_drive": (({"heads": ()}, "name at least one head"),),
    "handover": (
        ({"env": "Drve"}, "unknown suite 'Drve'"),
        ({"record": True, "shifts": ("ice",)}, "leave --shifts out"),
    ),
    "inherit": (({"newborn_envs": 0}, "--newborn-envs 0: expected at least 1"),),
    "lesion": (({"people": 99}, "--people 99"),),
    "overoptimisation": (
        ({"worlds": ("Boat",)}, "unknown world 'Boat'"),
        ({"record": True, "worlds": ("Button",)}, "leave --worlds out"),
    ),
    "packer": (
        ({"only": ("Cartpole",)}, "unknown world 'Cartpole'; did you mean CartPole"),
        ({"only": ("Acrobot", "Acrobot")}, "name each world once"),
        ({"train": 0}, "--train 0"),
        ({"test": -1}, "--test -1"),
        ({"record": True, "only": ("Acrobot",)}, "leave --only out"),
    ),
    "reward_free": (
        ({"env": "LunarLander-v9"}, "did you mean LunarLander-v3"),
        ({"env": "Drives"}, "did you mean Drive"),
        ({"env": "nothing:Here-v0"}, "nothing is missing"),
        ({"lr": -1.0}, "--lr -1.0: must not be negative"),
        ({"weight": 0.0}, "a weight above 0"),
    ),
    "selection_bias": (({"researchers": 10}, "--researchers 10: a rate of 5 % needs"),),
    "targets": (
        ({"only": ("T99",)}, "unknown target 'T99'"),
        ({"only": ("t5",)}, "did you mean T5"),
        ({"record": True, "only": ("T5",)}, "leave --only out"),
    ),
    "type1_error": (({"grids": 10}, "--grids 10: a rate of 5 % needs"),),
    "validity": (
        ({"horizon": 1}, "--horizon 1: must be at least 2 steps"),
        ({"record": True, "shifts": ("ice",)}, "leave --shifts out"),
    ),
}
"""Study -> settings that it refuses, and what the refusal says."""


@pytest.mark.parametrize("name", STUDIES)
def test_bad_settings_are_refused(name):
    study = importlib.import_module(f"runs.{name}")
    known = {field.name for field in fields(study.Settings)}
    shared = [case for case in SHARED if set(case[0]) <= known]
    for wrong, complaint in (*shared, *OWN.get(name, ())):
        with refused(UserError, complaint):
            study.check(study.Settings(**wrong))


def test_all_cases_are_of_a_study():
    assert set(OWN) <= set(STUDIES)
