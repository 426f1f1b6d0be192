"""Body: maps between a world's observations and actions and those that an agent gets."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from affect import Spec, Transition
from agents.actor_critic import Guide, check_setting
from agents.wrapper import AgentWrapper


@dataclass(frozen=True)
class Body(AgentWrapper):
    """Agent with permuted actions, with senses that are missing, and with noise on the others.

    Batches, a policy and that of a teacher are in terms of the world; the agent inside gets them in
    terms of the body. Heads read the world's observations, and so know what a body does not sense,
    unless they are to read what the agent gets: `affect.Inherited(head, obs=body.perceive)`.

    Noise is a function of the observation: the same one is perceived alike when acting, when
    learning and by a head. In a world of few observations it is a lasting distortion; noise that is
    drawn anew at every step is that of the world's channel (`envs.channel`).

    Attributes:
        agent: the one inside.
        actions: permutation of the A actions: choice j of the agent is executed as actions[j], or
            number j of its continuous action as number actions[j]. () leaves them as they are.
        senses: indices of the numbers of an observation that are perceived; the others are 0, so
            that networks keep their size. None for all.
        noise: standard deviation of Gaussian noise on what is perceived.

    Raises:
        ValueError: for actions that are no permutation, senses that are no indices, or a negative
            noise; in `init` for those that do not fit the world.
    """

    actions: Any = ()
    senses: Any = None
    noise: Any = 0.0

    def __post_init__(self):
        actions, senses = self.actions, () if self.senses is None else self.senses
        if _is_static(actions) and not _is_indices(actions, set(range(len(actions)))):
            raise ValueError(f"Body: actions={actions}, expected a permutation such as (1, 2, 0)")
        if _is_static(senses) and not _is_indices(senses):
            raise ValueError(f"Body: senses={senses}, expected indices from 0 on, such as (0, 2)")
        check_setting("Body", "noise", self.noise)

    @property
    def has_all_senses(self) -> bool:
        """Whether observations are perceived as they are."""
        return self.senses is None and not _is_set(self.noise)

    def init(self, key: jax.Array, spec: Spec, num_signals: int = 0) -> Any:
        """Untrained agent inside, for a world of shapes `spec` and K = `num_signals` signals."""
        spec.require_plain("Body")
        count, last = spec.num_actions or spec.action_dim, max(self.senses or (0,))
        if len(self.actions) not in (0, count):
            raise ValueError(f"Body: {len(self.actions)} actions, expected the world's {count}")
        if last >= spec.obs_dim:
            raise ValueError(f"Body: no sense {last}: an observation has {spec.obs_dim} numbers")
        return self.agent.init(key, spec, num_signals)

    def act(self, state: Any, key: jax.Array | None, obs: jax.Array) -> jax.Array:
        """Actions [...] of the world at obs [..., D]; the mode if `key` is None."""
        choice = self.agent.act(state, key, self.perceive(obs))
        return _relabelled(choice, *self._orders()) if len(self.actions) else choice

    def value(self, state: Any, obs: jax.Array) -> jax.Array:
        """Values [..., C] of the agent inside at obs [..., D]."""
        return self.agent.value(state, self.perceive(obs))

    def policy(self, state: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Policy over the world's actions at obs [..., D], two [..., A] as of the agent inside."""
        policy = self.agent.policy(state, self.perceive(obs))
        if len(self.actions):
            policy = tuple(x[..., self._orders()[1]] for x in policy)
        return policy

    def update(
        self,
        state: Any,
        key: jax.Array,
        batch: Transition,
        signals: jax.Array,
        guide: Guide | None = None,
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Trains the agent inside on what it perceived and chose in a batch -> (state, metrics)."""
        obs, next_obs = self.perceive(batch.obs), self.perceive(batch.next_obs)
        batch = batch._replace(obs=obs, next_obs=next_obs)
        if len(self.actions):
            order, inverse = self._orders()
            batch = batch._replace(action=_relabelled(batch.action, inverse, order))
            if guide is not None:
                guide = guide._replace(policy=tuple(x[..., order] for x in guide.policy))
        guides = () if guide is None else (guide,)  # not every agent can be guided
        return self.agent.update(state, key, batch, signals, *guides)

    def perceive(self, obs: jax.Array) -> jax.Array:
        """What the agent gets [..., D] of observations [..., D]."""
        perceived = obs
        if _is_set(self.noise):
            noise = _hashed_normal(obs)
            perceived = obs + jnp.broadcast_to(self.noise, obs.shape) * noise
        if self.senses is not None:
            sensed = jnp.isin(jnp.arange(obs.shape[-1]), jnp.asarray(self.senses, jnp.int32))
            perceived = jnp.where(jnp.broadcast_to(sensed, obs.shape), perceived, 0.0)
        return perceived

    def _orders(self) -> tuple[jax.Array, jax.Array]:
        """The permutation of actions [A] and its inverse [A]."""
        order = jnp.asarray(self.actions)
        return order, jnp.argsort(order)


def observation_hash(obs: jax.Array) -> jax.Array:
    """Hash [...] uint32 of the bits of observations [..., D], float32."""
    bits = jax.lax.bitcast_convert_type(obs, jnp.uint32)
    multipliers = 2 * jnp.arange(bits.shape[-1], dtype=jnp.uint32) + jnp.uint32(2654435769)
    return (bits * jnp.broadcast_to(multipliers, bits.shape)).sum(-1)


def _hashed_normal(obs: jax.Array) -> jax.Array:
    """Standard normal numbers [..., D] that are a function of the bits of obs [..., D]."""

    def draw(seed: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.key(seed), obs.shape[-1:])

    return jax.vmap(draw)(observation_hash(obs).reshape(-1)).reshape(obs.shape)


def _relabelled(action: jax.Array, order: jax.Array, inverse: jax.Array) -> jax.Array:
    """Discrete actions j [...] as order[j]; number j of continuous ones [..., A] at order[j]."""
    if jnp.issubdtype(action.dtype, jnp.integer):
        return order[action]
    return action[..., inverse]


def _is_set(noise: Any) -> bool:
    """Whether noise is traced by JAX, or not 0."""
    return isinstance(noise, jax.Array) or noise > 0


def _is_static(value: Any) -> bool:
    """Whether a setting is no data of a program."""
    return not isinstance(value, jax.Array)


def _is_indices(value: Any, expected: set[int] | None = None) -> bool:
    """Whether this is a tuple of indices from 0 on, namely all `expected` ones if given."""
    indices = isinstance(value, tuple) and all(isinstance(i, int) and i >= 0 for i in value)
    return indices and expected in (None, set(value))
