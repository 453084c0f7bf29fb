"""The commands about QKeras: export, import, finetune, verify, hls4ml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trigger_prune.cli.output import (
    EXIT_FAILED,
    DebugOption,
    OutOption,
    ProjectArgument,
    SeedOption,
    SetOption,
    errors_shown,
    make_console,
    output_folder,
)

if TYPE_CHECKING:
    from trigger_prune.qkeras.project import ProjectNetwork

ModelArgument = Annotated[
    Path, typer.Argument(metavar="MODEL", help="QKeras model, .h5 or .keras.", show_default=False)
]
InputTypeOption = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Type of the events as they reach the network, e.g. [cyan]ap_fixed<10,4>[/]; a model that was written by "
        "export has it beside it.",
        show_default=False,
    ),
]


def _to_option(help_text: str) -> Any:
    return typer.Option("--to", metavar="FILE", help=help_text, show_default=False)


def export(
    project: ProjectArgument,
    to: Annotated[Path, _to_option("File to write, .h5 or .keras.")],
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the project's pruned network as a QKeras model with the same bits.

    Runs the stages up to the pruned network where they are not done. Pruning masks and types lie beside the model, in
    NAME.bridge.npz; the model itself has stock layers only.
    """
    with errors_shown(debug, "stopped; finished stages are kept"):
        from trigger_prune.qkeras.bridge import check_suffix, export_qkeras
        from trigger_prune.qkeras.description import description_file

        check_suffix(to)
        made = export_qkeras(_pruned(project, overrides, seed, out).network, to)
        zeros = sum(int((node.kernel == 0).sum()) for node in made.weights)
        total = sum(node.kernel.size for node in made.weights)
        print(f"wrote {to} and {description_file(to).name}: {zeros} of {total} weights are zero")


def take_back(
    model: ModelArgument,
    to: Annotated[Path, _to_option("QONNX file to write.")],
    input_type: InputTypeOption = None,
    strip_head: Annotated[
        bool, typer.Option("--strip-head", help="Leave out a softmax or sigmoid at the end: outputs are logits.")
    ] = False,
    fold_batch_norm: Annotated[
        bool,
        typer.Option(
            "--fold-batch-norm",
            help="Put batch normalisations into the weights before them, which are quantised again: other bits.",
        ),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Read a QKeras model and write it as QONNX with the same bits; `trigger-prune enter` takes that file.

    In Python, trigger_prune.qkeras.bridge.import_qkeras gives the quantised torch network itself, for pruning.
    """
    with errors_shown(debug):
        import onnx

        from trigger_prune.export.qonnx_model import to_qonnx
        from trigger_prune.fixed_point import FixedPoint
        from trigger_prune.qkeras.bridge import import_qkeras
        from trigger_prune.quantize.layers import weight_layers

        fixed = None if input_type is None else FixedPoint.parse(input_type)
        network = import_qkeras(model, fixed, strip_head=strip_head, fold_batch_norm=fold_batch_norm)
        onnx.save(to_qonnx(network), str(to))
        layers = weight_layers(network)
        pruned = sum(int((layer.weight_mask == 0).sum()) for layer in layers.values())
        total = sum(layer.weight.numel() for layer in layers.values())
        print(f"wrote {to}: {len(layers)} layers, {pruned} of {total} weights are pruned")


def finetune(
    project: ProjectArgument,
    to: Annotated[Path, _to_option("QKeras model to write, .h5 or .keras.")],
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Passes over the training events.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Events per step.")] = 256,
    learning_rate: Annotated[float, typer.Option(min=0, metavar="RATE", help="Of Adam.")] = 1e-3,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Train the project's pruned network in Keras, pruned weights held at zero, and write it.

    The trained network of torch, with the same bits, is written beside the model as NAME.pt; a project loads such a
    file as its network.
    """
    with errors_shown(debug, "stopped; finished stages are kept"):
        from trigger_prune.qkeras.bridge import FinetuneSetting, check_suffix, export_qkeras
        from trigger_prune.qkeras.project import finetune_project
        from trigger_prune.quantize.checkpoint import save_network

        check_suffix(to)
        found = _pruned(project, overrides, seed, out)
        setting = FinetuneSetting(epochs, batch_size, learning_rate, seed=seed or 0)
        tuned, history, (before, after) = finetune_project(found, setting)
        export_qkeras(tuned, to)
        save_network(tuned, to.with_suffix(".pt"))
        _show_history(history)
        label = found.goal.objective.label
        print(f"{label} on test events: {before:.4f} before, {after:.4f} after; wrote {to}, {to.with_suffix('.pt')}")


def verify(
    project: ProjectArgument,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="Saved QKeras model of this network; default: made anew.", show_default=False
        ),
    ] = None,
    events: Annotated[int, typer.Option(min=1, metavar="N", help="Compare so many test events.")] = 10_000,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="hls4ml backend; may be repeated (default: Vitis and Vivado).", show_default=False
        ),
    ] = None,
    overrides: SetOption = None,
    seed: SeedOption = None,
    out: OutOption = None,
    debug: DebugOption = False,
) -> None:
    """Compare torch, QKeras, hls4ml from QKeras and hls4ml from ONNX bit by bit on test events."""
    with errors_shown(debug, "stopped; finished stages are kept"):
        from rich.table import Table
        from rich.text import Text

        from trigger_prune.qkeras.project import judged_features
        from trigger_prune.qkeras.verify import verify_qkeras

        found = _pruned(project, overrides, seed, out)
        pairs = verify_qkeras(
            found.network,
            judged_features(found, events),
            found.target,
            model=model,
            backends=tuple(backend or ("Vitis", "Vivado")),
        )
        table = Table("representation", "events", "events that differ from torch", "failure")
        for pair in pairs:
            differ = "-" if pair.mismatches is None else str(pair.mismatches)
            table.add_row(pair.name, str(pair.events), differ, Text(pair.failure or ""))
        make_console().print(table)
        if not all(pair.ok for pair in pairs):
            raise typer.Exit(EXIT_FAILED)


def hls4ml(
    model: ModelArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="New folder for the project.", show_default=False)],
    input_type: InputTypeOption = None,
    backend: Annotated[str, typer.Option(metavar="NAME", help="Vitis or Vivado.")] = "Vitis",
    project: Annotated[
        Path | None, typer.Option(metavar="PROJECT", help="Take the target from its project.yaml.", show_default=False)
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Write the hls4ml project of a QKeras model by hls4ml's own Keras route, every type written out."""
    with errors_shown(debug):
        from trigger_prune.config.load import load_project
        from trigger_prune.config.project import make_target
        from trigger_prune.export.hls4ml_project import project_identifier
        from trigger_prune.fixed_point import FixedPoint
        from trigger_prune.qkeras.bridge import write_keras_project
        from trigger_prune.target import Target

        target = Target() if project is None else make_target(load_project(project, (), None).config.target)
        fixed = None if input_type is None else FixedPoint.parse(input_type)
        name = project_identifier(model.stem)
        print(f"wrote {write_keras_project(model, to, target, name, backend=backend, input_type=fixed)}")


def _pruned(project: Path, overrides: list[str] | None, seed: int | None, out: Path | None) -> ProjectNetwork:
    from trigger_prune.config.load import load_project
    from trigger_prune.qkeras.project import pruned_network

    loaded = load_project(project, overrides or (), seed)
    return pruned_network(loaded, output_folder(project, out), make_console())


def _show_history(history: dict[str, list[float]]) -> None:
    from rich.table import Table

    names = sorted(history)
    table = Table("epoch", *names, title="training in Keras; the last row of val_ is the result on its grids")
    for row in range(max(map(len, history.values()))):
        cells = (f"{history[name][row]:.4f}" if row < len(history[name]) else "" for name in names)
        table.add_row(str(row + 1), *cells)
    make_console().print(table)


COMMANDS = (
    ("export", export, ("trigger-prune qkeras export my_trigger --to tagger.h5",)),
    (
        "import",
        take_back,
        (
            "trigger-prune qkeras import tagger.h5 --to tagger.onnx",
            "trigger-prune qkeras import theirs.h5 --to theirs.onnx --input-type 'ap_fixed<16,6>' --strip-head",
        ),
    ),
    ("finetune", finetune, ("trigger-prune qkeras finetune my_trigger --to tuned.h5 --epochs 10",)),
    ("verify", verify, ("trigger-prune qkeras verify my_trigger --events 10000",)),
    ("hls4ml", hls4ml, ("trigger-prune qkeras hls4ml tagger.h5 --to tagger_hls",)),
)
"""Name, function and examples of every command of this file."""
