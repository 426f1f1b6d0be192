"""Experiments in worlds with images, masks and several actions: jitted, on the host, and learning.

The slow ones train on public environments, five seeds each, against random actions.
"""

from dataclasses import replace
from functools import partial

import gymnasium
import jax
import numpy as np
import pytest

from affect import Blend, Curiosity, Hope, Spec
from affect.observation import read, split
from agents import PPO
from envs import load_suite
from envs.channel import is_allowed
from envs.host.rows import random_action
from envs.shift import ramp, with_channel
from runs import compare, continual, export, inherit, reward_free, validity
from runs.engine import resources
from runs.engine.host_step import changes_nothing
from runs.engine.presets import preset
from runs.engine.seeds import take_seeds
from runs.engine.trial import sample_batches
from runs.errors import Interrupted, UserError
from runs.experiment import Experiment
from runs.result import Result
from tests.envs import other_spaces
from tests.envs.other_spaces import Bright, Doors, Lamp, Lane, Switches
from tests.refusal import refused
from tests.runs import small_study
from tests.tiers import slow

no_key_check = pytest.fixture(scope="module", autouse=True)(
    small_study.without_key_check_in_threads
)
RANDOM = ramp("random", "actuator", "channel.flip", to=1.0)  # uniform among the actions allowed
EPISODES = 16  # of each seed, in public environments
NONE = {"none": Blend()}
SMALL = {"seeds": 3, "num_envs": 4, "num_steps": 16, "episodes": 4, "optimise": False}
ARMS = {"none": Blend(), "hope": Blend(hope=(1.0, Hope), curiosity=(0.1, Curiosity))}


def run(suite, out=None, **changes):
    """Result of a small experiment, scored at severity 1."""
    sizes = {"steps": 256, "agent": preset(suite).agent, "arms": ARMS, **SMALL, **changes}
    suite = replace(suite, severities=(1.0,))
    return Experiment(suite, out=out, **sizes).run()


@pytest.mark.slow  # a minute of compiling each
@pytest.mark.parametrize(
    "env",
    [
        partial(Doors, several=True),
        partial(Bright, (12, 12, 3), True),
        partial(Bright, (7, 7, 3), True),
        Lane,
        Lamp,
        Doors,
        Switches,
    ],
)
def test_an_experiment_trains_and_scores_under_all_shifts(env, tmp_path):
    is_class = isinstance(env, type) and env in (Lane, Lamp)
    suite = load_suite(env, workers=None if is_class else 0)
    result = run(suite, tmp_path / "out")
    scores = result.scores
    assert set(scores["shift"]) == {"none", *(shift.name for shift in suite.shifts)}
    assert np.isfinite(scores["return"]).all()
    check_what_an_experiment_gives(result, suite.env.spec)
    page = result.report().read_text()
    assert ("through a frozen random convolution" in page) == (
        suite.env.spec.image is not None and not suite.env.spec.image.symbols
    )


def check_what_an_experiment_gives(result: Result, spec: Spec) -> None:
    """Heads and critic on what heads read, the agent on rows; films of what can be drawn."""
    batch, alive = take_seeds(next(result.recordings("hope", 4)), 0)
    agent, row = result.agent("hope"), batch.obs[0, 0]
    assert row.shape == (spec.row,) and agent.act(row).shape == spec.action_shape
    exported, batch = next(export.seed_recordings(result, "hope", 0))[0], read(spec, batch)
    assert exported.next_obs.shape[2:] == batch.next_obs.shape[2:]
    heads = [result.head("hope", name) for name in ARMS["hope"].names]
    if spec.image is None:
        value = result.value("hope")
        np.testing.assert_allclose(value.value(batch.obs[0, 0]), agent.value(row), 1e-3, 1e-4)
        heads.append(value)
    for head in heads:
        assert np.isfinite(export.recommended(head, batch, alive)["shift"])
    drawn = spec.image is not None and not spec.image.channel_first  # `Bright` draws itself
    assert {any(result.out.glob(f"{name}/*")) for name in ("films", "timelines")} == {drawn}
    assert (result.out / "readouts.csv").exists() == (not spec.image or spec.image.symbols)


HOSTED = {
    "masks": Doors,
    "masks of two choices": partial(Doors, several=True),
    "binary choices": Switches,
    "pixels and numbers": partial(Bright, (12, 12, 3), True),
    "symbols": partial(Bright, (3, 7, 7)),
}


@pytest.mark.slow  # 10 s each
@pytest.mark.parametrize("env", HOSTED.values(), ids=HOSTED)
def test_a_stopped_study_goes_on_with_the_same_bits_in_worker_processes(env, tmp_path):
    for name, parts in (("whole", ((0, None),)), ("parts", ((0, 2), (2, None)))):
        for workers, stop_at in parts:
            suite = replace(load_suite(env, workers=workers), severities=(1.0,))
            study = small_study.make_study(small_study.ARMS["hope"], in_suite=suite)
            try:
                small_study.run(study, tmp_path / name, stop_at=stop_at)
            except Interrupted:
                assert stop_at
            finally:
                study.backend.close()
    small_study.assert_same_files(tmp_path / "whole", tmp_path / "parts")


FILE = other_spaces.__file__


@pytest.fixture
def usual_devices(monkeypatch):
    """Commands in this process take its devices as they are."""
    monkeypatch.setattr("runs.engine.devices.prepare_devices", lambda: None)


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize(
    ("study", "flags"),
    [
        (validity, ["--head", "fear"]),
        (reward_free, ["--heads", "hope"]),
        (continual, ["--heads", "hope"]),
    ],
)
def test_studies_of_any_environment_take_masks(study, flags, tmp_path, usual_devices):
    out = ["--out", str(tmp_path / "out")]
    assert study.main(["--smoke", "--env", f"{FILE}:Ditch", *flags, *out]) == 0


@pytest.mark.parametrize(
    ("command", "env", "flags", "message"),
    [
        (inherit, "Taxi-v4", [], "--env Taxi-v4: expected one of Drive"),
        slow(compare, f"{FILE}:Bright", ["--image", "picture"], "image='picture', expected None"),
        slow(compare, f"{FILE}:Lane", ["--image", "pixels"], "image and reader are of its own"),
        slow(compare, f"{FILE}:Closed", [], "its action_mask allows no action at step"),
    ],
)
def test_what_a_command_cannot_take_is_refused_in_one_line(
    command, env, flags, message, tmp_path, usual_devices
):
    with refused(UserError, match=message):
        command.main(["--smoke", "--env", env, *flags, "--out", str(tmp_path / "out")])


def test_the_estimate_of_memory_counts_the_bytes_of_images(tmp_path, monkeypatch):
    suite = load_suite(partial(Bright, (84, 84, 4)), workers=0)
    experiment = Experiment(suite, NONE, seeds=3, steps=2048)
    monkeypatch.setattr(resources, "free_memory", lambda: 150_000_000)  # of 3 x 58 MB in batches
    with pytest.raises(UserError, match="seeds need at least .* take fewer seeds"):
        arguments = experiment.phases.values(), suite, experiment.run_config, tmp_path
        resources.check_resources(*arguments)


def test_the_channel_of_such_a_world_changes_nothing_until_it_is_shifted():
    for env in (Lane, Lamp):
        suite = load_suite(env)
        channel = with_channel(suite.world).channel
        assert changes_nothing(channel)
        shifted = [s(suite.world, 1.0, jax.random.key(0)).channel for s in suite.shifts]
        assert not any(map(changes_nothing, shifted))


@pytest.mark.parametrize("env", [Lane, slow(partial(Doors, several=True))])
def test_heads_of_a_user_are_tried_with_allowed_actions(env):
    suite = load_suite(env, [], workers=None if env is Lane else 0)
    spec = suite.env.spec
    for batch in sample_batches(suite):
        mask, action = split(spec, batch.obs).mask, batch.action
        assert batch.action.shape[2:] == spec.action_shape and mask.any() and not mask.all()
        allowed = jax.vmap(jax.vmap(partial(is_allowed, spec)))(mask, action)
        assert allowed.all()


# --- learning ---------------------------------------------------------------------------------


def rendered(id: str) -> gymnasium.Env:
    """A MiniGrid environment that observes the cells before the agent as a picture, 56 x 56 x 3."""
    from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

    return ImgObsWrapper(RGBImgPartialObsWrapper(gymnasium.make(id)))


class FourFrames(gymnasium.Wrapper):
    """Repeats each action of CarRacing for four frames and draws the last, as drawing is slow."""

    def step(self, action):
        race, total = self.env.unwrapped, 0.0
        race._render = lambda mode: race.state  # in the place of the method
        for frame in range(4):
            if frame == 3:
                del race._render
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        vars(race).pop("_render", None)
        return obs, total, terminated, truncated, info


def small_race() -> gymnasium.Env:
    """CarRacing with five actions, of which each lasts four frames, in gray, 48 x 48 x 1."""
    env = gymnasium.make("CarRacing-v3", continuous=False, max_episode_steps=400)
    env = gymnasium.wrappers.GrayscaleObservation(FourFrames(env), keep_dim=True)
    small = gymnasium.spaces.Box(0, 255, (48, 48, 1), np.uint8)
    return gymnasium.wrappers.TransformObservation(env, lambda obs: obs[::2, ::2], small)


PUBLIC = {  # name -> (environment, agent or None for the preset's, steps)
    "Taxi-v4": ("Taxi-v4", PPO(lr=1e-3, scale_values=True), 200_000),
    "MiniGrid, rendered": (partial(rendered, "MiniGrid-Empty-5x5-v0"), None, 60_000),
    "CarRacing-v3": (small_race, None, 20_000),
}


def random_return(suite, seed: int) -> float:
    """Mean return of EPISODES episodes of random allowed actions, of this seed."""
    env, spec = suite.env.maker(suite.world)(), suite.env.spec
    rng, total = np.random.default_rng(seed), 0.0
    for i in range(EPISODES):
        obs, ended = env.reset(seed=EPISODES * seed + i)[0], False
        while not ended:
            allowed = obs[-spec.mask_dim :] if spec.masked else None
            action = random_action(env.action_space, rng, allowed)
            obs, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + reward, terminated or truncated
    env.close()
    return total / EPISODES


@pytest.mark.slow  # minutes: five seeds of each, of which CarRacing takes most
@pytest.mark.parametrize("name", PUBLIC)
def test_agents_learn_in_public_environments(name):
    """The return of five seeds at the end of training is above random: Welch's t > 3."""
    env, agent, steps = PUBLIC[name]
    sizes = {"seeds": 5, "num_envs": 8, "num_steps": 128, "episodes": EPISODES, "optimise": True}
    suite = load_suite(env, [RANDOM])
    result = run(suite, agent=agent, arms=NONE, steps=steps, **sizes)
    late = result.curves[result.curves["step"] > 0.75 * result.curves["step"].max()]
    one = late.groupby("seed")["return"].mean().to_numpy()
    other = np.array([random_return(suite, seed) for seed in range(5)])
    scored = result.scores.groupby("shift")["return"].get_group("none").to_numpy()
    print(f"{name}: at the end of training {one}, by the mode {scored}, at random {other}")
    assert len(one) == 5
    spread = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 5)
    assert one.mean() - other.mean() > 3 * spread, (one, other)


@pytest.mark.slow  # 2 minutes
def test_a_mask_helps_in_taxi():
    """With the mask of Taxi, which forbids moves into walls, less is lost in a short training."""

    class Unmasked(gymnasium.Wrapper):
        def reset(self, **kwargs):
            return self.env.reset(**kwargs)[0], {}

        def step(self, action):
            return *self.env.step(action)[:4], {}

    def make():
        return Unmasked(gymnasium.make("Taxi-v4"))

    agent = PPO(lr=1e-3, scale_values=True)
    sizes = {"seeds": 3, "num_envs": 8, "num_steps": 128, "episodes": 8, "optimise": True}
    means = []
    for env in ("Taxi-v4", make):
        suite = load_suite(env, [RANDOM], workers=0)
        result = run(suite, agent=agent, arms=NONE, steps=40_000, **sizes)
        means.append(result.curves["return"].mean())
    masked, unmasked = means
    assert masked > unmasked + 100
