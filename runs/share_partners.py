"""Train the partner policies of Share: PPO agents trained among partners of one kind.

Each is a small policy in the learner's place, trained on its own meals alone.
`envs.worlds.share.partners` lets it act in the partner's place, with frozen weights.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError

COMMAND = "python -m runs.share_partners"
WIDTH = 16


@dataclass(frozen=True)
class Settings:
    """Settings of the training.

    Attributes:
        steps: environment steps of each partner.
        out: file of weights; by default the one that `envs.worlds.share.partners` reads.
    """

    steps: int = 400_000
    out: Path | None = None


def main(argv: list[str]) -> int:
    """Train all partners and write their weights -> exit code."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if settings.steps < 1:
        raise UserError(f"--steps {settings.steps}: must be positive")
    from runs.engine import devices

    devices.prepare_devices()
    from envs.worlds.share.partners import LAYERS, TRAINED, WEIGHTS

    out = settings.out or WEIGHTS
    if not WEIGHTS.exists():  # placeholders, which the environment loads
        write_policies(WEIGHTS, [untrained_policy() for _ in TRAINED])
    policies = []
    for name, among in TRAINED.items():
        layers, success = train_partner(among, settings.steps)
        print(f"{name:8} among {', '.join(among):24} both survive: {success:.2f}", flush=True)
        policies.append(layers)
    write_policies(out, policies)
    print(f"{', '.join(LAYERS)} of {len(policies)} partners: {out}")
    return 0


def train_partner(among: tuple[str, ...], steps: int) -> tuple[dict[str, np.ndarray], float]:
    """Train one policy among some kinds of partners -> (layers, success rate)."""
    from affect import Blend
    from agents.ppo import PPO
    from envs import load_suite
    from envs.worlds.share.partners import partner_population
    from runs.engine.backend import make_backend
    from runs.engine.config import make_run_config
    from runs.engine.evaluate import draw_points
    from runs.engine.phases import Phase, one_world
    from runs.engine.training_loop import run_phase

    suite = load_suite("Share")
    params = suite.world.params
    params = params._replace(population=np.float32(partner_population(*among)))
    suite = replace(suite, world=suite.world._replace(params=params), shifts=())
    agent, sizes = PPO(width=WIDTH, lr=1e-3), {"num_envs": 4, "num_steps": 128, "chunks": 1}
    config = make_run_config(agent, seeds=1, steps=steps, episodes=256, **sizes)
    backend = make_backend(suite.env, config)
    phase = Phase(one_world(suite.world), config.chunks, config.updates, config.agent, Blend())
    trained = run_phase(backend, phase, partial(backend.init, phase), lambda: False)
    learner = trained.state.learner
    points = draw_points(suite, backend.draws, config.base)
    (scores,) = backend.evaluate(learner, config.agent, points, lambda: False)
    return policy_layers(learner.agent), float(scores["success"][0])


def policy_layers(agent: Any) -> dict[str, np.ndarray]:
    """Policy of the first seed by layer, [1 + inputs, outputs], the bias in row 0."""
    actor = agent.train_state.net.actor
    parts = {"first": actor.trunk.first, "second": actor.trunk.second, "out": actor.out}
    return {
        name: np.vstack([np.asarray(part.bias[...])[:1], np.asarray(part.kernel[...])[0]])
        for name, part in parts.items()
    }


def untrained_policy() -> dict[str, np.ndarray]:
    """Policy with zero weights, by layer."""
    sizes = {"first": (12, WIDTH), "second": (1 + WIDTH, WIDTH), "out": (1 + WIDTH, 7)}
    return {name: np.zeros(size, np.float32) for name, size in sizes.items()}


def write_policies(path: Path, policies: list[dict[str, np.ndarray]]) -> None:
    """Write the policies to a file, stacked layer by layer."""
    np.savez(path, **{name: np.stack([p[name] for p in policies]) for name in policies[0]})


if __name__ == "__main__":
    run_main(main)
