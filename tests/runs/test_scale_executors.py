"""Executors and the driver: lost workers, permanent failures, and drivers that are killed."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.errors import Interrupted, UserError
from runs.scale import driver, processes, ray_tasks
from runs.scale.cell import is_done
from runs.scale.executors import make_executor
from runs.scale.processes import cores_of
from runs.scale.ray_tasks import check_answers, check_shared
from tests.runs import stub_cells
from tests.runs.stub_cells import Silent, cell_processes, make_folders, results, skip_if_missing

ROOT = Path(__file__).parents[2]
CLUSTERS = [
    pytest.param("local", (), id="local"),
    pytest.param("ray", (), id="ray", marks=pytest.mark.slow),
    pytest.param("slurm", ("cluster=local", "timeout_min=5"), id="slurm", marks=pytest.mark.slow),
]


class InProcess:
    """Executor that ends cells with given exit codes, at once."""

    def __init__(self, codes: dict[str, list[int]], slots: int = 2):
        self.codes, self.slots, self.submitted, self.most, self.closed = codes, slots, [], 0, False

    def start(self, folders):
        self.submitted += [folder.name for folder in folders]
        self.most = max(self.most, len(folders))
        return folders

    def code(self, folder):
        code = self.codes[folder.name].pop(0) if self.codes.get(folder.name) else 0
        if code == 0:
            stub_cells.write_result(folder, "done")
        return code

    def close(self, handles):
        self.closed = True


@pytest.fixture
def no_sleep(monkeypatch):
    monkeypatch.setattr(driver.time, "sleep", lambda seconds: None)


def test_the_driver_retries_lost_cells_and_gives_up_on_others(tmp_path, no_sleep):
    folders, progress = make_folders(tmp_path, 5), Silent()
    stub_cells.write_result(folders[4], "done before")
    executor = InProcess({"cell-00": [-9, 1], "cell-01": [2], "cell-02": [1, 1, 1, 1]})
    failures = driver.run_missing(folders, executor, progress, lambda: False)
    names = executor.submitted
    assert [names.count(folder.name) for folder in folders] == [3, 1, 3, 1, 0]
    assert executor.most == 2 and executor.closed and progress.done == 5
    assert set(failures) == {folders[1], folders[2]}
    assert "ended with code 1 3 times" in failures[folders[2]]
    (folders[1] / "failed").write_text("why\n")
    again = InProcess({})
    failures = driver.run_missing(folders, again, progress, lambda: False)
    assert again.submitted == ["cell-02"]  # what failed for good is left to the user
    assert failures == {folders[1]: "why"}


def test_a_result_that_was_changed_is_computed_again(tmp_path, no_sleep):
    folders = make_folders(tmp_path, 2)
    for folder in folders:
        stub_cells.write_result(folder, "done")
    (folders[0] / "result.csv").write_text("doctored")
    executor = InProcess({})
    assert driver.run_missing(folders, executor, Silent(), lambda: False) == {}
    assert executor.submitted == ["cell-00"] and results(folders) == ["done", "done"]


def test_a_stop_is_passed_on(tmp_path):
    with pytest.raises(Interrupted):
        driver.run_missing(make_folders(tmp_path, 1), InProcess({}), Silent(), lambda: True)


@pytest.mark.parametrize(("name", "options"), CLUSTERS)
def test_twelve_cells_two_workers_one_killed_one_failing(name, options, tmp_path, monkeypatch):
    skip_if_missing(name)
    monkeypatch.setattr(processes, "cell_command", stub_cells.stub_command)
    folders = make_folders(tmp_path, 12)
    (folders[3] / "bad").touch()
    (folders[5] / "crash").touch()
    (folders[0] / "wait").touch()
    executor, killed = make_executor(name, tmp_path, 2, options=options), []

    def kill_first() -> bool:
        """Kill the worker of the first cell once: the process, or Ray's worker around it."""
        path = folders[0] / "pid"
        if not killed and path.exists() and (pids := path.read_text().split()):
            killed.append(int(pids[name == "ray"]))
            os.kill(killed[0], signal.SIGKILL)
            (folders[0] / "wait").unlink()
        return False

    failures = driver.run_missing(folders, executor, Silent(), kill_first)
    assert killed and failures == {folders[3]: "settings that cannot be run"}
    done = [folder for folder in folders if folder != folders[3]]
    assert results(done) == [f"result of {folder.name}" for folder in done]
    tries = [len((folder / "tries").read_text()) for folder in folders]
    assert tries[3] == 1 and tries[0] == tries[5] == 2
    assert sum(tries) == 14


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CLUSTERS)
def test_twenty_kills_of_workers_drivers_and_the_sweep_change_nothing(name, options, tmp_path):
    """Each kill hits, at a random time, a worker, the driver alone, or all processes at once."""
    skip_if_missing(name)
    folders = make_folders(tmp_path, 60)
    command = [sys.executable, "-m", "tests.runs.stub_cells", str(tmp_path), name, "2", *options]
    rng, kills = random.Random(name), {"worker": 0, "driver": 0, "sweep": 0}
    process = None
    while sum(kills.values()) < 20 and not all(results(folders)):
        if process is None or process.poll() is not None:
            process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
            wait_for_worker(process, tmp_path)
        time.sleep(rng.uniform(0, 0.8))
        victim, workers = rng.choice(list(kills)), cell_processes(tmp_path)
        with contextlib.suppress(ProcessLookupError):
            if victim == "worker" and workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
            elif victim == "driver":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            kills[victim] += 1
        process.poll()
    if process.poll() is None:
        process.kill()
    process.wait()
    assert subprocess.run(command, cwd=ROOT, timeout=180).returncode == 0
    assert results(folders) == [f"result of {folder.name}" for folder in folders]
    assert all(is_done(folder) for folder in folders)
    assert min(kills.values()) >= 2, kills


def wait_for_worker(process: subprocess.Popen, out: Path) -> None:
    """Wait until a driver has begun a cell or has ended, at most a minute."""
    wait_until(lambda: cell_processes(out) or process.poll() is not None)


def wait_until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until `true()`, at most some seconds."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.slow
def test_cells_of_a_node_of_ray_that_is_lost_are_computed_on_another(tmp_path, monkeypatch):
    skip_if_missing("ray")
    monkeypatch.setattr(processes, "cell_command", stub_cells.stub_command)
    from ray.cluster_utils import Cluster

    folders, cluster, lost = make_folders(tmp_path, 4), Cluster(), []
    cluster.add_node(num_cpus=0)  # of the driver: it runs no cell
    node = cluster.add_node(num_cpus=1)
    (folders[0] / "wait").touch()
    executor = make_executor("ray", tmp_path, 1, address=cluster.address)

    def lose_the_node() -> bool:
        """Kill the node while it runs the first cell, once, and add another."""
        if not lost and (folders[0] / "pid").exists():
            lost.append(node)
            cluster.remove_node(node, allow_graceful=False)
            (folders[0] / "wait").unlink()
            cluster.add_node(num_cpus=1)
        return False

    try:
        assert driver.run_missing(folders, executor, Silent(), lose_the_node) == {}
    finally:
        cluster.shutdown()
    assert lost and results(folders) == [f"result of {folder.name}" for folder in folders]
    assert len((folders[0] / "tries").read_text()) == 2


@pytest.mark.slow
def test_a_job_that_slurm_preempts_is_queued_again(tmp_path, monkeypatch):
    skip_if_missing("slurm")
    monkeypatch.setattr(processes, "cell_command", stub_cells.stub_command)
    (folder,) = make_folders(tmp_path, 1)
    (folder / "wait").touch()
    executor = make_executor("slurm", tmp_path, 1, options=("cluster=local", "timeout_min=5"))
    (job,) = executor.start([folder])
    wait_until(lambda: (folder / "pid").exists())
    job_process = int((folder / "pid").read_text().split()[1])
    os.kill(job_process, signal.SIGUSR2)  # as Slurm does before it takes the machine back
    wait_until(lambda: "Requeued" in f"{job.stdout()}{job.stderr()}", seconds=25)
    (folder / "wait").unlink()
    wait_until(lambda: executor.code(job) is not None)
    assert executor.code(job) == 0 and results([folder]) == ["result of cell-00"]
    assert (folder / "tries").read_text() == "xx"  # the second found the result of the first


LISTEN = """
import os
from pathlib import Path
from runs.scale.executors import make_executor
executor = make_executor("ray", Path("."), 1)
try:
    sockets = {}
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
            if b"ray" in Path(f"/proc/{process}/cmdline").read_bytes():
                sockets |= {link[8:-1]: process for link in links if link.startswith("socket:")}
        except OSError:
            continue
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                print(fields[1].partition(":")[0])
finally:
    executor.close([])
"""


@pytest.mark.slow
def test_a_cluster_of_this_machine_listens_on_loopback_alone():
    skip_if_missing("ray")
    done = subprocess.run([sys.executable, "-c", LISTEN], cwd=ROOT, capture_output=True, text=True)
    addresses = done.stdout.split()
    assert len(addresses) >= 4, done.stderr
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}


SIMULATION = """
import hashlib, json, random, resource, sys, time
from pathlib import Path
from runs.scale import driver
from tests.runs.stub_cells import Silent

class Cluster:
    slots = 500
    def __init__(self):
        self.rng, self.now, self.lost, self.opens = random.Random(0), 0.0, 0, 0
    def start(self, folders):
        return [(f, self.now + self.rng.uniform(60, 600)) for f in folders]
    def code(self, handle):
        folder, end = handle
        if self.now < end:
            return None
        if self.rng.random() < 0.05:
            self.lost += 1
            return -1
        text = "variant,score\\n" + "x,1\\n" * 580
        (folder / "result.csv").write_text(text)
        sha = hashlib.sha256(text.encode()).hexdigest()
        (folder / "done.json").write_text(json.dumps({"sha256": sha, "checkpoint": ""}))
        return 0
    def close(self, handles):
        pass
    def sleep(self, seconds):
        self.now += seconds

cluster = Cluster()
driver.time.sleep = cluster.sleep
folders = [Path(sys.argv[1]) / f"{i:05d}" for i in range(10_000)]
for folder in folders:
    folder.mkdir()
before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
failures = driver.run_missing(folders, cluster, Silent(), lambda: False)
peak, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time() - begin
print(json.dumps([len(failures), cluster.lost, cluster.now, seconds, (peak - before) / 1e3]))
"""


@pytest.mark.slow
def test_a_driver_of_ten_thousand_cells_on_five_hundred_workers(tmp_path, capsys):
    """Cells of 1 to 10 minutes of simulated time, of which 1 in 20 is lost each time it is run."""
    done = subprocess.run(
        [sys.executable, "-c", SIMULATION, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    failed, lost, simulated, seconds, megabytes = json.loads(done.stdout)
    with capsys.disabled():
        print(
            f"\n10,000 cells, {lost} lost, {failed} of them three times, on 500 workers: "
            f"{simulated / 3600:.2f} h, {seconds:.1f} s of the driver, {megabytes:.0f} MB more"
        )
    assert 400 < lost < 650 and failed < 10
    assert simulated < 1.15 * 10_000 * 330 * 1.05 / 500 + 600  # workers are kept busy
    assert seconds < 60 and megabytes < 200


def test_processes_divide_the_cores():
    parts = [cores_of(slot, 2, {0, 1, 4, 5}) for slot in range(2)]
    assert parts == [[0, 1], [4, 5]]
    assert cores_of(0, 1, {3, 1}) == [1, 3]
    assert [cores_of(slot, 5, {0, 1}) for slot in range(3)] == [[0], [1], [0]]


def test_a_cell_without_a_shared_folder_comes_back_as_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(processes, "cell_command", stub_cells.stub_command)
    (folder,) = make_folders(tmp_path, 1)
    code, files = ray_tasks.run_sent("{}", folder)
    assert code == 0 and set(files) == {"result.csv", "done.json", "log"}
    assert not (folder / "result.csv").exists()  # it ran elsewhere
    ray_tasks.write_files(folder, files)
    assert is_done(folder) and results([folder]) == ["result of cell-00"]
    ray_tasks.write_files(folder, files | {"result.csv": b"half of the resu"})
    assert not is_done(folder)  # a result that was cut on its way is computed again
    away = "../x", "/tmp/x.y", "study/../x.y", "cell.json", "x/result.csv"
    ray_tasks.write_files(folder, dict.fromkeys(away, b"") | {"study/page.md": b"a page"})
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert names == {"result.csv", "done.json", "study/page.md"}


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_executor_that_is_not_installed_names_its_extra(name, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is missing: pip install -e '.\[{name}\]'"):
        make_executor(name, tmp_path)


def test_an_address_that_does_not_answer():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"--address 127.0.0.1:{port}: no answer"):
            check_answers(f"127.0.0.1:{port}")  # bound, and not listening
        listener.listen()
        check_answers(f"ray://127.0.0.1:{port}")
    with pytest.raises(UserError, match="--address nowhere: no answer"):
        check_answers("nowhere")


def test_a_folder_that_workers_do_not_share(tmp_path):
    check_shared(tmp_path, Path.read_text)
    for read in (lambda path: "", lambda path: "an older token"):
        with pytest.raises(UserError, match="the workers do not share this folder"):
            check_shared(tmp_path, read)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": ["num_gpus"]}, "write it as KEY=VALUE"),
        ({"options": ["a=1"]}, "--options: not of the executor local"),
        ({"address": "host:1"}, "--address: not of the executor local"),
        ({"collect": True}, "--collect: not of the executor local"),
    ],
)
def test_options_that_do_not_fit_the_executor(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make_executor("local", tmp_path, **arguments)
