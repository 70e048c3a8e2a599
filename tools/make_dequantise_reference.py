#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/dequantise.bin: what an independent implementation (the Python module gguf) reads from random blocks.

Layout, little endian: "QRD1", u32 formats; then for each format u32 number, u32 n, u32 bytes, the blocks, f32[n] their
values. Any bytes are blocks, so that scales of NaN and infinity may be among them. Run from the source root; needs gguf and numpy.
"""
import struct
import gguf
import numpy as np
from gguf import quants

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS",
           "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "MXFP4", "TQ1_0", "TQ2_0"]
N = 1024


def main():
    rng = np.random.default_rng(20240608)
    out = [b"QRD1", struct.pack("<I", len(FORMATS))]
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (N // elements, size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            values = quants.dequantize(blocks, kind).astype("<f4")
        out += [struct.pack("<III", int(kind), N, blocks.nbytes), blocks.tobytes(), values.tobytes()]
    with open("tests/data/dequantise.bin", "wb") as file:
        file.write(b"".join(out))


main()
