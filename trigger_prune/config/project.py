"""The keys of ``project.yaml``. Every key is documented here, and only here: ``trigger-prune schema`` prints it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trigger_prune.target import Budget, Target

PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
RoundingName = Literal["AP_TRN", "AP_RND_CONV"]


class Section(BaseModel):
    """A block of keys: unknown keys are errors, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where the events are and what their columns mean."""

    path: str = Field(
        default="builtin:jets16",
        description="Events: `builtin:jets16`, `builtin:jets16_constituents`, or a file (.npz, .h5/.hdf5, .parquet, "
        ".root). A relative path starts at the folder of project.yaml.",
    )
    features: str | list[str] | None = Field(
        default=None,
        description="Name of the array that holds all features (npz, HDF5; default: x) or the list of columns/branches "
        "(parquet, ROOT; default: every numeric column that has no other role).",
    )
    label: str | None = Field(
        default=None, description="Name of the label array, column or branch (default: y, else label)."
    )
    label_expression: dict[str, str] | None = Field(
        default=None,
        description="Instead of `label`: class name -> boolean expression of columns, e.g. "
        "`{signal: 'is_b == 1', background: 'is_b == 0'}`; the first that is true wins (parquet, ROOT).",
    )
    weight: str | None = Field(
        default=None,
        description="Name of the event-weight array, column or branch (default: weight if present, else 1).",
    )
    group: str | None = Field(
        default=None,
        description="Name of the collision-number array, column or branch: rows of one collision never part in the "
        "split (default: group if present, else every row is its own).",
    )
    tree: str | None = Field(
        default=None, description="TTree or RNTuple name in a ROOT file; needed when there are several."
    )
    class_names: list[str] | None = Field(
        default=None, description="Names of the classes in label order, if the file has none."
    )
    feature_names: list[str] | None = Field(default=None, description="Names of the features, if the file has none.")
    max_events: PositiveInt | None = Field(
        default=None, description="Use only the first so many rows (for quick trials)."
    )

    @model_validator(mode="after")
    def _name_the_label_once(self) -> DataConfig:
        if self.label is not None and self.label_expression is not None:
            raise ValueError("label and label_expression are both given; leave one out")
        return self


class SplitConfig(Section):
    """Deterministic split by collision into training, validation and test parts."""

    train_fraction: Fraction = Field(default=0.6, description="Part of the collisions used for training.")
    validation_fraction: Fraction = Field(
        default=0.2, description="Part used for early stopping, pruning and thresholds."
    )
    seed: Seed = Field(default=0, description="Another seed gives another, equally deterministic split.")

    @model_validator(mode="after")
    def _leave_a_test_part(self) -> SplitConfig:
        if not 0 < self.train_fraction < self.train_fraction + self.validation_fraction < 1:
            raise ValueError("train_fraction and validation_fraction must be above 0 and leave a test part")
        return self


class InputConfig(Section):
    """How a feature becomes the integer that the firmware receives."""

    width_bits: Annotated[int, Field(ge=1, le=24)] = Field(default=10, description="Bits of one network input.")
    integer_bits: int = Field(
        default=4,
        description="Bits left of the binary point, sign included, after centring and scaling to about unit width.",
    )
    scale: Literal["power_of_two", "exact"] = Field(
        default="power_of_two",
        description="Scale of each feature: the power of two nearest to its standard deviation (a bit shift in "
        "firmware) or the exact standard deviation (a multiplication).",
    )


class ModelConfig(Section):
    """The network."""

    name: str = Field(
        default="mlp",
        description="A reference model (mlp, conv1d, conv2d, deep_sets, autoencoder) or `package.module:Callable` that "
        "returns a torch nn.Module; the folder of project.yaml is searched first.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments. `input_shape` (one event, without batch axis) and `n_outputs` are added when "
        "the callable takes them.",
    )


class TrainConfig(Section):
    """Training in floating point."""

    epochs: PositiveInt = Field(default=60, description="At most so many passes over the training part.")
    batch_size: PositiveInt = Field(
        default=1024, description="Events per step; fewer on a small sample, so that an epoch has 20 steps."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=4e-3, description="Peak of the one-cycle schedule (AdamW)."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=1e-4, description="Decoupled weight decay.")
    patience_epochs: PositiveInt = Field(
        default=20, description="Stop when the validation loss has not improved for so long."
    )
    gradient_clip_norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Gradients are clipped to this norm."
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="`balanced` multiplies event weights so that every class has the same total weight."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto` takes CUDA when present.")


class QuantizeConfig(Section):
    """Quantisation-aware training."""

    weight_bits: Annotated[int, Field(ge=2, le=16)] = Field(default=6, description="Bits of a weight, sign included.")
    activation_bits: Annotated[int, Field(ge=1, le=16)] = Field(
        default=6, description="Bits of an activation after ReLU."
    )
    rounding: RoundingName = Field(
        default="AP_TRN", description="Rounding of activations; AP_TRN drops bits and costs nothing."
    )
    epochs: PositiveInt = Field(default=30, description="Epochs of quantisation-aware training.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=2e-3, description="Peak learning rate.")


class BaselineConfig(Section):
    """The dense network every saving is measured against."""

    bits: Annotated[int, Field(ge=2, le=16)] = Field(default=8, description="Bits of weights and activations.")
    epochs: PositiveInt = Field(default=15, description="Epochs of quantisation-aware training.")


class SensitivityConfig(Section):
    """Which layers and inputs matter."""

    sparsities: list[Fraction] = Field(
        default=[0.25, 0.5, 0.7, 0.8, 0.9, 0.95], description="Sparsities tried on each layer, the others untouched."
    )
    max_events: PositiveInt = Field(default=20_000, description="Validation events used per point.")


class PruneConfig(Section):
    """Pruning until the measured cost meets the budget."""

    criterion: str = Field(
        default="magnitude_l1", description="Importance of a weight: magnitude_l1, magnitude_l2 or lamp."
    )
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="One ranking over the whole network (no layer falls below half of the network's density), or "
        "the same sparsity in every layer.",
    )
    drop_redundant_inputs: bool = Field(
        default=True,
        description="Merge inputs that equal another one on every training event, and fold constant ones away.",
    )
    first_sparsity: Fraction = Field(
        default=0.5,
        description="Highest sparsity of the first round; less is pruned when the estimated cost asks for less, and "
        "nothing when the network fits as it is.",
    )
    density_step: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.6, description="Each round keeps at least this fraction of the weights left by the round before."
    )
    max_rounds: PositiveInt = Field(
        default=10, description="Give up (with an error) when the budget is not met after so many."
    )
    epochs_per_round: PositiveInt = Field(
        default=20,
        description="Epochs of one round of the search for the sparsity; the cubic ramp fills half of them.",
    )
    final_epochs: Annotated[int, Field(ge=0)] = Field(
        default=200,
        description="Epochs of the last training, from the unpruned network on one long ramp to the sparsity that the "
        "rounds have found; its length is what keeps the accuracy. 0 keeps the network of the last round.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=4e-3, description="Peak learning rate of fine-tuning.")


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
    adders_per_stage: PositiveInt = Field(
        default=5,
        description="rtl: delay between two pipeline registers, in alkaid's units: an adder of w bits takes "
        "1.07 + 0.025 w, so 5 is about four adders in a row.",
    )
    pipeline_stages: PositiveInt | None = Field(
        default=None, description="rtl: number of pipeline stages, instead of adders_per_stage."
    )
    pipeline_clock: bool = Field(
        default=False,
        description="rtl: as many pipeline stages as the target's clock period is estimated to need, instead of "
        "adders_per_stage.",
    )
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
        if self.pipeline_stages is not None and self.pipeline_clock:
            raise ValueError("pipeline_stages and pipeline_clock are both given; leave one out")
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


class ProjectConfig(Section):
    """One trigger project: a model, its events, a budget and an FPGA."""

    project: str = Field(description="Name of the project.")
    description: str = Field(default="", description="One sentence for the report.")
    task: Literal["classify", "autoencoder"] = Field(
        default="classify", description="What the network is trained to do."
    )
    seed: Seed = Field(
        default=1, description="Seed of every random choice; same seed, same weights on the same machine."
    )
    data: DataConfig = Field(default_factory=DataConfig)
    split: SplitConfig = Field(default_factory=SplitConfig)
    input: InputConfig = Field(default_factory=InputConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    quantize: QuantizeConfig = Field(default_factory=QuantizeConfig)
    baseline: BaselineConfig = Field(default_factory=BaselineConfig)
    sensitivity: SensitivityConfig = Field(default_factory=SensitivityConfig)
    prune: PruneConfig = Field(default_factory=PruneConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    target: TargetConfig = Field(default_factory=TargetConfig)
    cost: CostConfig = Field(default_factory=CostConfig)
    verify: VerifyConfig = Field(default_factory=VerifyConfig)

    def make_target(self) -> Target:
        """The target as the rest of the program knows it."""
        return make_target(self.target)

    def make_budget(self) -> Budget:
        """The budget in clock cycles of the target's clock; a latency is rounded down to whole cycles."""
        return make_budget(self.budget, self.target)


def make_target(target: TargetConfig) -> Target:
    """The target as the rest of the program knows it."""
    return Target(**target.model_dump())


def make_budget(budget: BudgetConfig, target: TargetConfig) -> Budget:
    """The budget in clock cycles of the target's clock; a latency is rounded down to whole cycles."""
    limits = budget.model_dump()
    latency_ns = limits.pop("latency_ns")
    # The small term keeps 25.0 / 5.0 at five cycles whatever the last bit of the quotient is.
    cycles = None if latency_ns is None else int(latency_ns / target.clock_period_ns + 1e-9)
    return Budget(**limits, latency_cycles=cycles)
