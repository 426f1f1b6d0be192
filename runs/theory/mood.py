"""T15: mood added to reward makes a learned mean reach a drifting reward sooner, by a known lag.

Registered before the run: with alpha = 1 / tau and reward that drifts by b a step, a plain average
ends up at -b / alpha, expectation biased by mood ahead of it by tanh(b / alpha); the loop of mood
and expectation is stable up to a bias of 1 + alpha (1 - eta) / eta = 2 - 1 / tau. The cost of the
lead is noise: the variance of expectation under white noise solves P = A P A' + B B' for the
linearised loop, against alpha / (2 - alpha) of a plain average. All of it is measured on `Mood`,
`Satiation` and the recursion that they run, on streams of reward.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import affect.mood
from affect import Mood, Satiation, Transition
from runs.theory import Target
from runs.theory.simulation import HeadOutput, head_output

TAUS = (3.0, 10.0, 30.0)
DRIFTS = (0.001, 0.003, -0.01, 0.03, 0.1)


def targets(smoke: bool) -> Iterator[Target]:
    """Targets on lag, lead, stability bound and noise."""
    yield from drift_lag()
    yield bias_bound()
    yield noise_cost(smoke)


def reward_output(head: type, tau: float, reward: np.ndarray) -> HeadOutput:
    """Output of a head on reward [T, B] as one long episode."""
    reward = jnp.asarray(reward, jnp.float32)
    obs, no_ends = reward[..., None], jnp.zeros(reward.shape, bool)
    action = jnp.zeros(reward.shape, jnp.int32)
    batch = Transition(obs, action, obs, reward, no_ends, no_ends, no_ends.at[0].set(True))
    return head_output(partial(head, tau=tau), batch)


def drift_lag() -> Iterator[Target]:
    """Targets on the error of expectation against the next reward at the end of a long drift."""
    drift = np.array(DRIFTS)
    lag, lead = [], []
    for tau in TAUS:
        reward = np.arange(int(40 * tau))[:, None] * drift
        mean = reward_output(Satiation, tau, reward[:-1]).signal[-1]
        expectation = reward_output(Mood, tau, reward[:-1]).carried.baseline
        mean_lag, mood_lag = -np.asarray(mean) - reward[-1], np.asarray(expectation) - reward[-1]
        lag.append(mean_lag / (-drift * tau) - 1)
        lead.append((mood_lag - mean_lag) / np.tanh(drift * tau) - 1)
    suffix = f"tau {', '.join(f'{tau:g}' for tau in TAUS)}, {len(DRIFTS)} drifts"
    for name, error in (
        ("bias of a plain average of drifting reward = -b / alpha", lag),
        ("lead that mood gives expectation = tanh(b / alpha)", lead),
    ):
        worst = float(np.abs(error).max())
        yield Target(
            "T15", f"{name}; {suffix}", "ratio 1, within 1e-3", f"off by {worst:.1e}", worst < 1e-3
        )


def bias_bound() -> Target:
    """Target on the largest bias, in steps of half a percent, at which oscillations decay."""
    measured = []
    for tau in TAUS:
        exact = 2 - 1 / tau
        bias = exact * np.arange(0.95, 1.0525, 0.005)
        early, late = mood_amplitudes(tau, jnp.asarray(bias, jnp.float32))
        decays = late < early
        if not (decays[0] and not decays[-1] and (np.diff(decays.astype(int)) <= 0).all()):
            measured.append(np.inf)
            continue
        measured.append(bias[decays].max() / exact - 1)
    worst = np.abs(measured).max()
    taus = ", ".join(f"{tau:g}" for tau in TAUS)
    return Target(
        "T15",
        f"largest stable bias = 2 - 1 / tau; tau {taus}; Mood has 1",
        "ratio 1, within .01",
        f"off by {worst:.3f}",
        bool(worst < 0.01),
    )


def mood_amplitudes(tau: float, bias: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Largest mood [B] early and late after a small surprise, one bias an environment."""
    steps = int(2000 * tau)
    reward = jnp.zeros((steps, bias.size)).at[1].set(1e-3)
    first = jnp.zeros(reward.shape, bool).at[0].set(True)
    start = affect.mood.MoodState(jnp.zeros(bias.size), jnp.zeros(bias.size))
    mood, _ = jax.jit(affect.mood.mood_recursion)(start, reward, first, 1 / tau, bias)
    mood, window = np.abs(mood), int(20 * tau)
    return mood[window : 2 * window].max(0), mood[-window:].max(0)


def noise_cost(smoke: bool) -> Target:
    """Target on the variance of expectation under white noise, with and without mood."""
    tau, noise, streams = 10.0, 0.02, 256 if smoke else 4096
    rng = np.random.default_rng(0)
    reward = rng.normal(0, noise, (int(40 * tau), streams))
    expectation = reward_output(Mood, tau, reward).carried.baseline
    mean = reward_output(Satiation, tau, reward).signal[-1]
    ours, plain = (float(np.var(x) / noise**2) for x in (expectation, mean))
    alpha = 1 / tau
    loop, drive = np.array([[1 - alpha, alpha], [-alpha, 1.0]]), np.full((2, 1), alpha)
    exact = np.linalg.solve(np.eye(4) - np.kron(loop, loop), (drive @ drive.T).ravel())[0]
    error = 1.96 * np.sqrt(2 / streams)  # of a variance of normals, relative
    return Target(
        "T15",
        f"the price: variance of expectation under white noise, tau {tau:g}",
        f"{exact:.4f} with mood, {alpha / (2 - alpha):.4f} without",
        f"{ours:.4f} +- {error * ours:.4f}, {plain:.4f} +- {error * plain:.4f}, {streams} streams",
        bool(
            abs(ours / exact - 1) < 2 * error and abs(plain / (alpha / (2 - alpha)) - 1) < 2 * error
        ),
    )
