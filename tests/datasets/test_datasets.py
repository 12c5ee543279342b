"""Named data sets: where a file is looked for, that it is checked, and what is said when it can't be had."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pooch
import pytest

from regraft.datasets import DataFile, DataSet, data_sets, fetch, files, list_data_sets, registry
from regraft.errors import CorpusError, ParameterError

CONTENT = b"xin ch\xc3\xa0o\n"


@pytest.fixture
def greetings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DataSet:
    file = DataFile("vi.txt", "https://raw.example.invalid/vi.txt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    entry = DataSet("greetings", "someone/greetings", "0" * 40, "none stated", False, "two words", {"vi.txt": file})
    monkeypatch.setattr(registry, "data_sets", lambda: {"greetings": entry})
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("REGRAFT_DATA", raising=False)
    return entry


def put(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / "greetings" / "vi.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_every_listed_file_has_a_fixed_address_and_a_hash() -> None:
    for entry in data_sets().values():
        assert re.fullmatch(r"[0-9a-f]{40}", entry.commit)
        assert entry.licence
        assert entry.files
        for file in entry.files.values():
            assert file.url.startswith(f"https://raw.githubusercontent.com/{entry.repository}/{entry.commit}/")
            assert not re.search(r"[\s#?%]", file.url)
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0
            assert Path(file.name).name == file.name  # never outside its folder


def test_the_data_of_the_first_reproductions_is_there() -> None:
    assert {"en.train", "vi.train", "en.valid", "vi.valid"} <= set(files("en-vi-wikipedia"))
    assert data_sets()["en-vi-wikipedia"].redistributable


def test_the_given_folder_comes_first_and_is_checked(greetings: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_DATA", str(tmp_path))
    path = put(tmp_path)
    assert fetch("greetings", "vi.txt") == path
    assert list_data_sets()[0]["where"] == str(tmp_path / "greetings")
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(CorpusError, match="not the published file"):
        fetch("greetings", "vi.txt")


def test_then_the_cache_then_the_network(greetings: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_DATA", str(tmp_path / "empty"))
    asked = []

    def download(url: str, output_file: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        Path(output_file).write_bytes(CONTENT)

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: download)
    assert list_data_sets()[0]["where"] == "not here"
    first = fetch("greetings", "vi.txt")
    assert first.read_bytes() == CONTENT
    assert fetch("greetings", "vi.txt") == first == tmp_path / "cache" / "regraft" / "greetings" / "vi.txt"
    assert asked == [greetings.files["vi.txt"].url]
    assert list_data_sets()[0]["where"] == str(first.parent)


def test_a_download_that_differs_is_refused(greetings: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, output_file: str, *_: Any, **__: Any) -> None:
        Path(output_file).write_bytes(b"<html>sign in</html>")

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: download)
    with pytest.raises(CorpusError, match="not the published file"):
        fetch("greetings", "vi.txt")
    assert list_data_sets()[0]["where"] == "not here"


def test_without_a_network_one_line_says_what_to_do(greetings: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise ConnectionError("a long story\nover several lines")

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: download)
    with pytest.raises(CorpusError) as caught:
        fetch("greetings", "vi.txt")
    assert "\n" not in str(caught.value)
    for said in ("greetings", "vi.txt", "https://raw.example.invalid/vi.txt", "REGRAFT_DATA"):
        assert said in str(caught.value)


def test_licences_that_forbid_passing_on_are_shown(greetings: DataSet) -> None:
    row = list_data_sets()[0]
    assert (row["licence"], row["redistribution"], row["files"], row["size"]) == ("none stated", "check first", 1, len(CONTENT))


def test_unknown_names_list_the_known_ones(greetings: DataSet) -> None:
    with pytest.raises(ParameterError, match="unknown data set 'greeting': choose one of greetings"):
        files("greeting")
    with pytest.raises(ParameterError, match=r"no file 'en.txt': it has vi.txt"):
        fetch("greetings", "en.txt")
