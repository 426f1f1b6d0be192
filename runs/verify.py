"""Verify that a study folder is complete, unaltered and run as preregistered.

Recomputes from the folder: the hash chain of the ledger, the digest of every file that was entered
(scores, readouts, metrics, timelines, films, event files, report), the hash of the plan, the hashes
of the checkpoints, the training worlds of the arms, and whether the study was run as planned. What
fails is named, with what it costs to make it again. Exit code 0 only if all checks hold.
Tamper-evident, not tamper-proof.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError

COMMAND = "python -m runs.verify"


@dataclass(frozen=True)
class Settings:
    """Command-line settings of the verification.

    Attributes:
        folder: of the study, such as runs/logs/compare/CartPole-eb021f4b.
    """

    folder: Positional[Path] = Path()


def main(argv: list[str]) -> int:
    """Parse the arguments and run the audit -> exit code, 1 unless every check holds."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not settings.folder.is_dir():
        raise UserError(f"{settings.folder}: no such folder; name that of a study")
    from runs.prereg.audit import audit, looks_sentence

    findings = audit(settings.folder)
    for finding in findings:
        for problem in finding.problems:
            print(f"FAILS  {finding.check:<16} {problem}")
        if not finding.problems:
            print(f"holds  {finding.check:<16} {finding.detail}".rstrip())
    print(f"       {'looks':<16} {looks_sentence(settings.folder)}")
    failures = sum(len(finding.problems) for finding in findings)
    print(f"{'unverified' if failures else 'verified'}: {settings.folder}")
    return int(failures > 0)


if __name__ == "__main__":
    run_main(main)
