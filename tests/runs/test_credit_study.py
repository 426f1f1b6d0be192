"""The study of credit: what a head would pay, the table, and a run of seconds."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affect import Blend, Fear, Lesion, Potential
from runs import credit
from runs.errors import UserError
from runs.probes.signals import wrapped_signals
from tests.affect.cases import SPEC, B, experience


def told(seeds: int = 4) -> dict:
    """Fear knows, its untrained twin does not, and the reward never varies."""
    rng = np.random.default_rng(0)
    ranks = {"fear": 0.5, "fear_untrained": 0.0, "critic": 0.3}
    found = {f"{k}/credit": v + 0.01 * rng.normal(size=(seeds, 3)) for k, v in ranks.items()}
    found["reward/credit"] = np.full((seeds, 3), np.nan)
    found |= {f"{name}/delay": np.ones((seeds, 3)) for name in (*ranks, "reward")}
    same = {"steps": 100.0, "blunders": 2.0, "spread": 0.4, "error": 0.1, "chance": 4.0}
    return found | {name: np.full((seeds, 3), value) for name, value in same.items()}


def test_a_lesion_is_taken_off_and_a_potential_is_not():
    blend = Blend(fear=(1.0, Lesion(Potential(Fear))))
    blend_state, batch = blend.init(jax.random.key(0), SPEC, B), experience(seed=1)
    paid = wrapped_signals(blend, blend_state, SPEC, jax.random.key(1))
    assert set(paid) == {"fear", "fear_untrained"}
    bare = Blend(fear=(1.0, Potential(Fear)))
    expected, _ = bare.feel(bare.init(jax.random.key(0), SPEC, B), batch)
    np.testing.assert_allclose(paid["fear"](batch), expected[..., 0], atol=1e-6)
    assert not jnp.allclose(paid["fear_untrained"](batch), expected[..., 0])


def test_the_finding_is_paired_by_seed():
    found = told()
    less = (found["fear/credit"] - found["critic/credit"]).mean(1)
    said = credit.finding(type("Suite", (), {"name": "Fake"}), found)
    assert f"fear {less.mean():+.3f} [" in said and "4 seeds" in said


def test_what_is_not_known_has_no_number():
    assert credit._cells(told(), "reward")[:4] == ["-"] * 4
    assert credit._cells(told(), "fear")[-1] == "-3.000"
    values = np.array([[1.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(credit.per_seed(values), [1.0, np.nan])


def test_a_world_that_cannot_be_lived_again_is_refused(tmp_path):
    with pytest.raises(UserError, match="a world has to be a function to be lived again"):
        credit.study(credit.Settings("CartPole-v1"), "", None, None)


def test_what_means_nothing_is_not_recorded():
    with pytest.raises(UserError, match="leave --smoke out"):
        credit.main(["--smoke", "--record"])


@pytest.mark.slow
def test_a_smoke_run_asks_and_draws(tmp_path):
    command = [sys.executable, "-m", "runs.credit", "--env", "CartPole", "--smoke"]
    command += ["--out", str(tmp_path)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stderr
    assert "who gets the credit?" in first.stdout
    assert (tmp_path / "credit-CartPole.png").read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert again.stdout == first.stdout
