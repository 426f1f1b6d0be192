"""Trainers are built and compiled in a thread while the one before is in use."""

import threading

import pytest

from runs.engine.precompile import precompiled


class FakeTrainer:
    """Trainer that records whether it was made in the main thread and whether it was prepared."""

    def __init__(self, arm: str):
        if arm == "x":
            raise ValueError("no x")
        self.arm, self.prepared = arm, False
        self.in_main_thread = threading.current_thread() is threading.main_thread()

    def prepare(self):
        self.prepared = True
        return self


def test_early_trainers_are_prepared_in_a_thread_and_the_order_is_kept():
    trainers = list(precompiled(FakeTrainer, "abcd", early=lambda arm: arm != "c"))
    assert [trainer.arm for trainer in trainers] == list("abcd")
    assert [trainer.prepared for trainer in trainers] == [False, True, False, True]
    assert [trainer.in_main_thread for trainer in trainers] == [True, False, True, False]


def test_an_error_in_the_thread_is_raised_when_its_trainer_is_due():
    trainers = precompiled(FakeTrainer, "axb", early=lambda arm: True)
    assert next(trainers).arm == "a"
    with pytest.raises(ValueError, match="no x"):
        next(trainers)
