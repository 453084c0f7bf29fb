"""Layers and types of CMS level-1 networks, as the headers of the public firmware repositories declare them.

Sources: ``defines.h`` and ``parameters.h`` of github.com/cms-hls4ml/{AXOL1TL, CICADA, TOoLLiP, L1TSC4NGJetModel}. Facts
only: sizes, ap_fixed types, activations, reuse factors. The weights are not part of this file.
"""

from __future__ import annotations

from _firmware import FirmwareLayer, TriggerNetwork

_SAT = "RND_CONV,SAT"
_AXOL1TL_LATENCY = "Global Trigger Run 3 algorithm: 50 ns in all (arXiv:2411.19506)"
_CICADA_LATENCY = "inference below 200 ns (arXiv:2510.15672)"
_JET_LATENCY = "latency about 1 us, one jet per cycle of 360 MHz (arXiv:2509.24371)"
_SIGMOID = "the sigmoid table behind the logit is left out: it is monotonic"
_SQUARES = "the sum of squared outputs, computed by other firmware behind the network, is left out"


def _dense(n_in: int, n_out: int, index: int, weight_type: str, bias_type: str, **more: object) -> FirmwareLayer:
    return FirmwareLayer(
        "dense",
        n_in,
        n_out,
        f"w{index}",
        weight_type,
        f"b{index}",
        bias_type,
        **more,  # type: ignore[arg-type]
    )


def _axol1tl(version: str, sizes: tuple[int, int, int], accums: tuple[str, str, str]) -> TriggerNetwork:
    first, second, third = sizes
    types = ("fixed<6,3>", "fixed<10,7>")
    activation = f"ufixed<10,6,{_SAT}>"
    return TriggerNetwork(
        f"AXOL1TL {version}",
        f"AXOL1TL_{version}",
        f"fixed<8,6,{_SAT}>",
        (57,),
        (
            _dense(57, first, 2, *types, accum=accums[0], result=accums[0], relu=True, output=activation),
            _dense(first, second, 4, *types, accum=accums[1], result=accums[1], relu=True, output=activation),
            _dense(second, third, 6, *types, accum=accums[2], result=accums[2], output=f"fixed<10,7,{_SAT}>"),
        ),
        reuse_factor=1,
        source=f"cms-hls4ml/AXOL1TL, AXOL1TL_{version}/NN",
        reference=_AXOL1TL_LATENCY,
        assumed=(_SQUARES,),
    )


AXOL1TL_V1 = TriggerNetwork(
    "AXOL1TL v1",
    "AXOL1TL_v1",
    f"fixed<8,6,{_SAT}>",
    (57,),
    tuple(
        _dense(n_in, n_out, index, "fixed<6,3>", "fixed<10,7>", accum=accum, result=result, relu=relu, output=output)
        for n_in, n_out, index, accum, result, relu, output in (
            (57, 32, 2, "fixed<12,8>", "fixed<11,8>", True, "ufixed<10,7,TRN,SAT>"),
            (32, 16, 4, "fixed<12,8>", "fixed<11,8>", True, "ufixed<10,7,TRN,SAT>"),
            (16, 13, 6, "fixed<10,6>", "fixed<9,6>", False, "fixed<10,7,TRN,SAT>"),
        )
    ),
    reuse_factor=1,
    source="cms-hls4ml/AXOL1TL, AXOL1TL_v1/NN",
    assumed=(_SQUARES, "activations saturate where the firmware's wrap", "exact accumulators"),
)

CICADA_V1 = TriggerNetwork(
    "CICADA v1",
    "CICADA_v1",
    "ufixed<10,10>",
    (252,),
    (
        _dense(252, 15, 2, "fixed<2,1>", "ufixed<1,1>", accum="fixed<20,18>", result="fixed<20,18>"),
        FirmwareLayer(
            "scale",
            15,
            15,
            "s4",
            "fixed<18,3>",
            "b4",
            "fixed<18,3>",
            result="fixed<15,12,RND,SAT>",
            relu=True,
            output="ufixed<5,2,RND,SAT>",
        ),
        _dense(15, 1, 6, "fixed<4,1>", "ufixed<1,1>", accum="fixed<11,5>", result="fixed<11,5>"),
    ),
    reuse_factor=3,
    source="cms-hls4ml/CICADA, CICADA_v1",
    reference=_CICADA_LATENCY,
    assumed=("scale and offset decimals truncated to fixed<18,3> as the C++ constructor does",),
)


def _cicada_dense(first: int, second: int, accum: str) -> tuple[FirmwareLayer, ...]:
    activation = f"ufixed<10,6,{_SAT}>"
    accum2 = "fixed<26,14>"
    return (
        _dense(252, 16, first, "fixed<8,2>", "fixed<8,4>", accum=accum, result=accum, relu=True, output=activation),
        _dense(
            16,
            1,
            second,
            "fixed<12,4>",
            "ufixed<1,1>",
            accum=accum2,
            result=accum2,
            relu=True,
            output=f"ufixed<16,8,{_SAT}>",
        ),
    )


CICADA_V1P1P2 = TriggerNetwork(
    "CICADA v1p1p2",
    "CICADA_v1p1p2",
    "ufixed<10,10>",
    (252,),
    _cicada_dense(2, 5, "fixed<26,20>"),
    reuse_factor=2,
    source="cms-hls4ml/CICADA, CICADA_v1p1p2",
    reference=_CICADA_LATENCY,
)

CICADA_V2P1P2 = TriggerNetwork(
    "CICADA v2p1p2",
    "CICADA_v2p1p2",
    "ufixed<10,10>",
    (18, 14, 1),
    (
        FirmwareLayer(
            "conv2d",
            1,
            4,
            "w3",
            "fixed<12,4>",
            "b3",
            "ufixed<1,1>",
            accum="fixed<30,22>",
            result="fixed<30,22>",
            relu=True,
            output=f"ufixed<10,6,{_SAT}>",
            kernel=(2, 2),
            stride=2,
            transposed=True,
        ),
        *_cicada_dense(7, 10, "fixed<26,14>"),
    ),
    reuse_factor=2,
    source="cms-hls4ml/CICADA, CICADA_v2p1p2",
    reference=_CICADA_LATENCY,
    assumed=("kernel weights lie filter by filter, as hls4ml writes them for the Resource strategy of this layer",),
)


def _toollip(
    version: str,
    features: int,
    arrays: tuple[int, int, int, int],
    weight_type: tuple[str, str],
    input_type: str,
    wires: tuple[tuple[str, str, str], ...],
    result: str,
    **more: object,
) -> TriggerNetwork:
    """wires: accumulator, result and activation of the two convolutions, accumulator and result of the average, the
    three of the hidden dense layer, accumulator of the last one."""
    (conv1, conv2, average, dense1, dense2), (wide, narrow) = wires, weight_type
    names = [f"w{index}" for index in arrays], [f"b{index}" for index in arrays]

    def weighted(kind: str, n_in: int, n_out: int, i: int, types: tuple[str, str, str], relu: bool) -> FirmwareLayer:
        kept = wide if i < 2 else narrow
        return FirmwareLayer(
            kind,  # type: ignore[arg-type]
            n_in,
            n_out,
            names[0][i],
            kept,
            names[1][i],
            weight_type[1],
            accum=types[0],
            result=types[1],
            relu=relu,
            output=types[2],
        )

    return TriggerNetwork(
        f"TOoLLiP {version}",
        f"TOoLLiP_{version}",
        input_type,
        (10, features),
        (
            weighted("pointwise", features, 10, 0, conv1, True),
            weighted("pointwise", 10, 10, 1, conv2, True),
            FirmwareLayer("average", 10, 10, accum=average[0], result=average[1], length=10),
            weighted("dense", 10, 10, 2, dense1, True),
            weighted("dense", 10, 1, 3, (dense2[0], result, ""), False),
        ),
        source=f"cms-hls4ml/TOoLLiP, TOoLLiP_{version}/NN",
        **more,  # type: ignore[arg-type]
    )


_D = "fixed<16,6>"
TOOLLIP_V1 = _toollip(
    "v1",
    14,
    (15, 16, 9, 12),
    ("fixed<8,4>", "fixed<8,4>"),
    _D,
    ((_D, _D, f"ufixed<8,0,{_SAT}>"),) * 2 + ((_D, _D, ""), (_D, _D, f"ufixed<8,0,{_SAT}>"), (_D, _D, "")),
    _D,
    reuse_factor=2,
    assumed=(_SIGMOID, "exact accumulators"),
)
TOOLLIP_V2 = _toollip(
    "v2",
    14,
    (15, 16, 9, 12),
    ("fixed<10,5>", "fixed<10,5>"),
    _D,
    ((_D, _D, "ufixed<15,5,TRN,SAT>"),) * 2
    + (("fixed<16,9>", _D, ""), ("fixed<16,9>", _D, "ufixed<15,5,TRN,SAT>"), ("fixed<16,9>", _D, "")),
    "fixed<16,6,TRN,SAT>",
    reuse_factor=1,
    assumed=(_SIGMOID, "exact accumulators", "results saturate at 32 where the firmware's wrap"),
)
_S = "fixed<14,8,TRN,SAT>"
_POSITIVE = "ufixed<13,7,TRN,SAT>"
"""What is left of ``_S`` behind a ReLU; the header says ufixed<14,8>, whose upper half no value reaches."""

TOOLLIP_V3 = _toollip(
    "v3",
    13,
    (3, 6, 10, 13),
    ("fixed<10,5>", "fixed<10,5>"),
    "fixed<12,6,TRN,SAT>",
    (
        (_S, _S, _POSITIVE),
        ("fixed<16,12,TRN,SAT>", _S, _POSITIVE),
        ("fixed<16,8,TRN,SAT>", _S, ""),
        ("fixed<16,8,TRN,SAT>", _S, _POSITIVE),
        ("fixed<16,8,TRN,SAT>", _S, ""),
    ),
    _S,
    reuse_factor=2,
    assumed=("exact accumulators", "13 features, from the size of w3: the header found is of a version with 14"),
)
TOOLLIP_TMP = _toollip(
    "tmp_v",
    14,
    (3, 6, 10, 13),
    (_S, "fixed<12,7>"),
    "fixed<12,6,TRN,SAT>",
    (
        (_S, _S, _POSITIVE),
        ("fixed<16,12,TRN,SAT>", _S, "ufixed<10,5,TRN,SAT>"),
        ("fixed<16,12,TRN,SAT>", _S, ""),
        ("fixed<14,10,TRN,SAT>", _S, _POSITIVE),
        ("fixed<14,10,TRN,SAT>", _S, ""),
    ),
    _S,
    reuse_factor=1,
    assumed=("exact accumulators",),
)

_A = f"ufixed<9,0,{_SAT}>"
_Q = "fixed<9,3>"


def _jet_trunk() -> tuple[FirmwareLayer, ...]:
    def conv(n_in: int, index: int, result: str) -> FirmwareLayer:
        return FirmwareLayer(
            "pointwise", n_in, 10, f"w{index}", _Q, f"b{index}", _Q, accum=_D, result=result, relu=True, output=_A
        )

    wide = "fixed<24,12,RND,SAT>"
    return (
        FirmwareLayer("scale", 20, 20, "s2", wide, "b2", wide, result=wide, output=wide),
        conv(20, 25, "fixed<39,21>"),
        conv(10, 26, "fixed<23,8>"),
        FirmwareLayer("average", 10, 10, accum=_D, result=_D, length=16),
    )


def _jet_network(head: str, layers: tuple[FirmwareLayer, ...], *assumed: str) -> TriggerNetwork:
    return TriggerNetwork(
        f"L1TSC4NGJet v0, {head}",
        "L1TSC4NGJetModel_v0",
        "fixed<24,12,RND,SAT>",
        (16, 20),
        (*_jet_trunk(), *layers),
        reuse_factor=1,
        source="cms-hls4ml/L1TSC4NGJetModel, L1TSC4NGJetModel_v0/NN",
        reference=_JET_LATENCY,
        assumed=("exact accumulators", "the two heads are two networks, each with the whole trunk", *assumed),
    )


JET_CLASS = _jet_network(
    "class",
    (
        _dense(10, 32, 11, _Q, _Q, accum=_D, result="fixed<30,14>", relu=True, output=_A),
        _dense(32, 16, 14, _Q, _Q, accum=_D, result="fixed<24,9>", relu=True, output=_A),
        _dense(16, 8, 19, _Q, _Q, accum=_D, result="fixed<23,8>"),
    ),
    "the softmax tables behind the logits are left out",
)
JET_PT = _jet_network(
    "pt",
    (
        _dense(10, 10, 17, _Q, _Q, accum=_D, result="fixed<30,14>", relu=True, output=_A),
        _dense(10, 1, 23, "fixed<16,7>", "fixed<16,7>", accum=_D, result="fixed<16,6,RND,SAT>"),
    ),
)

NETWORKS: tuple[TriggerNetwork, ...] = (
    AXOL1TL_V1,
    _axol1tl("v3", (32, 16, 8), ("fixed<21,16>", "fixed<22,15>", "fixed<21,14>")),
    _axol1tl("v4", (28, 15, 8), ("fixed<29,16>", "fixed<22,15>", "fixed<21,14>")),
    CICADA_V1,
    CICADA_V1P1P2,
    CICADA_V2P1P2,
    TOOLLIP_V1,
    TOOLLIP_V2,
    TOOLLIP_V3,
    TOOLLIP_TMP,
    JET_CLASS,
    JET_PT,
)

NOT_REBUILT = {
    "TOoLLiP_v1 with 50 channels": "the arrays w17 w18 w10 w13 of an earlier commit lie in the same file: no header "
    "with their types was found, and the biases b17 and b18 are on no grid",
}
