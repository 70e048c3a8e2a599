#!/bin/sh
# SPDX-License-Identifier: MIT
# Which kernels a Vulkan device takes, and what is said of those it does not take.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
run explain "$model" --device vulkan --json --strict
if [ "$status" -ne 0 ]; then
    skip_all "$(head -n 1 "$err" | tr '#' ' ')"
fi
check "every op of the model stays on the device" "$TOOLS/json_check" "$out" refused=0 ops.0.kernel=get_rows_q8_0.plain ops.0.note=

run explain "$model" --device vulkan --variant plain
is 0 "the plain kernels"
check "are all that run" sh -c 'grep -q "matmul_q8_0.plain$" "$1" && ! grep -q "matmul_q8_0.[^p]" "$1"' x "$out"
run explain "$model" --device vulkan --variant none-such
fails_with "there are no kernels 'none-such'.*there are:.*plain" "names that are not there"

# 16-bit floats
run explain "$model" --device vulkan --variant half_tiles
if [ "$status" -eq 0 ]; then
    check "half_tiles: take products of Q8_0" printed "matmul_q8_0.half_tiles$"
    if fixture models/stories260K.gguf; then
        run explain "$QUERN_FIXTURES/models/stories260K.gguf" --device vulkan --variant half_tiles
        check "half_tiles: why not F32 is said" sh -c \
            'grep -A 1 "matmul_f32.plain" "$1" | grep -q "half_tiles: 16-bit floats do not hold the numbers of this format"' x "$out"
    fi
else
    check "half_tiles: what the device lacks is said" said "does not calculate in 16-bit floats"
fi

# the kernel that the rest needs small subgroups for
run explain "$model" --device vulkan --variant lanes
if [ "$status" -ne 0 ]; then
    check "lanes: what the device lacks is said" said "subgroups"
    tap_done
fi
check "lanes: take the products of whole blocks" printed "matmul_q8_0.lanes$"
check "lanes: what has no such kernel runs with the plain one" printed "norm.plain"
run explain "$model" --device vulkan --variant plain --json
check "that the user's word was the reason is said" "$TOOLS/json_check" "$out" ops.2.kernel=matmul_q8_0.plain \
    "ops.2.note=--variant plain was asked for"
if ! fixture models/stories260K.gguf; then
    skip "rows of 172 elements" "no fixtures here"
    tap_done
fi
run explain "$QUERN_FIXTURES/models/stories260K.gguf" --device vulkan --variant lanes
check "rows of 172 elements: why not lanes is said" sh -c \
    'grep -A 1 "matmul_f32.plain" "$1" | grep -q "not quicker: .*lanes: K is no multiple of 32"' x "$out"
tap_done
