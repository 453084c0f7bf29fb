"""Which steps of an hls4ml project's build script are run."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trigger_prune.errors import ToolError


@dataclass(frozen=True)
class HlsSteps:
    """Steps of ``build_prj.tcl``, in the order in which the script runs them.

    csim     C simulation of the test bench
    csynth   C synthesis; the project's earlier solution is removed first
    cosim    RTL simulation of the same test bench; with ``csim`` the two outputs are also compared
    export   IP catalogue archive
    vsynth   Vivado logic synthesis of the generated Verilog; needs ``vivado``

    Without ``csynth`` the later steps work on the solution of an earlier run.
    """

    csim: bool = False
    csynth: bool = True
    cosim: bool = False
    export: bool = False
    vsynth: bool = False

    def __post_init__(self) -> None:
        if not self.chosen:
            raise ToolError("no step of the HLS build is chosen", hint=f"choose among {', '.join(STEP_NAMES)}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the chosen steps, in order."""
        return tuple(name for name in STEP_NAMES if getattr(self, name))

    @property
    def options(self) -> dict[str, int]:
        """Options of hls4ml's ``build_prj.tcl``."""
        return {
            "reset": int(self.csynth),
            "csim": int(self.csim),
            "synth": int(self.csynth),
            "cosim": int(self.cosim),
            "validation": int(self.csim and self.cosim),
            "export": int(self.export),
            "vsynth": int(self.vsynth),
            "fifo_opt": 0,
        }

    @property
    def on_command_line(self) -> str:
        """The options as the build scripts of ``vivado_hls`` take them."""
        return " ".join(f"{name}={value}" for name, value in self.options.items())


STEP_NAMES = tuple(f.name for f in fields(HlsSteps))


def parse_steps(text: str) -> HlsSteps:
    """``csynth,cosim`` as steps. Raises ToolError for an unknown name."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in STEP_NAMES]
    if unknown:
        raise ToolError(f"no HLS step named {unknown[0]!r}", hint=f"choose among {', '.join(STEP_NAMES)}")
    return HlsSteps(**{name: name in names for name in STEP_NAMES})
