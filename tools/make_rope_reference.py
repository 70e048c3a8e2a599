#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/rope.txt: rotary embeddings in extended precision, by inverse frequencies made once for all positions, as
arXiv:2309.00071 words it. Run from the source root; needs numpy.

A case is three lines: its name and parameters, the input, the output.
"""
import math
import numpy as np

LD = np.longdouble


def inverse_frequencies(dims, base, factor, yarn, fast, slow, context, factors):
    i = np.arange(dims // 2, dtype=LD)
    plain = LD(base) ** (-2 * i / dims) / factors
    if not yarn:
        return plain / LD(factor), LD(1)

    def dimension(rotations):  # whose wavelength fits `rotations` times into the context
        return dims * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    whole = (math.floor, math.ceil) if yarn == 1 else (float, float)  # 2: the ramp may begin and end between two pairs
    low, high = max(whole[0](dimension(fast)), 0), min(whole[1](dimension(slow)), dims - 1)
    interpolated_share = np.clip((i - low) / LD(max(high - low, 0.001)), 0, 1)
    inverse = plain / LD(factor) * interpolated_share + plain * (1 - interpolated_share)
    return inverse, LD(1) + LD(0.1) * np.log(LD(factor))


def case(file, rng, name, mode, dims, head, position, base=10000.0, factor=1.0, yarn=0, attn=1.0, fast=32.0, slow=1.0, context=4096,
         with_factors=False):
    factors = (1 + rng.random(dims // 2) * 7 if with_factors else np.ones(dims // 2)).astype(np.float32)
    x = rng.standard_normal(head).astype(np.float32)
    inverse, magnitude = inverse_frequencies(dims, base, factor, yarn, fast, slow, context, factors.astype(LD))
    angle = LD(position) * inverse
    c, s = np.cos(angle) * magnitude * LD(attn), np.sin(angle) * magnitude * LD(attn)
    y = x.astype(LD)
    first = np.arange(dims // 2) if mode == 1 else np.arange(0, dims, 2)
    second = first + dims // 2 if mode == 1 else first + 1
    a, b = x[first].astype(LD), x[second].astype(LD)
    y[first], y[second] = a * c - b * s, a * s + b * c
    print(name, mode, dims, head, position, base, factor, yarn, attn, fast, slow, context, int(with_factors), file=file)
    print(*[repr(float(v)) for v in ([*factors] if with_factors else []) + [*x]], file=file)
    print(*[repr(float(v)) for v in y], file=file)


def main():
    rng = np.random.default_rng(7)
    with open("tests/data/rope.txt", "w", encoding="ascii") as file:
        case(file, rng, "normal", 0, 16, 16, 5)
        case(file, rng, "neox", 1, 16, 16, 5)
        case(file, rng, "position-0", 0, 8, 8, 0)
        case(file, rng, "partial", 1, 12, 20, 1000)
        case(file, rng, "far", 0, 64, 64, 1048575, base=500000.0)
        case(file, rng, "linear", 0, 32, 32, 3000, factor=4.0)
        case(file, rng, "factors", 0, 32, 32, 3000, base=500000.0, with_factors=True)
        case(file, rng, "yarn", 1, 128, 128, 30000, base=1000000.0, factor=4.0, yarn=1, context=32768)
        case(file, rng, "yarn-normal-attn", 0, 64, 64, 9000, factor=16.0, yarn=1, attn=0.75, context=4096)
        case(file, rng, "yarn-narrow", 0, 32, 32, 777, factor=2.0, yarn=1, fast=4.0, slow=3.5, context=2048)
        case(file, rng, "yarn-factors", 1, 64, 80, 5000, base=150000.0, factor=32.0, yarn=1, context=4096, with_factors=True)
        case(file, rng, "yarn-exact-ramp", 1, 64, 64, 5000, base=150000.0, factor=32.0, yarn=2, context=4096)
        case(file, rng, "yarn-exact-ramp-normal", 0, 16, 24, 40, base=1000.0, factor=4.0, yarn=2, context=32)


main()
