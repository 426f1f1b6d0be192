"""The credit study: measured signals, table and finding."""

import jax
import jax.numpy as jnp
import numpy as np

from affect import Blend, Fear, Lesion, Potential
from runs import credit
from runs.probes.signals import wrapped_signals
from tests.affect.cases import SPEC, B, experience
from tests.runs.study_job import table_rows


def credit_metrics(seeds: int = 4) -> dict:
    """Make metrics: fear correlates with the advantage, fear_untrained not, reward has no rank."""
    rng = np.random.default_rng(0)
    ranks = {"fear": 0.5, "fear_untrained": 0.0, "critic": 0.3}
    metrics = {f"{k}/credit": v + 0.01 * rng.normal(size=(seeds, 3)) for k, v in ranks.items()}
    metrics["reward/credit"] = np.full((seeds, 3), np.nan)
    metrics |= {f"{name}/delay": np.ones((seeds, 3)) for name in (*ranks, "reward")}
    constants = {"steps": 100.0, "blunders": 2.0, "spread": 0.4, "error": 0.1, "chance": 4.0}
    return metrics | {name: np.full((seeds, 3), value) for name, value in constants.items()}


def test_wrapped_signals_remove_a_lesion_and_keep_a_potential():
    blend = Blend(fear=(1.0, Lesion(Potential(Fear))))
    blend_state, batch = blend.init(jax.random.key(0), SPEC, B), experience(seed=1)
    signals = wrapped_signals(blend, blend_state, SPEC, jax.random.key(1))
    assert set(signals) == {"fear", "fear_untrained"}
    unlesioned = Blend(fear=(1.0, Potential(Fear)))
    expected, _ = unlesioned.feel(unlesioned.init(jax.random.key(0), SPEC, B), batch)
    np.testing.assert_allclose(signals["fear"](batch), expected[..., 0], atol=1e-6)
    assert not jnp.allclose(signals["fear_untrained"](batch), expected[..., 0])


def test_finding_is_paired_by_seed():
    metrics = credit_metrics()
    difference = (metrics["fear/credit"] - metrics["critic/credit"]).mean(1)
    sentence = credit.finding("Fake", metrics)
    assert f"fear {difference.mean():+.3f} [" in sentence and "4 seeds" in sentence


def test_missing_values_are_shown_as_dashes():
    table = credit.credit_table(["ice", "fog"], credit_metrics())
    cells = {arm: cells for arm, *cells in table_rows(table)}
    assert cells["reward"][:4] == ["-"] * 4 and cells["fear"][-1] == "-3.000"
