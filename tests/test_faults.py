"""The faults that `nox -s faults` plants are in lines that are there, and so are the tests that must notice them."""

from __future__ import annotations

from pathlib import Path

from tests.faults import FAULTS
from tests.project import Project
from tests.table import ROOT


def test_each_fault_can_be_planted(tmp_path: Path) -> None:
    projects = {data: Project.render(tmp_path / data / "demo", data=data).path for data in ("digits", "text")}
    for fault in FAULTS:
        project = projects[fault.data]
        planted, tests = project / "src" / "demo" / fault.file, project / "tests"
        if fault.test.startswith("tests/"):  # of the template
            planted, tests = ROOT / fault.file, ROOT
        assert fault.old in planted.read_text(encoding="utf-8"), fault
        file, _, name = fault.test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (tests / file).read_text(encoding="utf-8"), fault
