"""Output directories and files that appear whole or not at all.

Enters: the final path. Leaves: a temporary sibling to fill, which is flushed to disk and renamed when the block ends, and removed when it
fails. What a killed process left behind is removed by the next run that writes to the same path. `workplace` is such a sibling for what is
on the way. `link_or_copy` fills such a directory with files that do not change. New files get the mode that the umask gives, also where a
library wrote them for their owner alone.
"""

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psutil

from regraft.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no flock: a temporary directory is then stale when its process is gone
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # Linux ioctl: share the blocks of another file, copy on write


@contextmanager
def atomic_directory(out: str | Path, *, overwrite: bool = False, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """A temporary sibling of `out`, renamed to `out` when the block ends without an exception and removed otherwise.

    With `overwrite` an existing `out` stays in place until the new one is complete, then both change places. `sources` are
    directories that must not overlap with `out`.

    Raises `OutputError`: `out` is a file, is not empty (without `overwrite`), overlaps a source or contains the working directory,
    cannot be written, or the disk fills up.
    """
    out = Path(out).expanduser().resolve()
    check_output(out, overwrite=overwrite, sources=sources)
    with workplace(out) as temporary:  # after success it is gone, or holds what was overwritten
        try:
            yield temporary
            _flush(temporary)
            _put_in_place(temporary, out, overwrite)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(f"{out}: the disk is full; nothing was written: free some space or choose another disk") from None
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and str(error.filename2) == str(out):
                raise OutputError(f"{out}: something else appeared there in the meantime; nothing was written") from None
            raise


@contextmanager
def workplace(out: str | Path) -> Iterator[Path]:
    """A folder beside `out` for what is on the way there, removed at the end; what a killed run left is removed first.

    Raises `OutputError`: it cannot be made.
    """
    out = Path(out).expanduser().resolve()
    made = [parent for parent in (out.parent, *out.parent.parents) if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(out)
        folder, lock = _make_temporary(out)
    except OSError as error:
        _remove_empty(made)
        raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another output directory") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        _remove_empty(made)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write, which takes its place when the block ends without an exception and is removed otherwise.

    Parents are made. Raises the `OSError` of what failed: callers say what it means for them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        temporary.touch()
        usual = temporary.stat().st_mode
        temporary.unlink()  # some writers want to make it themselves
        yield temporary
        temporary.chmod(temporary.stat().st_mode | usual)
        fsync(temporary)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_output(out: str | Path, *, overwrite: bool = False, sources: Sequence[Path] = ()) -> None:
    """Raise `OutputError` if `out` may not be written (see `atomic_directory`). Touches nothing: callers can ask before long work."""
    out = Path(out).expanduser().resolve()
    check_outside(out, sources)
    for source in (Path(source).expanduser().resolve() for source in sources):
        if out in source.parents:
            raise OutputError(f"{out}: contains the input {source}; inputs are never modified: choose another output directory")
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out}: is a file: choose another output directory")
    if any(out.iterdir()):
        if not overwrite:
            raise OutputError(f"{out}: exists and is not empty: choose another output directory or add --overwrite")
        here = Path.cwd()
        if out in (Path.home(), here) or out in Path.home().parents or out in here.parents:
            raise OutputError(f"{out}: holds the working or home directory and will not be replaced: choose another output directory")


def check_outside(out: str | Path, sources: Sequence[Path]) -> None:
    """Raise `OutputError` if `out` is one of the directories `sources` or lies inside one."""
    out = Path(out).expanduser().resolve()
    for source in (Path(source).expanduser().resolve() for source in sources):
        if out == source or source in out.parents:
            how = "is the input itself" if out == source else f"lies inside the input {source}"
            raise OutputError(f"{out}: {how}; inputs are never modified: choose another output directory")


def free_space(out: str | Path) -> int:
    """Bytes left on the disk of `out`, which need not exist yet."""
    place = Path(out).expanduser().resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_space(out: str | Path, needed: int) -> None:
    """Raise `OutputError` if the disk of `out` has less than `needed` bytes left."""
    free = free_space(out)
    if free < needed:
        raise OutputError(
            f"{out}: needs {needed / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free there: free some space or choose another disk"
        )


def link_or_copy(source: Path, target: Path, *, link: bool = True) -> Literal["linked", "copied"]:
    """Make `target` the same file as `source`: sharing its blocks where the file system can, else a hard link, else a copy.

    A hard link is the same file under two names: writing into one *in place* changes both.
    """
    source = source.resolve()  # the Hub's cache holds symbolic links
    if link and (_clone(source, target) or _hard_link(source, target)):
        return "linked"
    shutil.copyfile(source, target)
    return "copied"


def remove_stale(out: Path) -> None:
    """Remove what processes that no longer run left beside `out`. If one died while it swapped directories, the old one comes back."""
    for path in sorted(out.parent.glob(f".{_glob_escape(out.name)}.regraft-*")):
        if not path.is_dir() or path.is_symlink():
            continue
        with _locked(path) as ours:
            if not ours:
                continue
            if path.name.endswith(".old") and not out.exists():
                path.rename(out)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _glob_escape(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the directory, and if so hold it meanwhile."""
    if fcntl is None:
        pid = path.name.split(".regraft-")[-1].split("-")[0]
        yield not (pid.isdigit() and psutil.pid_exists(int(pid)))
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # gone in the meantime, or not ours to open
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except OSError:
            ours = False
        yield ours
    finally:
        os.close(handle)


def _make_temporary(out: Path) -> tuple[Path, int]:
    """A new locked directory beside `out`. The lock is on the directory itself, so it dies with the process however that ends."""
    while True:
        path = out.parent / f".{out.name}.regraft-{os.getpid()}-{secrets.token_hex(4)}"
        path.mkdir()
        if fcntl is None:
            return path, os.open(os.devnull, os.O_RDONLY)
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(OSError):  # a file system without locks: nobody else can take it for stale either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():  # else another run took it for stale between the two calls
            return path, handle
        os.close(handle)


def _flush(directory: Path) -> None:
    """Force every new file below `directory` to disk, readable for whom the umask allows; hard links are the source's own files."""
    usual = directory.stat().st_mode & 0o666
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = Path(folder) / name
            if path.stat().st_nlink == 1:
                path.chmod(path.stat().st_mode | usual)
                fsync(path)
        fsync(Path(folder))


def fsync(path: Path) -> None:
    """Wait until a file's bytes, or a directory's entries, are on disk."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(temporary: Path, out: Path, overwrite: bool) -> None:
    if overwrite and out.exists() and any(out.iterdir()):
        if not _exchange(temporary, out):
            old = temporary.with_name(temporary.name + ".old")
            out.rename(old)  # if we die here, `remove_stale` brings it back
            temporary.rename(out)
            shutil.rmtree(old, ignore_errors=True)
    else:
        if sys.platform == "win32" and out.exists():
            out.rmdir()
        temporary.rename(out)
    fsync(out.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step, so that there is no moment without `second` (Linux only)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_working_directory, exchange = -100, 2
    return bool(renameat2(at_working_directory, os.fsencode(first), at_working_directory, os.fsencode(second), exchange) == 0)


def _clone(source: Path, target: Path) -> bool:
    if fcntl is None or not sys.platform.startswith("linux"):
        return False
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            return True
        except OSError:
            target.unlink()
            return False


def _hard_link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
        return True
    except OSError:  # another file system, or one without links
        return False


def _remove_empty(directories: list[Path]) -> None:
    """Remove parents that we made and that stayed empty, innermost first."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()
