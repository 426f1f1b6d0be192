"""Names of version 0.1: each leads to the present one in one line, wherever it is used."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import affect
from affect.renamed import ARMS, PUBLIC, STUDIES, renamed_arm
from runs import board, compare
from runs.errors import UserError
from runs.names import checked_choice
from runs.prereg import plan_file, seal
from runs.prereg.audit import watermark
from tests.runs import sealed_study

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("old", "new"), PUBLIC.items())
def test_an_old_name_of_the_library_raises_an_error_with_the_present_one(old, new):
    with pytest.raises(ImportError, match=f"affect.{old} was renamed: use affect.{new}"):
        exec(f"from affect import {old}")
    value = affect
    for part in new.split("."):
        value = getattr(value, part)
    assert not hasattr(affect, "NoSuchName")


@pytest.mark.parametrize(("old", "new"), STUDIES.items())
def test_an_old_study_raises_an_error_with_the_present_one(old, new):
    with pytest.raises(ImportError, match=f"runs.{old} was renamed: use runs.{new}"):
        importlib.import_module(f"runs.{old}")
    assert hasattr(importlib.import_module(f"runs.{new}"), "main")
    with pytest.raises(ModuleNotFoundError, match="No module named 'runs.no_such_study'"):
        importlib.import_module("runs.no_such_study")


def test_an_old_command_ends_in_one_line_with_the_present_one():
    command = [sys.executable, "-m", "runs.unpaid", "--smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode and done.stderr.count("\n") == 1
    assert "runs.unpaid was renamed: use runs.reward_free" in done.stderr


def test_an_old_arm_in_a_flag_or_a_yaml_file_is_refused_with_the_present_one():
    with pytest.raises(UserError, match="'fear_scrambled'; it was renamed: use fear_untrained"):
        compare.make_experiment(compare.Settings(without=("fear_scrambled",), smoke=True))
    with pytest.raises(UserError, match="'scrambled'; it was renamed: use untrained"):
        checked_choice("control", "scrambled", ["none", "untrained"])
    with pytest.raises(UserError, match="unknown arm 'fear_scrambled'; there are none$"):
        checked_choice("arm", "fear_scrambled", ["none"])  # it is not among these by any name
    assert renamed_arm("fear_untrained") is None and set(ARMS.values()) == {"untrained"}


def test_a_study_folder_with_old_arms_is_verified_and_shown_but_not_resumed(tmp_path, monkeypatch):
    arms = ("none", "fear", "fear_scrambled", "constant_plus", "fear_constant")
    with monkeypatch.context() as version_0_1:
        version_0_1.setattr(seal, "_reject_renamed_arms", lambda out, plan: None)
        sealed_study.study(tmp_path, arms=arms)
    assert watermark(tmp_path) is None
    (tmp_path / "tb").mkdir()
    assert board.find_study(str(tmp_path)) == tmp_path
    plan = plan_file.read_plan(tmp_path / plan_file.PLAN_FILE)
    with pytest.raises(UserError, match="fear_scrambled is now fear_untrained.*another --out"):
        seal.register(tmp_path, plan)
