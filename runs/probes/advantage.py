"""Credit: does a signal say which step was the good one, and how soon after a blunder?

The truth is known here, because a world is a function: from any step of an episode it can be lived
again, as often as one likes, once with the action that was taken and once with the policy's choice.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs.world import Env, EnvState, World
from runs.engine.evaluate import without_reward_noise
from runs.probes.ranking import rank_correlation
from runs.probes.readouts import Act, masked_mean, record_episodes
from runs.probes.signals import Prediction


class Branches(NamedTuple):
    """The worth of what was done, each [T, B].

    Attributes:
        advantage: estimate of Q(s, a) - V(s) under the policy.
        error: its standard error.
    """

    advantage: jax.Array
    error: jax.Array


def credit_assignment(
    signals: dict[str, Prediction],
    act: Act,
    env: Env,
    worlds: World,
    key: jax.Array,
    episodes: int,
    rollouts: int = 32,
    gamma: float = 0.99,
    blunder: float = -0.1,
    window: int = 10,
) -> dict[str, jax.Array]:
    """How well each signal of one seed assigns credit at each point.

    Args:
        signals: name -> prediction, low where things went badly: what was `felt`, a critic's
            difference, minus the probability of harm.
        act: the policy. It must draw its actions: of a policy that acts by its mode every step
            has the advantage 0.
        env: the family of worlds.
        worlds: leading axes [P, draws], with a channel, as `Suite.worlds` gives them.
        key: of episodes and branches.
        episodes: in each world.
        rollouts: K, of each branch.
        gamma: discount of the return.
        blunder: a step is one whose advantage is below this by two standard errors.
        window: steps, from the blunder on, among which a signal's lowest is sought.

    Returns:
        Each [P], NaN where there is nothing to tell. Of all: `steps`, `blunders`, `spread` (of
        the advantage estimates), `error` (root mean square of their standard errors), `chance`
        (the delay of a signal that knows nothing). Of each signal: NAME/`credit_assignment`, its rank
        correlation with the advantage, which noise in the estimates pulls towards 0, and
        NAME/`delay`, mean steps from a blunder to its lowest value.
    """
    k_live, k_branch = jax.random.split(key)
    keys = jax.random.split(k_live, worlds.channel.noise.shape[1] * episodes)

    def point(worlds):
        env_states, batch, alive = record_episodes(act, env, worlds, keys)
        truth = branched_advantages(
            k_branch, env, act, env_states, batch.action, alive, rollouts, gamma
        )
        blunders = alive & (truth.advantage + 2 * truth.error < blunder)
        middle = masked_mean(truth.advantage, alive)
        told = {
            "steps": alive.sum().astype(jnp.float32),
            "blunders": blunders.sum().astype(jnp.float32),
            "spread": jnp.sqrt(masked_mean(jnp.square(truth.advantage - middle), alive)),
            "error": jnp.sqrt(masked_mean(jnp.square(truth.error), alive)),
            "chance": masked_mean(0.5 * (_lookahead(alive, window).sum(0) - 1), blunders),
        }
        felt = jnp.stack([predict(batch) for predict in signals.values()])
        ranks = jax.vmap(rank_correlation, (0, None, None))(felt, truth.advantage, alive)
        late = jax.vmap(
            lambda signal: masked_mean(delay_to_minimum(signal, alive, window), blunders)
        )(felt)
        told |= {f"{name}/credit": ranks[k] for k, name in enumerate(signals)}
        return told | {f"{name}/delay": late[k] for k, name in enumerate(signals)}

    return jax.lax.map(point, without_reward_noise(worlds))


def branched_advantages(
    key: jax.Array,
    env: Env,
    act: Act,
    env_states: EnvState,
    actions: jax.Array,
    alive: jax.Array,
    rollouts: int,
    gamma: float,
) -> Branches:
    """The true advantage of each step, by branching the world K = `rollouts` times.

    Both branches of a pair, the action taken and the policy's, meet the same luck (common random
    numbers), and an episode is lived to its end or its horizon.

    Args:
        key: of the branches.
        env: the family of worlds.
        act: the policy, which draws.
        env_states: [T, B] before each step.
        actions: [T, B, ...] taken there.
        alive: [T, B] bool; where not, both are 0.
        rollouts: K, at least 2.
        gamma: discount of the return.
    """

    def at(step):
        index, env_state, action, alive = step
        pairs = _returns(
            jax.random.fold_in(key, index), env, act, env_state, action, alive, rollouts, gamma
        )
        gain = pairs[:, 0] - pairs[:, 1]
        return Branches(gain.mean(0), gain.std(0, ddof=1) / jnp.sqrt(rollouts))

    return jax.lax.map(at, (jnp.arange(alive.shape[0]), env_states, actions, alive))


def _returns(
    key: jax.Array,
    env: Env,
    act: Act,
    env_state: EnvState,
    action: jax.Array,
    alive: jax.Array,
    rollouts: int,
    gamma: float,
) -> jax.Array:
    """Returns [K, 2, B] from one step of B episodes: with the action taken, and without.

    It stops as soon as all branches have ended.
    """
    count = alive.shape[0]
    keys = jax.random.split(key, rollouts * count).reshape(rollouts, count)

    def spread(leaf):
        return jnp.broadcast_to(leaf, (rollouts, 2, *leaf.shape))

    def one(key, env_state, forced, taken, time):
        k_act, k_step = jax.random.split(jax.random.fold_in(key, time))
        chosen = act(k_act, env_state.obs)
        return env.step(k_step, env_state, jnp.where(forced, taken, chosen))

    episodes = jax.vmap(one, (0, 0, None, 0, None))
    pairs = jax.vmap(episodes, (None, 0, 0, None, None))
    branch = jax.vmap(pairs, (0, 0, None, None, None))

    def go(state):
        time, env_states, alive, total = state
        forced = jnp.array([True, False]) & (time == 0)
        env_states, seen = branch(keys, env_states, forced, action, time)
        total = total + jnp.where(alive, gamma**time * seen.reward, 0.0)
        return time + 1, env_states, alive & ~seen.terminated & ~seen.truncated, total

    begun = (0, jax.tree.map(spread, env_state), spread(alive), jnp.zeros((rollouts, 2, count)))
    return jax.lax.while_loop(lambda state: state[2].any(), go, begun)[3]


def delay_to_minimum(signal: jax.Array, alive: jax.Array, window: int) -> jax.Array:
    """Steps [T, B] from each step to the lowest value of a signal [T, B] in a window.

    The window begins with the step itself, and ends with its episode; of equals the first counts.
    """
    ahead = _lookahead(alive, window)
    seen = jnp.where(ahead, _lookahead(signal, window), jnp.inf)
    return jnp.argmin(seen, 0).astype(jnp.float32)


def _lookahead(x: jax.Array, window: int) -> jax.Array:
    """What x [T, B] is at this step and the next ones, [window, T, B]; 0 beyond the last."""
    padded = jnp.concatenate([x, jnp.zeros((window, x.shape[1]), x.dtype)])
    return jnp.stack([padded[i : i + x.shape[0]] for i in range(window)])
