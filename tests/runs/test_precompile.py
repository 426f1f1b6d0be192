"""Training programs of the next phases are compiled in threads while the present one is trained."""

import threading

import pytest

from runs.engine.precompile import AHEAD, compile_ahead


class FakeBackend:
    """Backend that records which phases were compiled in another thread."""

    def __init__(self):
        self.prepared = []

    def prepare(self, phase: str) -> None:
        if phase == "x":
            raise ValueError("no x")
        assert threading.current_thread() is not threading.main_thread()
        self.prepared.append(phase)


def test_all_phases_but_the_first_and_those_that_are_none_are_compiled():
    backend = FakeBackend()
    assert len(list(compile_ahead(backend, ["a", "b", None, "d"]))) == 4
    assert sorted(backend.prepared) == ["b", "d"]


def test_a_phase_is_compiled_before_its_turn_and_few_are_compiled_ahead():
    backend = FakeBackend()
    turns = compile_ahead(backend, list("abcdef"))
    next(turns)
    next(turns)
    assert "b" in backend.prepared and not {"e", "f"} & set(backend.prepared)
    assert len(backend.prepared) <= 1 + AHEAD
    turns.close()


def test_an_error_in_the_thread_is_raised_when_its_phase_is_due():
    turns = compile_ahead(FakeBackend(), list("axb"))
    next(turns)
    with pytest.raises(ValueError, match="no x"):
        next(turns)
