"""A saved HGQ2 (Keras 3) model enters as an adder graph, which is traced in HGQ2's own environment.

Keras and JAX are never imported here: ``_hgq2_worker.py`` runs under the interpreter of an environment that has hgq2
and alkaid, loads the file, computes the golden outputs with Keras and compares them with the adder graph.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.entry.foreign import ForeignDesign
from trigger_prune.errors import ConfigError, ModelError, ToolError, VerificationError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.physics.scores import Score
from trigger_prune.synthesis.process import run_limited
from trigger_prune.synthesis.rtl.replay import to_kif
from trigger_prune.synthesis.rtl.trace import HARD_DC

PYTHON_VARIABLE = "TRIGGER_PRUNE_HGQ2_PYTHON"
_INSTALL = "python3.11 -m venv hgq2 && hgq2/bin/pip install hgq2==0.2.0 alkaid==0.8.2 jax"
_LINES_SHOWN = 8


def find_hgq2_python(python: Path | None = None) -> Path:
    """The interpreter of HGQ2's environment: ``python``, else the environment variable. Raises ConfigError."""
    named = python or (Path(os.environ[PYTHON_VARIABLE]) if os.environ.get(PYTHON_VARIABLE) else None)
    if named is None:
        raise ConfigError(
            "an HGQ2 model is read in an environment of its own, and none is named",
            hint=f"--python FILE or {PYTHON_VARIABLE}=FILE names its interpreter; make one with: {_INSTALL}",
        )
    path = named.expanduser()
    if not path.is_file():
        raise ConfigError(f"there is no interpreter {path}", hint=f"make one with: {_INSTALL}")
    return path


def read_hgq2(
    source: Path,
    events: NDArray[np.floating],
    input_type: FixedPoint,
    folder: Path,
    *,
    name: str | None = None,
    python: Path | None = None,
    score: Score | None = None,
    timeout_s: float = 900.0,
    memory_limit_mib: float = 8192.0,
) -> ForeignDesign:
    """The design of a ``.keras`` file, written into the new folder ``folder``.

    events       ``(n, *input_shape)``, converted to ``input_type``: the golden events
    input_type   of the events as they reach the network; its integer bits must hold what the model was trained on

    Raises ConfigError (no interpreter), ModelError (the worker's reason), ToolError (it failed), VerificationError when
    Keras and the adder graph differ on any event.
    """
    interpreter = find_hgq2_python(python)
    if not source.is_file():
        raise ModelError(f"there is no file {source}")
    on_grid = input_type.quantize(events)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_hgq2_") as name_of_scratch:
        scratch = Path(name_of_scratch)
        np.save(scratch / "inputs.npy", on_grid)
        request = {
            "model": str(source.resolve()),
            "inputs": str(scratch / "inputs.npy"),
            "kif": to_kif_bits(input_type),
            "hard_dc": HARD_DC,
            "out": str(scratch),
        }
        (scratch / "request.json").write_text(json.dumps(request))
        result = _run(interpreter, scratch, timeout_s, memory_limit_mib)
        if "refused" in result:
            reason, remedy = result["refused"]
            raise ModelError(f"{source}: {reason}", hint=remedy)
        with np.load(scratch / "golden.npz") as golden:
            outputs = golden["outputs"]
        np.savez_compressed(scratch / "golden.npz", inputs=on_grid, outputs=outputs)
        if result["differ"]:
            raise VerificationError(
                f"Keras and the adder graph differ on {result['differ']} of {result['events']} events of {source}",
                hint="Keras computes in float32, where sums of more than 24 bits are rounded: use fewer bits, or give "
                "the input type that the model was trained with (--input-type)",
            )
        versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        return ForeignDesign(
            name or source.stem,
            scratch,
            input_type,
            tuple(result["input_shape"]),
            math.prod(result["output_shape"]),
            f"{versions} ({result['backend']})",
            int(result["events"]),
            0,
            score,
        ).save(folder)


def to_kif_bits(fixed: FixedPoint) -> list[int]:
    """alkaid's (sign bit, integer bits without sign, fraction bits) as plain numbers."""
    return [int(value) for value in to_kif(fixed)]


def _run(interpreter: Path, scratch: Path, timeout_s: float, memory_limit_mib: float) -> dict[str, Any]:
    worker = Path(__file__).with_name("_hgq2_worker.py")
    log = scratch / "worker.log"
    # -I keeps this package and PYTHONPATH out of the other environment
    status, _ = run_limited(
        [interpreter, "-I", worker, scratch / "request.json"],
        tool="HGQ2's interpreter",
        cwd=scratch,
        log=log,
        timeout_s=timeout_s,
        memory_limit_mib=memory_limit_mib,
    )
    result = scratch / "result.json"
    if status or not result.is_file():
        lines = log.read_text(errors="replace").strip().splitlines()[-_LINES_SHOWN:]
        raise ToolError(
            f"{interpreter} failed on the model (exit status {status}):\n" + "\n".join(lines),
            hint=f"check that this environment loads the model; make one with: {_INSTALL}",
        )
    found: dict[str, Any] = json.loads(result.read_text())
    return found
