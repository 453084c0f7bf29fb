"""benchmarks/real_networks.py: on invented networks in the same file format, and on the real weights where they lie."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import real_networks  # noqa: E402
from _firmware import FirmwareLayer, TriggerNetwork, inexact_layers, integer_outputs  # noqa: E402
from _firmware_csim import firmware_outputs  # noqa: E402
from _rebuild import build, features_of, load_arrays, make_events  # noqa: E402
from _trigger_networks import NETWORKS  # noqa: E402

from trigger_prune.errors import DataError, FixedPointError, ModelError  # noqa: E402
from trigger_prune.fixed_point import FixedPoint  # noqa: E402
from trigger_prune.verify.representations import torch_outputs  # noqa: E402

MODELS = real_networks.DEFAULT_MODELS
needs_models = pytest.mark.skipif(
    not (MODELS / "index.csv").is_file(), reason=f"the public firmware weights are not in {MODELS}"
)
EQUAL_TO_FIRMWARE = ("AXOL1TL v3", "AXOL1TL v4", "CICADA v1", "CICADA v1p1p2", "CICADA v2p1p2")

W, B, WIDE = "fixed<5,2>", "fixed<6,3>", "fixed<24,12>"
ACTIVATION = "ufixed<7,3,RND_CONV,SAT>"

DENSE = TriggerNetwork(
    "dense",
    "Toy_v1",
    "fixed<6,4,RND_CONV,SAT>",
    (6,),
    (
        FirmwareLayer("dense", 6, 5, "w2", W, "b2", B, accum=WIDE, result=WIDE, relu=True, output=ACTIVATION),
        FirmwareLayer("dense", 5, 2, "w4", W, "b4", B, accum=WIDE, result=WIDE, output="fixed<8,5,RND,SAT>"),
    ),
    1,
    "invented",
)
IMAGE = TriggerNetwork(
    "image",
    "Toy_v2",
    "ufixed<5,5>",
    (6, 4, 2),
    (
        FirmwareLayer(
            "conv2d", 2, 3, "w3", W, "b3", B, accum=WIDE, result=WIDE, relu=True, output=ACTIVATION,
            kernel=(2, 2), stride=2, transposed=True,
        ),
        FirmwareLayer("dense", 18, 4, "w7", W, "b7", B, accum=WIDE, result=WIDE, relu=True, output=ACTIVATION),
    ),
    1,
    "invented",
)  # fmt: skip
JET = TriggerNetwork(
    "jet",
    "Toy_v3",
    "fixed<8,4,RND,SAT>",
    (5, 3),
    (
        FirmwareLayer("scale", 3, 3, "s2", B, "b2", B, result="fixed<9,5,RND,SAT>", output="fixed<9,5,RND,SAT>"),
        FirmwareLayer("pointwise", 3, 4, "w5", W, "b5", B, accum=WIDE, result=WIDE, relu=True, output=ACTIVATION),
        FirmwareLayer("average", 4, 4, accum="fixed<14,7>", result="fixed<14,7>", length=5),
        FirmwareLayer("dense", 4, 2, "w9", W, "b9", B, accum=WIDE, result=WIDE),
    ),
    1,
    "invented",
)
NARROW = TriggerNetwork(
    "narrow",
    "Toy_v3",
    "fixed<8,4,RND,SAT>",
    (5, 3),
    (
        FirmwareLayer("scale", 3, 3, "s2", B, "b2", B, result="fixed<9,5,RND,SAT>", output="fixed<9,5,RND,SAT>"),
        FirmwareLayer(
            "pointwise", 3, 4, "w5", W, "b5", B, accum="fixed<10,5>", result="fixed<9,5>", relu=True, output=ACTIVATION
        ),
        FirmwareLayer("average", 4, 4, accum="fixed<8,5,TRN,SAT>", result="fixed<8,5,TRN,SAT>", length=5),
        FirmwareLayer("dense", 4, 2, "w9", W, "b9", B, accum="fixed<8,4,TRN,SAT>", result="fixed<7,4,TRN,SAT>"),
    ),
    1,
    "invented",
)


def _write(folder: Path, network: TriggerNetwork, seed: int = 0) -> None:
    """Invented weights in the files of the benchmark."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer in network.layers:
        if not layer.weight:
            continue
        n_in = 1 if layer.kind == "scale" else layer.n_in * layer.kernel[0] * layer.kernel[1]
        sizes = {layer.weight: n_in * layer.n_out, layer.bias: layer.n_out}
        for name, kind in ((layer.weight, layer.weight_type), (layer.bias, layer.bias_type)):
            fixed = FixedPoint.parse(kind)
            codes = rng.integers(fixed.min_code, fixed.max_code, sizes[name], endpoint=True)
            # decimals that the compiler rounds are in the files of scales only
            arrays[name] = (codes + (0.4 * rng.random(sizes[name]) if layer.kind == "scale" else 0)) * fixed.lsb
    np.savez(folder / f"{network.file}.npz", **arrays)
    exists = (folder / "index.csv").is_file()
    with (folder / "index.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        if not exists:
            writer.writerow(["dir", "array", "ctype", "declared", "n", "zero_fraction", "min", "max"])
        for name, values in arrays.items():
            zeros = float((values == 0).mean())
            writer.writerow(
                [f"{network.file}/", name, "t", values.size, values.size, zeros, values.min(), values.max()]
            )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for network in (DENSE, IMAGE, JET):
        _write(tmp_path, network)
    return tmp_path


@pytest.mark.parametrize("network", [DENSE, IMAGE, JET], ids=lambda network: network.name)
def test_every_representation_gives_the_integers_and_the_firmware(folder: Path, network: TriggerNetwork) -> None:
    arrays = load_arrays(folder, network)
    codes = make_events(network, 300)
    found = real_networks.verify(network, arrays, build(network, arrays), codes)
    mismatches = {key: value for key, value in found.items() if key.startswith("mismatches_")}
    assert set(mismatches) >= {
        f"mismatches_{name}" for name in ("torch", "qonnx", "hls4ml_csim", "alkaid", "firmware_csim")
    }
    assert not any(mismatches.values()), mismatches
    assert found["firmware_proven_equal"] == 1
    assert found["firmware_differs_fraction"] == 0


def test_one_wrong_weight_is_noticed(folder: Path) -> None:
    arrays = load_arrays(folder, JET)
    network = build(JET, arrays)
    changed = dict(arrays, w5=arrays["w5"].copy())
    changed["w5"][7] += 0.125 if changed["w5"][7] < 0 else -0.125
    codes = make_events(JET, 300)
    right, fraction = integer_outputs(JET, arrays, codes, exact_sums=True)
    wrong, _ = integer_outputs(JET, changed, codes, exact_sums=True)
    outputs = torch_outputs(network, features_of(JET, codes), double=True)
    np.testing.assert_array_equal(outputs, right * 2.0**-fraction)
    assert (outputs != wrong * 2.0**-fraction).any(axis=1).sum() > 100


def test_narrow_accumulators_are_those_of_hls4ml_and_are_declared_inexact(folder: Path) -> None:
    arrays = load_arrays(folder, NARROW)
    codes = make_events(NARROW, 400)
    outputs, fraction = integer_outputs(NARROW, arrays, codes, exact_sums=False)
    np.testing.assert_array_equal(firmware_outputs(NARROW, arrays, codes), outputs * 2.0**-fraction)
    exact, exact_fraction = integer_outputs(NARROW, arrays, codes, exact_sums=True)
    assert (exact * 2.0**-exact_fraction != outputs * 2.0**-fraction).any()
    reasons = inexact_layers(NARROW, arrays)
    assert {reason.split(":")[0] for reason in reasons} == {
        "layer 1 (pointwise)",
        "layer 2 (average)",
        "layer 3 (dense)",
    }


@pytest.mark.parametrize(
    ("accum", "result", "reason"),
    [
        # inputs up to 32, one weight of 1.125 and a bias of 2: sums up to 38, three fraction bits
        ("fixed<10,7>", "fixed<10,7>", None),
        ("fixed<9,6>", "fixed<10,7>", "do not fit"),
        ("fixed<9,7>", "fixed<10,7>", "loses 1 bits"),
        ("fixed<10,7>", "fixed<9,6>", "narrower than the sums"),
        ("fixed<10,7>", "fixed<9,7>", "narrower than the sums"),
    ],
)
def test_each_way_to_lose_bits_is_named(accum: str, result: str, reason: str | None) -> None:
    layer = FirmwareLayer(
        "dense", 1, 1, "w", "fixed<6,3>", "b", "fixed<6,3>", accum=accum, result=result, output="fixed<14,8,RND,SAT>"
    )
    network = TriggerNetwork("one", "one", "fixed<6,6>", (1,), (layer,), 1, "invented")
    arrays = {"w": np.array([1.125]), "b": np.array([2.0])}
    reasons = inexact_layers(network, arrays)
    assert len(reasons) == (reason is not None)
    assert all(reason is not None and reason in found for found in reasons)
    codes = np.arange(-32, 32).reshape(-1, 1)
    (exact, fraction), (firmware, _) = (
        integer_outputs(network, arrays, codes, exact_sums=exact) for exact in (True, False)
    )
    assert fraction == 6
    assert (exact != firmware).any() == (reason is not None)


@pytest.mark.parametrize(
    ("accum", "result", "reason"),
    [
        # four inputs up to 31: sums up to 124
        ("fixed<12,8>", "fixed<10,7>", None),
        ("fixed<11,7>", "fixed<10,7>", "can overflow"),
        ("fixed<9,8>", "fixed<10,7>", "drops bits"),
    ],
)
def test_each_way_an_average_can_differ_is_named(accum: str, result: str, reason: str | None) -> None:
    layer = FirmwareLayer("average", 1, 1, accum=accum, result=result, length=4)
    network = TriggerNetwork("mean", "mean", "ufixed<5,5>", (4, 1), (layer,), 1, "invented")
    reasons = inexact_layers(network, {})
    assert len(reasons) == (reason is not None) and all(str(reason) in found for found in reasons)
    codes = np.array([[a, b, c, 31] for a in range(32) for b in (0, 31) for c in (0, 7, 31)])[..., None]
    (exact, _), (firmware, _) = (integer_outputs(network, {}, codes, exact_sums=exact) for exact in (True, False))
    assert (exact != firmware).any() == (reason is not None)


@pytest.mark.parametrize(
    ("result", "equal"), [("fixed<12,9,RND,SAT>", True), ("fixed<13,9,RND,SAT>", False), ("fixed<7,4,RND,WRAP>", False)]
)
def test_a_scale_that_is_converted_twice_is_named(result: str, equal: bool) -> None:
    layer = FirmwareLayer(
        "scale", 1, 1, "s", "fixed<8,3>", "b", "fixed<8,3>", result=result, output="fixed<7,4,RND,SAT>"
    )
    network = TriggerNetwork("norm", "norm", "fixed<6,6>", (1,), (layer,), 1, "invented")
    arrays = {"s": np.array([0.46875]), "b": np.array([0.21875])}
    codes = np.arange(-32, 32).reshape(-1, 1)
    (exact, _), (firmware, _) = (integer_outputs(network, arrays, codes, exact_sums=exact) for exact in (True, False))
    assert (inexact_layers(network, arrays) == []) == equal == bool((exact == firmware).all())


def test_events_cover_corners_and_stay_on_the_grid() -> None:
    codes = make_events(DENSE, 500)
    fixed = FixedPoint.parse(DENSE.input_type)
    assert codes.shape == (500, 6)
    assert codes.min() == fixed.min_code and codes.max() == fixed.max_code
    assert (codes[0] == fixed.min_code).all() and (codes[1] == fixed.max_code).all()
    assert (codes == 0).mean() > 0.15
    assert len(np.unique(codes, axis=0)) > 400


def test_files_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(DataError, match=r"index\.csv does not exist"):
        load_arrays(folder / "elsewhere", DENSE)
    (folder / "Toy_v2.npz").unlink()
    with pytest.raises(DataError, match=r"Toy_v2\.npz does not exist"):
        load_arrays(folder, IMAGE)
    _write(folder, JET, seed=1)
    rows = (folder / "index.csv").read_text().splitlines()
    (folder / "index.csv").write_text("\n".join(row for row in rows if not row.startswith("Toy_v3/,b9")) + "\n")
    with pytest.raises(DataError, match=r"Toy_v3: array 'b9' is not in Toy_v3\.npz or not in index\.csv"):
        load_arrays(folder, JET)


def test_an_array_other_than_the_index_states_is_refused(folder: Path) -> None:
    stored = dict(np.load(folder / "Toy_v1.npz"))
    stored["w2"] = stored["w2"][:-1]
    np.savez(folder / "Toy_v1.npz", **stored)
    with pytest.raises(DataError, match="Toy_v1: array 'w2' has not the size or range"):
        load_arrays(folder, DENSE)


def test_weights_off_the_declared_grid_are_refused(folder: Path) -> None:
    arrays = load_arrays(folder, DENSE)
    arrays["w2"][3] += 1 / 64
    with pytest.raises(FixedPointError, match="layer0, w2: 1 of 30 values"):
        build(DENSE, arrays)
    with pytest.raises(ModelError, match="layer1: the array holds 30 values, the layer has 10"):
        build(DENSE, load_arrays(folder, DENSE) | {"w4": arrays["w2"]})


def test_a_missing_folder_ends_the_benchmark_with_a_clear_message(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "real_networks.py"), "--quick", "--models", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere/index.csv does not exist" in done.stderr and "--models" in done.stderr
    assert "Traceback" not in done.stderr


@needs_models
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_real_weights_fit_their_declaration_and_compute_the_integers(network: TriggerNetwork) -> None:
    arrays = load_arrays(MODELS, network)
    codes = make_events(network, 400)
    expected, fraction = integer_outputs(network, arrays, codes, exact_sums=True)
    outputs = torch_outputs(build(network, arrays), features_of(network, codes), double=True)
    np.testing.assert_array_equal(outputs, expected * 2.0**-fraction)
    assert (not inexact_layers(network, arrays)) == (network.name in EQUAL_TO_FIRMWARE)


@needs_models
@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_real_firmware_compiled_from_its_declaration(network: TriggerNetwork) -> None:
    arrays = load_arrays(MODELS, network)
    codes = make_events(network, 400)
    compiled = firmware_outputs(network, arrays, codes)
    modelled, fraction = integer_outputs(network, arrays, codes, exact_sums=False)
    np.testing.assert_array_equal(compiled, modelled * 2.0**-fraction)
    if network.name in EQUAL_TO_FIRMWARE:
        rebuilt = torch_outputs(build(network, arrays), features_of(network, codes), double=True)
        np.testing.assert_array_equal(rebuilt, compiled)
