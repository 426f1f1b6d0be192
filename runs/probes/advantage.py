"""Credit assignment: how well signals track the advantage of each step, estimated by branching.

The state of a jitted environment can be copied, so every step of an episode is continued K times
with the action that was taken and K times with an action that the policy draws. The mean difference
of their returns estimates the advantage Q(s, a) - V(s).
"""

from typing import Any

import jax
import jax.numpy as jnp

from affect import Blend
from envs.world import Env, EnvState, World
from runs.engine.config import head_spec
from runs.engine.episodes import Act, record_episodes
from runs.engine.evaluate import with_disturbances
from runs.engine.train import Learner
from runs.probes.ranking import rank_correlation
from runs.probes.readouts import masked_mean
from runs.probes.signals import Prediction, wrapped_signals

BLUNDER = -0.1  # a step is a blunder if its advantage plus two standard errors is below this


def learner_credit(
    learner: Learner, key: jax.Array, worlds: World, *, agent: Any, blend: Blend, env: Env, rollouts
) -> dict[str, jax.Array]:
    """`credit_assignment` of one seed's heads, trained and untrained, its TD error and the reward.

    One episode is recorded in each world; the discount is that of the agent.
    """

    def act(key, obs):
        return agent.act(learner.agent, key, obs)

    def td_error(batch):
        value = agent.value(learner.agent, batch.obs)[..., 0]
        next_value = agent.value(learner.agent, batch.next_obs)[..., 0]
        return batch.reward + agent.gamma * next_value * ~batch.terminated - value

    signals = wrapped_signals(blend, learner.blend_state, head_spec(env.spec, agent), key)
    signals |= {"critic": td_error, "reward": lambda batch: batch.reward}
    return credit_assignment(signals, act, env, worlds, key, 1, rollouts, gamma=agent.gamma)


def credit_assignment(
    signals: dict[str, Prediction],
    act: Act,
    env: Env,
    worlds: World,
    key: jax.Array,
    episodes: int,
    rollouts: int,
    gamma: float,
    window: int = 10,
) -> dict[str, jax.Array]:
    """Rank correlation of signals with the advantage, and delay after blunders, at each point.

    Args:
        signals: name -> prediction of one seed, low where a step was bad, such as the signal of a
            head, a temporal-difference error, or minus the probability of harm.
        act: the policy, which must sample: under a deterministic policy every advantage is 0.
        env: the family of worlds.
        worlds: leading axes [P, draws], with a channel, as `Suite.worlds` returns them.
        key: of episodes and branches.
        episodes: in each world.
        rollouts: K, of each branch.
        gamma: discount of the return.
        window: steps from the blunder on in which the minimum of a signal is searched.

    Returns:
        Each [P], NaN where undefined. For all signals together: `steps`, `blunders`, `spread`
        (standard deviation of the advantage estimates), `error` (root mean square of their standard
        errors), `chance` (expected delay of an uninformative signal). For each signal:
        NAME/`credit`, its rank correlation with the advantage, which noise in the estimates biases
        towards 0, and NAME/`delay`, mean steps from a blunder to its minimum in the window.
    """
    k_episodes, k_branch = jax.random.split(key)
    keys = jax.random.split(k_episodes, worlds.channel.noise.shape[1] * episodes)

    def measure_point(worlds):
        env_states, batch, alive = record_episodes(act, env, worlds, keys)
        advantage, error = branched_advantages(
            k_branch, env, act, env_states, batch.action, alive, rollouts, gamma
        )
        blunders = alive & (advantage + 2 * error < BLUNDER)
        mean = masked_mean(advantage, alive)
        metrics = {
            "steps": alive.sum().astype(jnp.float32),
            "blunders": blunders.sum().astype(jnp.float32),
            "spread": jnp.sqrt(masked_mean(jnp.square(advantage - mean), alive)),
            "error": jnp.sqrt(masked_mean(jnp.square(error), alive)),
            "chance": masked_mean(0.5 * (_lookahead(alive, window).sum(0) - 1), blunders),
        }
        values = jnp.stack([predict(batch) for predict in signals.values()])
        ranks = jax.vmap(rank_correlation, (0, None, None))(values, advantage, alive)
        delays = jax.vmap(
            lambda signal: masked_mean(delay_to_minimum(signal, alive, window), blunders)
        )(values)
        metrics |= {f"{name}/credit": ranks[k] for k, name in enumerate(signals)}
        return metrics | {f"{name}/delay": delays[k] for k, name in enumerate(signals)}

    return jax.lax.map(measure_point, with_disturbances(worlds, reward_noise=0.0))


def branched_advantages(
    key: jax.Array,
    env: Env,
    act: Act,
    env_states: EnvState,
    actions: jax.Array,
    alive: jax.Array,
    rollouts: int,
    gamma: float,
) -> tuple[jax.Array, jax.Array]:
    """Estimate the advantage Q(s, a) - V(s) of each action taken -> (it, its standard error).

    From K = `rollouts` pairs of branches; both branches of a pair use the same random keys (common
    random numbers) and run until the episode ends or reaches its horizon.

    Args:
        key: of the branches.
        env: the family of worlds.
        act: the policy, which samples.
        env_states: [T, B] before each step.
        actions: [T, B, ...] taken there.
        alive: [T, B] bool; where False, advantage and error are 0.
        rollouts: K, at least 2.
        gamma: discount of the return.
    """

    def estimate_step(step):
        index, *now = step
        returns = _returns(jax.random.fold_in(key, index), env, act, *now, rollouts, gamma)
        gains = returns[:, 0] - returns[:, 1]
        return gains.mean(0), gains.std(0, ddof=1) / jnp.sqrt(rollouts)

    return jax.lax.map(estimate_step, (jnp.arange(alive.shape[0]), env_states, actions, alive))


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
    """Discounted returns [K, 2, B] from one step of B episodes: action taken, action of the policy.

    The loop stops as soon as all branches have ended.
    """
    count = alive.shape[0]
    keys = jax.random.split(key, rollouts * count).reshape(rollouts, count)

    def broadcast(leaf):
        return jnp.broadcast_to(leaf, (rollouts, 2, *leaf.shape))

    def step_once(key, env_state, forced, taken, time):
        k_act, k_step = jax.random.split(jax.random.fold_in(key, time))
        chosen = act(k_act, env_state.obs)
        return env.step(k_step, env_state, jnp.where(forced, taken, chosen))

    over_envs = jax.vmap(step_once, (0, 0, None, 0, None))
    over_actions = jax.vmap(over_envs, (None, 0, 0, None, None))
    over_rollouts = jax.vmap(over_actions, (0, 0, None, None, None))

    def step_all(state):
        time, env_states, alive, total = state
        forced = jnp.array([True, False]) & (time == 0)
        env_states, transition = over_rollouts(keys, env_states, forced, action, time)
        total = total + jnp.where(alive, gamma**time * transition.reward, 0.0)
        return time + 1, env_states, alive & ~transition.terminated & ~transition.truncated, total

    env_states = jax.tree.map(broadcast, env_state)
    start = (0, env_states, broadcast(alive), jnp.zeros((rollouts, 2, count)))
    return jax.lax.while_loop(lambda state: state[2].any(), step_all, start)[3]


def delay_to_minimum(signal: jax.Array, alive: jax.Array, window: int) -> jax.Array:
    """Steps [T, B] from each step to the minimum of a signal [T, B] within a window.

    The window starts at the step itself and ends with the episode; of equal minima the first is
    taken.
    """
    ahead = _lookahead(alive, window)
    values = jnp.where(ahead, _lookahead(signal, window), jnp.inf)
    return jnp.argmin(values, 0).astype(jnp.float32)


def _lookahead(x: jax.Array, window: int) -> jax.Array:
    """Values of x [T, B] at each step and the following ones, [window, T, B]; 0 past the end."""
    padded = jnp.concatenate([x, jnp.zeros((window, x.shape[1]), x.dtype)])
    return jnp.stack([padded[i : i + x.shape[0]] for i in range(window)])
