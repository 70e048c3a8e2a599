#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/support-md.sh SUPPORT [OLD]: writes docs/support.md to standard output. SUPPORT is the program that asks the devices
# (tests/support); the section of a device that is not here is taken from OLD, an earlier page. `ninja -C build support-md` does it.
set -eu
support=$1
old=${2:-/dev/null}
references=$(dirname "$0")/../tests/engine/references

# section NAME COMMAND…: between two marks, so that it can be found again
section()
{
    name=$1
    shift
    echo "<!-- $name -->"
    if ! "$@" 2>/dev/null; then
        sed -n "/^<!-- $name -->\$/,/^<!-- end -->\$/p" "$old" | sed '1d;$d'
    fi
    echo "<!-- end -->"
}

cat <<'END'
# What runs where

Written by `ninja -C build support-md` from what the devices answer; a test fails when it is out of date. Do not edit it.

A model runs on a device when its architecture does and every format of its weights does: each op is asked for on its own, and an
architecture does nothing with a format beside these ops. **packed** means that the device rearranges such weights while they load,
for its quick kernels; **yes**, that they stay as they are in the file; **-**, that it refuses them. "Embedding" is the table that token ids are
looked up in, "experts" the matrices of mixtures. Formats that nothing takes are left out.

`quern explain MODEL` tells the same of one model on one device, with the kernel of each op.

## cpu

The answers of the portable kernels (`--variant generic`), which every processor can run; instruction sets take over kernel by
kernel.

END
section cpu "$support" cpu "$references" generic
cat <<'END'

Kernels that an instruction set has of its own (a processor uses the best of each):

END
section kernels "$support" --kernels
cat <<'END'

## vulkan

As the software device llvmpipe answers.

END
section vulkan "$support" vulkan "$references"
