"""Is this study what it says it is?

Recomputes everything from the study's folder: the chain of its ledger, the hash of its plan, the
hashes of its checkpoints, the digests of its scores, where its arms were trained, and whether what
was run is what was planned. Exit code 0 only if all of it holds. Tamper-evident, not tamper-proof.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from runs.cli.settings import parse_settings, run_main
from runs.errors import UserError

COMMAND = "python -m runs.verify"


@dataclass(frozen=True)
class Settings:
    """Settings of the verification.

    Attributes:
        folder: of the study, such as runs/logs/compare/CartPole-eb021f4b.
    """

    folder: Positional[Path] = Path()


def main(argv: list[str]) -> int:
    """Parses, then verifies; the exit code: 1 unless everything holds."""
    settings = parse_settings(Settings, argv, __doc__ or "", prog=COMMAND)
    if not settings.folder.is_dir():
        raise UserError(f"{settings.folder}: no such folder; name that of a study")
    from runs.prereg.audit import audit, looks_sentence

    found = audit(settings.folder)
    for one in found:
        for wrong in one.wrong:
            print(f"FAILS  {one.what:<16} {wrong}")
        if not one.wrong:
            print(f"holds  {one.what:<16} {one.said}".rstrip())
    print(f"       {'looks':<16} {looks_sentence(settings.folder)}")
    broken = sum(len(one.wrong) for one in found)
    print(f"{'unverified' if broken else 'verified'}: {settings.folder}")
    return int(broken > 0)


if __name__ == "__main__":
    run_main(main)
