"""Heads in files: bits come back, cards say what they are, wrong files are refused in a line."""

import functools
import hashlib
import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import affect
from affect import (
    Blend,
    Care,
    Constant,
    Curiosity,
    Fear,
    Head,
    Homeostasis,
    Hope,
    Inherited,
    Innate,
    MissingInfo,
    Normalised,
    Potential,
    Spec,
    Untrained,
    Value,
    build,
    load,
    read_card,
)
from affect.inheritance import Inheritance
from tests.affect.cases import (
    CASES,
    CHOSEN,
    KEY,
    SPEC,
    B,
    apply_head,
    experience,
    run_head,
    same_bits,
)
from tests.refusal import refused

FACTS = {
    "world": "Drive",
    "steps": 200_000,
    "seeds": (0, 1),
    "licence": "MIT",
    "measures": {"auroc_home": 0.8},
    "scale": 2.0,
    "shift": -1.0,
    "chosen": "24 trials in Timid",
    "commands": ("python -m runs.compare",),
    "date": "2026-11-29",
}


@functools.cache
def built(factory):
    """An untrained head of a factory."""
    return build(factory, SPEC, KEY)


class Dread(Head):
    """A head of one's own."""

    def __init__(self, spec, width: int = 3, *, rngs):
        self.weight = affect.mlp.MLP(spec.obs_dim, (width,), rngs=rngs)

    def __call__(self, state, batch):
        """The output of a network."""
        return jax.lax.stop_gradient(self.weight(batch.next_obs)), state


@pytest.fixture(scope="module")
def batch():
    return experience(seed=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hope.safetensors"


def trained(factory, batch):
    """A head after an update, so that no parameter is as it was initialised."""
    blend = Blend(epochs=2, it=(1.0, factory))
    return blend.learn(blend.init(KEY, SPEC, B), batch)[0].heads["it"].net


def inner(head):
    while isinstance(head, affect.wrappers.Wrapper):
        head = head.inner
    return head


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHOSEN)
def test_bits_and_signals_of_every_head_come_back(name, batch, path):
    """The file holds the head alone; its wrappers are named in the card."""
    head = trained(CASES[name], batch)
    bare = inner(head)
    if isinstance(bare, Innate):
        with pytest.raises(ValueError, match="a file holds numbers and no code: affect.distil"):
            head.save(path)
        return
    head.save(path)
    ours = type(bare).__module__.count(".") == 1
    again = load(path, None if ours else type(bare))
    assert type(again) is type(bare)
    for own, other in zip(jax.tree.leaves(again), jax.tree.leaves(bare), strict=True):
        assert np.asarray(own).tobytes() == np.asarray(other).tobytes()
    wrappers = [text.partition("(")[0] for text in read_card(path).wrappers]
    assert wrappers == name.replace(")", "").split(",")[0].split("(")[:-1] or name.startswith("GRM")
    factory = Inherited(path, head=None if ours else type(bare))
    inherited = built(factory)
    signals = [apply_head(x, x.initial_state(B), batch) for x in (bare, inherited)]
    assert same_bits(*signals)


def test_the_card_holds_what_was_given(batch, path):
    trained(Potential(Normalised(Hope(horizon=20)), scale=2.0), batch).save(
        path, units="m, m/s, rad", **FACTS
    )
    card = read_card(path)
    assert {name: getattr(card, name) for name in FACTS} == FACTS
    assert card.head == "affect.Hope" and card.settings == {"horizon": 20, "width": 16}
    assert card.reads == {"obs": {"shape": [3], "units": "m, m/s, rad"}}
    assert card.wrappers[0].startswith("Potential(gamma=None, scale=2.0") and card.format == 1
    assert card.wrappers[1] == "Normalised()"


def test_a_saved_file_is_the_same_bytes_again(path, tmp_path):
    head, other = built(Hope), tmp_path / "other.safetensors"
    head.save(path, **FACTS)
    load(path).save(other, date=FACTS["date"])
    assert path.read_bytes() == other.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {path.name, other.name}


def test_a_head_of_ones_own_is_loaded_with_its_class(path, batch):
    head = built(Dread(width=5))
    head.save(path)
    assert same_bits(load(path, head=Dread).weight, head.weight)
    assert same_bits(*(run_head(Inherited(x, head=Dread), batch)[1] for x in (path, head)))


def test_numbers_held_as_parameters_are_in_the_card_too(path):
    build(Homeostasis((0.1, 0.7)), SPEC, KEY).save(path)
    assert read_card(path).settings == {"setpoint": [0.1, 0.7]}
    assert read_card(path).reads == {"info": list(SPEC.info)}
    assert load(path).factory() == Homeostasis((0.1, 0.7))


def test_a_head_that_reads_no_actions_fits_other_actions_and_one_that_does_is_refused(path, batch):
    other = Spec(3, num_actions=25, discount=0.5)
    built(Value).save(path)
    assert same_bits(build(Inherited(path), other, KEY).inner.net, load(path).net)
    from affect.examples.icm import ICM

    built(ICM).save(path)
    with pytest.raises(ValueError, match="ICM reads actions, of .*'num_actions': 2.* gets"):
        build(Inherited(path, head=ICM), other, KEY)


def test_a_file_of_the_oldest_versions_gives_the_same_bits_and_signals():
    """Written under jax 0.8.1, flax 0.12.6, safetensors 0.5.0: `Hope(horizon=20, width=4)`."""
    path = Path(__file__).with_name("oldest.safetensors")
    assert read_card(path).settings == {"horizon": 20, "width": 4}
    obs, no = jnp.linspace(-2, 2, 12).reshape(4, 1, 3), jnp.zeros((4, 1), bool)
    zero = jnp.zeros((4, 1))
    batch = affect.Transition(obs, zero.astype(int), obs, zero, no, no, no)
    expected = [-0.59745121, -0.44351083, 0.30895507, 0.45179272]
    head = load(path)
    np.testing.assert_allclose(apply_head(head, (), batch)[0][:, 0], expected, atol=1e-6)
    weights = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(head))
    assert hashlib.sha256(weights).hexdigest()[:12] == "07d9b7159e66"


# --- inherited --------------------------------------------------------------------------------


def test_an_inherited_head_is_frozen_unless_it_learns(path, batch):
    built(Fear).save(path)
    for learn in (False, True):
        blend = Blend(it=(1.0, Potential(Inherited(path, learn=learn))))
        before = blend.init(KEY, SPEC, B)
        after, metrics = blend.learn(before, batch)
        assert same_bits(before.heads["it"].net, after.heads["it"].net) != learn
        assert ("it/error" in metrics) == learn
    own = Blend(it=(1.0, Fear)).learn(Blend(it=(1.0, Fear)).init(KEY, SPEC, B), batch)[1]
    assert own.keys() == metrics.keys()


@pytest.mark.slow
@pytest.mark.parametrize("wrap", affect.WRAPPERS)
def test_it_composes_with_every_wrapper_as_the_head_itself(wrap, path, batch):
    head = built(Curiosity)
    head.save(path)
    blends = [Blend(it=(1.0, wrap(x))) for x in (Inherited(path), Inherited(head))]
    states = [blend.init(KEY, SPEC, B) for blend in blends]
    assert same_bits(*(b.feel(s, batch)[0] for b, s in zip(blends, states, strict=True)))
    assert blends[0].heads["it"][1] == blends[1].heads["it"][1]


def test_heads_of_different_files_share_programs():
    heads = [build(Hope, SPEC, jax.random.key(seed)) for seed in range(2)]
    built = [
        build(Potential(Inherited(head), scale=s), SPEC, KEY) for s, head in enumerate(heads, 2)
    ]
    assert jax.tree.structure(built[0]) == jax.tree.structure(built[1])
    assert Inherited(heads[0]) != Inherited(heads[1])
    assert built[1].inner.factory().settings["source"] == Inherited(heads[1]).settings["source"]


def test_a_factory_of_a_file_no_longer_needs_the_file(path, batch):
    built(Hope).save(path)
    factory = pickle.loads(pickle.dumps(Potential(Inherited(path), scale=2.0)))
    before = run_head(factory, batch)
    path.unlink()
    assert same_bits(run_head(factory, batch), before)


def test_scale_and_shift_come_from_the_card(path, batch):
    head = built(Hope)
    head.save(path, **FACTS)
    expected = Potential(Inherited(path), scale=2.0, shift=-1.0)
    assert Potential.from_card(path) == Potential.from_card(Inherited(path)) == expected
    assert Potential.from_card(path, gamma=0.9, learn=True).settings["gamma"] == 0.9
    head.save(path)
    with pytest.raises(ValueError, match="recommends no scale and shift"):
        Potential.from_card(path)


# --- other observations -----------------------------------------------------------------------


INDICES = [slice(1, 4), (1, 2, 3), [1, 2, 3], range(1, 4), np.arange(1, 4)]


@pytest.mark.parametrize("obs", [*INDICES, lambda obs: obs[..., 1:4]])
def test_a_head_reads_some_numbers_of_longer_observations(obs, path, batch):
    built(Hope).save(path)
    longer = replace(SPEC, obs_dim=5)
    pad = [(0, 0), (0, 0), (1, 1)]
    padded = batch._replace(obs=jnp.pad(batch.obs, pad), next_obs=jnp.pad(batch.next_obs, pad))
    blend = Blend(it=(1.0, Potential(Inherited(path, obs=obs))))
    signals, _ = blend.feel(blend.init(KEY, longer, B), padded)
    plain = Blend(it=(1.0, Potential(Inherited(path))))
    expected, _ = plain.feel(plain.init(KEY, SPEC, B), batch)
    assert same_bits(signals, expected)


def test_indices_are_settings_that_can_be_pickled_and_are_named_in_the_card(path, tmp_path):
    built(Hope).save(path)
    factories = [Inherited(path, obs=obs) for obs in INDICES]
    assert len({pickle.loads(pickle.dumps(factory)) for factory in factories}) == 1
    head, other = build(Potential(factories[0]), replace(SPEC, obs_dim=5), KEY), tmp_path / "other"
    head.save(other)
    assert read_card(other).wrappers[1:] == ("Inherited(obs=(1, 2, 3))",)
    assert read_card(other).reads["obs"]["shape"] == [3]
    assert same_bits(load(other).predictor, head.alone().predictor)
    build(Inherited(path), SPEC, KEY).save(other)
    assert read_card(other).wrappers == ()


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (None, r"Hope was trained on 3 numbers an observation and gets 5: .*obs=slice\(0, 3\)"),
        ((0, 1), r"obs gives \(1, 1, 2\) .* the head was trained on 3 numbers"),
        ((0, 1, 5), "obs selects number 5, and an observation has 5"),
        (slice(0, None), "give a slice with an end"),
        (slice(-3, 5), "give a slice with an end"),
        ("position", "a slice, a tuple of indices or a function, not 'position'"),
        ((True, False, True), "a slice, a tuple of indices or a function, not"),
        (np.ones(3), "a slice, a tuple of indices or a function, not"),
        (lambda obs: obs, r"obs gives \(1, 1, 5\)"),
    ],
)
def test_other_observations_are_refused(obs, message, path):
    built(Hope).save(path)
    with refused(ValueError, match=message):
        build(Inherited(path, obs=obs), replace(SPEC, obs_dim=5), KEY)


def test_a_head_that_reads_no_observations_fits_any(path):
    built(Constant(2.0)).save(path)
    build(Inherited(path), replace(SPEC, obs_dim=9), KEY)
    built(Homeostasis(0.5)).save(path)
    with pytest.raises(MissingInfo, match=r'Homeostasis reads info\["body"\]'):
        build(Inherited(path), Spec(9, 2), KEY)


# --- populations ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_population_averages_or_draws_one_a_seed(tmp_path, batch):
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, file in enumerate(paths):
        build(Curiosity, SPEC, jax.random.key(seed)).save(file)
    alone = np.stack([run_head(Inherited(file), batch)[1] for file in paths])
    mean, signal, _ = run_head(Inherited(paths), batch)
    np.testing.assert_allclose(signal, alone.mean(0), rtol=1e-5)
    with pytest.raises(ValueError, match="is saved head by head"):
        mean.save(tmp_path / "mean.safetensors")
    assert mean.factory().settings["source"] == Inherited(paths).settings["source"]
    drawn = set()
    for seed in range(12):
        head = build(Inherited(paths, draw=True), SPEC, jax.random.key(seed))
        signal, _ = apply_head(head, head.initial_state(B), batch)
        drawn |= {i for i in range(3) if same_bits(signal, jnp.asarray(alone[i]))}
    assert drawn == {0, 1, 2}
    keys = jax.random.split(jax.random.key(12), 4)
    blend = Blend(it=(1.0, Potential(Inherited(paths, draw=True))))
    states = jax.jit(jax.vmap(lambda key: blend.init(key, SPEC, B)))(keys)
    assert jax.vmap(lambda s: blend.feel(s, batch)[0])(states).shape == (4, *alone.shape[1:], 1)


@pytest.mark.slow
def test_a_population_learns(batch):
    members = [build(Hope, SPEC, jax.random.key(seed)) for seed in range(2)]
    blend = Blend(it=(1.0, Inherited(members, learn=True)))
    before = blend.init(KEY, SPEC, B)
    after, _ = blend.learn(before, batch)
    alone = [Blend(it=(1.0, Inherited(member, learn=True))) for member in members]
    for index, single in enumerate(alone):
        one, _ = single.learn(single.init(KEY, SPEC, B), batch)
        own = jax.tree.map(lambda leaf, i=index: leaf[i], after.heads["it"].net.inner)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), own, one.heads["it"].net.inner
        )
    assert not same_bits(before, after)


# --- bad input --------------------------------------------------------------------------------


def changed(path, **changes):
    """A copy of a file with other content of its card, and the checksum of that unless given."""
    arrays, card = affect.store.read(path)
    content = json.loads(affect.store.canonical(card.content)) | changes
    if "checksum" not in changes:
        text = affect.store.canonical(content)
        content["checksum"] = affect.store.digest(arrays, text)
    metadata = {"affect": json.dumps(content)}
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))


def flip(path, where):
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(bytes(data))


SPOIL = [
    (lambda p: p.unlink(), "No such file or directory: give the path"),
    (lambda p: p.write_bytes(b""), "is corrupt, truncated or no safetensors file"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is corrupt, truncated or no"),
    (lambda p: p.write_bytes(p.read_bytes()[:100]), "is corrupt, truncated or no"),
    (lambda p: p.write_bytes(p.read_bytes() + b"x"), "is corrupt, truncated or no"),
    (lambda p: p.write_bytes(struct.pack("<Q", 2**60) + b"{}"), "is corrupt, truncated or no"),
    (lambda p: flip(p, -1), "its checksum does not fit; get the file again"),
    (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "is a pickle, which could run code"),
    (lambda p: np.savez(p.open("wb"), a=1), "is a zip archive"),
    (
        lambda p: p.write_bytes(safetensors.numpy.save({"a": np.zeros(3)})),
        "has no card: it is no head that was saved with head.save",
    ),
    (lambda p: changed(p, format=2), "is of format 2, and this version .* reads 1: upgrade"),
    (lambda p: changed(p, checksum="0"), "its checksum does not fit"),
    (lambda p: changed(p, head="os.system"), "the class os.system, which affect does not know"),
    (lambda p: changed(p, head="Dread"), r"give the class, as in affect.load\(path, head=Dread\)"),
    (lambda p: changed(p, head=3), "head of a card is a text, not 3"),
    (lambda p: changed(p, steps=-1), "steps of a card is a whole number"),
    (lambda p: changed(p, extra=1), "has a card that is none: .*'extra'"),
    (lambda p: changed(p, reads={"obs": 3}), "has a card that is none"),
    (lambda p: changed(p, reads={"obs": {"shape": ["3"]}}), "has a card that is none"),
    (lambda p: changed(p, settings={"horizon": 0}), "settings of its card: a horizon is at least"),
    (lambda p: changed(p, settings={"rngs": 0}), "cannot be built with the settings"),
    (lambda p: changed(p, settings={"width": 10**9}), "are not those of a Hope"),
    (lambda p: changed(p, head="affect.Curiosity", settings={}), "are not those of a Curiosity"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOIL, ids=[message for _, message in SPOIL])
def test_a_wrong_file_is_refused_in_one_line(spoil, message, path):
    built(Hope).save(path)
    spoil(path)
    with refused(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("where", range(0, 900, 29))
def test_no_flipped_bit_goes_unnoticed(where, path):
    built(Hope(width=2)).save(path)
    if where >= path.stat().st_size:
        return
    flip(path, where)
    with refused(ValueError):
        load(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda head, path: head.save(path, wrold="Drive"), "no field 'wrold' to fill in: it has"),
        (lambda head, path: head.save(path, head="Fear"), "no field 'head' to fill in"),
        (lambda head, path: head.save(path, steps=1.5), "steps of a card is a whole number"),
        (lambda head, path: head.save(path, scale=np.nan), "scale of a card is a number, not nan"),
        (lambda head, path: head.save(path, measures={"a": np.inf}), "a dict of finite numbers"),
        (lambda head, path: jax.tree.map(lambda x: x[None], head).save(path), "save one, as in"),
        (lambda head, path: build(Care(Innate(len)), SPEC, KEY).save(path), "numbers and no code"),
        (lambda head, path: Inherited([]), "Inherited got no head: give at least one file"),
        (lambda head, path: Inherited(Hope), "the path of a file, a trained head, or a list"),
        (lambda head, path: Inherited([head, built(Fear)]), "heads of different class"),
        (
            lambda head, path: Inherited(built(Constant(1.0)), learn=True),
            "Constant has no loss to learn by: leave learn out",
        ),
        (lambda head, path: Inherited(path), "No such file or directory: give the path"),
        (lambda head, path: Potential(head), "got a head that is already built"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, message, path):
    with refused(ValueError, message):
        call(built(Hope), path)


def test_another_class_than_that_of_the_file_is_refused(path):
    built(Dread).save(path)
    with pytest.raises(ValueError, match="holds a head of the class Dread, not Hope"):
        load(path, head=Hope)
    with pytest.raises(ValueError, match="head is a class of heads such as Dread, not 3"):
        load(path, head=3)


def test_the_inheritance_is_compared_by_class_and_bits():
    head = built(Untrained(Hope))
    assert Inheritance.of(head) == Inheritance.of(head.inner)
    assert Inheritance.of(head) != Inheritance.of(built(Fear))
