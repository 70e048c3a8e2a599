#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes kernels/common/grids.h: the points that the IQ1, IQ2 and IQ3 formats choose from, which are facts of the formats; and
kernels/cpu/points.c: the same for panels, where vectors of rows look them up.

The points come from the Python module gguf. Each is packed into 16 bits, element 0 lowest: 2 bits an element for eight of
them, 4 bits an element for four; the value that those bits stand for is in kernels/common/dequantise.c. Run from the source root.
"""
from gguf import quants

HEAD = """/* SPDX-License-Identifier: MIT
 * kernels/common/grids.h: the points that the IQ1, IQ2 and IQ3 formats choose from, 2 or 4 bits an element, element 0 lowest; the
 * bits index the format's steps (dequantise.c). Written by tools/make_grids.py. */
#ifndef QUERN_KERNELS_GRIDS_H
#define QUERN_KERNELS_GRIDS_H

#include <stdint.h>
"""


def table(name, kind):
    kind.init_grid()
    steps = list(kind.grid_map)
    points, elements = kind.grid_shape
    width = 16 // elements
    words = []
    for point in kind.grid.reshape(points, elements):
        words.append(sum(steps.index(int(value)) << width * i for i, value in enumerate(point)))
    lines = ["    " + " ".join("0x%04x," % w for w in words[i:i + 16]) for i in range(0, points, 16)]
    return "\nstatic const uint16_t qk_grid_%s[%d] = {\n%s\n};\n" % (name, points, "\n".join(lines))


POINTS = """/* SPDX-License-Identifier: MIT
 * kernels/cpu/points.c: see panel_formats.h. Written by tools/make_grids.py. */
#include "kernels/cpu/panel_formats.h"
"""


def words_of(kind):
    """Eight elements: i in the low nibble of byte i, i + 4 in the high one. Four: a byte each."""
    kind.init_grid()
    steps = list(kind.grid_map)
    points, elements = kind.grid_shape
    for point in kind.grid.reshape(points, elements):
        codes = [steps.index(int(value)) for value in point]
        yield sum(code << (8 * (i % 4) + 4 * (i // 4)) for i, code in enumerate(codes))


def spread(name, words):
    lines = ["    " + " ".join("0x%08x," % w for w in words[i:i + 10]) for i in range(0, len(words), 10)]
    return "\nconst uint32_t qk_points_%s[%d] = {\n%s\n};\n" % (name, len(words), "\n".join(lines))


def write_points():
    with open("kernels/cpu/points.c", "w", newline="\n") as file:
        file.write(POINTS)
        for name in ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]:
            file.write(spread(name.lower(), list(words_of(getattr(quants, name)))))
        up = list(words_of(quants.IQ1_S))
        file.write(spread("iq1", up + [w | 0x44444444 for w in up]))


def main():
    with open("kernels/common/grids.h", "w", newline="\n") as file:
        file.write(HEAD)
        for name in ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]:
            file.write(table(name.lower(), getattr(quants, name)))
        file.write("\n#endif\n")
    write_points()


main()
