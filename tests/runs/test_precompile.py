"""Making the next ones while this one is used."""

import threading

import pytest

from runs.engine.precompile import precompiled


class Made:
    """Remembers in which thread it was made, and whether it was prepared."""

    def __init__(self, arm: str):
        if arm == "x":
            raise ValueError("no x")
        self.arm, self.prepared = arm, False
        self.here = threading.current_thread() is threading.main_thread()

    def prepare(self):
        self.prepared = True
        return self


def test_the_next_are_prepared_elsewhere_and_all_come_in_order():
    made = list(precompiled(Made, "abcd", early=lambda arm: arm != "c"))
    assert [one.arm for one in made] == list("abcd")
    assert [one.prepared for one in made] == [False, True, False, True]
    assert [one.here for one in made] == [True, False, True, False]


def test_what_fails_there_fails_here_in_its_turn():
    trainers = precompiled(Made, "axb", early=lambda arm: True)
    assert next(trainers).arm == "a"
    with pytest.raises(ValueError, match="no x"):
        next(trainers)
