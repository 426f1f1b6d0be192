"""Verification: every tampering with a finished study is detected and named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runs.errors import UserError
from runs.prereg import ledger, plan_file, seal
from runs.prereg.audit import audit, looks_sentence, watermark
from runs.verify import main
from tests.runs.sealed_study import ARMS, score, sealed_plan, study, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory) -> Path:
    return study(tmp_path_factory.mktemp("honest") / "study")


@pytest.fixture
def out(finished_study, tmp_path) -> Path:
    return Path(shutil.copytree(finished_study, tmp_path / "study"))


def test_an_untouched_study_is_verified(out, capsys):
    assert main([str(out)]) == 0
    text = capsys.readouterr().out
    assert "FAILS" not in text
    assert text.count("holds ") == 6
    assert "dev looks 1, sealed looks 1" in text
    assert text.endswith(f"\nverified: {out}\n")
    assert watermark(out) is None


def test_a_study_is_verified_by_its_relative_path_too(out, monkeypatch):
    monkeypatch.chdir(out.parent)
    assert watermark(Path(out.name)) is None
    assert main([out.name]) == 0


def edit_ledger(out):
    path = out / ledger.NAME
    path.write_text(path.read_text().replace('"seeds": 3', '"seeds": 20', 1))


def delete_line(out):
    path = out / ledger.NAME
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))


def cut_tail(out):
    path = out / ledger.NAME
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def delete_ledger(out):
    (out / ledger.NAME).unlink()
    (out / "ledger.head").unlink()


def swap_checkpoint(out):
    train(out, ["fear"], luck=1.0)


def swap_numbers_under_the_manifest(out):
    inside = seal.newest_checkpoint(out / "checkpoints" / "fear")
    other = seal.newest_checkpoint(out / "checkpoints" / "none")
    shutil.rmtree(inside / "arrays")
    shutil.copytree(other / "arrays", inside / "arrays")


def swap_numbers_and_their_hashes(out):
    """Files and manifest agree, but the leaves are not the frozen ones."""
    from runs.engine.checkpoint import _manifest_sha

    swap_numbers_under_the_manifest(out)
    inside = seal.newest_checkpoint(out / "checkpoints" / "fear")
    manifest = json.loads((inside / "manifest.json").read_text())
    files = sorted(path for path in inside.rglob("*") if path.name != "manifest.json")
    manifest["files"] = {
        str(path.relative_to(inside)): seal.file_hash(path) for path in files if path.is_file()
    }
    del manifest["sha256"]
    manifest["sha256"] = _manifest_sha(manifest)
    (inside / "manifest.json").write_text(json.dumps(manifest))


def change_plan(out):
    path = out / plan_file.PLAN_FILE
    primary = 'primary = ["fear_constant", "constant_plus"]'
    assert primary in path.read_text()
    path.write_text(path.read_text().replace(primary, 'primary = ["fear", "none"]'))


def break_plan(out):
    (out / plan_file.PLAN_FILE).write_text("nonsense")


def better_scores(out):
    score(out, better=0.2)


def better_sealed_scores(out):
    score(out, "sealed.csv", better=0.2)


def drop_sealed_scores(out):
    (out / "sealed.csv").unlink()


def drop_an_arm(out):
    score(out, arms=ARMS[:-1])
    seal.enter_scores(out)


TAMPERINGS = [
    (edit_ledger, "ledger: line 1 was edited"),
    (delete_line, "ledger: deleted: line 3"),
    (cut_tail, "ledger: cut from the end: line 5"),
    (delete_ledger, "ledger: there is none"),
    (swap_checkpoint, "checkpoints: checkpoint of fear was swapped after it was frozen"),
    (swap_numbers_under_the_manifest, "checkpoints: checkpoint of fear is damaged"),
    (swap_numbers_and_their_hashes, "checkpoints: checkpoint of fear is damaged: leaf"),
    (change_plan, "plan: plan.toml was changed after it was entered"),
    (break_plan, "plan.toml is not TOML"),
    (better_scores, "scores: scores.csv was changed after it was entered"),
    (better_sealed_scores, "scores: sealed.csv was changed after it was entered"),
    (drop_sealed_scores, "scores: sealed.csv was deleted after it was entered"),
    (drop_an_arm, "run as planned: scores.csv: seeds of fear_constant: 3 were declared, 0 scored"),
]


@pytest.mark.parametrize(("tamper", "named"), TAMPERINGS, ids=lambda x: getattr(x, "__name__", ""))
def test_tampering_is_caught_and_named(tamper, named, out, capsys):
    tamper(out)
    mark = watermark(out)
    assert mark.startswith("unverified: ")
    assert named in mark
    assert "\n" not in mark
    assert main([str(out)]) == 1
    assert f"unverified: {out}" in capsys.readouterr().out


def test_training_in_a_sealed_world_is_caught(tmp_path):
    study(tmp_path / "sealed", sealed=["dynamics"])
    assert "training worlds: world random is sealed" in watermark(tmp_path / "sealed")


def test_training_in_a_public_shift_is_caught(tmp_path):
    from dataclasses import replace

    plan = sealed_plan()
    seal.register(tmp_path, replace(plan, worlds=plan.worlds | {"flip": "actuator"}))
    train(tmp_path)
    seal.freeze_agents(tmp_path)
    score(tmp_path)
    seal.enter_scores(tmp_path)
    assert "training worlds: world flip is dev" in watermark(tmp_path)


def test_a_plan_written_after_training_is_caught(tmp_path):
    train(tmp_path, ["fear"])
    study(tmp_path)
    assert "written after training had begun: there were checkpoints of fear" in watermark(tmp_path)


def test_scores_not_entered_in_the_ledger_are_caught(tmp_path):
    seal.register(tmp_path, sealed_plan())
    train(tmp_path)
    seal.freeze_agents(tmp_path)
    score(tmp_path)
    assert "scores.csv was never entered" in watermark(tmp_path)


def test_a_stopped_seed_is_not_taken_for_tampering(out):
    for split, name in seal.SCORES.items():
        lines = (out / name).read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("CartPole,fear,1,")]
        (out / name).write_text("".join(kept))
        seal.enter_scores(out, split)
    assert "seeds of fear: 3 were declared, 2 scored" in watermark(out)
    (out / "stopped" / "fear-s1").mkdir(parents=True)
    assert watermark(out) is None


def test_looks_of_neighbouring_studies_count(out):
    shutil.copytree(out, out.parent / "same")
    assert looks_sentence(out) == "dev looks 1, sealed looks 1"
    for i in range(3):
        other = out.parent / f"tuned-{i}"
        seal.register(other, sealed_plan())
        train(other, luck=i + 1.0)
        seal.freeze_agents(other)
        score(other, better=i / 10)
        seal.enter_scores(other)
    assert looks_sentence(out).startswith(
        "dev looks 4, sealed looks 1; expected optimism of the best of 4"
    )


def test_scores_without_a_ledger_are_unverified_and_an_empty_folder_is_refused(tmp_path):
    score(tmp_path)
    assert "ledger: there is none" in watermark(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no study"):
        audit(tmp_path / "empty")
    assert watermark(tmp_path / "empty").startswith("unverified: ")


@pytest.mark.parametrize("argv", [[], ["nowhere"], ["."], ["--sealed"]])
def test_bad_input_is_one_line_and_exit_code_2(argv, tmp_path):
    command = [sys.executable, "-m", "runs.verify", *argv]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
