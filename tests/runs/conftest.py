"""Studies that several files of tests begin with."""

import shutil
from pathlib import Path

import pytest

from tests.runs import sealed_study


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory) -> Path:
    """A finished and sealed study; not to be changed."""
    return sealed_study.study(tmp_path_factory.mktemp("finished") / "study")


@pytest.fixture
def out(finished_study, tmp_path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(finished_study, tmp_path / "study"))
