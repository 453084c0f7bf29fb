"""The firmware itself as C++: hls4ml's own layer functions with the declared types, compiled with g++.

Independent of the package and of ``_firmware.py``: products, accumulators, roundings and the conversion of the weights'
decimals are those of hls4ml's ``nnet_utils`` and of its ap_types headers. Convolutions call the dense function of their
strategy-independent kernel once per position.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from _firmware import Arrays, Codes, FirmwareLayer, TriggerNetwork
from numpy.typing import NDArray

from trigger_prune.fixed_point import FixedPoint

_HEAD = """
#include "ap_fixed.h"
#include "nnet_utils/nnet_common.h"
#include "nnet_utils/nnet_helpers.h"
#include "nnet_utils/nnet_dense.h"
#include "nnet_utils/nnet_activation.h"
#include "nnet_utils/nnet_batchnorm.h"
#include "nnet_utils/nnet_pooling.h"
#include <cstdio>
#include <cstdlib>
#include <vector>

static std::vector<double> read(const char *path) {
    std::FILE *file = std::fopen(path, "rb");
    std::vector<double> values;
    for (double value; std::fread(&value, sizeof value, 1, file) == 1;)
        values.push_back(value);
    std::fclose(file);
    return values;
}
template <class T> static void load(T *target, const std::vector<double> &values, unsigned &at, unsigned n) {
    for (unsigned i = 0; i < n; ++i)
        target[i] = values[at++];
}
"""

_TAIL = """
int main(int, char **arguments) {
    const std::vector<double> weights = read(arguments[1]), events = read(arguments[2]);
    load_weights(weights);
    std::FILE *file = std::fopen(arguments[3], "wb");
    double out[N_OUT];
    for (unsigned at = 0; at < events.size(); at += N_IN) {
        run(&events[at], out);
        std::fwrite(out, sizeof(double), N_OUT, file);
    }
    return std::fclose(file);
}
"""


def firmware_outputs(network: TriggerNetwork, arrays: Arrays, codes: Codes) -> NDArray[np.float64]:
    """Outputs ``(events, outputs)`` for input codes ``(events, *input_shape)``. Needs g++ and hls4ml's templates."""
    import hls4ml

    templates = Path(hls4ml.__file__).parent / "templates" / "vivado"
    source, weights = _program(network, arrays)
    with tempfile.TemporaryDirectory(prefix="trigger_prune_firmware_") as name:
        folder = Path(name)
        (folder / "firmware.cpp").write_text(source)
        weights.tofile(folder / "weights.bin")
        (codes.reshape(len(codes), -1) * FixedPoint.parse(network.input_type).lsb).tofile(folder / "events.bin")
        include = [f"-I{templates}", f"-I{templates / 'ap_types'}", f"-I{templates / 'nnet_utils'}"]
        subprocess.run(
            ["g++", "-O1", "-std=c++14", "-w", *include, "firmware.cpp", "-o", "firmware"],
            cwd=folder,
            check=True,
            timeout=300,
        )
        subprocess.run(["./firmware", "weights.bin", "events.bin", "outputs.bin"], cwd=folder, check=True, timeout=600)
        return np.fromfile(folder / "outputs.bin").reshape(len(codes), -1)


def _program(network: TriggerNetwork, arrays: Arrays) -> tuple[str, NDArray[np.float64]]:
    """C++ source, and the values of all weights and biases in the order in which it loads them."""
    size, shape = int(np.prod(network.input_shape)), list(network.input_shape)
    declarations = [f"typedef {FixedPoint.parse(network.input_type)} t_in;"]
    loads, values = [], []
    steps = [f"static t_in x0[{size}];", f"for (int i = 0; i < {size}; ++i) x0[i] = in[i];"]
    kind = "t_in"
    for i, layer in enumerate(network.layers):
        if layer.kind == "conv2d":
            positions = [(n - k) // layer.stride + 1 for n, k in zip(shape, layer.kernel, strict=False)]
        else:
            positions = {"dense": [], "average": [1]}.get(layer.kind, shape[:-1])
        n_out = int(np.prod(positions)) * layer.n_out
        result = f"r{i}"
        declarations.append(f"typedef {FixedPoint.parse(layer.result)} {result};")
        declarations.append(_config(layer, i, int(np.prod(shape))))
        steps.append(f"static {result} y{i}[{n_out}];")
        if layer.weight:
            n_weights = arrays[layer.weight].size
            declarations.append(f"static c{i}::weight_type w{i}[{n_weights}];")
            declarations.append(f"static c{i}::bias_t b{i}[{layer.n_out}];")
            loads += [f"load(w{i}, weights, at, {n_weights});", f"load(b{i}, weights, at, {layer.n_out});"]
            flat = arrays[layer.weight]
            values += [flat.reshape(layer.n_out, -1).T.ravel() if layer.transposed else flat, arrays[layer.bias]]
        steps += _call(layer, i, kind, shape, positions)
        kind, wire = result, f"y{i}"
        if layer.relu or layer.output:
            declarations.append(f"typedef {FixedPoint.parse(layer.output or layer.result)} o{i};")
            declarations.append(f"struct a{i} : nnet::activ_config {{ static const unsigned n_in = {n_out}; }};")
            function = "relu" if layer.relu else "linear"
            steps += [f"static o{i} z{i}[{n_out}];", f"nnet::{function}<{result}, o{i}, a{i}>(y{i}, z{i});"]
            kind, wire = f"o{i}", f"z{i}"
        steps.append(f"{kind} *x{i + 1} = {wire};")
        shape = [*positions, layer.n_out]
    n_last = int(np.prod(shape))
    steps.append(f"for (int i = 0; i < {n_last}; ++i) out[i] = x{len(network.layers)}[i].to_double();")
    body = [
        _HEAD,
        *declarations,
        "static void load_weights(const std::vector<double> &weights) {",
        "unsigned at = 0;",
        *loads,
        "}",
        "static void run(const double *in, double *out) {",
        *steps,
        "}",
        f"static const unsigned N_IN = {size}, N_OUT = {n_last};",
        _TAIL,
    ]
    return "\n".join(body), np.concatenate(values)


def _config(layer: FirmwareLayer, i: int, n_values: int) -> str:
    if layer.kind == "average":
        constants = _constants(n_in=layer.length, n_filt=layer.n_in, reuse_factor=1)
        return (
            f"struct c{i} : nnet::pooling1d_config {{ {constants}"
            "static const nnet::Pool_Op pool_op = nnet::Average; "
            f"typedef {FixedPoint.parse(layer.accum)} accum_t; }};"
        )
    weight, bias = FixedPoint.parse(layer.weight_type), FixedPoint.parse(layer.bias_type)
    types = f"typedef {weight} weight_type; typedef {bias} bias_t;"
    if layer.kind == "scale":
        constants = _constants(
            n_in=n_values, n_filt=layer.n_in, n_scale_bias=layer.n_in, reuse_factor=1, multiplier_limit=n_values
        )
        return (
            f"struct c{i} : nnet::batchnorm_config {{ {constants}{types} typedef weight_type scale_t; "
            "template <class x_T, class y_T> using product = nnet::product::mult<x_T, y_T>; };"
        )
    n_in = layer.n_in * layer.kernel[0] * layer.kernel[1]
    size = n_in * layer.n_out
    constants = _constants(n_in=n_in, n_out=layer.n_out, n_nonzeros=size, multiplier_limit=size)
    return (
        f"struct c{i} : nnet::dense_config {{ {constants}{types} typedef weight_type weight_t; "
        f"typedef {FixedPoint.parse(layer.accum)} accum_t; }};"
    )


def _constants(**values: int) -> str:
    return "".join(f"static const unsigned {name} = {value}; " for name, value in values.items())


def _call(layer: FirmwareLayer, i: int, kind: str, shape: list[int], positions: list[int]) -> list[str]:
    if layer.kind == "average":
        return [f"nnet::global_pooling1d_cl<{kind}, r{i}, c{i}>(x{i}, y{i});"]
    if layer.kind == "scale":
        return [f"nnet::normalize<{kind}, r{i}, c{i}>(x{i}, y{i}, w{i}, b{i});"]
    dense = f"nnet::dense_latency<{kind}, r{i}, c{i}>"
    if layer.kind != "conv2d":
        count = int(np.prod(positions))
        return [
            f"for (int p = 0; p < {count}; ++p) {dense}(x{i} + p * c{i}::n_in, y{i} + p * c{i}::n_out, w{i}, b{i});"
        ]
    (rows, columns), step, (_, width, channels) = layer.kernel, layer.stride, shape
    return [
        f"static {kind} patch{i}[c{i}::n_in];",
        f"for (int p = 0; p < {positions[0]}; ++p) for (int q = 0; q < {positions[1]}; ++q) {{",
        f"for (int a = 0; a < {rows}; ++a) for (int b = 0; b < {columns}; ++b) for (int c = 0; c < {channels}; ++c)",
        f"patch{i}[(a * {columns} + b) * {channels} + c] = "
        f"x{i}[((p * {step} + a) * {width} + q * {step} + b) * {channels} + c];",
        f"{dense}(patch{i}, y{i} + (p * {positions[1]} + q) * c{i}::n_out, w{i}, b{i});",
        "}",
    ]
