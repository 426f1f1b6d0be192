"""Distillation: each form fits what it can express, in the bytes that it counts, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from affect import Curiosity, Distilled, Hope, Inherited, Value, build, distil, load
from affect.fitting import Units, pruning_mask, rounding_error
from affect.genome import layers_of, pack, scales_of, unpack
from affect.mlp import MLP
from tests.affect.cases import KEY, SPEC, experience, run_head, same_bits
from tests.refusal import refused
from tests.tiers import slow

D, STEPS = 6, 600


@pytest.fixture(scope="module")
def obs():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3000, D)) * [1, 1, 1, 0.01, 5, 1] + [0, 0, 0, 1, 0, 0]).astype("f")


def linear(obs):
    return 3 * obs[:, 0] - 200 * obs[:, 3] + 7


def bent(obs):
    return jnp.tanh(obs[:, 0] + obs[:, 1]) + 0.5 * jnp.tanh(0.4 * obs[:, 4])


def text_of(value):
    """Id of a parameter, the same in every process."""
    return getattr(value, "__name__", str(value))


FORMS = [
    slow({"form": "linear"}, linear, 0.999, 4 * (D + 1)),
    ({"form": "linear", "bits": 8}, linear, 0.95, 2 + D + 1),
    ({"form": "features", "features": 2}, linear, 0.999, 4 * 3 + 2),
    ({"form": "units", "units": 2, "bits": 6}, bent, 0.95, 4 + 17 * 6 // 8 + 1),
    slow({"form": "units", "units": 8}, bent, 0.97, 4 * (8 * (D + 1) + 9)),
    slow({"form": "layers", "units": (8, 4), "bits": 8}, bent, 0.95, 6 + 56 + 36 + 5),
    slow({"form": "pruned", "units": 8, "weights": 32, "bits": 8}, bent, 0.9, 4 + 32 * 15 // 8),
]


@pytest.mark.parametrize(("options", "f", "r2", "size"), FORMS, ids=text_of)
def test_a_form_fits_in_the_bytes_that_it_counts_and_comes_back_exactly(
    options, f, r2, size, obs, tmp_path
):
    head, explained, num_bytes = distil(f, on=obs, steps=STEPS, **{"bits": None, **options})
    assert explained > r2
    assert num_bytes == len(pack(head)) == size
    again = unpack(pack(head), build(head.factory(), head.origin.spec, KEY))
    assert same_bits(again, head)
    head.save(tmp_path / "small.safetensors")
    assert same_bits(load(tmp_path / "small.safetensors").net, head.net)
    predicted = np.asarray(jax.jit(head.net)(obs[::5]))
    errors = np.square(predicted - np.asarray(f(obs[::5])))
    assert explained == pytest.approx(1 - errors.mean() / np.var(np.asarray(f(obs[::5]))), abs=1e-3)


def test_weights_are_whole_multiples_of_a_scale(obs):
    head = distil(bent, bits=3, on=obs, steps=STEPS).head
    for layer, scale in zip([*head.net.hidden, head.net.out], head.scales[...], strict=True):
        weights = np.concatenate([layer.kernel[...].ravel(), layer.bias[...]])
        codes = weights / np.asarray(scale)
        assert set(codes.tolist()) <= {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}


def faint(obs):
    return jnp.tanh(obs[:, 0] - obs[:, 1]) + 10 * (obs[:, 3] - 1)  # the latter of deviation 0.1


def test_a_sense_that_hardly_varies_does_not_take_the_few_bits_of_all(obs):
    assert distil(faint, bits=4, on=obs, steps=STEPS).r2 > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(), (2,)])
def test_rounding_error_is_that_of_weights_rounded_at_random(obs, layers):
    obs = obs / 10  # where the slope of tanh is near 1
    net, units = MLP(D, layers, rngs=nnx.Rngs(0)), Units.of(np.asarray(obs), np.asarray(obs)[:, 0])
    centred, rng, squares = obs - obs.mean(0), np.random.default_rng(0), []
    run = jax.jit(lambda net: net(centred))
    for _ in range(300):
        moved = jax.tree.map(lambda leaf: leaf, net)
        for layer, step in zip(layers_of(moved), scales_of(net, 4), strict=True):
            for name in ("kernel", "bias"):
                exact = getattr(layer, name)[...]
                error = rng.uniform(-0.5, 0.5, exact.shape).astype("f") * step
                setattr(layer, name, nnx.Param(exact + error))
        squares.append(jnp.square(run(moved) - run(net)).mean())
    measured = np.mean(squares)
    expected = float(rounding_error(net, 4, units))
    if layers:
        assert 0.2 * expected < measured < expected  # outputs of tanh are at most 1
    else:
        assert measured == pytest.approx(expected, rel=0.15)


def test_few_features_are_those_that_matter_and_pruned_weights_are_0(obs):
    kernel = distil(linear, "features", None, on=obs, features=2, steps=STEPS).head.net.out.kernel
    assert np.flatnonzero(kernel[...]).tolist() == [0, 3]
    head, r2, _ = distil(bent, "pruned", None, on=obs, units=8, weights=12, steps=STEPS)
    assert sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(head.net)) <= 12
    assert r2 > 0.95  # two units of three observations would be exact


def test_weights_are_kept_whose_unit_reaches_the_output_with_all_biases_they_need():
    net = MLP(3, (2,), rngs=nnx.Rngs(0))
    net.hidden[0].kernel = nnx.Param(jnp.array([[9.0, 0.3], [9.0, 0.2], [9.0, 0.1]]))
    net.out.kernel = nnx.Param(jnp.array([[0.01], [1.0]]))
    mask = pruning_mask(net, 5)  # two weights, a bias, a weight to the output and its bias
    assert mask.hidden[0].kernel[...].tolist() == [[0, 1], [0, 1], [0, 0]]
    assert mask.hidden[0].bias[...].tolist() == [0, 1]
    assert mask.out.kernel[...].tolist() == [[0], [1]]
    assert mask.out.bias[...].tolist() == [1]
    assert all((np.asarray(leaf) == 1).all() for leaf in jax.tree.leaves(pruning_mask(net, 11)))


@pytest.mark.slow
def test_a_head_is_distilled_on_transitions_and_inherited(obs):
    batch = experience(seed=1, steps=500)
    hope = build(Hope, SPEC, KEY)
    small, r2, _ = distil(hope, units=4, bits=8, on=batch, steps=STEPS)
    assert r2 > 0.9 and isinstance(small, Distilled)
    signal, target = (np.asarray(run_head(Inherited(x), batch)[1]) for x in (small, hope))
    assert np.corrcoef(signal.ravel(), target.ravel())[0, 1] > 0.95
    alone = distil(hope, units=4, bits=8, on=batch.next_obs, steps=STEPS)
    assert same_bits(alone.head, small)  # hope depends on next_obs alone
    value = build(Value, SPEC, KEY)
    assert distil(value, "linear", None, on=batch, steps=STEPS).r2 > 0.3  # ends are left out


BATCH = experience(steps=30)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: distil(bent, on=o, units=0), "units are whole numbers, at least 1, not 0"),
        (lambda o: distil(bent, on=o, bits=1.5), "bits are a whole number from 2 to 16, or None"),
        (lambda o: distil(bent, on=o, bits=1), "from 2 to 16, or None, not 1"),
        (lambda o: distil(bent, "cubic", on=o), "form is one of features, linear, units, layers"),
        (lambda o: distil(bent, on=o, units=(2, 2)), 'several layers: that is form="layers"'),
        (lambda o: distil(bent, "features", on=o, features=9), "an observation has 6 numbers"),
        (lambda o: distil(bent, "features", on=o, features=0), "features is a whole number"),
        (lambda o: distil(bent, "pruned", on=o, weights=99), "a network of 2 units has 17"),
        (
            lambda o: distil(bent, "pruned", on=o, weights=3),
            "weights=3: a pruned network keeps at least 4",
        ),
        (lambda o: distil(bent, on=o, steps=0), "steps is a whole number, at least 1, not 0"),
        (lambda o: distil(bent, on=o[0]), "observations [..., D], not float32[6]"),
        (lambda o: distil(bent, on=o[:3]), "3 observations are too few"),
        (lambda o: distil(lambda x: x, on=o), "f gave (3000, 6) for 3000 observations"),
        (lambda o: distil(lambda x: 0 * x[:, 0], on=o), "f is the same for all observations"),
        (lambda o: distil(lambda x: jnp.log(x[:, 0]), on=o), "is not finite somewhere"),
        (lambda o: distil(build(Curiosity, SPEC, KEY), on=BATCH), "Curiosity carries a state"),
        (lambda o: Distilled(bits=99), "bits are a whole number from 2 to 16"),
        (lambda o: Distilled(kept=0), "kept is a number of weights, at least 1, not 0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message, obs):
    with refused(ValueError, message):
        call(obs)
