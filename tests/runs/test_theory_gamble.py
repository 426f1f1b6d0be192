"""Targets T8 to T10 of the Iowa Gambling Task: decks, human data, models and known failures."""

import numpy as np
import pytest

from runs.theory import gamble, gamblers, gambling_scores
from tests.runs.small_study import without_key_check

PEOPLE = 1_000  # as many as in a smoke run: one program
unchecked = pytest.fixture(autouse=True)(without_key_check)
KNOWN_FAILURES = (
    "blocks of PVL-Delta at the healthy median",  # T9: a median is not typical of people
    "blocks of the same with lambda",
    "losses are not felt",  # T10: without loss aversion early losses have no effect
)


def fails_as_expected(targets):
    failed = [target.what for target in targets if not target.passed]
    return [
        words in description for words, description in zip(KNOWN_FAILURES, failed, strict=True)
    ] == [True] * 3


@pytest.mark.slow
def test_all_targets_pass_but_three():
    targets = list(gamble.targets(smoke=True))
    assert [target.number for target in targets] == ["T8"] * 3 + ["T9"] * 4 + ["T10"] * 2
    assert fails_as_expected(targets)


@pytest.mark.slow
def test_all_targets_pass_but_three_with_all_people():
    assert fails_as_expected(gamble.targets(smoke=False))


def test_blocks_count_good_less_bad():
    choices = np.array([0] * 20 + [3] * 20 + [0, 2] * 10 + [1] * 5 + [2] * 15 + [3] * 20)
    np.testing.assert_array_equal(gamblers.blocks(choices), [-20, 20, 0, 10, 20])
    np.testing.assert_array_equal(gamblers.blocks(np.stack([choices, choices]))[1, 3], 10)


def test_the_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, 5))
    fitted = [np.polyfit(np.arange(5), row, 1)[0] for row in scores]
    np.testing.assert_allclose(gambling_scores.slope(scores), fitted)


def test_people_are_paired_and_differ():
    runs = [gamblers.simulate(gamblers.INTACT, gamblers.USUAL, PEOPLE) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    assert len(np.unique(runs[0], axis=0)) > 800
    other = gamblers.simulate(gamblers.INTACT, gamblers.USUAL, PEOPLE, base=1)
    assert (runs[0] != other).any()


def test_the_file_of_people_holds_the_published_curve():
    healthy = gambling_scores.human_scores().loc[gambling_scores.HEALTHY]
    np.testing.assert_allclose(gambling_scores.group_curve(), [-2.97, 0.49, 2.41, 3.55, 4.14])
    assert healthy["n"] == 504 and healthy["share_total_at_least_10"] == 0.44
    assert (gambling_scores.PEOPLE.parent / "README.md").exists()


def test_the_band_is_the_pooled_curve_shifted_to_the_totals_of_studies():
    least, most = gambling_scores.healthy_band()
    assert least.sum() == pytest.approx(0.2) and most.sum() == pytest.approx(26.6)
    np.testing.assert_allclose(np.diff(least), np.diff(most))
