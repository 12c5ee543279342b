"""Output directories: whole or not at all, whatever happens while they are written."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from regraft import output
from regraft.checkpoint import Checkpoint
from regraft.errors import OutputError
from regraft.output import atomic_directory, atomic_file, check_output, check_space, link_or_copy, remove_stale, workplace
from toys.checkpoints import LLAMA


def tree(directory):
    """Every file below `directory` with the hash of its bytes."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_directory_appears_at_the_end(tmp_path):
    with atomic_directory(tmp_path / "deep" / "er" / "out") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "deep" / "er" / "out").exists()
        assert temporary.parent == tmp_path / "deep" / "er"
    assert tree(tmp_path).keys() == {"deep/er/out/a"}
    assert (tmp_path / "deep" / "er" / "out").stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, error, existing):
    out = tmp_path / "deep" / "out"
    if existing:
        out.mkdir(parents=True)
        (out / "old").write_text("old")
    before = tree(tmp_path)
    with pytest.raises(error), atomic_directory(out, overwrite=True) as temporary:  # noqa: PT012
        (temporary / "new").write_text("new")
        raise error
    assert tree(tmp_path) == before
    assert list(tmp_path.iterdir()) == ([out.parent] if existing else [])
    assert not existing or list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_overwriting_replaces_everything_at_the_end(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(output, "_exchange", lambda first, second: False)
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with atomic_directory(out, overwrite=True) as temporary:
        (temporary / "new").write_text("new")
        assert (out / "old").exists()
    assert tree(tmp_path).keys() == {"out/new"}
    assert list(tmp_path.iterdir()) == [out]


def test_refusals(tmp_path, monkeypatch):
    full, file, source = tmp_path / "full", tmp_path / "file", tmp_path / "source"
    (full / "inner").mkdir(parents=True)
    source.mkdir()
    file.write_text("")
    (tmp_path / "link").symlink_to(source)
    cases = {
        full: "not empty.*--overwrite",
        file: "is a file",
        file / "below": "cannot be written",
        source: "the input itself",
        tmp_path / "link": "the input itself",
        source / "x" / "y": "inside the input",
        tmp_path: "contains the input",
    }
    before = tree(tmp_path)
    for out, message in cases.items():
        with pytest.raises(OutputError, match=message), atomic_directory(out, sources=(source,)):
            pytest.fail("went on")
    monkeypatch.chdir(full / "inner")
    with pytest.raises(OutputError, match="working or home directory"):
        check_output(full, overwrite=True)
    assert tree(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "link", "source"]


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_that_a_library_keeps_to_itself_get_the_usual_mode(tmp_path, umask, mode):
    def kept_to_itself(path):
        path.write_text("1")
        path.chmod(0o600)

    before = os.umask(umask)
    try:
        with atomic_directory(tmp_path / "out") as temporary:
            kept_to_itself(temporary / "a")
        with atomic_file(tmp_path / "b") as temporary:
            kept_to_itself(temporary)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out" / "a", tmp_path / "b")} == {mode}


def test_a_workplace_is_gone_afterwards_and_a_dead_ones_is_removed(tmp_path):
    (tmp_path / ".out.regraft-999999999-0000").mkdir()
    with workplace(tmp_path / "out") as mine, atomic_directory(tmp_path / "out") as temporary:
        assert {path.name for path in tmp_path.iterdir()} == {mine.name, temporary.name}
        (temporary / "a").write_text("1")
    assert tree(tmp_path).keys() == {"out/a"}


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with atomic_directory(tmp_path / "out") as temporary:
        (temporary / "a").write_text("1")
    assert tree(tmp_path).keys() == {"out/a"}


def test_something_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="in the meantime"), atomic_directory(tmp_path / "out") as temporary:  # noqa: PT012
        (temporary / "new").write_text("new")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").write_text("theirs")
    assert tree(tmp_path).keys() == {"out/theirs"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), atomic_directory(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    free = shutil.disk_usage(tmp_path).free
    check_space(tmp_path / "not" / "there", 1)
    with pytest.raises(OutputError, match="GB are free"):
        check_space(tmp_path / "not" / "there", free * 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_really_full_disk_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), atomic_directory(tmp_path / "out"), open("/dev/full", "wb", buffering=0) as file:  # noqa: PTH123
        file.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_links_and_copies(tmp_path):
    (tmp_path / "a").write_text("content")
    (tmp_path / "alias").symlink_to("a")
    assert link_or_copy(tmp_path / "alias", tmp_path / "linked") == "linked"
    assert link_or_copy(tmp_path / "a", tmp_path / "copied", link=False) == "copied"
    assert not (tmp_path / "linked").is_symlink()
    assert not (tmp_path / "copied").samefile(tmp_path / "a")
    assert {(tmp_path / name).read_text() for name in ("linked", "copied")} == {"content"}


def test_only_stale_leftovers_of_the_same_output_are_removed(tmp_path):
    out = tmp_path / "o[u]t"
    stale = tmp_path / f".o[u]t.regraft-{2**22 + 1}-00000000"  # no process has this number
    others = [tmp_path / ".other.regraft-1-00000000", tmp_path / ".out.regraft-1-00000000", tmp_path / ".o[u]t.git"]
    for path in [stale, *others]:
        (path / "sub").mkdir(parents=True)
    with atomic_directory(out) as running:
        remove_stale(out)
        assert running.exists()
        assert not stale.exists()
        assert all(path.exists() for path in others)


def test_a_swap_that_died_halfway_is_undone(tmp_path):
    old, new = tmp_path / ".out.regraft-1-00000000.old", tmp_path / ".out.regraft-1-00000000"
    for path in (old, new):
        path.mkdir()
        (path / "name").write_text(path.name)
    remove_stale(tmp_path / "out")
    assert (tmp_path / "out" / "name").read_text() == old.name
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """About 12 MB in several shards, so that a write takes long enough to be hit."""
    path = tmp_path_factory.mktemp("kill") / "source"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **LLAMA | {"hidden_size": 256, "vocab_size": 4000, "intermediate_size": 512}, tie_word_embeddings=False
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path, max_shard_size="4MB")
    return path


# What both ways of killing share: it imports once, then forks a process per run.
FORKS = """
import json, os, random, shutil, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
from pathlib import Path
import torch
from regraft import output
from regraft.checkpoint import files as checkpoint, shards
from regraft.checkpoint import Appended, Checkpoint, write
torch.set_num_threads(1)
source = Checkpoint.open(sys.argv[1])
rows = Appended(torch.ones(500, source.layout.dim))
values = source.layout.assign(rows, rows)
config = {"written_by": "this run"}
steps = [(shards, "copy_range"), (shards, "write_all"), (checkpoint, "link_or_copy"), (output, "_make_temporary"), (output, "fsync"),
         (output, "_put_in_place"), (output, "_exchange"), (shutil, "rmtree")]

def fork(out, overwrite, enter=lambda: None, leave=lambda: None):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            enter()
            write(source, out, tensors=values, config=config, overwrite=overwrite, link=False)
            leave()
            code = 0
        finally:
            os._exit(code)
    return pid

def clear(out, overwrite):
    if not overwrite:
        shutil.rmtree(out, ignore_errors=True)

def seen(out, status):
    complete = out.is_dir() and len(Checkpoint.open(out).tensors) == len(source.tensors)
    left = [path.name for path in out.parent.iterdir() if path not in (out, source.root)]
    return {"died": status != 0, "exists": out.exists(), "complete": complete, "left": left}
"""

# A run dies at a step of its own choice: before a call, or with half of a tensor written. The disk is not waited for.
DIES = (
    FORKS
    + """
calls, last, number = 0, 0, 0
os.fsync = lambda file: None

def counted(module, name):
    function = getattr(module, name)
    def counting(*args, **kwargs):
        global calls
        calls += 1
        if calls == last:
            if name == "write_all":
                os.write(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)
    setattr(module, name, counting)

for step in steps:
    counted(*step)

def die_at(step):
    global calls, last
    calls, last = 0, step

ways, found = {"killed": signal.SIGKILL, "overwriting": signal.SIGKILL, "interrupted": signal.SIGINT}, {}
for name, number in ways.items():
    out, overwrite = Path(sys.argv[2]) / name / "out", name == "overwriting"
    if overwrite:
        write(source, out, tensors=values)
    count, runs = Path(sys.argv[2]) / "count", []
    assert os.waitpid(fork(out, overwrite, lambda: die_at(0), lambda: count.write_text(str(calls))), 0)[1] == 0
    whole = int(count.read_text())
    for step in sorted({1 + i * (whole - 1) // 11 for i in range(12)} | set(range(whole - 5, whole + 1))):
        clear(out, overwrite)
        runs.append(seen(out, os.waitpid(fork(out, overwrite, lambda: die_at(step)), 0)[1]))
    clear(out, overwrite)
    assert os.waitpid(fork(out, overwrite), 0)[1] == 0
    found[name] = runs
print(json.dumps(found))
"""
)


@pytest.fixture(scope="module")
def died(sharded, tmp_path_factory):
    """(folder, what was found after each run that died at another step), by how; a last run is left to finish."""
    root, before = tmp_path_factory.mktemp("died"), tree(sharded)
    run = [sys.executable, "-c", DIES, str(sharded), str(root)]
    result = subprocess.run(run, check=True, capture_output=True, text=True)
    assert tree(sharded) == before
    return {name: (root / name, runs) for name, runs in json.loads(result.stdout).items()}


@pytest.mark.parametrize("how", ["killed", "overwriting", "interrupted"])
def test_killed_at_any_step(died, how):
    """The output is absent or complete, and the next run removes what SIGKILL left; Ctrl-C leaves nothing at all."""
    folder, runs = died[how]
    assert len(runs) >= 12
    assert sum(run["died"] for run in runs) >= len(runs) - 2  # a signal in the last step may come when all is done
    assert any(run["left"] for run in runs) == (how != "interrupted")
    assert all(run["complete"] == run["exists"] for run in runs)
    assert all(run["exists"] for run in runs) == (how == "overwriting")
    assert [path.name for path in folder.iterdir()] == ["out"]
    assert transformers.LlamaForCausalLM.from_pretrained(folder / "out").get_input_embeddings().weight.shape == (4500, 256)
    assert Checkpoint.open(folder / "out").config["written_by"] == "this run"


# The parent kills each run after a share of the time that a whole one takes, with a pause before each step.
KILLER = (
    FORKS
    + """
out, kills, number, overwrite = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "1"

def slowly(module, name):
    # A pause before each call, so that every step of a write is as likely to be hit as any other.
    function = getattr(module, name)
    def slow(*args, **kwargs):
        time.sleep(0.004)
        return function(*args, **kwargs)
    setattr(module, name, slow)

for step in steps:
    slowly(*step)
seconds = []
for _ in range(3):
    clear(out, overwrite)
    start = time.perf_counter()
    assert os.waitpid(fork(out, overwrite), 0)[1] == 0
    seconds.append(time.perf_counter() - start)
whole = min(seconds)
chance, found = random.Random(0), []
while sum(run["died"] for run in found) < kills and len(found) < 4 * kills:  # on a busy machine some finish before the signal comes
    clear(out, overwrite)
    pid = fork(out, overwrite)
    time.sleep(chance.uniform(0, 1) * whole)
    os.kill(pid, number)
    found.append(seen(out, os.waitpid(pid, 0)[1]))
clear(out, overwrite)
assert os.waitpid(fork(out, overwrite), 0)[1] == 0
print(json.dumps({"runs": found, "seconds": whole}))
"""
)


def kill_runs(source, out, kills, number, overwrite=False):
    """What was found after each run that got signal `number` at a random moment, until `kills` died of it; a last run is left to finish."""
    run = [sys.executable, "-c", KILLER, str(source), str(out), str(kills), str(int(number)), str(int(overwrite))]
    result = subprocess.run(run, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_random_moments(sharded, overwrite):
    """30 SIGKILLs in all: the source stays, the output is absent or complete, and the next run removes what was left."""
    out = sharded.parent / "out"
    before = tree(sharded)
    runs = kill_runs(sharded, out, 15, signal.SIGKILL, overwrite)
    assert sum(run["died"] for run in runs) == 15
    assert any(run["left"] for run in runs)
    assert all(run["complete"] == run["exists"] for run in runs)
    assert all(run["exists"] for run in runs) or not overwrite
    assert tree(sharded) == before
    assert sorted(path.name for path in sharded.parent.iterdir()) == ["out", "source"]
    assert transformers.LlamaForCausalLM.from_pretrained(out).get_input_embeddings().weight.shape == (4500, 256)
    assert Checkpoint.open(out).config["written_by"] == "this run"
    shutil.rmtree(out)


@pytest.mark.slow
def test_interrupted_at_random_moments(sharded):
    """Ctrl-C leaves nothing at all."""
    out = sharded.parent / "out"
    before = tree(sharded)
    runs = kill_runs(sharded, out, 8, signal.SIGINT)
    assert sum(run["died"] for run in runs) == 8
    assert all(run["complete"] == run["exists"] for run in runs)
    assert all(run["left"] == [] for run in runs)
    assert tree(sharded) == before
    shutil.rmtree(out)
