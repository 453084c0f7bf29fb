"""A made-up but self-consistent run, in any number of classes and features."""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "physics"))
import trigger_toys

from trigger_prune.cost.report import CostStage, HardwareReport, LayerCost, RuntimeCost
from trigger_prune.physics.classification import evaluate_classifier
from trigger_prune.physics.comparator import FirmwareScore
from trigger_prune.physics.scores import Score
from trigger_prune.physics.trigger_study import StudySettings, default_turn_on, study_trigger
from trigger_prune.prune.trial import PruneTrial
from trigger_prune.report.inputs import LayerSummary, NetworkResult, ObjectiveResult, ReportInputs, SampleSummary
from trigger_prune.sensitivity.findings import InputFinding, LayerPoint, SensitivityScan
from trigger_prune.target import Budget, Target
from trigger_prune.train.history import EpochRecord, FitHistory
from trigger_prune.verify.verdict import FirstDifference, PairVerdict, Verdict

JET_FEATURES = (
    "mass",
    "mmdt",
    "n2_b1",
    "n2_b2",
    "m2_b1",
    "m2_b2",
    "d2_b1",
    "d2_b2",
    "d2_a1_b1",
    "d2_a1_b2",
    "c1_b0",
    "c1_b1",
    "c1_b2",
    "c2_b1",
    "multiplicity",
    "sum_zlogz",
)
LAYERS = {"fc1": 1024, "fc2": 2048, "fc3": 1024, "output": 160}


def cost(lut, *, stage=CostStage.RTL_SYNTH, tool="yosys", version="0.70", cycles=6, layers=()):
    part = Target().part
    return HardwareReport(stage, tool, version, part, 5.0, lut, lut // 6, 0, 0, cycles, 1, "0" * 64, layers)


def run_time(event_time_us, *, p99_us=9.5, removed=None):
    """A report of stage runtime with three batch sizes; the largest is the fastest per event."""
    batches = (1, 16, 256)
    hertz = tuple(1e6 / (event_time_us * factor) for factor in (20.0, 3.0, 1.0))
    runtime = RuntimeCost(
        "Testron 9000", "CPUExecutionProvider", 2, batches, (7.1, 9.7, 51.7), (p99_us, 13.0, 60.0), hertz
    )
    details = {"timed": "one call of ONNX Runtime", "neurons_removed": removed or {}, "neurons_remark": ""}
    return HardwareReport(
        CostStage.RUNTIME, "onnxruntime", "1.31", "Testron 9000", None, None, None, None, None, None, None, "0" * 64,
        details=details, runtime=runtime,
    )  # fmt: skip


def on_a_processor(inputs):
    """The same run with its cost measured on a processor."""
    dense, deployed = run_time(0.84), run_time(0.42, p99_us=8.25, removed={"fc1": 7, "fc2": 3})
    times = [run_time(0.84 - 0.06 * number) for number in range(len(inputs.trials))]
    trials = tuple(replace(trial, cost=time) for trial, time in zip(inputs.trials, times, strict=True))
    return replace(
        inputs,
        dense_cost=dense,
        deployed_cost=deployed,
        trials=trials,
        budget=Budget(latency_p99_us=9.0, event_time_us=0.4),
        analytic_dense=None,
        analytic_deployed=None,
        hls_note="the target is a processor",
        csynth_note="the target is a processor",
    )


def classifier_results(generator, n_classes, n_events, names):
    labels = generator.integers(0, n_classes, n_events)
    labels[:n_classes] = np.arange(n_classes)
    groups = np.arange(n_events) // 2
    strength = np.linspace(1.2, 2.6, n_classes)
    base = strength[labels][:, None] * np.eye(n_classes)[labels] + generator.normal(size=(n_events, n_classes))
    results = []
    for noise, step in ((0.0, 1e-6), (0.12, 1 / 32), (0.25, 1 / 16)):
        logits = np.round((base + noise * generator.normal(size=base.shape)) / step) * step
        weights = np.ones(n_events)
        results.append(
            NetworkResult(1.0 + noise / 5, evaluate_classifier(logits, labels, weights, groups, names), logits)
        )
    return labels, groups, results


def fit_history(phase, epochs, start, end, accuracy, rounds=1, sparsity=0.0):
    records = []
    for number in range(rounds):
        for epoch in range(epochs):
            done = epoch / max(epochs - 1, 1)
            loss = end + (start - end) * np.exp(-5 * done) + 0.006 * np.sin(2.3 * epoch)
            target = 1 - 0.5 * 0.6**number if sparsity else 0.0
            zero = target * min(1.0, 2 * done) if number == 0 else target
            score = None if accuracy is None else accuracy - 0.4 * (loss - end)
            records.append(EpochRecord(phase, epoch, loss - 0.01 * done, loss, score, 1e-3, zero, 0.4, -loss))
    best = min(range(len(records)), key=lambda i: records[i].validation_loss)
    return FitHistory(tuple(records), best)


def make_trials(with_accuracy=True):
    trials, lut = [], 41_000
    for number in range(1, 6):
        density = 0.5 * 0.6 ** (number - 1)
        lut = int(62_000 * density * 0.75)
        accuracy = 0.674 - 0.0018 * number**1.6 if with_accuracy else None
        spread = {name: 1 - density * (0.7 + 0.2 * i) for i, name in enumerate(LAYERS)}
        trials.append(
            PruneTrial(
                number, "ramp", 1 - density, int(4256 * density), spread, 0.95, accuracy, -0.95, cost(lut), lut < 8_000
            )
        )
    final = replace(trials[-1], round=6, phase="final", cost=cost(5_912), chosen=True)
    final = replace(final, validation_accuracy=0.6692 if with_accuracy else None, meets_budget=True)
    dense = PruneTrial(
        0,
        "dense",
        0.0,
        4240,
        dict.fromkeys(LAYERS, 0.004),
        0.93,
        trials[0].validation_accuracy,
        -0.93,
        cost(61_912),
        False,
    )
    return (dense, *trials, final)


def make_scan(feature_names, accuracy, layers=tuple(LAYERS)):
    points = []
    for index, layer in enumerate(layers):
        for sparsity in (0.25, 0.5, 0.7, 0.8, 0.9, 0.95):
            lost = 0.45 * sparsity ** (6 - 0.8 * (index % 5))
            value = None if accuracy is None else accuracy - lost
            low, high = (None, None) if value is None else (value - 0.0034, value + 0.0034)
            points.append(
                LayerPoint(
                    layer,
                    "magnitude_l1",
                    sparsity,
                    0.93 + 3 * lost,
                    value,
                    low,
                    high,
                    -0.93 - 3 * lost if value is None else value,
                )
            )
    findings = []
    for index, name in enumerate(feature_names):
        importance = 0.14 * 0.72**index - 0.0004
        drop = None if accuracy is None else importance
        findings.append(InputFinding(name, index, "informative", None, None, 2.5 * importance, drop, 2.5 * importance))
    if len(feature_names) > 8:
        none = None if accuracy is None else 0.0
        findings[6] = InputFinding(feature_names[6], 6, "duplicate", feature_names[8], None, 0.0, none, 0.0)
    merit, objective = (-0.93, "loss") if accuracy is None else (accuracy, "accuracy")
    return SensitivityScan(0.93, accuracy, merit, objective, 20_000, tuple(points), tuple(findings))


def build_inputs(
    n_events=4000, class_names=("q", "g", "W", "Z", "t"), feature_names=JET_FEATURES, task="classify", seed=7
):
    """A whole run; change parts of it with ``dataclasses.replace``."""
    generator = np.random.default_rng(seed)
    classes = task == "classify"
    if classes:
        labels, groups, results = classifier_results(generator, len(class_names), n_events, tuple(class_names))
    else:
        labels, groups = np.zeros(n_events, np.int64), np.arange(n_events)
        results = [NetworkResult(loss) for loss in (0.1312, 0.1345, 0.1391)]
    accuracy = 0.676 if classes else None
    names = tuple(feature_names)
    dropped = {names[6]: f"equals {names[8]} on every training event"} if len(names) > 8 else {}
    layers = tuple(
        LayerSummary(
            name, "dense", size, int(size * share), "fixed<6,1,AP_RND_CONV,AP_SAT>", "ufixed<6,2,AP_TRN,AP_SAT>"
        )
        for (name, size), share in zip(LAYERS.items(), (0.05, 0.06, 0.09, 0.3), strict=True)
    )
    pairs = tuple(
        PairVerdict(name, 1000 if name == "qonnx" else n_events, 0, seconds=seconds)
        for name, seconds in (("qonnx", 21.4), ("onnxruntime", 0.4), ("hls4ml", 3.1), ("alkaid", 1.2))
    )
    return ReportInputs(
        project="jet_tagger",
        description="Which particle started this jet? Five classes from sixteen jet substructure features.",
        task=task,
        config={"project": "jet_tagger", "seed": 1, "quantize": {"weight_bits": 6, "activation_bits": 6}},
        seed=1,
        versions={
            "python": "3.11.7",
            "trigger_prune": "0.1.0",
            "torch": "2.13.0",
            "hls4ml": "1.3.0",
            "alkaid": "0.8.2",
        },
        sample=SampleSummary(
            source="builtin:jets16",
            part_events={"train": 3 * n_events, "validation": n_events, "test": n_events},
            class_names=tuple(class_names),
            class_events=tuple(5 * int(n) for n in np.bincount(labels, minlength=len(class_names))),
            feature_names=names,
            event_shape=(len(names),),
        ),
        test_labels=labels,
        test_weights=np.ones(n_events),
        test_groups=groups,
        target=Target(),
        budget=Budget(lut=8_000, latency_cycles=10, dsp=0),
        float_network=results[0],
        dense_network=results[1],
        dense_bits=8,
        dense_cost=cost(61_912, cycles=7),
        deployed_network=results[2],
        deployed_cost=cost(5_912, layers=tuple(LayerCost(name, 900 + 350 * i) for i, name in enumerate(LAYERS))),
        deployed_layers=layers,
        inputs_used=tuple(name for name in names if name not in dropped),
        inputs_dropped=dropped,
        verdict=Verdict(n_events, 19, "float32", pairs),
        timings_s={
            "data": 1.2,
            "train": 24.8,
            "baseline": 19.3,
            "sensitivity": 7.7,
            "prune": 171.0,
            "export": 3.9,
            "verify": 44.0,
        },
        reproduce="trigger-prune run hls_projects/jet_tagger --seed 1",
        histories={
            "float": fit_history("float", 60, 1.6, 0.92, accuracy),
            "qat": fit_history("qat", 30, 1.02, 0.925, accuracy),
            "dense": fit_history("dense", 15, 0.98, 0.921, accuracy),
            "prune": fit_history("prune", 20, 1.15, 0.94, accuracy, rounds=6, sparsity=1.0),
        },
        scan=make_scan(names, accuracy),
        trials=make_trials(classes),
        analytic_dense=cost(58_100, stage=CostStage.ANALYTIC, tool="trigger_prune", version="0.1.0"),
        analytic_deployed=cost(6_350, stage=CostStage.ANALYTIC, tool="trigger_prune", version="0.1.0"),
        csynth_note="neither vitis-run nor vivado_hls is on PATH",
        data_card="Simulated with Pythia 8, toy detector.\nNot the performance of any experiment.",
    )


def triggered(signals=("HH4b",), rates=True, objective="efficiency_at_rate", offline=True):
    """A run of a one-output network whose events have a signal."""
    # a larger test part, so that some rates are badly known on validation only
    parts = ((1, 6000), (2, 24000))
    validation, test = (trigger_toys.part(seed, signals, rates, n, offline) for seed, n in parts)
    scores = trigger_toys.scores(validation, test)
    targets = (1.0, 10.0, 100.0) if rates else (1e-4, 1e-3, 1e-2)
    classes = tuple(range(1, len(signals) + 1))
    settings = StudySettings(
        classes,
        targets,
        targets[-1],
        default_turn_on(test, classes),
        ("float", "deployed"),
        rates,
        (("float", "deployed"), ("dense", "deployed")),
    )
    study = study_trigger(scores, validation, test, settings)
    labels = {
        "loss": "loss",
        "auc": "AUC",
        "efficiency_at_rate": "signal efficiency at 100 kHz",
        "efficiency_at_fpr": "signal efficiency at 1 % background",
    }
    last = study.signal_names[-1]
    merits = {
        part: {
            name: network.points[-1].efficiency_at_equal_rate[last].value - 0.01 * (part == "validation")
            for name, network in study.networks.items()
        }
        for part in ("validation", "test")
    }
    inputs = build_inputs(300, class_names=("minimum_bias", *signals), task="autoencoder")
    scan = replace(make_scan(inputs.sample.feature_names, 0.9), objective=labels[objective], events=150)
    return replace(
        inputs,
        task="binary",
        scan=scan,
        objective=ObjectiveResult(
            objective,
            labels[objective],
            merits,
            {"validation": 250.0, "test": 120.0} if objective.startswith("efficiency") else None,
        ),
        trigger=study,
        firmware_score=FirmwareScore(Score("head"), "the network's output", 1 / 16, 1 / 64),
        luminosity="pile-up 50, 72b (2736 colliding bunches)" if rates else None,
    )


def broken_verdict(events):
    """One representation differs, one did not run."""
    difference = FirstDifference(17, "fc2", 3, 0.25, 0.3125)
    pairs = (
        PairVerdict("onnxruntime", events, 0),
        PairVerdict("hls4ml", events, 12, difference),
        PairVerdict("alkaid", events, None, failure="stopped after 900 s"),
    )
    return Verdict(events, 26, "float64", pairs)


@pytest.fixture(scope="session")
def make_inputs():
    return build_inputs


@pytest.fixture(scope="session")
def make_triggered():
    return cache(triggered)


@pytest.fixture(scope="session")
def make_broken_verdict():
    return broken_verdict


@pytest.fixture(scope="session")
def on_processor():
    return on_a_processor
