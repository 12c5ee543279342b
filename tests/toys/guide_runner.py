"""A guide's blocks run in their order: Python as it stands, `regraft` in this process."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner

from regraft.cli import app


def run_guide(guide: Path, instead: Mapping[str, str] | None = None) -> int:
    """Run every sh and python block of `guide` in the working directory and say how many there were.

    `instead` : what stands in for the reader's names and sizes. A line of a shell block that is no `regraft` command is an error.
    """
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", guide.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for language, block in blocks:
        for name, toy in (instead or {}).items():
            block = block.replace(name, toy)
        if language == "python":
            exec(compile(block, str(guide), "exec"), {})
            continue
        for line in block.replace("\\\n", " ").splitlines():
            program, *given = shlex.split(line)
            assert program == "regraft", line
            done = CliRunner().invoke(app, given)
            assert done.exit_code == 0, f"{line}\n{done.output}"
    return len(blocks)
