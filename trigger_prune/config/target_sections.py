"""Keys of project.yaml about the FPGA, the budget, and how cost and bits are checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trigger_prune.config._section import PositiveInt, Section


class BudgetConfig(Section):
    """Upper limits on the measured cost. Leave out what is not limited."""

    lut: PositiveInt | None = Field(default=None, description="Look-up tables.")
    ff: PositiveInt | None = Field(default=None, description="Flip-flops.")
    dsp: Annotated[int, Field(ge=0)] | None = Field(default=None, description="DSP blocks.")
    bram18: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Block RAMs of 18 Kbit.")
    uram: Annotated[int, Field(ge=0)] | None = Field(default=None, description="UltraRAMs.")
    latency_ns: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="First input to last output, in ns."
    )
    ii: PositiveInt | None = Field(default=None, description="Initiation interval in clock cycles.")
    latency_p99_us: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="cost.backend runtime: 99th percentile of the time of one call with the smallest batch, in us.",
    )
    event_time_us: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="cost.backend runtime: processor time per event at the batch size of the highest throughput, in "
        "us.",
    )


class TargetConfig(Section):
    """The FPGA and the layout of the network on it."""

    part: str = Field(default="xcvu13p-flga2577-2-e", description="Full part number.")
    clock_period_ns: Annotated[float, Field(gt=0)] = Field(default=5.0, description="Clock period in ns.")
    strategy: Literal["Latency", "Resource", "Resource_Unrolled", "distributed_arithmetic"] = Field(
        default="Latency", description="hls4ml strategy."
    )
    reuse_factor: PositiveInt = Field(default=1, description="Multiplications done by one multiplier.")
    io_type: Literal["io_parallel", "io_stream"] = Field(default="io_parallel", description="hls4ml interface.")


class CostConfig(Section):
    """How the cost is measured inside the pruning loop."""

    backend: Literal["rtl", "analytic", "analytic_hls", "csynth", "vsynth", "cosim", "pnr", "runtime"] = Field(
        default="rtl",
        description="rtl: alkaid Verilog mapped by Yosys. analytic: formulas for it, milliseconds. analytic_hls: "
        "formulas for what csynth would report. csynth, vsynth, cosim, pnr: Vitis HLS or Vivado HLS, which must be "
        "installed; vsynth and pnr (place and route) also Vivado. runtime: the exported "
        "model timed on a processor by ONNX Runtime.",
    )
    adders_per_stage: PositiveInt | None = Field(
        default=None,
        description="rtl: delay between two pipeline registers, in alkaid's units: an adder of w bits takes "
        "1.07 + 0.025 w, so 5 is about four adders in a row (default: what the delay model gives the clock period).",
    )
    pipeline_stages: PositiveInt | None = Field(
        default=None, description="rtl: number of pipeline stages, instead of what the clock period needs."
    )
    register_ns: Annotated[float, Field(ge=0)] = Field(
        default=0.4,
        description="rtl: delay model of a pipeline stage, register_ns + unit_ns x its delay in alkaid's units. The "
        "defaults are assumed; take them from place and route of a design of yours. With a latency budget a design "
        "whose slowest stage exceeds the clock period by this model is not within the budget.",
    )
    unit_ns: Annotated[float, Field(gt=0)] = Field(default=0.8, description="rtl: see register_ns.")
    ecp5_seeds: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="rtl: place and route on an ECP5 with so many seeds, for a clock that some FPGA did reach; minutes "
        "each, needs nextpnr-ecp5.",
    )
    tool_version: str | None = Field(
        default=None,
        description="HLS backends: version of the compiler, e.g. `2023.2` (default: the one on PATH, else the newest).",
    )
    licences: PositiveInt | None = Field(
        default=None, description="HLS backends: most tools at once on this machine (default: no limit)."
    )
    offline: str | None = Field(
        default=None,
        description="csynth, vsynth, cosim: folder for working with tools on another machine. Projects to synthesise "
        "are written there, the run stops, and the same command goes on when their reports lie in it. A relative path "
        "starts at the folder of project.yaml.",
    )
    use_store: bool = Field(
        default=True, description="Look up and keep syntheses in the report store: no design is synthesised twice."
    )
    store: str | None = Field(
        default=None,
        description="Folder of the report store (default: $TRIGGER_PRUNE_STORE, else trigger_prune/store in the user's "
        "cache folder). A relative path starts at the folder of project.yaml.",
    )
    provider: Literal["cpu", "cuda"] = Field(
        default="cpu", description="runtime: processor; cuda needs onnxruntime-gpu."
    )
    threads: PositiveInt = Field(default=1, description="runtime: threads, kept on as many processor cores.")
    batch_sizes: list[PositiveInt] = Field(
        default=[1, 4, 16, 64, 256, 1024, 4096],
        min_length=1,
        description="runtime: events per call, ascending. The smallest one gives budget.latency_p99_us, the fastest "
        "one budget.event_time_us.",
    )
    runtime_seconds: Annotated[float, Field(gt=0)] = Field(
        default=6.0, description="runtime: time spent on the calls of one measurement."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=900.0, description="A tool running longer is stopped. C synthesis of a large network takes hours."
    )
    memory_limit_mib: PositiveInt = Field(default=8192, description="A tool using more memory is stopped.")

    @model_validator(mode="after")
    def _require_sense(self) -> CostConfig:
        if self.pipeline_stages is not None and self.adders_per_stage is not None:
            raise ValueError("pipeline_stages and adders_per_stage are both given; leave one out")
        if self.offline is not None and self.backend not in ("csynth", "vsynth", "cosim"):
            raise ValueError(f"offline goes with the backends csynth, vsynth and cosim, not with {self.backend}")
        if self.batch_sizes != sorted(set(self.batch_sizes)):
            raise ValueError(f"batch_sizes {self.batch_sizes} must ascend")
        return self


class VerifyConfig(Section):
    """Bit-by-bit comparison of all representations on the test part."""

    qonnx_events: PositiveInt = Field(
        default=1000, description="Events executed by qonnx, which is slow; the others see all."
    )
    rtl_events: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="Test events sent through the simulated Verilog (Verilator, else Yosys); 0 = none."
    )
    fail_on_mismatch: bool = Field(default=True, description="Stop the run when any bit differs.")
