"""After training of full length, predictions at ends of episodes match how these ended."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Fear, Hope, Lesion
from affect.predict import harm
from envs import load_suite
from envs.world import rollout
from runs.engine.config import head_epochs, make_run_config
from runs.engine.jax_backend import JaxBackend
from runs.engine.phases import Phase, one_world
from runs.engine.presets import preset
from runs.engine.training_loop import run_phase
from tests.runs.small_study import without_key_check

no_key_check = pytest.fixture(autouse=True)(without_key_check)
SEEDS, BATCHES, STEPS = 20, 20, 128  # batches of sampled episodes after training


def signals_at_ends(state, agent, env, world):
    """Mean fear and hope at harmful and at good ends of one seed's sampled episodes, {name: []}."""

    def step(env_states, key):
        act = partial(agent.act, state.learner.agent)
        env_states, batch = rollout(key, env, lambda key: world, act, env_states, STEPS)
        heads = state.learner.blend_state.heads
        fear, hope = (heads[name].net.inner((), batch)[0] for name in ("fear", "hope"))
        ends = {"harm": harm(batch), "good": batch.terminated & ~harm(batch) & (batch.reward > 0)}
        sums = {
            f"{name} at {end}": jnp.where(mask, signal, 0.0).sum()
            for end, mask in ends.items()
            for name, signal in (("fear", -fear), ("hope", hope))
        }
        return env_states, sums | {end: mask.sum() for end, mask in ends.items()}

    keys = jax.random.split(jax.random.key(9), BATCHES)
    _, sums = jax.lax.scan(step, state.env_states, keys)
    sums = jax.tree.map(lambda leaf: leaf.sum(), sums)
    names = [name for name in sums if " at " in name]
    return {name: sums[name] / sums[name.rpartition(" ")[2]] for name in names}


@pytest.mark.slow
def test_heads_of_drive_tell_a_crash_from_an_arrival():
    suite = load_suite("Drive")
    sizes = preset(suite)
    config = make_run_config(
        sizes.agent,
        seeds=SEEDS,
        steps=sizes.steps,
        num_envs=sizes.num_envs,
        num_steps=sizes.num_steps,
        episodes=16,
    )
    blend = Blend(fear=(1.0, Lesion(Fear)), hope=(1.0, Lesion(Hope)))
    blend = blend.with_epochs(head_epochs(config))
    world = one_world(suite.world)
    phase = Phase(world, config.chunks, config.updates, config.agent, blend)
    backend = JaxBackend(suite.env, config)
    trained = run_phase(backend, phase, partial(backend.init, phase), lambda: False)
    assert trained.alive.all()
    measure = partial(signals_at_ends, agent=config.agent, env=suite.env, world=suite.world)
    means = {name: np.asarray(x) for name, x in jax.jit(jax.vmap(measure))(trained.state).items()}
    for name, values in means.items():
        error = values.std(ddof=1) / SEEDS**0.5
        print(f"{name}: {values.mean():.3f} +-{1.96 * error:.3f}, {SEEDS} seeds")
    assert means["fear at harm"].mean() > 0.8
    assert means["hope at harm"].mean() < 0.2
    assert means["hope at good"].mean() > 0.8
