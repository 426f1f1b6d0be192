"""Verification: every tampering with a finished study is detected and named."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from runs.engine.checkpoint import _manifest_sha
from runs.errors import UserError
from runs.prereg import ledger, seal
from runs.prereg.audit import audit, looks_sentence, watermark
from runs.verify import main
from tests.refusal import refused_command
from tests.runs import sealed_study
from tests.runs.sealed_study import ARMS, score, sealed_plan, study, train

SPLITS = {name: split for split, name in seal.SCORES.items()}


def score_only(out: Path, plan=None, better: float = 0.0) -> Path:
    """Register, train, freeze, and score the public shifts, without entering the scores."""
    seal.register(out, plan or sealed_plan())
    train(out, luck=10 * better)
    seal.freeze_agents(out)
    score(out, better=better)
    return out


def test_an_untouched_study_is_verified(out, capsys, monkeypatch):
    monkeypatch.chdir(out.parent)
    for folder in (out, Path(out.name)):  # a relative path too
        assert main([str(folder)]) == 0
        text = capsys.readouterr().out
        assert "FAILS" not in text
        assert text.count("holds ") == 7
        assert "dev looks 1, sealed looks 1" in text
        assert text.endswith(f"\nverified: {folder}\n")
        assert watermark(folder) is None


def edited(name, change):
    """Tampering that replaces the text of a file by `change(text)`."""
    return lambda out: (out / name).write_text(change((out / name).read_text()))


def without_line(text: str, number: int) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[: number - 1] + lines[number:])


def delete_ledger(out):
    (out / ledger.NAME).unlink()
    (out / "ledger.head").unlink()


def swap_numbers_under_the_manifest(out):
    inside = seal.newest_checkpoint(out / "checkpoints" / "fear")
    other = seal.newest_checkpoint(out / "checkpoints" / "none")
    shutil.rmtree(inside / "arrays")
    shutil.copytree(other / "arrays", inside / "arrays")


def swap_numbers_and_their_hashes(out):
    """Files and manifest agree, but the leaves are not the frozen ones."""
    swap_numbers_under_the_manifest(out)
    inside = seal.newest_checkpoint(out / "checkpoints" / "fear")
    manifest = json.loads((inside / "manifest.json").read_text())
    files = sorted(path for path in (inside / "arrays").rglob("*") if path.is_file())
    manifest["files"] = {str(path.relative_to(inside)): seal.file_hash(path) for path in files}
    del manifest["sha256"]
    manifest["sha256"] = _manifest_sha(manifest)
    (inside / "manifest.json").write_text(json.dumps(manifest))


def name_a_file_outside(out):
    path = seal.newest_checkpoint(out / "checkpoints" / "fear") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../" * 30 + "dev/zero"] = "0"
    del manifest["sha256"]
    path.write_text(json.dumps(manifest | {"sha256": _manifest_sha(manifest)}))


def drop_an_arm(out):
    score(out, arms=ARMS[:-1])


def change_primary(text: str) -> str:
    assert 'primary = [\n    "fear_constant"' in text
    return text.replace('primary = [\n    "fear_constant"', 'primary = [\n    "fear"')


TAMPERINGS = {
    "ledger: line 1 was edited": edited(
        ledger.NAME, lambda text: text.replace('"seeds": 3', '"seeds": 20', 1)
    ),
    "ledger: deleted: line 3": edited(ledger.NAME, lambda text: without_line(text, 3)),
    "ledger: cut from the end: line 5": edited(ledger.NAME, lambda text: without_line(text, 5)),
    "ledger: there is none": delete_ledger,
    "checkpoint of fear was swapped after it was frozen": lambda out: train(out, ["fear"], luck=1),
    "checkpoints: checkpoint of fear is damaged": swap_numbers_under_the_manifest,
    "checkpoints: checkpoint of fear is damaged: leaf": swap_numbers_and_their_hashes,
    "dev/zero lies outside of it": name_a_file_outside,
    "plan: plan.toml was changed after it was entered": edited("plan.toml", change_primary),
    "plan.toml is not TOML": edited("plan.toml", lambda text: "nonsense"),
    "scores: scores.csv was changed after it was entered": lambda out: score(out, better=0.2),
    "scores: sealed.csv was changed after it was entered": lambda out: score(
        out, "sealed.csv", better=0.2
    ),
    "scores: sealed.csv was deleted after it was entered": lambda out: (
        out / "sealed.csv"
    ).unlink(),
    "scores: sealed.csv cannot be read": edited("sealed.csv", lambda text: text + "a,b\n"),
    "run as planned: scores.csv: seeds of fear_constant: 3 were declared, 0 scored": drop_an_arm,
}


@pytest.mark.parametrize("named", TAMPERINGS)
def test_tampering_is_caught_and_named(named, out, capsys):
    TAMPERINGS[named](out)
    mark = watermark(out)
    assert mark.startswith("unverified: ")
    assert named in mark
    assert "\n" not in mark
    assert main([str(out)]) == 1
    assert f"unverified: {out}" in capsys.readouterr().out


def test_training_in_a_sealed_world_or_a_public_shift_is_caught(tmp_path):
    study(tmp_path / "sealed", sealed=["dynamics"])
    assert "training worlds: world random is sealed" in watermark(tmp_path / "sealed")
    plan = sealed_plan()
    plan = replace(plan, worlds=plan.worlds | {"flip": "actuator"})
    mark = watermark(score_only(tmp_path / "public", plan))
    assert "training worlds: world flip is dev" in mark
    assert "scores.csv was never entered" in mark


def test_a_plan_written_after_training_is_caught(tmp_path):
    train(tmp_path, ["fear"])
    seal.register(tmp_path, sealed_plan())
    assert "written after training had begun: there were checkpoints of fear" in watermark(tmp_path)


def test_a_stopped_seed_is_not_taken_for_tampering(tmp_path, monkeypatch):
    def score_without_a_seed(out, name="scores.csv", *options, **others):
        score(out, name, *options, **others)
        lines = (out / name).read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("CartPole,fear,1,")]
        (out / name).write_text("".join(kept))

    monkeypatch.setattr(sealed_study, "score", score_without_a_seed)
    out = study(tmp_path / "study")
    assert "seeds of fear: 3 were declared, 2 scored" in watermark(out)
    (out / "stopped" / "fear-s1").mkdir(parents=True)
    assert watermark(out) is None


@pytest.mark.parametrize("name", ["scores.csv", "sealed.csv"])
def test_edited_scores_are_refused_by_the_command_that_made_them(name, out):
    lines = (out / ledger.NAME).read_text()
    score(out, name, better=0.2)
    for call in (seal.check_scores, partial(seal.enter_scores, split=SPLITS[name])):
        with pytest.raises(UserError, match=f"{name} is not what line . of the ledger entered"):
            call(out)
    assert (out / ledger.NAME).read_text() == lines


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"\xff\n"), Path.mkdir])
def test_a_damaged_ledger_of_a_neighbour_is_named(damage, out):
    neighbour = Path(shutil.copytree(out, out.parent / "neighbour")) / ledger.NAME
    neighbour.unlink()
    damage(neighbour)
    sentence = "dev looks 1, sealed looks 1; damaged and not fully counted: neighbour"
    assert looks_sentence(out) == sentence
    assert watermark(out) is None
    assert "ledger: " in watermark(neighbour.parent)


def test_looks_of_neighbouring_studies_count(out):
    shutil.copytree(out, out.parent / "same")
    assert looks_sentence(out) == "dev looks 1, sealed looks 1"
    for i in range(1, 4):
        seal.enter_scores(score_only(out.parent / f"tuned-{i}", better=i / 10))
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


@pytest.mark.parametrize("argv", [[], ["nowhere"], ["--sealed"]])
def test_bad_input_is_one_line_and_exit_code_2(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused_command(main, *argv, capsys=capsys, monkeypatch=monkeypatch)
