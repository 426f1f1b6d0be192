"""T15: mood leads a plain average of reward by the analytic lag, up to a bound.

Registered before the run: with alpha = 1 / tau and reward that drifts by b a step, a plain average
ends up at -b / alpha, expectation coloured by mood ahead of it by tanh(b / alpha); the loop of mood
and expectation is stable up to a bias of 1 + alpha (1 - eta) / eta = 2 - 1 / tau. The price of the
lead is noise: the variance of expectation under white noise solves P = A P A' + B B' for the
linearised loop, against alpha / (2 - alpha) of a plain average. All of it is read from `Mood`,
`Satiation` and the recursion they run, on streams of reward.
"""

from collections.abc import Iterator
from functools import partial

from runs.theory.target import Target

TAUS = (3.0, 10.0, 30.0)
DRIFTS = (0.001, 0.003, -0.01, 0.03, 0.1)


def targets(smoke: bool) -> Iterator[Target]:
    """Lag, lead, bound and price."""
    yield from drift_lag()
    yield bias_bound()
    yield noise_cost(smoke)


def mood_signal(factory, reward):
    """(signal, what is carried) of a head through reward [T, B] in one long episode."""
    import jax
    import jax.numpy as jnp

    from affect import Spec, Transition, build

    head = build(factory, Spec(obs_dim=1, num_actions=1), jax.random.key(0))
    reward = jnp.asarray(reward, jnp.float32)
    obs, never = reward[..., None], jnp.zeros(reward.shape, bool)
    action = jnp.zeros(reward.shape, jnp.int32)
    batch = Transition(obs, action, obs, reward, never, never, never.at[0].set(True))
    return jax.jit(lambda state: head(state, batch))(head.initial_state(reward.shape[1]))


def drift_lag() -> Iterator[Target]:
    """How far expectation is from the reward that comes, at the end of a long drift."""
    import numpy as np

    from affect import Mood, Satiation

    drift = np.array(DRIFTS)
    lag, lead = [], []
    for tau in TAUS:
        reward = np.arange(int(40 * tau))[:, None] * drift
        mean, _ = mood_signal(partial(Satiation, tau=tau), reward[:-1])
        _, carried = mood_signal(partial(Mood, tau=tau), reward[:-1])
        plain = -np.asarray(mean[-1]) - reward[-1]
        moody = np.asarray(carried.baseline) - reward[-1]
        lag.append(plain / (-drift * tau) - 1)
        lead.append((moody - plain) / np.tanh(drift * tau) - 1)
    seen = f"tau {', '.join(f'{tau:g}' for tau in TAUS)}, {len(DRIFTS)} drifts"
    for what, error in (
        ("bias of a plain average of drifting reward = -b / alpha", lag),
        ("lead that mood gives expectation = tanh(b / alpha)", lead),
    ):
        worst = float(np.abs(error).max())
        yield Target(
            "T15", f"{what}; {seen}", "ratio 1, within 1e-3", f"off by {worst:.1e}", worst < 1e-3
        )


def bias_bound() -> Target:
    """The largest bias, in steps of half a percent, at which a swing dies out."""
    import jax.numpy as jnp
    import numpy as np

    measured = []
    for tau in TAUS:
        exact = 2 - 1 / tau
        bias = exact * np.arange(0.95, 1.0525, 0.005)
        early, late = mood_amplitudes(tau, jnp.asarray(bias, jnp.float32))
        dies = late < early
        if not (dies[0] and not dies[-1] and (np.diff(dies.astype(int)) <= 0).all()):
            measured.append(np.inf)
            continue
        measured.append(bias[dies].max() / exact - 1)
    worst = np.abs(measured).max()
    taus = ", ".join(f"{tau:g}" for tau in TAUS)
    return Target(
        "T15",
        f"largest stable bias = 2 - 1 / tau; tau {taus}; Mood has 1",
        "ratio 1, within .01",
        f"off by {worst:.3f}",
        bool(worst < 0.01),
    )


def mood_amplitudes(tau: float, bias):
    """Largest mood early and late after a small surprise, [B] each, one bias an environment."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from affect.mood import MoodState, mood_recursion

    steps = int(2000 * tau)
    reward = jnp.zeros((steps, bias.size)).at[1].set(1e-3)
    begun = jnp.zeros(reward.shape, bool).at[0].set(True)
    start = MoodState(jnp.zeros(bias.size), jnp.zeros(bias.size))
    mood, _ = jax.jit(mood_recursion)(start, reward, begun, 1 / tau, bias)
    mood, window = np.abs(mood), int(20 * tau)
    return mood[window : 2 * window].max(0), mood[-window:].max(0)


def noise_cost(smoke: bool) -> Target:
    """Variance of expectation under white noise, with mood over without."""
    import numpy as np

    from affect import Mood, Satiation

    tau, noise, lives = 10.0, 0.02, 256 if smoke else 4096
    rng = np.random.default_rng(0)
    reward = rng.normal(0, noise, (int(40 * tau), lives))
    _, carried = mood_signal(partial(Mood, tau=tau), reward)
    mean, _ = mood_signal(partial(Satiation, tau=tau), reward)
    variances = np.var(carried.baseline) / noise**2, np.var(mean[-1]) / noise**2
    ours, plain = (float(variance) for variance in variances)
    alpha = 1 / tau
    loop, drive = np.array([[1 - alpha, alpha], [-alpha, 1.0]]), np.full((2, 1), alpha)
    exact = np.linalg.solve(np.eye(4) - np.kron(loop, loop), (drive @ drive.T).ravel())[0]
    error = 1.96 * np.sqrt(2 / lives)  # of a variance of normals, relative
    return Target(
        "T15",
        f"the price: variance of expectation under white noise, tau {tau:g}",
        f"{exact:.4f} with mood, {alpha / (2 - alpha):.4f} without",
        f"{ours:.4f} +- {error * ours:.4f}, {plain:.4f} +- {error * plain:.4f}, {lives} lives",
        bool(
            abs(ours / exact - 1) < 2 * error and abs(plain / (alpha / (2 - alpha)) - 1) < 2 * error
        ),
    )
