"""Exact control (target T14): a head of weight 0 or a lesion does not change a bit of an agent."""

import jax
import jax.numpy as jnp
import pytest

from runs.theory.control import HEADS, SEEDS, training_programs
from tests.affect.cases import same_bits


@pytest.fixture(scope="module")
def trained():
    """Function from weights of the heads to runs on CartPole after training with them.

    Compiled once for all weights, and separately from the runs without heads, as in a study. There
    is a device for each seed, so XLA may remove the axis of seeds; there, one more channel of the
    critic once changed the order of a sum.
    """
    keys, programs = jax.random.split(jax.random.key(0), SEEDS), {}

    def run(*weights):
        key = bool(weights)
        programs[key] = programs.get(key) or training_programs(HEADS if weights else {})
        start, update = programs[key]
        with jax.debug_key_reuse(False):  # false alarm: a scan over keys split under vmap
            return update(start(keys, jnp.array(weights)))

    return run


def without_heads(runs):
    """Networks, environments and returns, the parts of runs that exist without heads."""
    return runs.learner.agent.train_state.net, runs.env_states, runs.episode_stats


def nonzero_channels(runs) -> list[bool]:
    """Whether any weight of each critic channel is not 0, [padded channels]."""
    out = runs.learner.agent.train_state.net.critic.out
    return ((out.kernel[...] != 0).any((0, 1)) | (out.bias[...] != 0).any(0)).tolist()


@pytest.mark.slow
def test_weight_0_and_lesion_equal_no_heads_bit_for_bit(trained):
    runs = trained(0.0, 0.0, 1.0)
    assert same_bits(without_heads(runs), without_heads(trained()))
    assert nonzero_channels(runs) == [True] + 7 * [False]


@pytest.mark.slow
def test_a_nonzero_weight_changes_the_agent(trained):
    runs = trained(0.1, 0.1, 1.0)
    for part, control_part in zip(without_heads(runs), without_heads(trained()), strict=True):
        assert not same_bits(part, control_part)
    assert nonzero_channels(runs) == 3 * [True] + 5 * [False]  # the third head is lesioned
