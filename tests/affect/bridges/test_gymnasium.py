"""Signals as reward in gymnasium: single and vector environments, all autoreset modes."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium import spaces  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper  # noqa: E402
from gymnasium.wrappers import Autoreset, RecordEpisodeStatistics  # noqa: E402
from gymnasium.wrappers import vector as vector_wrappers  # noqa: E402

from affect import (  # noqa: E402
    Blend,
    Constant,
    Curiosity,
    Fear,
    Homeostasis,
    Inherited,
    Innate,
    Mood,
    Potential,
    Sham,
    Spec,
    build,
)
from affect.bridges.gymnasium import AffectReward, VectorAffectReward  # noqa: E402
from tests.affect.bridges.loop_envs import (  # noqa: E402
    GAMMA,
    LEARNING,
    SIMPLE,
    TINY,
    Line,
    Slope,
    actions,
    position,
    same,
    transition,
    updates,
)
from tests.affect.cases import KEY, same_bits  # noqa: E402
from tests.envs.other_spaces import Switches  # noqa: E402
from tests.refusal import refused  # noqa: E402

SPEC = Spec(2, 2, discount=GAMMA)
MODES = list(AutoresetMode)
PHI = {"phi": (1.0, Potential(Innate(position)))}
FROZEN = {"learn": False, "gamma": GAMMA}


def slow(cases):
    """Parameters in the slow tier."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


def venv(mode=AutoresetMode.SAME_STEP, lengths=(3, 2), end="terminated", **options):
    """Vector environment of `Line`s."""
    makers = [lambda length=length: Line(length, end) for length in lengths]
    return SyncVectorEnv(makers, autoreset_mode=mode, **options)


def play(env, steps, seed=3, mode=None):
    """Results (obs, reward, terminated, truncated, info) of steps, and the first observations."""
    obs, _ = env.reset(seed=seed)
    results = []
    for action in actions(steps, env.num_envs):
        results.append(env.step(action))
        ended = results[-1][2] | results[-1][3]
        if mode == AutoresetMode.DISABLED and ended.any():
            after, _ = env.reset(options={"reset_mask": ended})
            results[-1] = (*results[-1][:4], results[-1][4] | {"after": np.array(after)})
    return results, obs


def transitions(mode, results, obs):
    """Transitions [B] of results of SAME_STEP or DISABLED."""
    first, steps = np.ones(len(obs), bool), []
    for (after, _, terminated, truncated, info), action in zip(
        results, actions(len(results), len(obs)), strict=True
    ):
        ended, successor = terminated | truncated, np.array(after)
        if mode == AutoresetMode.SAME_STEP and ended.any():
            successor[ended] = np.stack(info["final_obs"][ended])
        made = obs, action, successor, info["task_reward"], terminated, truncated, first
        steps.append(transition(*made))
        obs, first = info.get("after", after), ended
    return steps


# --- signals ----------------------------------------------------------------------------------


def single(blend, steps, make=Line, seed=3, **options):
    """Results of a single environment, and the transitions that they are of."""
    env = AffectReward(make(), blend, **options)
    obs, _ = env.reset(seed=seed)
    first, results, made = True, [], []
    for (action,) in actions(steps):
        results.append(env.step(action))
        after, reward, terminated, truncated, _ = results[-1]
        made.append(transition([obs], [action], [after], [1.0], [terminated], [truncated], [first]))
        obs, first = after, terminated or truncated
        if first:
            obs, _ = env.reset()
    return env, results, made


HEADS = ["tiny", pytest.param("real", marks=pytest.mark.slow)]
BLENDS = {"tiny": TINY, "real": LEARNING}


@pytest.mark.parametrize("heads", HEADS)
def test_single_signals_are_those_of_update(heads):
    blend = Blend(**BLENDS[heads])
    env, results, steps = single(blend, 8, learn_every=1, gamma=GAMMA)
    expected, state = updates(blend, SPEC, steps)
    given = [[info["affect"][name] for name in blend.names] for *_, info in results]
    same(np.float32(given)[:, None], expected)
    rewards = [1.0 + float(np.float32(row).sum()) for row in given]
    assert [reward for _, reward, *_ in results] == rewards
    assert all(info["task_reward"] == 1.0 for *_, info in results)
    assert env.signals.program._cache_size() == 1
    name = blend.names[0]
    assert same_bits(env.head(name), state.heads[name].net)


@pytest.mark.parametrize(
    "mode",
    [AutoresetMode.SAME_STEP, pytest.param(AutoresetMode.DISABLED, marks=pytest.mark.slow)],
)
def test_vector_signals_are_those_of_update(mode):
    blend = Blend(**TINY)
    env = VectorAffectReward(venv(mode), blend, learn_every=2, gamma=GAMMA)
    results, obs = play(env, 8, mode=mode)
    expected, _ = updates(blend, SPEC, transitions(mode, results, obs))
    given = [np.stack([info["affect"][name] for name in blend.names], -1) for *_, info in results]
    same(given, expected)
    for (_, reward, *_, info), signal in zip(results, given, strict=True):
        np.testing.assert_allclose(reward, 1 + signal.sum(-1), rtol=1e-6)
        assert info["task_reward"].tolist() == [1, 1] and info["_affect"].all()
    assert env.signals.program._cache_size() == 1


def test_the_reset_step_of_next_step_is_neither_paid_nor_learned_from():
    blend = Blend(slope=(1.0, Slope), mood=(1.0, Mood(tau=4)))
    env = VectorAffectReward(venv(AutoresetMode.NEXT_STEP), blend, learn_every=6)
    results, _ = play(env, 9)
    made = np.stack([info["_affect"] for *_, info in results])
    assert (~made).nonzero()[0].tolist() == [2, 3, 5, 7, 8]  # after 3 steps, and after every 2
    slope, mood = (np.stack([info["affect"][x] for *_, info in results]) for x in blend.names)
    rewards = np.stack([reward for _, reward, *_ in results])
    assert (rewards[~made] == 0).all() and (slope[~made] == 0).all() and (mood[~made] == 0).all()
    state = env.signals.state
    assert float(state.blend_state.carry["slope"][1]) == made.sum()
    same_step = VectorAffectReward(venv(), Blend(mood=(1.0, Mood(tau=4))), learn=False)
    others = np.stack([info["affect"]["mood"] for *_, info in play(same_step, 9)[0]])
    for b in range(2):
        same(mood[made[:, b], b], others[: made[:, b].sum(), b])
    assert env.signals.program._cache_size() <= 2
    window = np.asarray(state.window.obs)[..., 1]
    assert {0.0, 1.0, 2.0} >= set(window.ravel().tolist())  # no step from a terminal observation
    assert (window[:, 1] < 2).all()


@pytest.mark.slow
def test_next_step_with_one_environment_equals_the_single_environment():
    _, results, _ = single(Blend(**TINY), 9, learn_every=2, gamma=GAMMA)
    env = VectorAffectReward(
        venv(AutoresetMode.NEXT_STEP, (3,)), Blend(**TINY), learn_every=2, gamma=GAMMA
    )
    env.reset(seed=3)
    chosen, rewards = iter(actions(9)), []
    while len(rewards) < 9:
        made = not env.signals.ended[0]
        _, reward, *_ = env.step(next(chosen) if made else np.array([0]))
        rewards += [float(reward[0])] if made else []
    np.testing.assert_array_equal(np.float32(rewards), np.float32([x[1] for x in results]))


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_potential_is_0_beyond_a_terminal_state_and_kept_where_an_episode_is_cut(end):
    blend = Blend(**PHI)
    _, results, steps = single(blend, 6, lambda: Line(3, end), **FROZEN)
    for (*_, info), step in zip(results, steps, strict=True):
        ahead = 0.0 if step.terminated[0] else GAMMA * step.next_obs[0, 0]
        assert info["affect"]["phi"] == pytest.approx(ahead - step.obs[0, 0], abs=1e-6)
    assert sum(bool(step.terminated[0]) for step in steps) == 2 * (end == "terminated")
    env = VectorAffectReward(venv(lengths=(3,), end=end), blend, **FROZEN)
    given = [float(x["affect"]["phi"][0]) for *_, x in play(env, 3)[0]]
    assert given == [info["affect"]["phi"] for *_, info in results[:3]]


# --- what is paid -----------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("mode", MODES[:2])
def test_episode_statistics_report_what_their_place_says(mode, outside):
    env, paid = venv(mode, (3, 3)), 0.25
    if not outside:
        env = vector_wrappers.RecordEpisodeStatistics(env)
    env = VectorAffectReward(env, Blend(it=(1.0, Constant(paid))), learn=False)
    if outside:
        env = vector_wrappers.RecordEpisodeStatistics(env)
    results, _ = play(env, 12)
    ends = [info["episode"] for *_, info in results if "episode" in info]
    assert len(ends) == (4 if mode == AutoresetMode.SAME_STEP else 3)
    for episode in ends:
        assert episode["r"].tolist() == [3 * (1 + paid * outside)] * 2
        assert episode["l"].tolist() == [3, 3]


@pytest.mark.parametrize("outside", [False, True])
def test_statistics_of_a_single_environment(outside):
    blend = Blend(it=(1.0, Constant(0.25)))
    env = Line()
    env = AffectReward(env if outside else RecordEpisodeStatistics(env), blend, learn=False)
    env = RecordEpisodeStatistics(env) if outside else env
    env.reset(seed=0)
    *_, info = [env.step(0) for _ in range(3)][-1]
    assert (info["episode"]["r"], info["episode"]["l"]) == (3 * (1 + 0.25 * outside), 3)


SILENT = {"weights": {"mood": 0.0, "phi": 0.0}}


@pytest.mark.parametrize("mode", [MODES[0], *slow(MODES[1:])])
@pytest.mark.parametrize("options", [{"paid": "info"}, *slow([SILENT])], ids=str)
def test_without_pay_the_environment_is_as_without_the_wrapper(options, mode):
    plain, _ = play(venv(mode), 8, mode=mode)
    env = VectorAffectReward(venv(mode), Blend(**SIMPLE), **FROZEN, **options)
    for left, right in zip(plain, play(env, 8, mode=mode)[0], strict=True):
        for a, b in zip(left[:4], right[:4], strict=True):
            same(a, b)
    env, plain = AffectReward(Line(), Blend(**SIMPLE), **FROZEN, **options), Line()
    same(env.reset(seed=1)[0], plain.reset(seed=1)[0])
    for _ in range(3):
        left, right = env.step(1), plain.step(1)
        same(left[0], right[0])
        assert left[1:4] == right[1:4] and type(left[1]) is float


def test_signals_replace_the_reward_and_weights_replace_those_of_the_blend():
    blend = Blend(it=(1.0, Constant(0.25)), other=(1.0, Constant(1.0)))
    env = AffectReward(Line(), blend, paid="replace", weights={"it": 2.0}, learn=False)
    env.reset(seed=0)
    _, reward, *_, info = env.step(0)
    assert reward == 1.5 and info["affect"] == {"it": 0.5, "other": 1.0}
    assert info["task_reward"] == 1.0


def test_a_list_of_infos_can_be_made_of_them():
    env = VectorAffectReward(venv(AutoresetMode.NEXT_STEP), Blend(**SIMPLE), **FROZEN)
    env = vector_wrappers.DictInfoToList(env)
    env.reset(seed=0)
    infos = [env.step(np.array([0, 1]))[-1] for _ in range(3)]
    assert set(infos[0][1]["affect"]) == {"mood", "phi"} and infos[0][1]["task_reward"] == 1.0
    assert "affect" in infos[2][0] and "affect" not in infos[2][1]  # which was reset


# --- observations -----------------------------------------------------------------------------

DICT = spaces.Dict(place=spaces.Box(-9, 9, (1,)), steps=spaces.Discrete(4))
SPACES = {
    "box": (spaces.Box(-9, 9, (2, 1)), lambda obs: obs[:, None], None, 2),
    "discrete": (spaces.Discrete(4), lambda obs: int(obs[1]), None, 4),
    "several": (spaces.MultiDiscrete([4, 2]), lambda obs: np.array([obs[1], 1], int), None, 6),
    "dict": (DICT, lambda obs: {"place": obs[:1], "steps": int(obs[1])}, ("steps", "place"), 5),
}


@pytest.mark.parametrize("kind", SPACES)
def test_heads_read_observations_of_all_kinds(kind):
    space, read, keys, size = SPACES[kind]
    seen = Innate(lambda batch: batch.next_obs.sum(-1) + 10 * batch.obs.sum(-1))
    blend, options = Blend(it=(1.0, seen)), {"learn": False, "obs_keys": keys}
    make = lambda: Line(2, space=space, read=read)  # noqa: E731
    vector = VectorAffectReward(
        SyncVectorEnv([make, make], autoreset_mode=AutoresetMode.SAME_STEP), blend, **options
    )
    single_env = AffectReward(make(), blend, **options)
    assert single_env.signals.core.spec.obs_dim == size
    single_env.reset(seed=0)
    vector.reset(seed=0)
    for t in range(2):  # the last step ends both episodes
        alone = single_env.step(1)[-1]["affect"]["it"]
        together = vector.step(np.array([1, 0]))[-1]["affect"]["it"]
        assert float(together[0]) == pytest.approx(alone) and np.isfinite(alone), t


def test_heads_read_several_choices_one_after_another():
    paid = Innate(lambda batch: batch.action[..., 0] + 10.0 * batch.action[..., 2])
    env = AffectReward(Switches(), Blend(it=(1.0, paid)), learn_every=2)
    env.reset(seed=0)
    for first in (1, 0, 1):
        info = env.step(np.array([[first], [0], [1]], np.int8))[-1]
        assert float(info["affect"]["it"]) == 10 + first


@pytest.mark.parametrize("mode", [MODES[1], pytest.param(MODES[0], marks=pytest.mark.slow)])
def test_observations_in_a_reused_buffer_are_those_of_their_step(mode):
    class Reusing(VectorWrapper):
        """Returns one array of observations and rewards again and again."""

        def reset(self, **kwargs):
            obs, info = self.env.reset(**kwargs)
            self.buffer, self.rewards = np.array(obs), np.zeros(2)
            return self.buffer, info

        def step(self, action):
            self.buffer[:] = -99.0  # while it computes
            obs, rewards, *rest = self.env.step(action)
            self.buffer[:], self.rewards[:] = obs, rewards
            return self.buffer, self.rewards, *rest

    given = []
    for env in (venv(mode), venv(mode, copy=False), Reusing(venv(mode))):
        results, _ = play(VectorAffectReward(env, Blend(**PHI), **FROZEN), 8)
        given.append([info["affect"]["phi"] for *_, info in results])
    same(given[0], given[1])
    same(given[0], given[2])


def test_heads_read_keys_of_info():
    blend = Blend(body=(1.0, Homeostasis(0.0)))
    options = {"info": {"body": (1,)}, "learn": False}
    env = AffectReward(Line(2), blend, **options)
    env.reset(seed=3)
    given = [env.step(1) for _ in range(2)]
    for obs, *_, info in given:
        assert info["affect"]["body"] == pytest.approx(-abs(float(obs[0])))
    for mode in MODES[:2]:  # the last step of an episode too
        vector = VectorAffectReward(venv(mode, (2,)), blend, **options)
        vector.reset(seed=3)
        for step in given:
            info = vector.step(np.array([1]))[-1]
            assert float(info["affect"]["body"][0]) == step[-1]["affect"]["body"]
    lacking = AffectReward(Line(), blend, info={"body": (2,)}, learn=False)
    lacking.reset()
    with refused(ValueError, 'info["body"]', "expected numbers of shape [2]"):
        lacking.step(0)


# --- saving -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 5])
def test_a_run_that_is_continued_is_one_never_stopped(steps, tmp_path):
    blend, options, inner = Blend(**TINY), {"learn_every": 3, "gamma": GAMMA}, Line(3)
    env = AffectReward(Line(3), blend, **options)
    stopped = AffectReward(inner, blend, **options)
    rewards = []
    for wrapper in (env, stopped):
        wrapper.reset(seed=5)
        rewards.append([])
        for t, (action,) in enumerate(actions(9)):
            if wrapper is stopped and t == steps:
                stopped.save(tmp_path / "state.safetensors")
                wrapper = stopped = AffectReward.load(
                    tmp_path / "state.safetensors", inner, blend, **options
                )
            rewards[-1].append(wrapper.step(action)[1])
            if t % 3 == 2:
                wrapper.reset()
    assert rewards[0] == rewards[1] and len(set(rewards[0])) == 9


def test_a_saved_vector_wrapper_knows_which_environments_are_to_be_reset(tmp_path):
    blend, inner = Blend(**SIMPLE), venv(AutoresetMode.NEXT_STEP)
    env = VectorAffectReward(inner, blend, **FROZEN)
    play(env, 2)  # the second environment has ended
    env.save(tmp_path / "state")
    env = VectorAffectReward.load(tmp_path / "state", inner, blend, **FROZEN)
    *_, info = env.step(np.array([0, 0]))
    assert info["_affect"].tolist() == [True, False]


def test_a_saved_wrapper_of_another_blend_is_refused(tmp_path):
    path = tmp_path / "state"
    AffectReward(Line(), Blend(mood=(1.0, Mood)), learn=False).save(path)
    wrong = [
        (Blend(it=(1.0, Mood)), {}, "heads {'mood': 'Mood'}"),
        (Blend(mood=(1.0, Mood(tau=4))), {}, "Mood(tau=4)"),
        (Blend(mood=(1.0, Mood)), {"learn": True}, "learn_every 0"),
        (Blend(mood=(1.0, Mood)), {"gamma": 0.9}, "discount None, and this one has 0.9"),
    ]
    for blend, options, word in wrong:
        with refused(ValueError, "is of a wrapper with", word, "make it with the blend"):
            AffectReward.load(path, Line(), blend, **{"learn": False} | options)
    blend, space = Blend(mood=(1.0, Mood)), spaces.Box(-9, 9, (3,))
    with refused(ValueError, "observations 2, and this one has 3"):
        AffectReward.load(path, Line(space=space), blend, learn=False)
    build(Fear, SPEC, KEY).save(path)
    with refused(ValueError, "is no state of a wrapper"):
        AffectReward.load(path, Line(), blend, learn=False)
    path.write_bytes(b"nothing")
    with refused(ValueError, "corrupt"):
        AffectReward.load(path, Line(), blend, learn=False)


# --- bad input --------------------------------------------------------------------------------


def unknown_mode():
    env = venv()
    env.metadata = {"render_modes": []}
    return env


def without_last_observations():
    class Forgetful(VectorWrapper):
        def step(self, action):
            *results, info = self.env.step(action)
            return *results, {key: x for key, x in info.items() if "final" not in key}

    return Forgetful(venv(lengths=(1, 1)))


def with_changed_observations():
    class Longer(VectorWrapper):
        single_observation_space = spaces.Box(-9, 9, (3,))

        def longer(self, obs):
            return np.concatenate([obs, obs[:, :1]], 1)

        def reset(self, **kwargs):
            obs, info = self.env.reset(**kwargs)
            return self.longer(obs), info

        def step(self, action):
            obs, *rest = self.env.step(action)
            return self.longer(obs), *rest

    return Longer(venv(lengths=(1, 1)))


def step_once(env):
    env.reset(seed=0)
    return env.step(np.zeros(2, int))


ONE = Blend(one=(1.0, Constant(1.0)))
FEAR = Blend(fear=(1.0, Fear))
TRAINED = Blend(it=(1.0, Inherited(build(Fear, Spec(3, 2), KEY))))
REFUSED = [
    (lambda: AffectReward(Line(), {"fear": Fear}), ["it needs a Blend"]),
    (lambda: AffectReward(Line(), ONE, paid="all"), ["paid is one of add, replace, info"]),
    (lambda: AffectReward(Line(), ONE, learn=1), ["learn is True or False"]),
    (lambda: AffectReward(Line(), ONE, seed=-1), ["seed is a whole number"]),
    (lambda: AffectReward(Line(), ONE, gamma=1.5), ["a discount in (0, 1]"]),
    (lambda: AffectReward(Line(), ONE, weights={"hope": 1.0}), ["'hope'", "heads", "one"]),
    (lambda: AffectReward(Line(), FEAR, weights={"fear": -1.0}), ["never positive"]),
    (lambda: AffectReward(Line(), ONE).head("hope"), ["no head 'hope'", "one"]),
    (lambda: AffectReward(Line(), Blend(**PHI)), ["needs the discount", "give gamma=0.99"]),
    (lambda: AffectReward(Line(), TRAINED), ["trained on 3 numbers", "gets 2", "obs=slice(0, 3)"]),
    (lambda: AffectReward(Autoreset(Line()), ONE), ["Autoreset", "put it outside"]),
    (lambda: AffectReward(AffectReward(Line(), ONE), ONE), ["all heads into one Blend"]),
    (lambda: VectorAffectReward(VectorAffectReward(venv(), ONE), ONE), ["one Blend"]),
    (lambda: VectorAffectReward(unknown_mode(), ONE), ["autoreset_mode=None", "AutoresetMode"]),
    (
        lambda: VectorAffectReward(venv(AutoresetMode.NEXT_STEP), Blend(it=(1.0, Sham(Curiosity)))),
        ["it is a Sham", "AutoresetMode.SAME_STEP"],
    ),
    (
        lambda: step_once(VectorAffectReward(without_last_observations(), Blend(**PHI), **FROZEN)),
        ['no "final_obs"', "put the wrapper inside"],
    ),
    (
        lambda: step_once(VectorAffectReward(with_changed_observations(), Blend(**PHI), **FROZEN)),
        ['"final_obs"', "expected [B, 3]", "put the wrapper inside"],
    ),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words[0] for _, words in REFUSED])
def test_wrong_use_is_refused_in_one_line(call, words):
    with refused(ValueError, *words):
        call()
