"""Child process that runs a Yosys script, one pass a line (pyosys ends the whole process on an error).

python -m trigger_prune.synthesis.rtl._yosys_script SCRIPT
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    from pyosys import libyosys

    design = libyosys.Design()
    for line in Path(arguments[0]).read_text().splitlines():
        if line.strip():
            libyosys.run_pass(line.strip(), design)


if __name__ == "__main__":
    main(sys.argv[1:])
