"""Source code as trees: strings, comments, docstrings, what is skipped, and three languages through one interface."""

import sys

import pytest

from regraft.errors import CorpusError, InputError, ParameterError
from regraft.probe.probes.ast_probe import grammar as grammars
from regraft.probe.probes.ast_probe.encoding import decode, encode
from regraft.probe.probes.ast_probe.grammar import NO_GRAMMAR, NO_PYTHON, Grammar
from regraft.probe.probes.ast_probe.snippets import Snippet, draw, read_functions, source_files, split_by_file

PYTHON = '''
def f(a):
    """A docstring."""
    # a comment
    x = f"a{b}c" "d" \\
        + 'e'
    "no docstring"
    return x

class C:
    """Of a class."""

    def g(self):  # another
        def h(): pass
        return (self
                .y)
'''


def functions(source, language="python"):
    return list(Grammar(language).functions(source))


def test_strings_are_one_token_and_comments_and_docstrings_none():
    f, g, h = (one.tree for one in functions(PYTHON))
    assert f.tokens == ("def", "f", "(", "a", ")", ":", "x", "=", 'f"a{b}c"', '"d"', "+", "'e'", '"no docstring"', "return", "x")
    assert (f.label, f.children[0].label) == ("module", "function_definition")
    assert h.tokens == ("def", "h", "(", ")", ":", "pass")
    assert g.tokens[-6:] == ("return", "(", "self", ".", "y", ")")
    assert "docstring" not in " ".join(Grammar("python").tree(PYTHON).tokens).replace('"no docstring"', "")


def test_a_function_of_nothing_but_a_docstring_has_no_body():
    (only,) = functions('def f():\n    """Nothing else."""\n')
    assert only.tree.tokens == ("def", "f", "(", ")", ":")


def test_what_does_not_parse_is_skipped_and_told_apart():
    mixed = "def good(a):\n    return a\n\ndef bad(a):\n    return a +* 2\n\ndef octal():\n    return 08 if 1 else 2\n"
    found = {one.tree.tokens[1] if one.tree else one.skipped for one in functions(mixed)}
    assert "good" in found
    assert NO_GRAMMAR in found
    late = "class C:\n    def f(self):\n        return g(a=1, 2)\n\n    def ok(self):\n        return 1\n"
    assert [one.skipped for one in functions(late)] == [NO_PYTHON, ""]


@pytest.mark.parametrize(
    ("language", "source", "tokens"),
    [
        ("javascript", "class A { m(a) { /* c */ return `x${a}` + 's'; } }",
         ["m", "(", "a", ")", "{", "return", "`", "x", "${", "a", "}", "`", "+", "'s'", ";", "}"]),
        ("javascript", "function* f() { // c\n  yield /re/g }", ["function", "*", "f", "(", ")", "{", "yield", "/", "re", "/", "g", "}"]),
        ("go", "package p\n\nfunc (t T) f(a string) string {\n\t// c\n\tx := `raw`\n\treturn \"s\\n\" + x\n}\n",
         ["func", "(", "t", "T", ")", "f", "(", "a", "string", ")", "string", "{", "x", ":=", "`raw`", "return", '"s\\n"', "+", "x", "}"]),
    ],
)  # fmt: skip
def test_other_languages(language, source, tokens):
    (only,) = functions(source, language)
    assert list(only.tree.tokens) == tokens
    assert decode(encode(only.tree), only.tree.tokens) == only.tree
    versions = Grammar(language).versions
    assert set(versions) == {"tree-sitter", f"tree-sitter-{language}"}


def test_a_missing_grammar_names_the_extra(monkeypatch):
    grammars._parser.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_go", None)
    with pytest.raises(ParameterError, match=r"package 'tree-sitter-go': pip install 'regraft\[code\]'"):
        Grammar("go")
    with pytest.raises(ParameterError, match="choose one of python, javascript, go"):
        Grammar("cobol")


def write_files(folder, count=6, each=4):
    folder.mkdir(exist_ok=True)
    for n in range(count):
        body = "\n".join(f"def f{n}_{k}(a, b):\n    return a + b * {k}\n" for k in range(each))
        (folder / f"m{n}.py").write_text(body)
    return folder


def test_functions_of_a_folder(tmp_path):
    code = write_files(tmp_path / "code")
    (code / "copy.py").write_text((code / "m0.py").read_text())
    (code / "latin.py").write_bytes(b"x = '\xe9'\n")
    (code / "bom.py").write_bytes("\ufeffdef bom():\n    return 1\n".encode())
    (code / ".hidden").mkdir()
    (code / ".hidden" / "no.py").write_text("def no(): pass")
    files = source_files(code)
    assert list(files) == ["python"]
    found = read_functions(files["python"], "python")
    assert len(found.snippets) == 6 * 4 + 1
    assert dict(found.skipped) == {"another function has the same tokens": 4, "file is not UTF-8 text": 1}
    assert found.files == found.files_there == 9
    assert len(read_functions(files["python"], "python", enough=5).snippets) < 10
    same = [one.tokens for one in read_functions(files["python"], "python", seed=3).snippets]
    assert same == [one.tokens for one in read_functions(files["python"], "python", seed=3).snippets]


def test_no_file_stands_on_two_sides(tmp_path):
    found = read_functions(source_files(write_files(tmp_path / "code", count=20))["python"], "python")
    split = split_by_file(found.snippets, seed=1)
    sides = [{one.file for one in side} for side in (split.train, split.valid, split.test)]
    assert all(sides)
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert sorted(one.tokens for one in split.all) == sorted(one.tokens for one in found.snippets)
    assert 0.6 <= len(split.train) / len(found.snippets) <= 0.85
    assert split_by_file(found.snippets, seed=1) == split
    assert len(draw(found.snippets, 7)) == 7
    tree = found.snippets[0].tree
    for names, says in ((["a"], "come from 1 file:"), (["a", "b", "a"], "come from 2 files:")):
        with pytest.raises(InputError, match=says):
            split_by_file([Snippet.of(tree, name) for name in names])


def test_folders_without_code_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    for path, language, says in (
        (tmp_path / "gone", None, "no such file or folder"),
        (tmp_path / "empty", None, "no source files there"),
        (tmp_path / "a.txt", None, "no source files there"),
        (write_files(tmp_path / "py"), "go", r"no go files there \(.go\)"),
    ):
        with pytest.raises(CorpusError, match=says):
            source_files(path, language)
