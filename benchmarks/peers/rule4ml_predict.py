"""Predictions of rule4ml (GPL-3.0) for dense networks. Runs in an environment of its own:

    python3.11 -m venv ENV && ENV/bin/pip install rule4ml==0.2.0 && ENV/bin/pip uninstall -y triton
    ENV/bin/python benchmarks/peers/rule4ml_predict.py < networks.json > predictions.json

(triton and tensorflow bring two copies of LLVM, which do not live in one process.)

Input: a list of {"layers": [{"kind", "n_in", "n_out"}, ...], "bits", "integer", "reuse_factor", "strategy", "board",
"version"} (version of the compiler).
Output: a list of {"v1 mlp" | "v2 mlp" | "v2 gnn": {"LUT", "FF", "DSP", "BRAM", "CYCLES", "INTERVAL"}}. rule4ml knows
sizes and configuration of a network, not its weights; its boards are pynq-z2, zcu102, alveo-u200 and alveo-u250.
Nothing of this project is imported here, and nothing here by the project.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import rule4ml
from rule4ml.models.wrappers import KerasModelWrapper, MultiModelWrapper, TorchModelWrapper

WEIGHTS = Path(rule4ml.__file__).parent / "models" / "weights"
LABELS = ("LUT", "FF", "DSP", "BRAM", "CYCLES", "INTERVAL")
SETS = {"v1 mlp": WEIGHTS / "v1" / "mlp", "v2 mlp": WEIGHTS / "v2" / "mlp", "v2 gnn": WEIGHTS / "v2" / "gnn"}


def load(folder: Path) -> MultiModelWrapper:
    """All estimators of a folder."""
    models = MultiModelWrapper()
    for config in sorted(folder.glob("*.config.json")):
        name = config.name.removesuffix(".config.json")
        torch_weights = folder / f"{name}.weights.pt"
        wrapper = TorchModelWrapper() if torch_weights.exists() else KerasModelWrapper()
        weights = torch_weights if torch_weights.exists() else folder / f"{name}.weights.h5"
        wrapper.load(str(config), str(weights))
        models.add_model_wrapper(wrapper)
    return models


def keras_network(layers: list[dict[str, Any]]) -> keras.Model:
    """A sequential model of these sizes; the weights make no difference."""
    model = keras.Sequential([keras.layers.Input((layers[0]["n_in"],))])
    for layer in layers:
        if layer["kind"] == "dense":
            model.add(keras.layers.Dense(layer["n_out"]))
        elif layer["kind"] == "batchnorm":
            model.add(keras.layers.BatchNormalization())
        else:
            model.add(keras.layers.Activation(layer["kind"]))
    model.build((None, layers[0]["n_in"]))
    return model


def predict(models: MultiModelWrapper, network: dict[str, Any]) -> dict[str, float]:
    """Predictions for the nearest board that these estimators know."""
    for board in dict.fromkeys((network["board"], "zcu102", "pynq-z2")):
        config = {
            "board": board,
            "model": {
                "strategy": network["strategy"],
                "precision": f"ap_fixed<{network['bits']}, {network['integer']}>",
                "reuse_factor": network["reuse_factor"],
            },
        }
        try:
            table = models.predict([keras_network(network["layers"])], hls_configs=[config])
        except Exception as error:  # rule4ml raises nothing more special
            if "does not support board" not in str(error):
                raise
            continue
        break
    else:
        raise SystemExit(f"no board fits {network['board']}")
    same_tool = table[table["Vivado Version"].astype(str) == network["version"]]
    row = (same_tool if len(same_tool) else table).mean(numeric_only=True)
    found = {}
    for column, value in row.items():
        text = " ".join(map(str, column)) if isinstance(column, tuple) else str(column)
        label = text.split(" ")[0].upper()
        # Beside each count stands its share of the board, in %.
        if label in LABELS and "%" not in text:
            found[label] = max(float(value), 0.0)
    return found


def main() -> None:
    networks = json.load(sys.stdin)
    sets = {name: load(folder) for name, folder in SETS.items()}
    print(json.dumps([{name: predict(models, network) for name, models in sets.items()} for network in networks]))


if __name__ == "__main__":
    main()
