"""QKeras models from quantised networks and back. Everything that imports TensorFlow runs in a process of its own.

``bridge`` is what the rest of the package calls. The modules named ``keras_*`` and ``worker`` belong to that process;
all others are free of TensorFlow. The two sides exchange files: a model of Keras (``.h5`` or ``.keras``) and its
description (``description.KerasDescription``), integers and types.
"""
