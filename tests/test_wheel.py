"""What users install: the wheel and the sdist are built, and the wheel's own files run with the packages that are here."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("hatchling")


FIRST_STEPS = """
import regraft
from regraft.cli import app
from regraft.report import Report
print(regraft.__file__)
app(["methods", "--family", "initializer"], standalone_mode=False)
app(["data"], standalone_mode=False)
report = Report("t")
report.add_table("a", [{"x": 1}])
print(f"t: {report.to_html().count('<table>')} table")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
        )
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_runs_from_a_fresh_environment(built, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    place = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")}))
    zipfile.ZipFile(built[0]).extractall(place)
    (place / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")  # dependencies as they are here, ours from the wheel
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*arguments):
        asked = [python, *arguments]
        return subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    assert "compare-tasks" in run("-m", "regraft", "--help")
    said = run("-c", FIRST_STEPS).splitlines()
    assert Path(said[0]).is_relative_to(place)
    assert any("zip-tie" in line for line in said)
    assert any("ncbi-disease" in line for line in said)
    assert said[-1] == "t: 1 table"  # the report's template comes along
    assert "regraft = regraft.cli:main" in next(place.glob("regraft-*.dist-info/entry_points.txt")).read_text("utf-8")


def test_the_sdist_has_what_a_build_and_its_tests_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/regraft/cli/app.py", "tests/conftest.py"} <= names
    assert not [name for name in names if ".venv" in name or "__pycache__" in name]
