"""Stands in for the interpreter of HGQ2's environment: takes the worker's place and answers from a saved adder graph.

Called as ``python -I WORKER REQUEST.json`` through a shell script; what it does is said by the file ``behaviour.json``
beside the script: {"comb": file, "outputs": file or null, "differ": n, "refused": [..] or null, "fail": text or null}.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np


def main(behaviour: dict, request: dict) -> None:
    if behaviour.get("fail"):
        print(behaviour["fail"])
        raise SystemExit(3)
    out = Path(request["out"])
    if behaviour.get("refused"):
        (out / "result.json").write_text(json.dumps({"refused": behaviour["refused"]}))
        return
    x = np.load(request["inputs"])
    from alkaid.types import CombLogic

    comb = CombLogic.load(behaviour["comb"])
    shutil.copyfile(behaviour["comb"], out / "comb.json.gz")
    outputs = comb.predict(x.reshape(len(x), -1).astype(np.float64), n_threads=1).reshape(len(x), -1)
    np.savez_compressed(out / "golden.npz", outputs=outputs + behaviour.get("shift", 0.0))
    result = {
        "model_name": "m",
        "input_shape": list(x.shape[1:]),
        "output_shape": [outputs.shape[1]],
        "events": len(x),
        "differ": behaviour.get("differ", 0),
        "versions": {"hgq2": "0.2.0", "alkaid": "0.8.2"},
        "backend": "jax",
        "kif": request["kif"],
    }
    (out / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), json.loads(Path(sys.argv[-1]).read_text()))
