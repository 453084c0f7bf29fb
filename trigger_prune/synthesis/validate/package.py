"""Makes a validation folder run on a machine that has the tools and nothing else: ``run_all.sh`` and a README."""

from __future__ import annotations

from trigger_prune.synthesis.hls.run import LOG_NAME
from trigger_prune.synthesis.hls.steps import HlsSteps
from trigger_prune.synthesis.validate.build import DESIGN_FOLDER, MARKER, PROJECT_FOLDER, ValidationFolder
from trigger_prune.synthesis.validate.designs import PROJECT_NAME

LAUNCHER = "run_all.sh"


def add_launcher(validation: ValidationFolder, steps: HlsSteps, timeout_s: float) -> None:
    """Write ``run_all.sh`` and ``README.md`` into the folder."""
    launcher = validation.folder / LAUNCHER
    launcher.write_text(_launcher(validation, steps, timeout_s))
    launcher.chmod(0o755)
    (validation.folder / "README.md").write_text(_readme(validation, steps))


def _launcher(validation: ValidationFolder, steps: HlsSteps, timeout_s: float) -> str:
    options = "\n".join(f"    {name:<10} {value}" for name, value in steps.options.items())
    arguments = " ".join(f"{name}={value}" for name, value in steps.options.items())
    if validation.backend == "Vivado":
        choose = "for tool in vivado_hls; do"
        missing = "vivado_hls is not on PATH"
        run = f'vivado_hls) $LIMIT vivado_hls -f build_prj.tcl "{arguments}" ;;'
    else:
        choose = "for tool in vitis-run vitis_hls; do"
        missing = "neither vitis-run nor vitis_hls is on PATH"
        run = (
            "vitis-run) $LIMIT vitis-run --tcl build_prj.tcl --mode hls ;;\n"
            "        vitis_hls) $LIMIT vitis_hls -f build_prj.tcl ;;"
        )
    names = " ".join(entry.name for entry in validation.entries)
    return f"""#!/bin/bash
# Synthesises the designs of this folder one after the other. Finished designs are not run again.
cd "$(dirname "$0")" || exit 1
TOOL=""
{choose}
    if command -v "$tool" > /dev/null; then TOOL=$tool; break; fi
done
if [ -z "$TOOL" ]; then
    echo "{missing}: source settings64.sh of your installation first" >&2
    exit 127
fi
LIMIT=""
if command -v timeout > /dev/null; then LIMIT="timeout -k 10 {timeout_s:.0f}"; fi
failed=0
for name in {names}; do
    project={DESIGN_FOLDER}/$name/{PROJECT_FOLDER}
    marker={DESIGN_FOLDER}/$name/{MARKER}
    if grep -qsx "{",".join(steps.chosen)}" "$marker"; then echo "$name: finished already"; continue; fi
    rm -rf "$marker" "$project/{PROJECT_NAME}_prj" "$project/vivado_synth.rpt"
    cat > "$project/build_opt.tcl" <<'END'
array set opt {{
{options}
}}
END
    echo "$name: running $TOOL"
    (
        cd "$project" || exit 1
        case $TOOL in
        {run}
        esac
    ) > "$project/{LOG_NAME}" 2>&1
    status=$?
    if [ $status -eq 0 ]; then
        echo "{",".join(steps.chosen)}" > "$marker"
        echo "$name: done"
    else
        failed=1
        echo "$name: FAILED with exit status $status, see $project/{LOG_NAME}"
    fi
done
exit $failed
"""


def _readme(validation: ValidationFolder, steps: HlsSteps) -> str:
    rows = "\n".join(f"| {entry.name} | {entry.summary} |" for entry in validation.entries)
    left_out = "".join(f"\nNot here: {name}, {why}.\n" for name, why in validation.left_out.items())
    tools = "Vivado HLS (`vivado_hls`)" if validation.backend == "Vivado" else "Vitis HLS (`vitis-run` or `vitis_hls`)"
    vivado = " and `vivado`" if steps.vsynth else ""
    return f"""# Validation designs

Small networks for {validation.part} at {validation.clock_period_ns:g} ns. Their synthesis tells how well the cost
estimates of trigger_prune fit your tools, and makes them fit better.

1. Copy this folder to a machine with {tools}{vivado}. Nothing else is needed there.
2. `source /path/to/settings64.sh`
3. `./{LAUNCHER}` runs the steps {", ".join(steps.chosen)} of every design. Stopped, it goes on where it was.
4. Copy the folder back and run `trigger-prune validate --read FOLDER`.

| design | what it is |
|---|---|
{rows}
{left_out}"""
