"""Run the benchmarks one after another: `make bench`, or `python benchmarks/run.py NAME ... [OPTION ...]` for some of them.

Each is a script of its own that prints a table and exits with 1 if a bound it states does not hold. Ratios are within one run; seconds of
different runs are not comparable.
"""

import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

HERE = Path(__file__).parent
BY_NAME = ("starts",)  # half an hour each time: only where asked for


def is_part(path: Path) -> bool:
    """Whether a file is no benchmark, but a part of some: this one, what they run on, modules of a package."""
    return path.name in ("run.py", "inputs.py") or (path.parent / "__init__.py").exists()


def main(arguments: list[str]) -> int:
    found = {path.stem: path for path in sorted(HERE.rglob("*.py")) if not is_part(path)}
    names = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    options = arguments[len(names) :]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    unknown = [name for name in names if name not in found]
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}: choose from {', '.join(found)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or [name for name in found if name not in BY_NAME]:
        print(f"\n== {name} ==", flush=True)
        if subprocess.run([sys.executable, found[name], *options], env=environment, check=False).returncode:
            failed.append(name)
    print(f"\nbounds missed: {', '.join(failed)}" if failed else "\nall bounds hold")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
