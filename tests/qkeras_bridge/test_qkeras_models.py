"""The bridge with TensorFlow itself. Without the extra `qkeras` only the last tests run, and the rest say why not."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from bridge_networks import INPUT, MODELS, events, network
from torch import nn

from trigger_prune.errors import ExportError, ModelError, ToolError
from trigger_prune.fixed_point import FixedPoint
from trigger_prune.qkeras.arithmetic import float_bits
from trigger_prune.qkeras.bridge import (
    FinetuneSetting,
    export_qkeras,
    finetune_network,
    finetune_qkeras,
    import_qkeras,
    predict_qkeras,
    qkeras_description,
    write_keras_project,
)
from trigger_prune.qkeras.description import description_file, load_description
from trigger_prune.qkeras.verify import verify_qkeras
from trigger_prune.quantize.convert import quantize_model
from trigger_prune.quantize.layers import weight_layers
from trigger_prune.target import LayerLayout, Target
from trigger_prune.verify.representations import torch_outputs

MISSING = [name for name in ("tensorflow", "tf_keras", "qkeras") if importlib.util.find_spec(name) is None]
needs_qkeras = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install 'trigger_prune[qkeras]'"
)


def run_keras(script: str, folder: Path) -> None:
    """Run a user's own script in ``folder``, as it is written for QKeras 0.9."""
    header = "import numpy as np\nimport tf_keras as keras\nfrom qkeras import *\nfrom tf_keras.layers import *\n"
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", header + textwrap.dedent(script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_qkeras
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("mlp", "AP_TRN"),
        ("conv1d", "AP_RND_CONV"),
        ("conv2d", "AP_TRN"),
        ("strided", "AP_TRN"),
        ("signed", "AP_TRN"),
        ("residual", "AP_RND_CONV"),
    ],
)
def test_torch_qkeras_and_hls4ml_have_the_same_bits(name: str, rounding: str) -> None:
    features = events(1000, MODELS[name][1])
    pairs = verify_qkeras(network(name, rounding), features, Target(), with_onnx=False)
    assert {pair.name: pair.failure or pair.mismatches for pair in pairs} == {"qkeras": 0, "hls4ml_keras_vitis": 0}


@needs_qkeras
@pytest.mark.slow
def test_sums_beyond_float32_are_computed_in_float64(tmp_path: Path) -> None:
    wide = FixedPoint(16, 4)
    torch.manual_seed(0)
    features = wide.quantize(np.random.default_rng(0).normal(size=(500, 6))).astype(np.float32)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    precision = type("Bits", (), {"weight_bits": 8, "activation_bits": 9, "rounding": "AP_TRN"})()
    torch_network = quantize_model(model, torch.from_numpy(features), wide, precision).eval()
    bits = float_bits(qkeras_description(torch_network))
    assert bits is not None and bits > 24
    expected = torch_outputs(torch_network, features, double=True)
    export_qkeras(torch_network, tmp_path / "wide.h5")
    np.testing.assert_array_equal(predict_qkeras(tmp_path / "wide.h5", features), expected)


@needs_qkeras
@pytest.mark.slow
def test_training_in_keras_keeps_masks_and_comes_back_with_its_bits(tmp_path: Path) -> None:
    torch_network = network("conv2d")
    features = events(4000, MODELS["conv2d"][1])
    targets = np.argmax(features[:, 0, :3].sum(axis=2), axis=1)
    setting = FinetuneSetting(epochs=6, batch_size=64, learning_rate=1e-2)
    tuned, history = finetune_network(torch_network, features, targets, setting)
    judged = np.random.default_rng(setting.seed).permutation(len(features))[: len(features) // 5]

    def accuracy(of: torch.fx.GraphModule) -> float:
        outputs = torch_outputs(of, features[judged], double=True)
        return float((outputs.argmax(axis=1) == targets[judged]).mean())

    assert accuracy(tuned) > accuracy(torch_network) + 0.1
    # what Keras says of the result is what torch finds
    assert history["val_accuracy"][-1] == pytest.approx(accuracy(tuned), abs=1e-6)
    for name, layer in weight_layers(torch_network).items():
        other = weight_layers(tuned)[name]
        assert torch.equal(layer.weight_mask, other.weight_mask)
        assert layer.weight_type == other.weight_type
        assert not torch.equal(layer.quantized_weight(), other.quantized_weight())

    # the same training of the saved model gives the same codes, as a Keras file and back
    model, after = tmp_path / "model.keras", tmp_path / "after.keras"
    export_qkeras(torch_network, model)
    finetune_qkeras(model, after, features, targets, setting)
    expected = torch_outputs(tuned, features[:500], double=True)
    np.testing.assert_array_equal(predict_qkeras(after, features[:500]), expected)
    np.testing.assert_array_equal(torch_outputs(import_qkeras(after), features[:500], double=True), expected)
    for node in load_description(description_file(after)).weights:
        assert not node.kernel[~node.mask].any()


@needs_qkeras
@pytest.mark.slow
def test_the_exported_model_runs_without_the_package(tmp_path: Path) -> None:
    """Stock QKeras loads it: no layer or function of ours is inside."""
    torch_network = network("conv2d")
    features = events(200, MODELS["conv2d"][1])
    export_qkeras(torch_network, tmp_path / "model.h5")
    np.save(tmp_path / "x.npy", np.moveaxis(features, 1, -1))
    script = """
        from qkeras.utils import load_qmodel
        np.save("y.npy", load_qmodel("model.h5", compile=False).predict(np.load("x.npy"), verbose=0))
        import sys
        assert not [name for name in sys.modules if name.startswith("trigger_prune")]
    """
    run_keras(script, tmp_path)
    found = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(found, torch_outputs(torch_network, features, double=True))


@needs_qkeras
@pytest.mark.slow
def test_a_model_of_somebody_else_becomes_a_network_that_can_be_pruned(tmp_path: Path) -> None:
    script = """
        keras.utils.set_random_seed(1)
        q = dict(kernel_quantizer=quantized_bits(5, 1, alpha=1.0), bias_quantizer=quantized_bits(8, 2, alpha=1.0))
        scaled = dict(kernel_quantizer="quantized_bits(4,0,1,alpha='auto_po2')", bias_quantizer="quantized_bits(9,3)")
        model = keras.Sequential([
            Input((6, 6, 2)), ZeroPadding2D(1), QConv2D(4, 3, strides=2, activation="quantized_relu(6,2)", **q),
            QConv2D(5, 3, padding="same", **scaled), Activation("relu"), QActivation("quantized_bits(7,2,1,alpha=1)"),
            MaxPooling2D(), Dropout(0.2), Flatten(), QDense(3, **q), Activation("softmax")])
        for layer in model.layers:
            if hasattr(layer, "bias"):
                layer.bias.assign(np.random.default_rng(2).normal(size=layer.bias.shape))
        kernel = model.layers[1].kernel
        kernel.assign(np.where(np.abs(kernel) < 0.1, 0, kernel))
        x = np.round(np.random.default_rng(3).normal(size=(400, 6, 6, 2)) * 32) / 32
        np.save("x.npy", np.clip(x, -4, 3.96875))
        np.save("y.npy", keras.Model(model.inputs, model.layers[-2].output).predict(np.load("x.npy"), verbose=0))
        np.save("mask.npy", kernel.numpy() != 0)
        model.save("theirs.h5")
    """
    run_keras(script, tmp_path)
    with pytest.raises(ModelError) as caught:
        import_qkeras(tmp_path / "theirs.h5", strip_head=True)
    assert "--input-type" in str(caught.value)
    with pytest.raises(ModelError, match="softmax"):
        import_qkeras(tmp_path / "theirs.h5", INPUT)
    found = import_qkeras(tmp_path / "theirs.h5", INPUT, strip_head=True)
    features = np.moveaxis(np.load(tmp_path / "x.npy"), -1, 1).astype(np.float32)
    np.testing.assert_array_equal(torch_outputs(found, features, double=True), np.load(tmp_path / "y.npy"))
    first = next(iter(weight_layers(found).values()))
    np.testing.assert_array_equal(first.weight_mask.numpy() != 0, np.load(tmp_path / "mask.npy").transpose(3, 2, 0, 1))


@needs_qkeras
@pytest.mark.slow
def test_what_has_no_integers_is_refused_by_the_name_of_its_layer(tmp_path: Path) -> None:
    script = """
        q = dict(kernel_quantizer=quantized_bits(6, 0, alpha=1.0), bias_quantizer=quantized_bits(8, 2, alpha=1.0))
        relu = QActivation("quantized_relu(6,2)", name="relu")
        def save(name, *layers):
            keras.Sequential([Input((5,)), *layers]).save(f"{name}.h5")
        save("float", Dense(3, name="plain"))
        save("bias", QDense(3, kernel_quantizer=quantized_bits(6, 0, alpha=1.0), name="free", bias_initializer="ones"))
        save("scale", QDense(3, kernel_quantizer="quantized_bits(4,0,1,alpha='auto')", use_bias=False, name="auto"))
        save("tanh", QDense(3, name="d", **q), QActivation("quantized_tanh(6)", name="curved"))
        save("leaky", QDense(3, name="d", **q), QActivation(quantized_relu(6, 2, negative_slope=0.25), name="slope"))
        norm = BatchNormalization(name="norm")
        model = keras.Sequential([Input((5,)), QDense(8, name="d", **q), norm, relu, QDense(2, name="e", **q)])
        norm.set_weights([np.full(8, 0.7), np.full(8, 0.2), np.full(8, 0.1), np.full(8, 0.9)])
        x = np.round(np.random.default_rng(3).normal(size=(300, 5)) * 32) / 32
        np.save("x.npy", x)
        np.save("y.npy", model.predict(x, verbose=0))
        model.save("norm.h5")
    """
    run_keras(script, tmp_path)
    for file, layer in (
        ("float", "plain"),
        ("bias", "free"),
        ("scale", "auto"),
        ("tanh", "curved"),
        ("leaky", "slope"),
        ("norm", "norm"),
    ):
        with pytest.raises(ModelError, match=f"'{layer}'"):
            import_qkeras(tmp_path / f"{file}.h5", INPUT)
    folded = import_qkeras(tmp_path / "norm.h5", INPUT, fold_batch_norm=True)
    found = torch_outputs(folded, np.load(tmp_path / "x.npy").astype(np.float32), double=True)
    expected = np.load(tmp_path / "y.npy")
    assert np.abs(found - expected).max() < 0.3
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


@needs_qkeras
@pytest.mark.slow
def test_a_changed_bit_in_the_keras_model_is_seen(tmp_path: Path) -> None:
    torch_network = network("mlp")
    model = tmp_path / "model.h5"
    export_qkeras(torch_network, model)
    script = """
        from qkeras.utils import load_qmodel
        model = load_qmodel("model.h5", compile=False)
        head = model.get_layer("head")
        kernel = head.kernel.numpy()
        kernel[np.unravel_index(np.argmax(np.abs(kernel)), kernel.shape)] *= 0.5
        head.kernel.assign(kernel)
        model.save("model.h5")
    """
    run_keras(script, tmp_path)
    pairs = verify_qkeras(torch_network, events(300, (7,)), Target(), model=model, with_onnx=False)
    assert all(pair.mismatches for pair in pairs)


@needs_qkeras
@pytest.mark.slow
def test_the_project_has_the_layout_that_was_asked_for(tmp_path: Path) -> None:
    export_qkeras(network("mlp"), tmp_path / "model.h5")
    # reuse factors that each layer can have: its number of inputs
    layouts = tuple(LayerLayout(*row) for row in (("dense1", "Resource", 7), ("dense2", "Resource", 6)))
    target = Target(layers=layouts)
    folder = write_keras_project(tmp_path / "model.h5", tmp_path / "project", target, "net", backend="Vivado")
    text = (folder / "hls4ml_config.yml").read_text()
    assert "OutputDir: .\n" in text and "KerasModel: null" in text
    parameters = (folder / "firmware" / "parameters.h").read_text()
    factors = [int(line.split()[-1].strip(";")) for line in parameters.splitlines() if "reuse_factor =" in line]
    # activations lie between the layers
    assert factors == [7, 1, 6, 1, 1]
    with pytest.raises(ExportError, match="exists already"):
        write_keras_project(tmp_path / "model.h5", folder, target, "net")
    with pytest.raises(ExportError, match="reuse factor"):
        write_keras_project(
            tmp_path / "model.h5", tmp_path / "no", Target(strategy="Resource", reuse_factor=4999), "net"
        )
    assert not (tmp_path / "no").exists()


def test_without_tensorflow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('no tensorflow here')")
    (tmp_path / "qkeras.py").write_text("import tensorflow")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ToolError, match="no tensorflow here") as caught:
        export_qkeras(network("mlp"), tmp_path / "model.h5")
    assert caught.value.hint == "pip install 'trigger_prune[qkeras]'"
    assert not (tmp_path / "model.h5").exists() and not description_file(tmp_path / "model.h5").exists()


def test_a_name_that_keras_does_not_save_under_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\.h5 nor \.keras"):
        export_qkeras(network("mlp"), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="does not exist"):
        import_qkeras(tmp_path / "model.h5", INPUT)


def test_the_parent_side_leaves_tensorflow_alone() -> None:
    """Import everything the parent calls, and describe a network: no Keras in this process."""
    folder = Path(__file__).parent
    statement = f"""
import json, sys
sys.path.insert(0, {str(folder)!r})
import trigger_prune
from trigger_prune.qkeras import bridge, session, verify, project, to_torch
import trigger_prune.cli.qkeras
from bridge_networks import network
bridge.qkeras_description(network("mlp"))
print(json.dumps(sorted(name.partition(".")[0] for name in sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded & {"tensorflow", "keras", "tf_keras", "qkeras", "hls4ml"} == set()
    assert qkeras_description(network("mlp")).weights
