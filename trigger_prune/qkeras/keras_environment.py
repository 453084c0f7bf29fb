"""TensorFlow as QKeras 0.9 and hls4ml 1.3 need it; imported first, in the process of ``worker`` only.

* QKeras needs Keras 2: the switch to tf_keras must be set before TensorFlow is imported.
* hls4ml asks the module ``keras`` for the version of a model's Keras, which is tf_keras here.
* numpy 2 has no ``np.product``, which hls4ml uses for weights that are powers of two.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


def prepare() -> Any:
    """Set everything up and return the module ``tf_keras``. Raises ImportError where a package is missing."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    import numpy as np

    vars(np).setdefault("product", np.prod)
    import qkeras  # noqa: F401  (registers its layers)
    import tensorflow
    import tf_keras

    tensorflow.get_logger().setLevel("ERROR")
    sys.modules["keras"] = tf_keras
    return tf_keras


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Layers built inside compute in float64, ``quantized_relu`` too, which names float32 in its code."""
    import tf_keras
    from qkeras import quantizers

    backend, tensorflow = quantizers.K, quantizers.tf
    tf_keras.backend.set_floatx("float64")
    quantizers.K = _Wide(backend, {"cast": lambda x, dtype: backend.cast(x, "float64")})
    quantizers.tf = _Wide(tensorflow, {"float32": tensorflow.float64})
    try:
        yield
    finally:
        quantizers.K, quantizers.tf = backend, tensorflow
        tf_keras.backend.set_floatx("float32")


class _Wide:
    """A module with some of its names replaced."""

    def __init__(self, module: Any, replaced: dict[str, Any]) -> None:
        self._module = module
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._module, name)
