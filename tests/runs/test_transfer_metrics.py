"""Forgetting and transfer metrics against values computed by hand."""

import numpy as np
import pytest

from runs.analysis.transfer_metrics import TransferMetrics, last_return, transfer_metrics

BACK = np.array([[0.0, 0.5], [0.8, 0.4], [0.3, 0.9], [0.7, 0.6]])
"""World 0, world 1, world 0: R[i, j] after i stages."""
THREE = np.array(
    [[0.1, 0.2, 0.3], [0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.5, 0.6, 1.0], [0.6, 0.4, 0.9]]
)
"""Worlds 0, 1, 2, 0."""


def metrics(scores, stream) -> TransferMetrics:
    """Metrics of one seed."""
    return TransferMetrics(*(metric.item() for metric in transfer_metrics(scores[None], stream)))


@pytest.mark.parametrize(
    ("scores", "stream", "expected"),
    [
        (
            BACK,
            [0, 1, 0],
            TransferMetrics(
                in_world=(0.8 + 0.9 + 0.7) / 3,
                fresh=0.0,
                first=0.8,
                kept=0.3,
                second=0.7,
                backward=0.6 - 0.9,
                forward=0.4 - 0.5,
                lost=((0.8 - 0.3) + (0.9 - 0.6)) / 2,
            ),
        ),
        (
            THREE,
            [0, 1, 2, 0],
            TransferMetrics(
                in_world=(0.9 + 0.8 + 1.0 + 0.6) / 4,
                fresh=0.1,
                first=0.9,
                kept=0.5,
                second=0.6,
                backward=((0.4 - 0.8) + (0.9 - 1.0)) / 2,
                forward=((0.3 - 0.2) + (0.4 - 0.3)) / 2,
                lost=((0.9 - 0.7) + (0.8 - 0.6) + (1.0 - 0.9)) / 3,
            ),
        ),
    ],
)
def test_metrics_of_a_stream_by_hand(scores, stream, expected):
    assert metrics(scores, stream) == pytest.approx(expected)


def test_worlds_outside_the_stream_do_not_count():
    with_home = np.concatenate([np.random.default_rng(0).random((4, 1)), BACK], 1)
    assert metrics(with_home, [1, 2, 1]) == pytest.approx(metrics(BACK, [0, 1, 0]))


def test_each_seed_has_its_metrics():
    both = transfer_metrics(np.stack([BACK, 0.5 * BACK]), [0, 1, 0])
    single = np.array(metrics(BACK, [0, 1, 0]))
    np.testing.assert_allclose(both, np.stack([single, 0.5 * single], 1))


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
def test_stream_without_return_is_refused(stream):
    with pytest.raises(ValueError, match="never comes back"):
        last_return(stream)


@pytest.mark.parametrize("stream", [[0, 1], [0, 1, 2]])
def test_scores_that_do_not_fit_the_stream_are_refused(stream):
    with pytest.raises(ValueError, match="do not fit the stream"):
        transfer_metrics(BACK[None], stream)
