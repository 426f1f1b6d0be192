"""Requirements of every head, bare and wrapped; heads in `affect.HEADS` are included."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import affect
from affect import TrainState, build, gradient_step
from affect.blend import HEAD_OPTIMISER
from tests.affect.cases import (
    CASES,
    CHOSEN,
    CORE,
    EXAMPLES,
    SPEC,
    B,
    T,
    apply_head,
    assert_close,
    chunk,
    experience,
    run_head,
    same_bits,
)

SEEDS = 2
TRAINED_HEADS = [head for head in affect.HEADS if head.loss is not affect.Head.loss]


def one_seed(tree, seed=0):
    """Slice of a tree stacked over seeds."""
    return jax.tree.map(lambda leaf: leaf[seed], tree)


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.fixture(params=CHOSEN, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def heads(name):
    """One head per seed."""
    return [build(CASES[name], SPEC, jax.random.key(seed)) for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def head(heads):
    return heads[0]


@pytest.fixture(scope="module")
def batch():
    return experience()


@pytest.fixture(scope="module")
def outputs(heads, batch):
    """Signals [S, T, B] and states [S] of all seeds on the batch, in one program."""
    pairs = [(head, head.initial_state(B)) for head in heads]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    return jax.jit(jax.vmap(lambda pair: pair[0](pair[1], batch), axis_size=SEEDS))(stacked)


def test_a_signal_is_one_finite_float_per_step_with_the_stated_sign(head, outputs):
    signal, state = one_seed(outputs)
    assert (signal.shape, signal.dtype) == ((T, B), jnp.float32)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs))
    assert shapes(state) == shapes(head.initial_state(B))
    assert (head.sign * signal >= 0).all()


def test_compiled_over_seeds_equals_one_by_one(heads, batch, outputs):
    for seed, head in enumerate(heads):
        assert_close(one_seed(outputs, seed), head(head.initial_state(B), batch))


def test_single_steps_equal_chunks_and_state_continues_across_chunks(name):
    batch = experience(seed=2, steps=2 * T)
    _, *by_steps = run_head(CASES[name], batch, size=1)
    _, *by_chunks = run_head(CASES[name], batch, size=T)
    assert_close(by_steps, by_chunks)


def test_the_signal_of_an_episode_does_not_depend_on_earlier_episodes(name, head, batch):
    """State is reset at an episode, except running moments."""
    if any(word in name for word in ("Curiosity", "Normalised", "ConstantOf", "centred")):
        pytest.skip("its running moments cover all episodes")
    restarted = batch._replace(first=batch.first.at[0].set(True))
    _, state = apply_head(head, head.initial_state(B), experience(seed=4))
    signals = (apply_head(head, s, restarted)[0] for s in (state, head.initial_state(B)))
    assert_close(*signals, atol=1e-6)


def test_permuting_environments_permutes_signals(name, head, batch, outputs):
    order = jnp.array([2, 0, 3, 1])
    if "Sham" in name:  # uses its neighbour, so only rotations keep its signals
        order = jnp.array([3, 0, 1, 2])
    permuted = jax.tree.map(lambda leaf: leaf[:, order], batch)
    signal, _ = apply_head(head, head.initial_state(B), permuted)
    assert_close(signal, one_seed(outputs)[0][:, order])


def test_no_gradient_leaves_the_signal(head, batch):
    def total(head, obs, next_obs, reward):
        differentiated = batch._replace(obs=obs, next_obs=next_obs, reward=reward)
        return head(head.initial_state(B), differentiated)[0].sum()

    args = head, batch.obs, batch.next_obs, batch.reward
    gradients = jax.jit(jax.grad(total, range(4)))(*args)
    assert all((gradient == 0).all() for gradient in jax.tree.leaves(gradients))


def test_the_loss_is_a_finite_number_with_metrics(head, batch):
    loss, metrics = head.loss(head.initial_state(B), batch)
    assert all(jnp.shape(number) == () for number in (loss, *metrics.values()))
    assert all(jnp.isfinite(number) for number in (loss, *metrics.values()))


def test_parameters_are_float32_and_survive_saving_bit_for_bit(head, batch, outputs):
    used = head, one_seed(outputs[1])
    leaves, structure = jax.tree.flatten(used)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    saved = [(np.asarray(leaf).tobytes(), leaf.shape) for leaf in leaves]
    loaded = [jnp.asarray(np.frombuffer(data, np.float32).reshape(shape)) for data, shape in saved]
    restored, step = jax.tree.unflatten(structure, loaded), chunk(batch, 0, 1)
    assert same_bits(apply_head(*restored, step), apply_head(*used, step))


@pytest.mark.parametrize("factory", TRAINED_HEADS)
def test_training_lowers_the_loss_on_a_fixed_batch(factory, batch):
    head = build(factory, SPEC, jax.random.key(1))
    loss = partial(lambda net, state: (net.loss(state, batch)[0],) * 2, state=head.initial_state(B))

    def step(train_state, _):
        return gradient_step(train_state, HEAD_OPTIMISER, loss)

    start = TrainState.create(head, HEAD_OPTIMISER)
    losses = jax.jit(lambda start: jax.lax.scan(step, start, length=40)[1])(start)
    assert jnp.isfinite(losses).all()
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("bare", CORE | EXAMPLES)
def test_the_loss_accepts_any_dtype_of_info_and_no_info(bare, batch):
    head = build(CASES[bare], SPEC, jax.random.key(0))

    def loss(info):
        return head.loss(head.initial_state(B), batch._replace(info=info))[0]

    for dtype in (bool, jnp.float32):
        info = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), batch.info)
        assert loss(info) == loss(batch.info)
    assert jnp.isfinite(loss({}))


@pytest.mark.slow
def test_seeds_on_two_devices_equal_seeds_on_one(batch):
    """All heads with a state, sharded over a seed axis."""
    heads = [build(factory, SPEC, jax.random.key(0)) for factory in CASES.values()]
    pairs = [(head, head.initial_state(B)) for head in heads]
    pairs = [pair for pair in pairs if jax.tree.leaves(pair[1])]
    pairs = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), pairs)

    def apply_pairs(pairs):
        return jax.vmap(lambda pairs: [head(state, batch) for head, state in pairs])(pairs)

    seed = jax.sharding.PartitionSpec("seed")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("seed",))
    sharded = jax.shard_map(apply_pairs, mesh=mesh, in_specs=seed, out_specs=seed, check_vma=False)
    quick = {"xla_backend_optimization_level": 0}
    assert len(pairs) > len(affect.WRAPPERS)
    outputs = (jax.jit(f, compiler_options=quick)(pairs) for f in (sharded, apply_pairs))
    assert_close(*outputs)
