"""Any gymnasium id: is CartPole learned faster with fear as a potential than without?"""

from affect import Blend, Fear, Potential
from agents import PPO
from envs import load_suite
from envs.shift import scale
from runs import Experiment

long_pole = scale("long pole", "dynamics", "params.half_length", to=4.0)
experiment = Experiment(
    load_suite("CartPole-v1", shifts=[long_pole]),
    arms={"none": Blend(), "fear": Blend(fear=(1.0, Potential(Fear)))},
    agent=PPO(lr=1e-3, normalise=True),
    seeds=3,
    steps=4_000,
)
result = experiment.run()
print(result.curves.groupby(["arm", "step"])["return"].mean().unstack("arm"))
print(result.verdict)
