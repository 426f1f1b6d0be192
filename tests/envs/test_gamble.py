"""The Iowa Gambling Task: cards and order of its decks, and the info of a choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.world import World
from envs.worlds.theory.gamble import SHUFFLED, Gamble, Params, decks

ENV = Gamble()


def take(*chosen, **params):
    """Transitions of taking one card after another from these decks."""
    env_state = ENV.reset(jax.random.key(0), World(Params(**params)))
    step, transitions = jax.jit(ENV.step), []
    for deck in chosen:
        env_state, transition = step(jax.random.key(1), env_state, jnp.int32(deck))
        transitions.append(transition)
    return transitions


def payoffs(*chosen, **params):
    return [float(transition.reward) for transition in take(*chosen, **params)]


def test_blocks_of_ten_cards_have_the_published_net_and_losses():
    (gain, loss), sizes = decks()
    net, has_loss = gain - loss, loss > 0
    assert (sizes[0] == 40).all() and sizes[1].tolist() == [40, 60, 56, 60]
    for deck, expected_net, expected_losses in zip(
        range(4), (-2.5, -2.5, 2.5, 2.5), (5, 1, 5, 1), strict=True
    ):
        blocks = slice(0, 40)
        np.testing.assert_allclose(net[0, deck, blocks].reshape(4, 10).sum(1), expected_net)
        np.testing.assert_array_equal(
            has_loss[0, deck, blocks].reshape(4, 10).sum(1), expected_losses
        )
    deck_b = net[1, 1].reshape(6, 10).sum(1)
    np.testing.assert_allclose(deck_b, [-2.5, -4.0, -5.5, -7.0, -8.5, -10.0], rtol=1e-5)


def test_each_deck_is_drawn_in_order():
    assert payoffs(0, 0, 0, 3, 0, 0) == [1.0, 1.0, -0.5, 0.5, 1.0, -2.0]
    assert payoffs(*[1] * 9)[-1] == pytest.approx(-11.5)


def test_a_deck_starts_again_after_its_last_card():
    one_deck = payoffs(*[0] * 43)
    assert one_deck[40:] == one_deck[:3]
    longer = payoffs(*[2] * 58, schedule=1)
    assert longer[56:] == longer[:2] and longer[40:42] != longer[:2]


def test_shuffled_decks_show_their_losses_first():
    usual, moved = payoffs(*[1] * 40), payoffs(*[1] * 40, moved=float(SHUFFLED))
    assert usual[:8] == [1.0] * 8 and moved[0] == pytest.approx(-11.5)
    assert moved == usual[8:] + usual[:8]
    assert payoffs(0, 0, moved=float(SHUFFLED)) == [-1.5, -2.5]


def test_turned_decks_are_exchanged():
    assert payoffs(2, 2, 2, 0, turned=2) == payoffs(0, 0, 0, 2)


def test_info_has_gain_loss_harm_and_foregone():
    third = take(0, 0, 0)[-1]
    assert (third.info["gain"], third.info["loss"], third.info["harm"]) == (1.0, 1.5, 1.0)
    np.testing.assert_allclose(third.info["foregone"], [-0.5, 1.0, 0.5, 0.5])
    assert third.info["foregone"][0] == third.reward
    np.testing.assert_allclose(third.next_obs, [1.0, 1.5, 0.03])
    assert take(0)[0].info["harm"] == 0
    even = take(2, 2, 2)[-1]  # 50 won, 50 lost
    assert (even.reward, even.info["harm"]) == (0.0, 0.0)


def test_an_episode_is_truncated_after_100_trials():
    ends = [
        (bool(transition.terminated), bool(transition.truncated))
        for transition in take(*[0, 1, 2, 3] * 25)
    ]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_the_picture_shows_the_card_taken():
    env_state = ENV.reset(jax.random.key(0), World(Params()))
    after = ENV.transition(env_state.state, jnp.int32(0), None, Params())
    pictures = [ENV.render_image(state, None, Params())[1] for state in (env_state.state, after)]
    assert pictures[0].shape == (320, 560, 3) and (pictures[0] != pictures[1]).any()
