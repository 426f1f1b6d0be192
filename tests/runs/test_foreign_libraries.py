"""Agents of Stable-Baselines3 and SBX with the libraries themselves, of which no stub is here."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from affect import Blend, Innate, Lesion, Potential, load, read_card
from agents import Foreign
from envs import load_suite
from runs import export, inherit
from runs.compare import main
from runs.errors import UserError
from runs.experiment import Experiment
from runs.inheritance.design import make_design
from tests.affect.bridges.loop_envs import position
from tests.runs import small_study

no_key_check = pytest.fixture(scope="module", autouse=True)(
    small_study.without_key_check_in_threads
)
SMALL = {"policy_kwargs": {"net_arch": [16, 16]}}
SAC = SMALL | {"learning_starts": 64, "buffer_size": 1000, "train_freq": 8}


def flat(result, arm):
    """Parameters of the policy of the first seed."""
    return [np.ravel(x) for x in result._learner(arm, 0).agent]


@pytest.fixture
def rank_promotion():
    """Broadcasting as JAX allows it by default, on which SBX relies, in all threads."""
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.slow
def test_a_critic_is_exported_as_a_file_that_pays_newborns(tmp_path, monkeypatch, capsys):
    """`runs.export` of a comparison, and `runs.inherit --from` with its file."""
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    study, path = str(tmp_path / "study"), tmp_path / "sb3-value.safetensors"
    flags = "--smoke", "--env", "affect/Drive-v0", "--agent", "sb3:PPO", "--shifts", "noise"
    dropped = [f"curiosity_{end}" for end in ("sham", "untrained", "constant")]
    dropped += ["constant_plus", "constant_minus", "lesion"]
    assert main([*flags, "--heads", "curiosity", "--without", *dropped, "--out", study]) == 0
    assert export.main([study, "--save", str(path), "--seed", "1"]) == 0
    assert "Value of none, seed 1" in capsys.readouterr().out
    card, head = read_card(path), load(path)
    assert (card.world, card.seeds, card.scale) == ("affect/Drive-v0", (1,), 2.0)
    assert "--agent sb3:PPO" in card.commands[0] and "runs.export" in card.commands[1]
    obs = np.random.default_rng(0).normal(size=(5, 37)).astype(np.float32)
    values = [export.open_study(Path(study), card.commands[0]).value("none", i) for i in (0, 1)]
    np.testing.assert_array_equal(head.value(obs), values[1].value(obs))
    assert (head.value(obs) != values[0].value(obs)).any()
    design = make_design(inherit.Settings(seeds=3, from_file=str(path)))
    carrier = design.carriers["sb3-value"]
    paid = carrier.value(carrier.init(None, obs), {}, obs)
    np.testing.assert_allclose(paid, head.value(obs), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("rank_promotion")
@pytest.mark.parametrize(
    ("name", "env", "settings"),
    [
        ("sb3:PPO", "CartPole-v1", {"n_steps": 32, "batch_size": 32}),
        ("sb3:A2C", "CartPole-v1", {}),
        (
            "sb3:DQN",
            "CartPole-v1",
            {"learning_starts": 64, "replay_buffer_class": "AffectReplayBuffer"},
        ),
        ("sb3:SAC", "Pendulum-v1", SAC),
        ("sbx:PPO", "CartPole-v1", {"n_steps": 32, "batch_size": 32}),
        ("sbx:DQN", "CartPole-v1", {"learning_starts": 64}),
        ("sbx:SAC", "Pendulum-v1", SAC),
    ],
)
def test_an_algorithm_is_compared(name, env, settings):
    pytest.importorskip({"sb3": "stable_baselines3", "sbx": "sbx"}[name[:3]])
    full = load_suite(env)
    suite = replace(full, shifts=full.shifts[-4:-2], severities=(1.0,))
    arms = {
        "none": Blend(),
        "phi": Blend(phi=(1.0, Potential(Innate(position)))),
        "lesion": Blend(phi=(1.0, Lesion(Potential(Innate(position))))),
    }
    sizes = {"seeds": 3, "steps": 256, "num_envs": 2, "num_steps": 32, "episodes": 2}
    result = Experiment(suite, arms, Foreign(name, settings), **sizes, optimise=False).run()
    scores = result.scores.set_index(["arm", "seed", "shift"])["return"]
    assert len(scores) == 3 * 3 * 3 and np.isfinite(scores).all()
    none, phi, lesion = (np.concatenate(flat(result, arm)) for arm in arms)
    assert (lesion == none).all() and (phi != none).any()
    if name == "sb3:PPO":
        assert result.value("none").gamma == 0.99
        with pytest.raises(UserError, match="acts by its library"):
            result.agent("none")
