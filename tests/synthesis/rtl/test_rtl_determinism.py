import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from rtl_networks import fill, networks

from trigger_prune.fixed_point import FixedPoint
from trigger_prune.synthesis.rtl.trace import trace_network
from trigger_prune.synthesis.rtl.verilog import write_verilog
from trigger_prune.synthesis.rtl.yosys import synthesize
from trigger_prune.target import Target

_MEASURE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_rtl_determinism import measure
for _ in range(2):  # the second time in a process that has done it before
    print(json.dumps(measure(Path(sys.argv[1]))))
"""


def measure(folder: Path) -> dict[str, object]:
    network, shape = networks()["mlp"]
    comb = trace_network(fill(network, sparsity=0.4), FixedPoint(8, 3), shape)
    project = write_verilog(comb, folder, adders_per_stage=5, target=Target())
    cells = synthesize(project.sources, project.top)
    text = b"".join(path.read_bytes() for path in project.sources)
    return {"cells": cells.cells, "depth": cells.logic_depth, "verilog": hashlib.sha256(text).hexdigest()}


def test_other_folders_processes_and_hash_seeds_change_nothing(tmp_path):
    here = Path(__file__).parent
    found = []
    for seed, name in (("0", "a"), ("4242", "z" * 60)):
        folder = tmp_path / name / "deeper"
        folder.mkdir(parents=True)
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(folder), str(here)],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env=env,
        )
        found += [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 4
    assert found[0]["cells"]["LUT2"] > 100
    assert all(result == found[0] for result in found)
