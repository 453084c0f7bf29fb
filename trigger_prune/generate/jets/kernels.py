"""Compiled kernels on jets: generalised-kt clustering, mMDT grooming, the 16 features.

One file, because numba's cache of a compiled function looks at the file of that function alone: kernels that call each
other across files would go on running the old code after an edit.

Particles and jets are rows (px, py, pz, E) in GeV. ``axes`` are rows (pT, rapidity, azimuth) of the same particles.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trigger_prune.generate.jets._numba import njit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MAX_RAPIDITY = 1e5
_NONE = -1
_TWO_PI = 2.0 * math.pi
_WHOLE_PLANE = 1e3
_N_FEATURES = 16


@njit
def momentum_axes(momenta: Floats) -> Floats:
    """pT, rapidity and azimuth in (-pi, pi] of each row; a momentum along the beam gets a huge finite rapidity."""
    axes = np.empty((momenta.shape[0], 3))
    for i in range(momenta.shape[0]):
        px, py, pz, energy = momenta[i, 0], momenta[i, 1], momenta[i, 2], momenta[i, 3]
        pt2 = px * px + py * py
        axes[i, 0] = math.sqrt(pt2)
        axes[i, 2] = math.atan2(py, px)
        mass2 = max(0.0, (energy + pz) * (energy - pz) - pt2)
        along = energy + abs(pz)
        rapidity = _MAX_RAPIDITY + abs(pz)
        if pt2 + mass2 > 0.0:
            # the sum of two positive terms: E - |pz| in a logarithm loses all digits of a forward particle
            rapidity = 0.5 * math.log(along * along / (pt2 + mass2))
        axes[i, 1] = rapidity if pz >= 0.0 else -rapidity
    return axes


@njit
def distance2(y_a: float, phi_a: float, y_b: float, phi_b: float) -> float:
    """Squared distance in the plane of rapidity and azimuth; azimuths differ by at most 2 pi."""
    dphi = abs(phi_a - phi_b)
    dphi = min(dphi, _TWO_PI - dphi)
    return (y_a - y_b) * (y_a - y_b) + dphi * dphi


@njit
def cluster(momenta: Floats, radius: float, power: int) -> tuple[Floats, Floats, Ints, Ints, Ints]:
    """Sequential recombination with distance min(pT_i^2p, pT_j^2p) d_ij^2 / R^2 and beam distance pT_i^2p, E-scheme.

    ``power`` p: -1 anti-kt (arXiv:0802.1189), 0 Cambridge/Aachen, 1 kt. O(N^2): each object knows its nearest
    neighbour in the plane, and the closest pair is always one of these (hep-ph/0512210).

    Returns momenta and axes of all objects (inputs first, then merged ones in order), the two parents of each object
    (-1 for inputs), and the numbers of the jets, hardest first.
    """
    n = momenta.shape[0]
    radius2 = radius * radius
    p = np.empty((2 * n, 4))
    p[:n] = momenta
    axes = np.empty((2 * n, 3))
    axes[:n] = momentum_axes(momenta)
    first = np.full(2 * n, -1, np.int64)
    second = np.full(2 * n, -1, np.int64)
    jets = np.empty(n, np.int64)
    n_jets, n_objects = 0, n
    # objects not yet in a jet lie side by side in slots 0..n-1; ``number`` tells which object a slot holds
    number = np.arange(n)
    y, phi = axes[:n, 1].copy(), axes[:n, 2].copy()
    factor = np.empty(n)
    near = np.full(n, _NONE, np.int64)
    near_d2 = np.full(n, radius2)
    for i in range(n):
        factor[i] = _factor(axes[i, 0], power)
        for j in range(i):
            d2 = distance2(y[i], phi[i], y[j], phi[j])
            if d2 < near_d2[i]:
                near_d2[i], near[i] = d2, j
            if d2 < near_d2[j]:
                near_d2[j], near[j] = d2, i
    closest, closest_distance = 0, np.inf
    for i in range(n):
        distance = _distance(i, near, near_d2, factor)
        if distance < closest_distance:
            closest, closest_distance = i, distance
    while n > 0:
        a, b = closest, near[closest]
        new = _NONE
        hole = a
        if b == _NONE:
            jets[n_jets] = number[a]
            n_jets += 1
        else:
            for x in range(4):
                p[n_objects, x] = p[number[a], x] + p[number[b], x]
            axes[n_objects] = momentum_axes(p[n_objects : n_objects + 1])[0]
            first[n_objects], second[n_objects] = number[a], number[b]
            number[a], y[a], phi[a] = n_objects, axes[n_objects, 1], axes[n_objects, 2]
            factor[a] = _factor(axes[n_objects, 0], power)
            near[a], near_d2[a] = _NONE, radius2
            n_objects += 1
            new, hole = a, b
        # the last slot fills the hole
        n -= 1
        number[hole], y[hole], phi[hole], factor[hole] = number[n], y[n], phi[n], factor[n]
        near[hole], near_d2[hole] = near[n], near_d2[n]
        if new == n:
            new = hole
        closest, closest_distance = 0, np.inf
        for k in range(n):
            if k == new:
                continue
            if near[k] == a or (near[k] == b and b != _NONE):
                near[k], near_d2[k] = _NONE, radius2
                for m in range(n):
                    d2 = distance2(y[k], phi[k], y[m], phi[m])
                    if d2 < near_d2[k] and m != k:
                        near_d2[k], near[k] = d2, m
            elif near[k] == n:
                near[k] = hole
            if new != _NONE:
                d2 = distance2(y[k], phi[k], y[new], phi[new])
                if d2 < near_d2[k]:
                    near_d2[k], near[k] = d2, new
                if d2 < near_d2[new]:
                    near_d2[new], near[new] = d2, k
            distance = _distance(k, near, near_d2, factor)
            if distance < closest_distance:
                closest, closest_distance = k, distance
        if new != _NONE and _distance(new, near, near_d2, factor) < closest_distance:
            closest = new
    jets = jets[:n_jets]
    order = np.argsort(-axes[jets, 0], kind="mergesort")
    return p[:n_objects], axes[:n_objects], first[:n_objects], second[:n_objects], jets[order]


@njit
def _factor(pt: float, power: int) -> float:
    if power == 0:
        return 1.0
    # without a transverse momentum the limit, short of infinity: 0 times infinity would be no number
    pt2 = max(pt * pt, 1e-300)
    return pt2 if power > 0 else 1.0 / pt2


@njit
def _distance(i: int, near: Ints, near_d2: Floats, factor: Floats) -> float:
    """Distance of an object to its nearest neighbour, or to the beam when none is within R, both times R^2."""
    if near[i] >= 0:
        return float(near_d2[i] * min(factor[i], factor[near[i]]))
    return float(near_d2[i] * factor[i])


@njit
def constituents(jet: int, first: Ints, second: Ints) -> Ints:
    """Numbers of the input particles of an object of ``cluster``."""
    stack = np.empty(first.shape[0] + 1, np.int64)
    found = np.empty(first.shape[0], np.int64)
    stack[0] = jet
    depth, n = 1, 0
    while depth > 0:
        depth -= 1
        i = stack[depth]
        if first[i] < 0:
            found[n] = i
            n += 1
        else:
            stack[depth] = first[i]
            stack[depth + 1] = second[i]
            depth += 2
    return found[:n].copy()


@njit
def groom_mmdt(momenta: Floats, z_cut: float) -> tuple[Ints, float]:
    """Modified mass-drop tagger (arXiv:1307.0007; soft drop with beta = 0) on the particles of one jet.

    Declusters Cambridge/Aachen, follows the branch of larger pT until min(pT) / sum(pT) > ``z_cut``. When no
    splitting passes, the last particle is left. Returns numbers of the particles left and their mass in GeV.
    """
    p, axes, first, second, jets = cluster(momenta, _WHOLE_PLANE, 0)
    i = jets[0]
    while first[i] >= 0:
        hard, soft = first[i], second[i]
        if axes[soft, 0] > axes[hard, 0]:
            hard, soft = soft, hard
        if axes[soft, 0] > z_cut * (axes[hard, 0] + axes[soft, 0]):
            break
        i = hard
    mass2 = (p[i, 3] + p[i, 2]) * (p[i, 3] - p[i, 2]) - p[i, 0] ** 2 - p[i, 1] ** 2
    return constituents(i, first, second), math.sqrt(max(mass2, 0.0))


@njit
def jet_features(momenta: Floats, z_cut: float) -> Floats:
    """The 16 features of one jet, float64 ``(16,)``, in the order of ``features.FEATURES``.

    Energy correlators of arXiv:1305.0007, D2 of arXiv:1409.6298, M2 and N2 of arXiv:1609.07483. ``momenta`` has at
    least one row, each with pT > 0.
    """
    out = np.zeros(_N_FEATURES)
    all_axes = momentum_axes(momenta)
    total = all_axes[:, 0].sum()
    for i in range(momenta.shape[0]):
        z = all_axes[i, 0] / total
        # a share of 0 (or one so small that it underflows) adds the limit of z ln z, which is 0
        if z > 0.0:
            out[0] += z * math.log(z)
    left, mass = groom_mmdt(momenta, z_cut)
    out[14] = mass
    out[15] = momenta.shape[0]
    axes = all_axes[left]
    n = left.shape[0]
    share = axes[:, 0] / axes[:, 0].sum()
    angle = np.zeros((n, n))
    e2_b0, e2_b1, e2_b2 = 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(i):
            d2 = distance2(axes[i, 1], axes[i, 2], axes[j, 1], axes[j, 2])
            angle[i, j] = math.sqrt(d2)
            angle[j, i] = angle[i, j]
            weight = share[i] * share[j]
            e2_b0 += weight
            e2_b1 += weight * angle[i, j]
            e2_b2 += weight * d2
    e3_b1, e3_b2, one_b1, one_b2, two_b1, two_b2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        for j in range(i):
            a = angle[i, j]
            # sums over the third particle, weighted with the first two afterwards
            s1, s2, s3, s4, s5, s6 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(j):
                b, c, z = angle[i, k], angle[j, k], share[k]
                smallest = min(min(a, b), c)
                product = a * b * c
                # without the largest; a product divided by the largest would be 0 / 0 for identical particles
                two = min(min(a * b, a * c), b * c)
                s1 += z * product
                s2 += z * product * product
                s3 += z * smallest
                s4 += z * smallest * smallest
                s5 += z * two
                s6 += z * two * two
            weight = share[i] * share[j]
            e3_b1 += weight * s1
            e3_b2 += weight * s2
            one_b1 += weight * s3
            one_b2 += weight * s4
            two_b1 += weight * s5
            two_b2 += weight * s6
    out[1], out[2], out[3] = e2_b0, e2_b1, e2_b2
    if e2_b2 > 0.0:
        out[4], out[5] = e3_b1 / e2_b1**2, e3_b2 / e2_b2**2
        out[6], out[7] = e3_b1 / e2_b1**3, e3_b2 / e2_b2**3
        out[8], out[9] = e3_b1 / e2_b1**3, e3_b1 / e2_b2**1.5
        out[10], out[11] = one_b1 / e2_b1, one_b2 / e2_b2
        out[12], out[13] = two_b1 / e2_b1**2, two_b2 / e2_b2**2
    return out


@njit
def features_of_collisions(
    momenta: Floats,
    offsets: Ints,
    radius: float,
    hardest: int,
    min_pt_gev: float,
    max_pt_gev: float,
    max_abs_rapidity: float,
    z_cut: float,
    n_constituents: int,
) -> tuple[Floats, Floats, Floats, Ints]:
    """Features, kinematics, leading constituents and collision of each jet: what ``features.Jets`` holds."""
    most = (offsets.shape[0] - 1) * hardest
    features = np.empty((most, _N_FEATURES))
    kinematics = np.empty((most, 3))
    leading = np.zeros((most, n_constituents, 3))
    collision = np.empty(most, np.int64)
    row = 0
    for event in range(offsets.shape[0] - 1):
        particles = momenta[offsets[event] : offsets[event + 1]]
        if particles.shape[0] == 0:
            continue
        _, axes, first, second, jets = cluster(particles, radius, -1)
        for jet in jets[:hardest]:
            pt, rapidity, phi = axes[jet]
            if not (min_pt_gev < pt < max_pt_gev and abs(rapidity) < max_abs_rapidity):
                continue
            inside = constituents(jet, first, second)
            features[row] = jet_features(particles[inside], z_cut)
            kinematics[row] = axes[jet]
            order = np.argsort(-axes[inside, 0], kind="mergesort")
            for position, i in enumerate(inside[order[:n_constituents]]):
                leading[row, position, 0] = axes[i, 0]
                leading[row, position, 1] = math.asinh(particles[i, 2] / axes[i, 0]) - rapidity
                leading[row, position, 2] = (axes[i, 2] - phi + math.pi) % _TWO_PI - math.pi
            collision[row] = event
            row += 1
    return features[:row], kinematics[:row], leading[:row], collision[:row]
