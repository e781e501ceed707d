"""The README's and the guide's Python blocks run as they stand, those of a page one after the other."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
BLOCKS = {page.stem: re.findall(r"(?ms)^```python\n(.*?)^```", page.read_text(encoding="utf-8")) for page in PAGES}
SHOWN_ONLY = ("@differentiable", "def update(self")  # pieces of the library itself


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("page", [name for name, blocks in BLOCKS.items() if blocks and name != "architecture"])
def test_the_blocks_of_a_page_run(page, tmp_path):
    blocks = [block for block in BLOCKS[page] if not block.startswith(SHOWN_ONLY)]
    script = tmp_path / f"{page}.py"
    script.write_text(
        "\n".join(["if __name__ == '__main__':", *("    " + line for line in "\n".join(blocks).split("\n"))])
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_pieces_of_the_library_are_shown_as_they_are():
    shown = [block for blocks in BLOCKS.values() for block in blocks if block.startswith(SHOWN_ONLY)]
    assert len(shown) >= 3
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "minidl").rglob("*.py"))
    lines = {line.strip() for line in code.splitlines()}
    for block in shown:
        if block.startswith("def update"):
            assert {line.strip() for line in block.splitlines()} <= lines
