"""Forgetting and transfer metrics against values computed by hand."""

import numpy as np
import pytest

from runs.adaptation.transfer_metrics import (
    backward_transfer,
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
    backward_transfer,
    forward_transfer,
    loss_in_previous,
)


def test_published_metrics_when_each_world_is_visited_once():
    stream = [0, 1, 2]
    assert backward_transfer(ONCE, stream) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.8)) / 2)
    assert forward_transfer(ONCE, stream) == pytest.approx(((0.3 - 0.2) + (0.4 - 0.3)) / 2)
    assert score_on_leaving(ONCE, stream) == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    assert loss_in_previous(ONCE, stream) == pytest.approx(((0.9 - 0.7) + (0.8 - 0.6)) / 2)


def test_metrics_of_a_revisited_world_start_from_its_last_visit():
    stream = [0, 1, 0]
    assert score_on_leaving(BACK, stream) == pytest.approx((0.8 + 0.9 + 0.7) / 3)
    assert backward_transfer(BACK, stream) == pytest.approx(0.6 - 0.9)
    assert forward_transfer(BACK, stream) == pytest.approx(0.4 - 0.5)
    assert loss_in_previous(BACK, stream) == pytest.approx(((0.8 - 0.3) + (0.9 - 0.6)) / 2)
    scores = revisit_scores(BACK, stream)
    assert scores == {"fresh": 0.0, "first": 0.8, "kept": 0.3, "second": 0.7}


def test_constant_scores_have_no_transfer_and_no_loss():
    constant = np.broadcast_to([0.3, 0.7, 0.1], (4, 3))
    for measure in (backward_transfer, forward_transfer, loss_in_previous):
        assert measure(constant, [0, 1, 0]) == 0


def test_worlds_outside_the_stream_do_not_count():
    home = np.random.default_rng(0).random((4, 1))
    for measure in MEASURES:
        with_home = measure(np.concatenate([home, BACK], 1), [1, 2, 1])
        assert with_home == pytest.approx(measure(BACK, [0, 1, 0]))


def test_metrics_keep_leading_seed_axes():
    seeds = np.stack([BACK, 0.5 * BACK])
    for measure in MEASURES:
        single = measure(BACK, [0, 1, 0])
        np.testing.assert_allclose(measure(seeds, [0, 1, 0]), [single, 0.5 * single])
    assert revisit_scores(seeds, [0, 1, 0])["kept"].tolist() == [0.3, 0.15]


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
def test_last_return(stream, stages):
    assert last_return(stream) == stages


@pytest.mark.parametrize("stream", [[0], [0, 1], [0, 0], [0, 1, 1], [0, 1, 2]])
def test_a_stream_without_return_raises(stream):
    with pytest.raises(ValueError, match="never comes back"):
        last_return(stream)


@pytest.mark.parametrize("measure", [backward_transfer, forward_transfer, loss_in_previous])
def test_a_stream_of_one_world_raises(measure):
    with pytest.raises(ValueError, match="stream of one world"):
        measure(BACK[:3], [0, 0])


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_of_a_wrong_shape_raise(measure):
    with pytest.raises(ValueError, match="do not fit a stream of 2 stages"):
        measure(BACK, [0, 1])
    with pytest.raises(ValueError, match="names worlds outside 0 .. 1"):
        measure(BACK, [0, 1, 2])
