"""Carriers: what is copied, softened, paid, taught, by closed forms; bodies they cannot enter."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import ConstantPotential as LibraryPotential
from affect import Hope, Inherited, Spec, Transition, build
from affect import Potential as LibraryShaping
from agents import PPO
from envs.worlds.drive.sensors import AHEAD
from runs.engine.train import Learner, RunnerState
from runs.errors import UserError
from runs.inheritance.bodies import LEFT, RIGHT, ROWS, as_table, drive_row, permutations
from runs.inheritance.carrier import Carrier, copied, softened
from runs.inheritance.carriers import (
    CARRIERS,
    HeadPotential,
    HeuristicGuided,
    PolicyTeacher,
    ValuePotential,
)
from runs.inheritance.controls import KNOWLEDGE_FREE, ConstantPotential, CriticBias
from runs.inheritance.newborns import enter, misfit, newborn_blend, payer
from runs.inheritance.parent import Parent

SPEC = Spec(obs_dim=3, num_actions=4, discount=0.9)
PPO_16 = PPO(width=16, gamma=0.9)
T, B = 6, 2


def parent_of(agent=PPO_16, seed=0) -> Parent:
    """A parent with random networks and no heads."""
    return Parent(agent.init(jax.random.key(seed), SPEC, 3), {}, agent)


def newborn_of(agent=PPO_16, seed=1):
    """An untrained newborn agent with two signals."""
    return agent.init(jax.random.key(seed), SPEC, 2)


def some_batch() -> Transition:
    """Random experience [T, B] with an end in the middle of the first environment."""
    obs = jax.random.normal(jax.random.key(2), (T + 1, B, 3))
    no = jnp.zeros((T, B), bool)
    return Transition(
        obs[:-1],
        jnp.zeros((T, B), jnp.int32),
        obs[1:],
        jnp.zeros((T, B)),
        no.at[2, 0].set(True),
        no,
        no.at[0].set(True).at[3, 0].set(True),
    )


def paid(carrier, numbers, inherited) -> np.ndarray:
    """Signal [T, B] that a newborn is paid, as the engine computes it."""
    blend = newborn_blend(carrier)
    runner = RunnerState(Learner(newborn_of(), None), None, None, jax.random.key(0))
    sizes = {"carrier": carrier, "spec": SPEC, "num_envs": B}
    learner = enter(runner, inherited, numbers, jnp.zeros(()), **sizes).learner
    signals, _ = blend.feel(learner.blend_state, some_batch())
    return np.asarray(signals[..., 0])


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


# --- weights --------------------------------------------------------------------------------------


def test_copied_parts_are_the_parents_and_all_others_stay_untrained():
    parent, newborn = parent_of(), newborn_of()
    for parts in (("actor",), ("critic",), ("actor.trunk", "critic"), ("actor", "critic")):
        net = copied(newborn, parent, *parts).train_state.net
        for name in ("actor", "critic"):
            own, inherited = (getattr(x, name) for x in (newborn.train_state.net, parent.net))
            source = inherited if {name, f"{name}.trunk"} & set(parts) else own
            np.testing.assert_equal(leaves(getattr(net, name).trunk), leaves(source.trunk))
        actor = parent.net.actor if "actor" in parts else newborn.train_state.net.actor
        np.testing.assert_equal(leaves(net.actor.out), leaves(actor.out))


def test_of_an_inherited_critic_only_the_tasks_channel_is_copied():
    parent, newborn = parent_of(), newborn_of()
    other = jnp.ones_like(parent.net.critic.out.kernel[...])
    parent.net.critic.out.kernel[...] = other
    born = copied(newborn, parent, "critic")
    obs = jax.random.normal(jax.random.key(3), (5, 3))
    value = PPO_16.value(born, obs)
    np.testing.assert_array_equal(value[..., 0], parent.value(obs))
    np.testing.assert_array_equal(value[..., 1:], 0.0)


def test_networks_are_copied_of_a_parent_alone():
    class Fitted(Carrier):
        copies = ("critic",)

    with pytest.raises(UserError, match="copies networks of a parent, and its init returns a dict"):
        Fitted().hand_over(None, {"a": 1}, {})


def test_softening_multiplies_the_logits():
    newborn, obs = newborn_of(), jax.random.normal(jax.random.key(3), (5, 3))
    logits, soft = (PPO_16.policy(x, obs)[0] for x in (newborn, softened(newborn, 0.25)))
    np.testing.assert_allclose(soft, 0.25 * logits, rtol=1e-6)


def test_a_critic_bias_raises_the_tasks_value_alone():
    newborn, obs = newborn_of(), jax.random.normal(jax.random.key(3), (5, 3))
    born = CriticBias().hand_over(newborn, None, {"k": jnp.float32(-1.5)})
    raised = PPO_16.value(born, obs) - PPO_16.value(newborn, obs)
    np.testing.assert_allclose(raised[..., 0], -1.5, rtol=1e-6)
    np.testing.assert_array_equal(raised[..., 1:], 0.0)


# --- what is paid ---------------------------------------------------------------------------------


def test_a_value_is_paid_as_the_difference_of_potentials():
    parent, batch = parent_of(), some_batch()
    numbers = {"scale": jnp.float32(2.0), "shift": jnp.float32(-1.0)}
    phi, ahead = (2 * parent.value(obs) - 1 for obs in (batch.obs, batch.next_obs))
    expected = 0.9 * jnp.where(batch.terminated, 0.0, ahead) - phi
    got = paid(ValuePotential(), numbers, parent)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_potential_is_the_librarys():
    head = build(LibraryPotential(k=-0.7), SPEC, jax.random.key(0))
    expected, _ = head(head.initial_state(B), some_batch())
    got = paid(ConstantPotential(), {"k": jnp.float32(-0.7)}, parent_of())
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_head_that_goes_on_learning_begins_with_the_parents_weights():
    head = build(Hope(horizon=20), SPEC, jax.random.key(4))
    parent = replace(parent_of(), heads={"hope_20": head})
    carrier, batch = CARRIERS["learning hope"], some_batch()
    blend = newborn_blend(carrier)
    runner = RunnerState(Learner(newborn_of(), None), None, None, jax.random.key(0))
    numbers = {"hope": jnp.float32(2.0), "shift": jnp.float32(-1.0)}
    sizes = {"carrier": carrier, "spec": SPEC, "num_envs": B}
    learner = enter(runner, parent, numbers, jnp.zeros(()), **sizes).learner
    signals, _ = blend.feel(learner.blend_state, batch)
    shaped = build(LibraryShaping(Inherited(head)), SPEC, jax.random.key(0))
    expected, _ = shaped(shaped.initial_state(B), batch)
    np.testing.assert_allclose(signals[..., -1], expected, rtol=1e-5, atol=1e-6)
    constant = build(LibraryPotential(k=-1.0), SPEC, jax.random.key(0))
    expected, _ = constant(constant.initial_state(B), batch)
    np.testing.assert_allclose(signals[..., 0], expected, rtol=1e-6)


def test_a_head_that_the_parents_do_not_have_cannot_begin():
    parent, carrier = parent_of(), CARRIERS["learning hope"]
    reason = misfit(carrier, PPO_16, SPEC, parent, parent)
    assert reason == "head hope begins with hope_20, which is no head of the parents"


def test_hurl_pays_the_discounted_value_and_shortens_the_horizon():
    parent, batch, carrier = parent_of(), some_batch(), HeuristicGuided()
    numbers = {k: jnp.float32(v) for k, v in {"scale": 1.5, "start": 0.8, "speed": 2.0}.items()}
    expected = jnp.where(batch.terminated, 0.0, 0.9 * 1.5 * parent.value(batch.next_obs))
    np.testing.assert_allclose(paid(carrier, numbers, parent), expected, rtol=1e-5, atol=1e-6)
    first, last = (carrier.schedule(numbers, jnp.float32(p)) for p in (0.0, 1.0))
    assert first["discount"] == pytest.approx(0.8) and first["signal"] == pytest.approx(0.2)
    assert last["discount"] == pytest.approx(1.0) and last["signal"] == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_fades_linearly():
    numbers = {"weight": jnp.float32(2.0), "fade": jnp.float32(0.5)}
    weights = [
        float(PolicyTeacher().schedule(numbers, p)["teacher"]) for p in (0.0, 0.25, 0.5, 1.0)
    ]
    assert weights == pytest.approx([2.0, 1.0, 0.0, 0.0])


def test_carriers_of_one_phi_share_a_program_and_others_do_not():
    every = {**KNOWLEDGE_FREE, **CARRIERS}
    shared = {name: payer(carrier) for name, carrier in every.items() if carrier.pays}
    with_value = {name for name, carrier in shared.items() if carrier == every["value"]}
    controls = {f"{control} value" for control in ("untrained", "shuffled", "yoked")}
    assert with_value == controls | {"value", "fading value", "trunk + critic + value"}
    assert shared["trunk + critic + constant"] == every["constant potential"]
    for name in ("small value", "hope", "wide hope", "HuRL", "classifier", "reward model"):
        assert shared[name] == every[name], name
    heads = HeadPotential("fear"), HeadPotential("hope")
    assert [payer(carrier) for carrier in heads] == list(heads)


def test_what_carriers_know_is_declared():
    for name, carrier in {**CARRIERS, **KNOWLEDGE_FREE}.items():
        assert carrier.knows in ("nothing", "value", "weights", "rule"), name
        assert carrier.source in ("trained", "untrained", "shuffled"), name
        assert carrier.pays in ("", "potential", "reward"), name
    free = {name for name, carrier in KNOWLEDGE_FREE.items() if carrier.knows == "nothing"}
    assert free == KNOWLEDGE_FREE.keys() - {"trunk + critic + constant"}
    assert KNOWLEDGE_FREE["trunk + critic + constant"].knows == "weights"


# --- bodies ---------------------------------------------------------------------------------------


def test_weights_of_another_shape_are_named():
    parent = parent_of()
    small = replace(PPO_16, width=8)
    for name in ("policy", "critic", "trunk + critic"):
        reason = misfit(CARRIERS[name], small, SPEC, parent, parent)
        assert "in the parent and" in reason and "16" in reason and "8" in reason, name
        assert not misfit(CARRIERS[name], PPO_16, SPEC, parent, parent)
    fine = replace(SPEC, num_actions=25)
    reason = misfit(CARRIERS["policy"], PPO_16, fine, parent, parent)
    assert reason == "actor.out.bias is (4,) in the parent and (25,) in this body"
    assert not misfit(CARRIERS["trunk + critic"], PPO_16, fine, parent, parent)
    reason = misfit(CARRIERS["teacher"], PPO_16, fine, parent, parent)
    assert reason == "the teacher has 4 actions and this body 25"
    assert not misfit(CARRIERS["value"], small, fine, parent, parent)


def test_a_table_takes_a_value_and_no_weights():
    parent, table = parent_of(), as_table(PPO_16)
    assert not misfit(CARRIERS["value"], table, SPEC, parent, parent)
    reason = misfit(CARRIERS["trunk + critic"], table, SPEC, parent, parent)
    assert reason == "this body has no networks to copy into"
    assert "without probabilities" in misfit(CARRIERS["teacher"], table, SPEC, parent, parent)


def test_every_row_of_the_table_of_drive_is_met_and_none_beyond():
    rng, count = np.random.default_rng(0), 50_000
    obs = rng.uniform(-0.2, 1.2, (count, 37)).astype(np.float32)
    obs[:, 1] = rng.uniform(-1.5, 1.5, count)
    for rays in (AHEAD, LEFT, RIGHT):  # no ray is in two of them
        obs[:, 5:21][:, rays] = rng.uniform(0.0, 2.0, (count, 1)).clip(0, 1)
    rows = np.asarray(drive_row(jnp.asarray(obs)))
    assert set(rows) == set(range(ROWS))


def test_permutations_differ_and_move_something():
    orders = permutations(9, 5)
    assert len(set(orders)) == 5 and tuple(range(9)) not in orders
    assert all(sorted(order) == list(range(9)) for order in orders)
