"""What every head owes, bare and coupled. A name in `affect.HEADS` puts a new head in here."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import affect
from affect import TrainState, build, gradient_step
from affect.blend import HEAD_OPTIMISER
from tests.affect.cases import (
    CASES,
    SEEDS,
    SPEC,
    B,
    T,
    assert_close,
    chunk,
    experience,
    feel,
    feel_all,
    same_bits,
)

BARE = [name for name in CASES if "(" not in name]
LEARNERS = [head for head in affect.HEADS if head.loss is not affect.Head.loss]


@pytest.fixture(params=CASES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def heads(name):
    """One head a seed."""
    return [build(CASES[name], SPEC, jax.random.key(seed)) for seed in range(SEEDS)]


@pytest.fixture(scope="module")
def head(heads):
    return heads[0]


@pytest.fixture(scope="module")
def all_heads(heads):
    """The heads of all seeds as one, and what they carry at first."""
    states = [head.initial_state(B) for head in heads]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(heads, states, strict=True))


@pytest.fixture(scope="module")
def batch():
    return experience()


@pytest.fixture(scope="module")
def felt(all_heads, batch):
    """What all of them make of the batch -> (signals [S, T, B], states [S])."""
    return feel_all(*all_heads, batch)


def first(tree):
    """That of the first seed."""
    return jax.tree.map(operator.itemgetter(0), tree)


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_a_signal_is_a_number_a_step(head, felt):
    signal, state = first(felt)
    assert signal.shape == (T, B)
    assert signal.dtype == jnp.float32
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(felt))
    assert shapes(state) == shapes(head.initial_state(B))
    assert (head.sign * signal >= 0).all()


def test_compiled_and_in_parallel_equals_one_by_one(heads, batch, felt):
    for seed, head in enumerate(heads):
        one = jax.tree.map(operator.itemgetter(seed), felt)
        assert_close(one, head(head.initial_state(B), batch))


def test_single_steps_equal_chunks_and_chunks_join(head, all_heads):
    batch, signals = experience(seed=2, steps=2 * T), []
    early, carried = feel_all(*all_heads, chunk(batch, 0, T))
    late, chunked = feel_all(all_heads[0], carried, chunk(batch, T, 2 * T))
    state = head.initial_state(B)
    for t in range(2 * T):
        signal, state = feel(head, state, chunk(batch, t, t + 1))
        signals.append(signal)
    assert_close(jnp.concatenate(signals), jnp.concatenate([early[0], late[0]]))
    assert_close(state, first(chunked))


def test_an_episode_is_felt_whatever_was_before_it(name, heads, batch):
    """What is carried is of this life, or, for running moments, of all lives alike."""
    if any(word in name for word in ("Curiosity", "Normalised", "ConstantOf", "centred")):
        pytest.skip("carries running moments of all that was seen")
    head, anew = heads[0], batch._replace(first=batch.first.at[0].set(True))
    _, carried = feel(head, head.initial_state(B), experience(seed=4))
    assert_close(
        feel(head, carried, anew)[0], feel(head, head.initial_state(B), anew)[0], atol=1e-6
    )


def test_environments_are_alike(name, all_heads, batch, felt):
    order = jnp.array([2, 0, 3, 1])
    if "Sham" in name:  # feels its neighbour, so only a turn of the ring leaves it alone
        order = jnp.array([3, 0, 1, 2])
    signals, _ = feel_all(*all_heads, jax.tree.map(lambda leaf: leaf[:, order], batch))
    assert_close(signals, felt[0][:, :, order])


def test_no_gradient_leaves_the_signal(head, batch):
    def total(head, obs, next_obs, reward):
        seen = batch._replace(obs=obs, next_obs=next_obs, reward=reward)
        return head(head.initial_state(B), seen)[0].sum()

    args = head, batch.obs, batch.next_obs, batch.reward
    slopes = jax.jit(jax.grad(total, range(4)))(*args)
    assert all((slope == 0).all() for slope in jax.tree.leaves(slopes))


def test_the_loss_is_a_finite_number_with_metrics(head, batch):
    loss, metrics = head.loss(head.initial_state(B), batch)
    assert all(jnp.shape(number) == () for number in (loss, *metrics.values()))
    assert all(jnp.isfinite(number) for number in (loss, *metrics.values()))


def test_parameters_are_floats_and_survive_saving_bit_for_bit(head, batch, felt):
    leaves, structure = jax.tree.flatten((head, first(felt[1])))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    saved = [np.asarray(leaf).tobytes() for leaf in leaves]
    loaded = [
        jnp.asarray(np.frombuffer(data, np.float32).reshape(leaf.shape))
        for data, leaf in zip(saved, leaves, strict=True)
    ]
    restored, now = jax.tree.unflatten(structure, loaded), chunk(batch, 0, 1)
    assert same_bits(feel(*restored, now), feel(head, first(felt[1]), now))


@pytest.mark.parametrize("factory", LEARNERS)
def test_learning_lowers_the_loss_on_a_fixed_batch(factory, batch):
    def learn(head):
        state = head.initial_state(B)

        def step(trained, _):
            loss = trained.net.loss(state, batch)[0]
            return gradient_step(trained, HEAD_OPTIMISER, lambda net: net.loss(state, batch))[
                0
            ], loss

        return jax.lax.scan(step, TrainState.create(head, HEAD_OPTIMISER), length=40)[1]

    losses = jax.jit(learn)(build(factory, SPEC, jax.random.key(1)))
    assert jnp.isfinite(losses).all()
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("bare", BARE)
def test_info_may_be_of_any_type_and_may_be_missing(bare, batch):
    head = build(CASES[bare], SPEC, jax.random.key(0))

    def loss(info):
        return head.loss(head.initial_state(B), batch._replace(info=info))[0]

    for dtype in (bool, jnp.float32):
        info = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), batch.info)
        assert loss(info) == loss(batch.info)
    assert jnp.isfinite(loss({}))


def test_seeds_on_two_devices_equal_seeds_on_one(batch):
    """Every head that carries something, sharded over a seed axis."""
    heads = [build(factory, SPEC, jax.random.key(0)) for factory in CASES.values()]
    pairs = [(head, head.initial_state(B)) for head in heads]
    pairs = [pair for pair in pairs if jax.tree.leaves(pair[1])]
    pairs = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), pairs)

    def feel_each(pairs):
        return jax.vmap(lambda pairs: [head(state, batch) for head, state in pairs])(pairs)

    seed = jax.sharding.PartitionSpec("seed")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("seed",))
    apart = jax.shard_map(feel_each, mesh=mesh, in_specs=seed, out_specs=seed, check_vma=False)
    quick = {"xla_backend_optimization_level": 0}
    assert len(pairs) > len(affect.WRAPPERS)
    felt = (jax.jit(f, compiler_options=quick)(pairs) for f in (apart, feel_each))
    assert_close(*felt)
