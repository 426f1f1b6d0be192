"""Readouts: does a feeling stay true under shift? One pass over all points of a suite, jitted.

Heads, the agent's critic, untrained heads and innate features (`runs.harness.signals`) meet the
same episodes and the same questions, asked at `next_obs` of every step that did not end its
episode:

* danger: does harm come within `horizon` steps? AUROC and average precision.
* return: rank correlation with the discounted return of the task from there on.
* rarity: rank correlation with minus the visits that the agent pays, in distribution, to the cell
  of the observation (`runs.harness.novelty`).

Episodes are those of `runs.harness.evaluate.evaluate` under the same key.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from affect import Fear, Transition
from affect.predict import harm
from envs.world import Env, Life, World
from runs.harness.evaluate import noiseless
from runs.harness.novelty import Home, cell, familiar
from runs.harness.ranks import cosine, discrimination, placed
from runs.harness.signals import Prediction, bare, critics, felt, predictions, untrained
from runs.harness.train import Learner, Setup

Act = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [D]) -> action [...]

QUESTIONS = ("auroc", "precision", "return", "rarity", "total")
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


def survey(
    learner: Learner,
    made: jax.Array,
    worlds: World,
    key: jax.Array,
    *,
    setup: Setup,
    env: Env,
    episodes: int,
    horizon: int = 10,
    rivals: dict[str, Prediction] | None = None,
) -> dict[str, jax.Array]:
    """The `readouts` of one trained learner that acts by its mode.

    Its signals are its heads by name, each of them untrained (NAME_untrained), `critic`,
    `minus_critic` and `felt`, what it was paid beside the task. Every `Fear` of this horizon is
    asked for its level. Over seeds it is
    `over_seeds(partial(survey, setup=setup, env=env, episodes=4), seeds, shared=2)`.

    Args:
        learner: of one seed.
        made: key of its untrained heads, another for each seed.
        worlds: as for `readouts`.
        key: of the evaluation.
        setup: of the learner's arm.
        env: the family of worlds.
        episodes: in each world.
        horizon: h in steps.
        rivals: more signals, the same for all seeds.
    """
    agent, blend, feelings = setup.agent, setup.blend, learner.feelings
    heads = {name: bare(feelings.heads[name].net, feelings.carry[name])[0] for name in blend.names}
    fears = tuple(
        name
        for name, head in heads.items()
        if isinstance(head, Fear) and round(1 / (1 - head.predictor.gamma)) == horizon
    )
    signals = predictions(blend, feelings) | untrained(blend, feelings, env.spec, made)
    signals |= critics(agent, learner.agent) | {"felt": felt(blend, feelings)} | (rivals or {})

    def act(key, obs):
        return agent.act(learner.agent, None, obs)

    return readouts(signals, act, env, worlds, key, episodes, fears, horizon, gamma=agent.gamma)


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
        said = {name: predict(batch) for name, predict in signals.items()}
        rarity = -home.visits[cell(home.moments, batch.next_obs)]
        told = _answers(said, batch, alive, truth, rarity)
        for name in probabilities:
            level = calibration(said[name], truth.harmed, truth.known)
            told |= {f"{name}/{part}": value for part, value in level.items()}
        return home, told

    nowhere = jnp.zeros((1, env.spec.obs_dim)), jnp.zeros((1,), bool)
    places = jnp.arange(points), noiseless(worlds)
    return jax.lax.scan(point, familiar(*nowhere), places)[1]


def _answers(
    said: dict[str, jax.Array], batch: Transition, alive: jax.Array, truth: Truth, rarity: jax.Array
) -> dict[str, jax.Array]:
    """What was said [T, B] at one point, held against the truth."""
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

    if said:
        answers = jax.vmap(answer)(jnp.stack(list(said.values())))
        for question, each in zip(QUESTIONS, answers, strict=True):
            told |= {f"{name}/{question}": each[k] for k, name in enumerate(said)}
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
