#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/quantised.bin: what our quantisers write, and what an independent reader (the Python module gguf) reads in it.

usage: make_quantised_reference.py QUERN   (the program; run from the source root; needs gguf and numpy)

A small model of one matrix is quantised by `quern quantize` to every format there is a quantiser for. The blocks are read by gguf,
whose values must lie as near to the source as the format allows; both are then kept, so that the test suite can hold our
quantisers and our readers against them on any machine. Layout, little endian: "QRW1", u32 n, u32 formats, f32[n] the source; then
for each format u32 number, u32 bytes, the blocks, f32[n] the values.
"""
import os
import struct
import subprocess
import sys
import tempfile
import gguf
import numpy as np
from gguf import quants

# the error that a format may have, as a share of the root mean square
FORMATS = {"Q4_0": 0.13, "Q4_1": 0.13, "Q5_0": 0.07, "Q5_1": 0.07, "Q8_0": 0.01, "Q2_K": 0.4, "Q3_K": 0.25, "Q4_K": 0.13, "Q5_K": 0.07,
           "Q6_K": 0.04, "IQ4_NL": 0.13, "IQ4_XS": 0.13, "MXFP4": 0.17, "TQ1_0": 0.7, "TQ2_0": 0.7}


def source():
    rng = np.random.default_rng(20240615)
    rows = [rng.standard_normal(256) * 0.02,
            rng.standard_normal(256) * np.exp(0.5 * rng.standard_normal(256)),
            rng.standard_normal(256) + 0.3]
    return np.stack(rows).astype("<f4")


def write_model(path, x):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.ffn_up.weight", x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    x = source()
    out = [b"QRW1", struct.pack("<II", x.size, len(FORMATS)), x.tobytes()]
    with tempfile.TemporaryDirectory() as folder:
        model, result = os.path.join(folder, "in.gguf"), os.path.join(folder, "out.gguf")
        write_model(model, x)
        for name, bound in FORMATS.items():
            subprocess.run([sys.argv[1], "quantize", model, result, "F32", "--tensor-type", f"ffn_up={name}"], check=True,
                           stdout=subprocess.DEVNULL)
            tensor = gguf.GGUFReader(result).tensors[0]
            kind = gguf.GGMLQuantizationType[name]
            assert tensor.tensor_type == kind, name
            blocks = np.ascontiguousarray(tensor.data)
            values = quants.dequantize(blocks, kind).astype("<f4").reshape(x.shape)
            error = np.sqrt(np.mean((values - x) ** 2) / np.mean(x ** 2))
            print(f"{name}: error {error:.4f}")
            assert error < bound, name
            out += [struct.pack("<II", int(kind), blocks.nbytes), blocks.tobytes(), values.tobytes()]
    with open("tests/data/quantised.bin", "wb") as file:
        file.write(b"".join(out))


main()
