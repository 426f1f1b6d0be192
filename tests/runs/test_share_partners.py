"""Trained partners of Share: the written weights reproduce the trained policies."""

import jax
import numpy as np
import pytest

from agents.ppo import PPO
from envs import load_suite
from envs.worlds.share import partners
from envs.worlds.share.partners import LAYERS, TRAINED, WEIGHTS
from runs import share_partners
from runs.errors import UserError
from runs.share_partners import WIDTH, main, policy_layers, untrained_policy, write_policies


@pytest.mark.slow
def test_a_partner_takes_the_actions_of_the_trained_agent(tmp_path, monkeypatch):
    agent, spec = PPO(width=WIDTH), load_suite("Share").env.spec
    states = [jax.jit(lambda key: agent.init(key, spec))(jax.random.key(seed)) for seed in range(3)]
    rows = [jax.tree.map(lambda leaf: leaf[None], state) for state in states]
    write_policies(tmp_path / "weights.npz", [policy_layers(row) for row in rows])
    with np.load(tmp_path / "weights.npz") as file:
        monkeypatch.setattr(partners, "weights", lambda: tuple(file[name] for name in LAYERS))
        obs = np.random.default_rng(0).normal(size=(20, spec.obs_dim)).astype(np.float32)
        actions = jax.vmap(partners.trained_actions)(obs)
    for k, state in enumerate(states):
        np.testing.assert_array_equal(actions[:, k], agent.act(state, None, obs))
    assert len(set(np.asarray(actions).ravel().tolist())) > 2


def test_a_policy_is_written_for_each_trained_partner(tmp_path, monkeypatch, capsys):
    populations = []
    monkeypatch.setattr(
        share_partners,
        "train_partner",
        lambda names, steps: (populations.append(names), (untrained_policy(), 0.5))[1],
    )
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)
    out = tmp_path / "weights.npz"
    assert main(["--steps", "7", "--out", str(out)]) == 0
    assert populations == list(TRAINED.values())
    with np.load(out) as file, np.load(WEIGHTS) as shipped:
        assert {name: file[name].shape for name in LAYERS} == {
            name: shipped[name].shape for name in LAYERS
        }
    assert "peer     among generous, tit-for-tat" in capsys.readouterr().out


def test_zero_steps_are_refused():
    with pytest.raises(UserError, match="--steps 0: must be positive"):
        main(["--steps", "0"])
