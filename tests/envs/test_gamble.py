"""The Iowa Gambling Task: its cards, its orders, and what is reported of a choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory.gamble import SHUFFLED, Gamble, Params, decks

ENV = Gamble()


def take(*chosen, **params):
    """Takes cards one after another -> transitions."""
    env_state = ENV.reset(jax.random.key(0), World(Params(**params)))
    step, seen = jax.jit(ENV.step), []
    for deck in chosen:
        env_state, transition = step(jax.random.key(1), env_state, jnp.int32(deck))
        seen.append(transition)
    return seen


def payoffs(*chosen, **params):
    return [float(seen.reward) for seen in take(*chosen, **params)]


def test_blocks_of_ten_cost_and_pay_what_the_paper_says():
    (gain, loss), sizes = decks()
    net, often = gain - loss, loss > 0
    assert (sizes[0] == 40).all() and sizes[1].tolist() == [40, 60, 56, 60]
    for deck, worth, share in zip(range(4), (-2.5, -2.5, 2.5, 2.5), (5, 1, 5, 1), strict=True):
        blocks = slice(0, 40)
        np.testing.assert_allclose(net[0, deck, blocks].reshape(4, 10).sum(1), worth)
        np.testing.assert_array_equal(often[0, deck, blocks].reshape(4, 10).sum(1), share)
    harsher = net[1, 1].reshape(6, 10).sum(1)
    np.testing.assert_allclose(harsher, [-2.5, -4.0, -5.5, -7.0, -8.5, -10.0], rtol=1e-5)


def test_each_deck_is_taken_from_its_top():
    assert payoffs(0, 0, 0, 3, 0, 0) == [1.0, 1.0, -0.5, 0.5, 1.0, -2.0]
    assert payoffs(*[1] * 9)[-1] == pytest.approx(-11.5)


def test_a_deck_begins_again_after_its_last_card():
    one_deck = payoffs(*[0] * 43)
    assert one_deck[40:] == one_deck[:3]
    longer = payoffs(*[2] * 58, schedule=1)
    assert longer[56:] == longer[:2] and longer[40:42] != longer[:2]


def test_shuffled_decks_show_their_losses_first():
    usual, moved = payoffs(*[1] * 40), payoffs(*[1] * 40, moved=float(SHUFFLED))
    assert usual[:8] == [1.0] * 8 and moved[0] == pytest.approx(-11.5)
    assert moved == usual[8:] + usual[:8]
    assert payoffs(0, 0, moved=float(SHUFFLED)) == [-1.5, -2.5]


def test_turned_decks_change_places():
    assert payoffs(2, 2, 2, 0, turned=2) == payoffs(0, 0, 0, 2)


def test_gain_loss_harm_and_what_was_foregone_are_reported():
    third = take(0, 0, 0)[-1]
    assert (third.info["gain"], third.info["loss"], third.info["harm"]) == (1.0, 1.5, 1.0)
    np.testing.assert_allclose(third.info["foregone"], [-0.5, 1.0, 0.5, 0.5])
    assert third.info["foregone"][0] == third.reward
    np.testing.assert_allclose(third.next_obs, [1.0, 1.5, 0.03])
    assert take(0)[0].info["harm"] == 0
    even = take(2, 2, 2)[-1]  # 50 won, 50 lost
    assert (even.reward, even.info["harm"]) == (0.0, 0.0)


def test_a_hundred_trials_and_no_end_before():
    ends = [(bool(seen.terminated), bool(seen.truncated)) for seen in take(*[0, 1, 2, 3] * 25)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_the_picture_shows_what_was_taken():
    env_state = ENV.reset(jax.random.key(0), World(Params()))
    after = ENV.transition(env_state.state, jnp.int32(0), None, Params())
    pictures = [ENV.render_image(state, None, Params())[1] for state in (env_state.state, after)]
    assert pictures[0].shape == (320, 560, 3) and (pictures[0] != pictures[1]).any()
