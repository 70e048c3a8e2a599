#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/quantise.bin: what an independent implementation (the Python module gguf) makes of the same floats.

Layout, little endian: "QRQ1", u32 n, u32 formats, f32[n] the source; then for each format u32 number, u32 bytes, the
blocks, f32[n] the values that they dequantise to. Run from the source root; needs gguf and numpy.
"""
import struct
import gguf
import numpy as np
from gguf import quants

FORMATS = ["F16", "BF16", "Q8_0", "Q4_0"]


def source():
    rng = np.random.default_rng(20240607)
    rows = [rng.standard_normal(32) for _ in range(4)]
    rows.append(np.zeros(32))
    rows.append(np.full(32, 0.7))
    rows.append(np.full(32, -3.25))
    ties = np.arange(32) * 0.5 - 8  # with a largest of 127 or an extreme of -8 the steps are 1: every half is a tie
    rows.append(np.where(np.arange(32) == 5, 127.0, ties))
    rows.append(np.where(np.arange(32) == 5, -127.0, ties))
    rows.append(np.where(np.arange(32) == 9, -8.0, np.clip(ties, -7.5, 7.5)))
    rows.append(np.where(np.arange(32) == 9, 8.0, np.clip(ties, -7.5, 7.5)))
    rows.append(np.where(np.arange(32) % 2 == 0, 1.0, -1.0))  # two extremes of one size
    rows.append(np.where(np.arange(32) % 2 == 0, -1.0, 1.0))
    rows.append(rng.standard_normal(32) * 1e-7)
    rows.append(rng.standard_normal(32) * 1e-4)
    rows.append(rng.standard_normal(32) * 20000)
    rows.append(rng.standard_normal(32) * np.exp2(rng.integers(-20, 12, 32)))
    return np.concatenate(rows).astype("<f4")


def main():
    x = source()
    out = [b"QRQ1", struct.pack("<II", x.size, len(FORMATS)), x.tobytes()]
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        blocks = np.ascontiguousarray(quants.quantize(x, kind))
        values = quants.dequantize(blocks, kind).astype("<f4")
        out += [struct.pack("<II", int(kind), blocks.nbytes), blocks.tobytes(), values.tobytes()]
    with open("tests/data/quantise.bin", "wb") as file:
        file.write(b"".join(out))


main()
