"""The measures of forgetting and transfer, against numbers worked out by hand."""

import numpy as np
import pytest

from runs.adaptation.transfer_metrics import (
    backward_transfer,
    final_average,
    forgetting,
    forward_transfer,
    last_return,
    loss_in_previous,
    revisit_scores,
    score_on_leaving,
)

ONCE = np.array([[0.1, 0.2, 0.3], [0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.5, 0.6, 1.0]])
"""Three worlds, visited in order: R[i, j] after i stages."""
BACK = np.array([[0.0, 0.5], [0.8, 0.4], [0.3, 0.9], [0.7, 0.6]])
"""World 0, world 1, world 0."""
MEASURES = (
    score_on_leaving,
    final_average,
    backward_transfer,
    forward_transfer,
    forgetting,
    loss_in_previous,
)


def test_worlds_that_are_visited_once_give_the_published_measures():
    stream = [0, 1, 2]
    assert final_average(ONCE, stream) == pytest.approx((0.5 + 0.6 + 1.0) / 3)
    assert backward_transfer(ONCE, stream) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    assert forward_transfer(ONCE, stream) == pytest.approx(((0.3 - 0.2) + (0.4 - 0.3)) / 2)
    assert score_on_leaving(ONCE, stream) == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    assert forgetting(ONCE, stream) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.6)) / 2)
    assert loss_in_previous(ONCE, stream) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.6)) / 2)


def test_a_world_that_comes_back_is_measured_from_when_it_was_left_last():
    stream = [0, 1, 0]
    assert score_on_leaving(BACK, stream) == pytest.approx((0.8 + 0.9 + 0.7) / 3)
    assert final_average(BACK, stream) == pytest.approx((0.7 + 0.6) / 2)
    assert backward_transfer(BACK, stream) == pytest.approx(0.6 - 0.9)
    assert forward_transfer(BACK, stream) == pytest.approx(0.4 - 0.5)
    assert forgetting(BACK, stream) == pytest.approx(0.9 - 0.6)
    assert loss_in_previous(BACK, stream) == pytest.approx(((0.8 - 0.3) + (0.9 - 0.6)) / 2)
    found = revisit_scores(BACK, stream)
    assert found == {"fresh": 0.0, "first": 0.8, "kept": 0.3, "second": 0.7}


def test_whoever_learns_nothing_forgets_nothing():
    still = np.broadcast_to([0.3, 0.7, 0.1], (4, 3))
    for measure in (backward_transfer, forward_transfer, forgetting, loss_in_previous):
        assert measure(still, [0, 1, 0]) == 0


def test_a_world_outside_the_stream_counts_for_nothing():
    home = np.random.default_rng(0).random((4, 1))
    for measure in MEASURES:
        both = measure(np.concatenate([home, BACK], 1), [1, 2, 1])
        assert both == pytest.approx(measure(BACK, [0, 1, 0]))


def test_seeds_are_measured_one_by_one():
    many = np.stack([BACK, 0.5 * BACK])
    for measure in MEASURES:
        one = measure(BACK, [0, 1, 0])
        np.testing.assert_allclose(measure(many, [0, 1, 0]), [one, 0.5 * one])
    assert revisit_scores(many, [0, 1, 0])["kept"].tolist() == [0.3, 0.15]


@pytest.mark.parametrize(
    ("stream", "stages"),
    [
        ([0, 1, 0], (0, 2)),
        ([0, 1, 2, 0], (0, 3)),
        ([0, 1, 0, 1], (1, 3)),
        ([0, 1, 0, 2], (0, 2)),
        ([0, 0, 1, 0], (1, 3)),
        ([0, 1, 0, 0], (0, 2)),
    ],
)
def test_the_last_return_is_found(stream, stages):
    assert last_return(stream) == stages


@pytest.mark.parametrize("stream", [[0], [0, 1], [0, 0], [0, 1, 1], [0, 1, 2]])
def test_a_stream_that_never_comes_back_is_refused(stream):
    with pytest.raises(ValueError, match="never comes back"):
        last_return(stream)


@pytest.mark.parametrize(
    "measure", [backward_transfer, forward_transfer, forgetting, loss_in_previous]
)
def test_a_stream_of_one_world_is_refused(measure):
    with pytest.raises(ValueError, match="stream of one world"):
        measure(BACK[:3], [0, 0])


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_that_do_not_fit_are_refused(measure):
    with pytest.raises(ValueError, match="do not fit a stream of 2 stages"):
        measure(BACK, [0, 1])
    with pytest.raises(ValueError, match="names worlds outside 0 .. 1"):
        measure(BACK, [0, 1, 2])
