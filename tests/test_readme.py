"""The README's tables are the benchmarks' results."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_tables_of_the_readme_are_those_of_the_result_files() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "update_readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
