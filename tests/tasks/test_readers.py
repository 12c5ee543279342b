import json

import pytest

from regraft.errors import TaskError
from regraft.tasks.labelled.examples import split_by_hash
from regraft.tasks.labelled.readers import read_examples
from regraft.vocab.tasks import Labelled, LabelledData, Tagged, open_labelled, open_task

CONLL = "-DOCSTART- O\n\nGiven O\nketostatin B-Drug\n\nno X O\n"


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(kind, path, *columns):
    return list(read_examples(kind, path, *columns))


def test_conll_takes_the_first_and_the_last_column(tmp_path):
    found = read("tagging", write(tmp_path, "a.conll", CONLL))
    assert found == [Tagged(("Given", "ketostatin"), ("O", "B-Drug")), Tagged(("no",), ("O",))]


def test_brat_lines_become_tagged_words(tmp_path):
    text = "Takes keto statin daily.\nSevere left-sided pain, none else\n"
    at = text.index
    entities = [
        f"T1\tDrug {at('keto')} {at('keto') + 11}\tketo statin",
        f"T2\tSign {at('left')} {at('left') + 4};{at('pain')} {at('pain') + 4}\tleft pain",
        "R1\tTreats Arg1:T1 Arg2:T2",
        f"T3\tPart {at('statin')} {at('statin') + 6}\tstatin",
    ]
    write(tmp_path, "n/a.txt", text)
    write(tmp_path, "n/a.ann", "\n".join(entities))
    for path in (tmp_path / "n", tmp_path / "n/a.ann"):
        first, second = read("tagging", path)
        assert first.words == ("Takes", "keto", "statin", "daily", ".")
        assert first.tags == ("O", "B-Drug", "I-Drug", "O", "O")  # the entity inside another is left out
        assert second.words[1:5] == ("left", "-", "sided", "pain")
        assert second.tags[1:5] == ("B-Sign", "O", "O", "B-Sign")


def test_tables_and_records_say_the_same(tmp_path):
    wanted = [Labelled("one, two", ("a", "b")), Labelled("three", ()), Labelled("four", ("b",))]
    csv = write(tmp_path, "a.csv", 'labels,text\na; b,"one, two"\n,three\nb|b,four\n')
    tsv = write(tmp_path, "a.tsv", "text\tlabels\none, two\ta|b\nthree\t\nfour\tb\n")
    records = [{"text": "one, two", "labels": ["a", "b"]}, {"text": "three", "labels": None}, {"text": "four", "labels": "b"}]
    jsonl = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, records)))
    assert read("coding", csv) == read("coding", tsv) == read("coding", jsonl) == wanted
    named = write(tmp_path, "b.csv", "note,code\nsome,x\n")
    assert read("classification", named, "note", "code") == [Labelled("some", ("x",))]


def test_held_out_side_depends_on_each_text_alone(tmp_path):
    examples = [Labelled(f"text {i}", ("ab"[i % 2],)) for i in range(200)]
    train, test = split_by_hash(examples, 0.2)
    assert 20 < len(test) < 60
    fewer = split_by_hash(examples[::3], 0.2)
    assert set(fewer[0]) <= set(train)
    assert set(fewer[1]) <= set(test)


def test_user_is_told_of_copies_and_unseen_labels(tmp_path):
    train = write(tmp_path, "train.csv", "text,label\nx,a\ny,b\n")
    test = write(tmp_path, "test.csv", "text,label\nx,a\nz,c\n")
    data = open_labelled("classification", train, test)
    assert data.unseen == ["c"]
    assert "1 of 2 test examples" in data.notes[0]
    assert "never trained on" in data.notes[1]


TAGS = '{"tokens": ["a", "b"], "tags": ["O"]}'


@pytest.mark.parametrize(
    ("kind", "name", "text", "said"),
    [
        ("tagging", "a.conll", "word\n", "line 1: 'word' is not a word with a tag"),
        ("tagging", "a.conll", "word 7\n", "is not a word with a tag"),
        ("tagging", "a.csv", "a,b\n", "tagging reads CoNLL columns"),
        ("tagging", "a.jsonl", TAGS, "2 tokens but 1 tags"),
        ("tagging", "a.jsonl", '{"tokens": ["a"], "tags": [3]}', "'3' is not a tag"),
        ("tagging", "a.jsonl", '{"text": "a"}', "it has 'text'"),
        ("tagging", "a.jsonl", "[1]", "not a JSON object"),
        ("tagging", "n/a.ann", "T1\tDrug 0 4\tketo", "missing, but a.ann annotates it"),
        ("coding", "a.csv", "text,codes\nx,1\n", "no column 'labels'; it has 'text', 'codes'"),
        ("coding", "a.csv", "text,labels\nx\n", "1 fields where the header has 2"),
        ("coding", "a.jsonl", '{"text": "a"}', "no 'labels'"),
        ("coding", "a.jsonl", '{"text": 3, "labels": []}', "'text' is not text"),
        ("coding", "a.txt", "x", "coding reads .csv, .tsv and .jsonl"),
        ("classification", "a.csv", "text,label\nx,a;b\n", "2 labels where classification has one"),
        ("classification", "a.csv", "text,label\nx,\n", "0 labels where classification has one"),
        ("classification", "absent.csv", None, "no such file"),
    ],
)
def test_malformed_file_is_one_clear_line(tmp_path, kind, name, text, said):
    path = tmp_path / name if text is None else write(tmp_path, name, text)
    with pytest.raises(TaskError) as caught:
        read(kind, path)
    assert said in str(caught.value)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_annotation_of_another_text_is_refused(tmp_path):
    write(tmp_path, "a.txt", "the text was edited")
    with pytest.raises(TaskError, match="line 1: its text 'keto' is 'the ' in the text file"):
        read("tagging", write(tmp_path, "a.ann", "T1\tDrug 0 4\tketo"))


def test_text_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\nfièvre,a\n".encode("latin-1"))
    with pytest.raises(TaskError, match="not UTF-8 text"):
        read("classification", tmp_path / "a.csv")


def test_data_that_no_task_can_be_made_of_is_refused():
    one, two, none = Labelled("x", ("a",)), Labelled("y", ("b",)), Labelled("z", ())
    with pytest.raises(TaskError, match="no test examples"):
        LabelledData("d", "coding", (one,), ())
    with pytest.raises(TaskError, match="no labels among the 1 training"):
        LabelledData("d", "coding", (none,), (one,))
    with pytest.raises(TaskError, match="every text is labelled 'a'"):
        LabelledData("d", "classification", (one,), (one,))
    with pytest.raises(TaskError, match="shares no label"):
        LabelledData("d", "coding", (one,), (two,))


def test_share_that_leaves_too_few_examples_is_refused():
    data = LabelledData("d", "coding", tuple(Labelled(f"x{i}", ("a",)) for i in range(20)), (Labelled("y", ("a",)),))
    assert data.size(0.1) == 2
    with pytest.raises(TaskError, match="5 % of 20 labelled training examples is fewer than 2: label at least 30"):
        data.size(0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("parsing",), "--task parsing: unknown; choose tagging, coding, classification with --labels FILE, or one of ncbi-disease"),
        (("tagging",), "needs labelled examples: give --labels FILE"),
        (("ncbi-disease", "own.conll"), "brings its own labels"),
        (("tagging", "absent.conll"), "absent.conll: no such file"),
    ],
)
def test_task_that_cannot_be_opened_says_why(arguments, said):
    with pytest.raises(TaskError) as caught:
        open_task(*arguments)
    assert said in str(caught.value)
