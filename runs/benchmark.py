"""Speed: how fast are training and evaluation against other libraries and bare matrix products?

Every row compares two workloads, measured in turn, each in its own process, after a warm-up that
also compiles; ratios are taken pair by pair and reported with their spread. The peers (rejax, SBX,
Stable-Baselines3) come with the extra `bench`; without them their rows are left out.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata, util

from runs.bench.accelerator import accelerator_rows
from runs.bench.table import HEADINGS, LEGEND, pairs_csv, ratios, remarks, spread, table_row
from runs.bench.timing import (
    PEERS,
    TimedPair,
    TimedResult,
    Worker,
    WorkerFailed,
    Workload,
    alternate,
    in_new_processes,
)
from runs.cli.settings import StudySettings, run_main
from runs.cli.settings import check as check_shared
from runs.cli.study import Job, run_study
from runs.errors import Interrupted, UserError
from runs.report.page import Page, markdown_table, page_text

COMMAND = "python -m runs.benchmark"
PARTS = (
    *("training", "hosts", "ceiling", "shares", "heads", "evaluation", "worlds", "compilation"),
    *("memory", "readouts", "report", "images", "bridges"),
)
ON_REQUEST = ("accelerator",)  # parts that are measured if they are named
INSTALL = "not installed: pip install -e '.[bench,envpool]' -c constraints.txt"
THREE_HEADS = ("fear", "hope", "curiosity")
ALL_HEADS = (*THREE_HEADS, "mood", "satiation", "homeostasis", "care", "innate")
QUIET = 0.5  # load average up to which a machine counts as quiet


@dataclass(frozen=True)
class Settings(StudySettings):
    """Settings of the benchmark.

    Attributes:
        parts: what to measure, of training (against peers), hosts (gymnasium environments against
            Stable-Baselines3 and against the environments alone), ceiling (bare matrix products),
            shares (parts of a training step), heads, evaluation, worlds (Drive), compilation,
            memory, readouts (probing the signals beside scoring), report (and sealing), images
            (training and memory against Stable-Baselines3 with the same convolution), bridges
            (Stable-Baselines3 paid by heads against itself without); on request alone accelerator
            (speed and memory by number of seeds, deterministic sums).
        repeats: measurements of each side of a row.
    """

    known = {"parts": ("part", (*PARTS, *ON_REQUEST))}
    least = {"repeats": (1, "must be at least 1")}
    parts: tuple[str, ...] = PARTS
    repeats: int = 5


def check(settings: Settings) -> None:
    """Reject invalid settings.

    Raises:
        UserError: for an unknown part, no repeats, or a smoke run that is to be recorded.
    """
    if not settings.parts:
        raise UserError(f"--parts: choose at least one of {', '.join(PARTS)}")
    check_shared(settings)


def study(job: Job) -> Page:
    """Measure all rows; the exit code is 1 if one failed but for a missing peer."""
    settings, load = job.settings, os.getloadavg()[0]
    if load > QUIET:
        job.progress.say(f"the machine is busy (load {load:.1f}): figures will be too low and wide")
    if settings.smoke:
        job.progress.say("a smoke run: its figures mean nothing")
    whole = set(settings.parts) == set(PARTS)
    name = "benchmark" if whole else f"benchmark-{'-'.join(settings.parts)}"
    with Worker() if settings.smoke else nullcontext() as shared:
        new_worker = Worker if shared is None else lambda *cache: nullcontext(shared)
        results = list(measure(settings, new_worker, job))
    peers = [f"{name} {metadata.version(name)}" for key, name in PEERS.items() if installed(key)]
    sections = (
        markdown_table(HEADINGS, [table_row(result) for result in results]),
        LEGEND,
        "\n".join(f"- {line}" for line in remarks(results)) or None,
        "; ".join([*peers, f"load at the start {load:.2f}"]),
    )
    failed = any(result.reason not in ("", INSTALL) for result in results)
    text = page_text("Benchmark", sections, job.command)
    return Page(name, text, code=int(failed), tables={"": pairs_csv(results)})


def measure(settings: Settings, new_worker: Callable, job: Job) -> Iterator[TimedResult]:
    """Measure the rows, one after another; `new_worker(cache)` is a context with a worker."""
    rows, repeats = timed_pairs(settings), 1 if settings.smoke else settings.repeats
    job.progress.total = len(rows)
    for i, row in enumerate(rows):
        job.progress.advance(row.title, i)
        measure_pairs = in_new_processes if row.fresh else alternate
        try:
            if not all(map(installed, row.ours.modules | row.other.modules)):
                raise WorkerFailed(INSTALL)
            result = TimedResult(row, tuple(measure_pairs(row, repeats, new_worker)))
            job.progress.say(f"{row.title}: {spread(ratios(result))}")
        except WorkerFailed as failure:
            if job.stopped():
                raise Interrupted from failure
            result = TimedResult(row, (), str(failure))
            job.progress.say(f"{row.title}: left out, {failure}")
        yield result


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return util.find_spec(package) is not None


def timed_pairs(settings: Settings) -> list[TimedPair]:
    """Rows of the chosen parts."""
    parts = (_training_rows, _host_rows, _head_rows, _bridge_rows, _comparison_rows, _image_rows)
    parts = (*parts, accelerator_rows)
    rows = [row for part in parts for row in part() if row.part in settings.parts]
    if not settings.smoke:
        return rows
    return [replace(row, ours=smoke_load(row.ours), other=smoke_load(row.other)) for row in rows]


WIDE = Workload("training.time_training", seeds=4, updates=16)
NARROW = Workload("training.time_training", seeds=20, num_envs=4, updates=40)  # as `runs.compare`


def _training_rows() -> list[TimedPair]:
    """Training against other libraries, bare products and its own parts."""
    wide8 = replace(WIDE, seeds=8, updates=8)
    products = replace(WIDE, prepare="rivals.time_products")
    rollouts = replace(WIDE, prepare="training.time_rollouts")
    updates = replace(WIDE, prepare="training.time_updates")
    drive = Workload("training.time_env_steps", seeds=2, num_envs=512, updates=8, world="Drive")
    cartpole = replace(drive, world="CartPole")

    def rejax(ours: Workload) -> Workload:
        return replace(ours, prepare="rivals.rejax")

    def one_seed(ours: Workload, prepare: str) -> Workload:
        return replace(ours, prepare=prepare, seeds=1, updates=128 // ours.num_envs)

    sbx, sb3 = "rivals.sbx", "rivals.stable_baselines3"
    return [
        TimedPair("training", "8 seeds, 64 envs / rejax", wide8, rejax(wide8), "ratio >= 2.6"),
        TimedPair("training", "4 seeds, 64 envs / rejax", WIDE, rejax(WIDE), "ratio >= 2.6"),
        TimedPair("training", "4 seeds, 64 envs / SBX", WIDE, one_seed(WIDE, sbx), "ratio >= 15"),
        TimedPair("training", "4 seeds, 64 envs / SB3", WIDE, one_seed(WIDE, sb3), "ratio >= 15"),
        TimedPair(
            "training", "20 seeds, 4 envs / SBX", NARROW, one_seed(NARROW, sbx), "ratio >= 30"
        ),
        TimedPair(
            "training", "20 seeds, 4 envs / SB3", NARROW, one_seed(NARROW, sb3), "ratio >= 30"
        ),
        TimedPair("ceiling", "4 seeds, 64 envs / bare products", WIDE, products, "ratio >= 0.88"),
        TimedPair("shares", "4 seeds, 64 envs / rollouts alone", WIDE, rollouts),
        TimedPair("shares", "4 seeds, 64 envs / updates alone", WIDE, updates),
        TimedPair("worlds", "Drive / CartPole, random policy", drive, cartpole, "ours >= 1e6"),
    ]


def _host_rows() -> list[TimedPair]:
    """Training in gymnasium environments against two of Stable-Baselines3's trainings at once."""
    goals = {
        "CartPole-v1": "ratio >= 4",
        "LunarLander-v3": "ratio >= 2",
        "HalfCheetah-v5": "ratio >= 2",
        "MiniGrid-DoorKey-5x5-v0": "ratio >= 2",
    }
    ours = Workload("training.time_host_training", seeds=8, num_envs=8, updates=4)
    pair = replace(ours, prepare="rivals.stable_baselines3_pair", seeds=1)
    learning = "training.time_host_learning"
    parts = {"its envs": "rivals.bare_environments", "learning": learning}
    rows, bare = [], []
    for id, goal in goals.items():
        loads = replace(ours, world=id), replace(pair, world=id)
        rows.append(TimedPair("hosts", f"{id}, 8 seeds, 8 envs / two SB3", *loads, goal))
        for part, prepare in parts.items():
            alone = replace(loads[0], prepare=prepare)
            bare.append(TimedPair("hosts", f"{id}, training / {part} alone", loads[0], alone))
    cartpole, two = rows[0].ours, rows[0].other
    one = replace(cartpole, seeds=1)
    alone = replace(one, prepare="rivals.stable_baselines3")
    through_envpool = replace(cartpole, world="envpool:CartPole-v1")
    learned = replace(through_envpool, prepare=learning)
    step = replace(cartpole, prepare="training.time_host_steps", seeds=3)
    vector = replace(step, prepare="rivals.time_vector_steps")
    scoring = replace(cartpole, prepare="training.time_evaluation", updates=40, episodes=8)
    apart = replace(scoring, prepare="training.time_evaluation_one_by_one")
    near = "difference < 0.3"
    return [
        *rows,
        *bare,
        TimedPair("hosts", "CartPole-v1, 1 seed, 8 envs / SB3", one, alone, "ratio >= 1.5"),
        TimedPair("hosts", "EnvPool, 8 seeds / two SB3", through_envpool, two, "ratio >= 8"),
        TimedPair("hosts", "EnvPool, training / learning alone", through_envpool, learned),
        TimedPair("hosts", "step of 24 / 24 CartPoles alone", step, vector, near, " ms/step"),
        TimedPair("hosts", "CartPole-v1, scoring / training", scoring, cartpole),
        TimedPair("hosts", "CartPole-v1, points at once / apart", scoring, apart, "ratio >= 3"),
    ]


def _head_rows() -> list[TimedPair]:
    """Training with heads against training without."""
    three, eight = (replace(WIDE, heads=heads) for heads in (THREE_HEADS, ALL_HEADS))
    narrow, unit = replace(NARROW, heads=THREE_HEADS), " us/step"
    return [
        TimedPair("heads", "64 envs, three heads / none", three, WIDE, "ratio < 1.2", unit),
        TimedPair("heads", "64 envs, all 8 heads / none", eight, WIDE, "ratio < 1.3", unit),
        TimedPair("heads", "4 envs, three heads / none", narrow, NARROW, "ratio < 1.2", unit),
    ]


def _bridge_rows() -> list[TimedPair]:
    """Training of Stable-Baselines3 paid by heads, as the bridge does by default, and without."""
    plain = Workload("rivals.stable_baselines3_thread", 1, 8, 8, world="CartPole-v1")
    goal = "ratio >= 0.85"
    return [
        TimedPair(
            "bridges", f"SB3, 8 envs, {title} / none", replace(plain, heads=heads), plain, goal
        )
        for title, heads in (("curiosity", ("curiosity",)), ("three heads", THREE_HEADS))
    ]


def _comparison_rows() -> list[TimedPair]:
    """Evaluation, probing, report, compilation and memory of a comparison."""
    scoring = Workload("training.time_evaluation", seeds=20, num_envs=4)
    drive = replace(scoring, num_envs=32, world="Drive")
    lesion = replace(drive, heads=("lesion",))
    readouts = replace(lesion, prepare="training.time_readouts")
    report = Workload("report_cost.time_report", seeds=20)
    sealing = replace(report, prepare="report_cost.time_sealing")
    chunk = Workload("training.time_compilation", seeds=20, num_envs=4, heads=("fear",))
    short = replace(chunk, prepare="training.peak_memory", seeds=2, updates=100)
    long, memory = replace(short, updates=1000), "peak memory, 10 x as long / 1 x"
    cached = "compilation, cached / cold"
    return [
        TimedPair("evaluation", "4 envs, evaluation / training", scoring, NARROW, "ratio >= 20"),
        TimedPair("worlds", "Drive / CartPole, evaluation", drive, scoring, "ours < 120", " s"),
        TimedPair(
            "readouts", "Drive, readouts / evaluation", readouts, lesion, "ratio < 1.5", " s"
        ),
        TimedPair("report", "statistics and report / sealing", report, sealing, "ours < 20", " s"),
        TimedPair("report", "sealing / statistics and report", sealing, report, "ours < 2", " s"),
        TimedPair("compilation", cached, chunk, chunk, "ours < 3", " s", "empty"),
        TimedPair("memory", memory, long, short, "ratio < 1.1", " MB", "filled"),
    ]


def _image_rows() -> list[TimedPair]:
    """Training on images, and its memory, against Stable-Baselines3 with the same convolution."""
    ours = Workload("training.time_image_training", 1, 2, num_envs=8, world="pixels")
    other = replace(ours, prepare="rivals.stable_baselines3_images")
    race, races = (replace(load, updates=1, world="CarRacing-v3") for load in (ours, other))
    title, faster = "84 x 84 x 4, 1 seed, 8 envs", "ratio >= 1.5"
    return [
        TimedPair("images", f"{title} / SB3", ours, other, faster),
        TimedPair("images", f"{title}, memory / SB3", ours, other, "ratio < 1", " MB", "filled"),
        TimedPair("images", "CarRacing-v3, 1 seed, 8 envs / SB3", race, races, faster),
    ]


def smoke_load(load: Workload) -> Workload:
    """Shrink a workload for a smoke run: few steps, and few programs to compile."""
    trained = load.prepare in ("training.time_training", "rivals.stable_baselines3_thread")
    heads = load.heads[:1] if trained else ()
    updates, seeds = max(load.updates // 100, 1), min(load.seeds, 2)
    sizes = {"num_envs": 4, "num_steps": 8, "updates": updates, "episodes": 4, "shifts": 1}
    return replace(load, seeds=seeds, heads=heads, **sizes)


main = partial(run_study, COMMAND, __doc__, Settings, check, study)

if __name__ == "__main__":
    run_main(main)
