"""Readouts: does a feeling stay true under shift? One pass over all points of a suite, jitted.

Heads, the agent's critic, untrained heads and innate features (`runs.harness.signals`) meet the
same episodes and the same questions, asked at `next_obs` of every step that did not end its
episode:

* danger: does harm come within `horizon` steps? AUROC and average precision.
* return: rank correlation with the discounted return of the task from there on.
* rarity: rank correlation with minus the visits that the agent pays, in distribution, to the cell
  of the observation. A cell is a SimHash (Tang et al., 2017): the signs of BITS random projections
  of the observation, whitened by what is seen in distribution.

Episodes are those of `runs.harness.evaluate.evaluate` under the same key.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Transition
from affect.moments import Moments, whiten
from affect.predict import harm
from envs.world import Env, Life, World
from runs.harness.evaluate import _noiseless
from runs.harness.ranks import cosine, discrimination, placed
from runs.harness.signals import Prediction

Act = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [D]) -> action [...]

QUESTIONS = ("auroc", "precision", "return", "rarity", "total")
BITS = 8  # of a cell: there are 256
BINS = 10  # of a reliability curve, equally wide in [0, 1]


class Truth(NamedTuple):
    """What came after each step, each [T, B].

    Attributes:
        counted: bool, the episode went on after this step.
        known: bool, and the next h steps were seen, or harm or the world's end before them.
        harmed: bool, harm came within h steps.
        nearness: (1 - 1/h)^k, k steps until harm, 0 where none was seen: what `Fear` predicts.
        worth: discounted return of the task, as far as the episode goes.
    """

    counted: jax.Array
    known: jax.Array
    harmed: jax.Array
    nearness: jax.Array
    worth: jax.Array


class Home(NamedTuple):
    """What is familiar: moments of the observation [D], and visits to each cell [2^BITS]."""

    moments: Moments
    visits: jax.Array


def readouts(
    signals: dict[str, Prediction],
    act: Act,
    env: Env,
    worlds: World,
    key: jax.Array,
    episodes: int,
    probabilities: tuple[str, ...] = (),
    horizon: int = 10,
    gamma: float = 0.99,
) -> dict[str, jax.Array]:
    """What each signal of one seed knows at each point.

    Args:
        signals: name -> prediction, of a frozen learner and of its rivals.
        act: how the learner acts, by its mode where it was scored so.
        env: the family of worlds.
        worlds: leading axes [P, draws], in distribution first, as `Suite.worlds` gives them.
        key: of the evaluation.
        episodes: in each world.
        probabilities: those signals that are probabilities of harm within `horizon`, whose level
            is read too.
        horizon: h in steps.
        gamma: discount of the return.

    Returns:
        Each [P], NaN where there is nothing to tell. Of all: `steps` that count, `harmed` (their
        share with harm within h), `nearness` (its mean), `return` and `length` of an episode. Of
        each signal: NAME/`auroc`, `precision`, `return`, `rarity`, `total` (summed over an
        episode). Of each probability: NAME/`expected` (its mean, to be held against `harmed`),
        `brier` and `reliability` [P, BINS, 3].

    Raises:
        ValueError: one of the probabilities is no signal.
    """
    for name in probabilities:
        if name not in signals:
            raise ValueError(f"{name} is no signal: probabilities are among {', '.join(signals)}")

    points, draws = worlds.channel.noise.shape
    keys = jax.random.split(key, draws * episodes)

    def point(home: Home, place: tuple[jax.Array, World]) -> tuple[Home, dict[str, jax.Array]]:
        index, worlds = place
        _, batch, alive = live(act, env, worlds, keys)
        truth = aftermath(batch, alive, horizon, gamma)
        home = jax.lax.cond(
            index == 0, lambda: familiar(batch.next_obs, truth.counted), lambda: home
        )
        felt = {name: predict(batch) for name, predict in signals.items()}
        rarity = -home.visits[cell(home.moments, batch.next_obs)]
        told = _answers(felt, batch, alive, truth, rarity)
        for name in probabilities:
            level = calibration(felt[name], truth.harmed, truth.known)
            told |= {f"{name}/{part}": value for part, value in level.items()}
        return home, told

    nowhere = jnp.zeros((1, env.spec.obs_dim)), jnp.zeros((1,), bool)
    places = jnp.arange(points), _noiseless(worlds)
    return jax.lax.scan(point, familiar(*nowhere), places)[1]


def _answers(
    felt: dict[str, jax.Array], batch: Transition, alive: jax.Array, truth: Truth, rarity: jax.Array
) -> dict[str, jax.Array]:
    """What was felt [T, B] at one point, held against the truth."""
    told = {
        "steps": truth.counted.sum().astype(jnp.float32),
        "harmed": mean(truth.harmed, truth.known),
        "nearness": mean(truth.nearness, truth.known),
        "return": batch.reward.sum(0).mean(),
        "length": alive.sum(0).astype(jnp.float32).mean(),
    }
    worth, rarity = placed(truth.worth, truth.counted), placed(rarity, truth.counted)

    def answer(signal):
        auroc, precision = discrimination(signal, truth.harmed, truth.known)
        place = placed(signal, truth.counted)
        total = jnp.where(alive, signal, 0.0).sum(0).mean()
        return auroc, precision, cosine(place, worth), cosine(place, rarity), total

    if felt:
        answers = jax.vmap(answer)(jnp.stack(list(felt.values())))
        for question, each in zip(QUESTIONS, answers, strict=True):
            told |= {f"{name}/{question}": each[k] for k, name in enumerate(felt)}
    return told


def live(act: Act, env: Env, worlds: World, keys: jax.Array) -> tuple[Life, Transition, jax.Array]:
    """Whole episodes side by side, B = draws x episodes, T = the horizon.

    Args:
        act: how to act; its keys are its own, so that the world's luck does not depend on it.
        env: the family of worlds.
        worlds: [draws], with a channel.
        keys: [B], one an episode, those of the first world first.

    Returns:
        (lives [T, B] before each step, transitions [T, B] that are 0 after an episode's end,
        alive [T, B] bool).
    """
    count, draws = keys.shape[0], worlds.channel.noise.shape[0]
    worlds = jax.tree.map(lambda leaf: jnp.repeat(leaf, count // draws, 0), worlds)
    k_reset = jax.vmap(partial(jax.random.fold_in, data=env.horizon))(keys)
    lives = jax.vmap(env.reset)(k_reset, worlds)

    def one(key, time, life):
        action = act(jax.random.fold_in(key, env.horizon + 1 + time), life.obs)
        return env.step(jax.random.fold_in(key, time), life, action)

    def step(carry, time):
        lives, alive = carry
        after, seen = jax.vmap(one, (0, None, 0))(keys, time, lives)
        return (after, alive & ~seen.terminated & ~seen.truncated), (lives, seen, alive)

    begun = (lives, jnp.ones((count,), bool))
    _, (lives, batch, alive) = jax.lax.scan(step, begun, jnp.arange(env.horizon))
    return lives, jax.tree.map(partial(_while, alive), batch), alive


def _while(alive: jax.Array, leaf: jax.Array) -> jax.Array:
    """A leaf [T, B, ...] that is 0 where not alive [T, B]."""
    there = alive.reshape(alive.shape + (1,) * (leaf.ndim - alive.ndim))
    return jnp.where(there, leaf, jnp.zeros_like(leaf))


def aftermath(batch: Transition, alive: jax.Array, horizon: int, gamma: float) -> Truth:
    """What came after each step of whole episodes [T, B].

    Where an episode was cut, what would have come within h steps is not known; a world that ended
    has no more harm in it.
    """
    steps, count = alive.shape
    never, time = 2 * steps + horizon, jnp.arange(steps)[:, None]
    harms = jnp.where(harm(batch), time, never)
    first = jax.lax.cummin(harms, axis=0, reverse=True)
    first = jnp.concatenate([first[1:], jnp.full((1, count), never)])
    harmed = first - time <= horizon
    seen = ~batch.truncated.any(0)[None] | (time + horizon < alive.sum(0)[None])
    counted = alive & ~batch.terminated & ~batch.truncated
    near = jnp.where(first < never, (1 - 1 / horizon) ** (first - time), 0.0)

    def back(worth, reward):
        return reward + gamma * worth, worth

    worth = jax.lax.scan(back, jnp.zeros((count,)), batch.reward, reverse=True)[1]
    return Truth(counted, counted & (harmed | seen), harmed, near, worth)


def familiar(obs: jax.Array, counted: jax.Array) -> Home:
    """The observations [..., D] that count, as what is to be expected."""
    number = jnp.maximum(counted.sum(), 1).astype(jnp.float32)
    weight = counted.reshape(-1, 1).astype(jnp.float32)
    flat = obs.reshape(-1, obs.shape[-1])
    middle = (weight * flat).sum(0) / number
    m2 = (weight * jnp.square(flat - middle[None])).sum(0)
    moments = Moments(number, middle, m2)
    visits = jnp.zeros(2**BITS).at[cell(moments, flat)].add(weight[:, 0])
    return Home(moments, visits)


def cell(moments: Moments, obs: jax.Array) -> jax.Array:
    """The number [...] int32 of the cell in which obs [..., D] lies."""
    planes = jax.random.normal(jax.random.key(0), (obs.shape[-1], BITS))
    sides = (whiten(moments, obs, 5.0) @ planes > 0).astype(jnp.int32)
    return sides @ (2 ** jnp.arange(BITS))


def calibration(
    prediction: jax.Array, event: jax.Array, counted: jax.Array
) -> dict[str, jax.Array]:
    """Is a probability [...] as high as its event is frequent?

    Returns:
        `expected`, the mean prediction; `brier`, the mean squared error (Brier, 1950); and
        `reliability` [BINS, 3]: share of all steps, mean prediction, frequency of the event.
        Predictions beyond [0, 1] fall into the outermost bins.
    """
    which = jnp.clip(jnp.floor(prediction * BINS), 0, BINS - 1)
    bins = jnp.arange(BINS).reshape(-1, *(1,) * prediction.ndim)
    inside = (which[None] == bins) & counted[None]

    def each(inside):
        return jnp.stack([mean(inside, counted), mean(prediction, inside), mean(event, inside)])

    return {
        "expected": mean(prediction, counted),
        "brier": mean(jnp.square(prediction - event), counted),
        "reliability": jax.vmap(each)(inside),
    }


def mean(x: jax.Array, counted: jax.Array) -> jax.Array:
    """The mean of x [...] where it counts, []; NaN if nothing does."""
    total = jnp.where(counted, x, 0).astype(jnp.float32).sum()
    return total / counted.sum().astype(jnp.float32)
