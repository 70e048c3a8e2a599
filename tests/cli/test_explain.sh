#!/bin/sh
# SPDX-License-Identifier: MIT
# quern explain: every op of a model, where it runs and why.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
run explain "$model"
is 0 "explain"
check "tells the kernel of a part" printed '^  attention output  *8  Q8_0 .* matmul_q8_0'
check "tells both phases" sh -c 'grep -q "^Decode, 1 token" "$1" && grep -q "^Prefill, 256 tokens" "$1"' x "$out"
check "and that all of it runs" printed '^All [0-9]* ops run on this device'
run explain "$model" --json --chunk 1 --kv-type q8_0
is 0 "as JSON"
check "with every op" "$TOOLS/json_check" "$out" device=cpu refused=0 ops.0.op=get_rows ops.0.phase=decode ops.1.kernel ops.1.bytes_moved ops.1.layer=0
check "a chunk of 1 has no prefill" sh -c '! grep -q prefill "$1"' x "$out"
check "KV append takes the format asked for" sh -c 'grep -q "kv_append_q8_0" "$1"' x "$out"
run explain "$model" --variant generic --strict
is 0 "another variant"
check "is the one that runs" sh -c 'grep -q "matmul_q8_0.generic" "$1" && ! grep -q "^  .*\(avx\|neon\)" "$1"' x "$out"

# a model with a weight that no device computes with: told, not failed, unless --strict
"$TOOLS/make_gguf" "$work/integers.gguf" integers
run explain "$work/integers.gguf"
is 0 "a model with a weight of integers"
check "the op is refused in words" sh -c 'grep -A1 "I32.*REFUSED" "$1" | grep -q "I32"' x "$out"
check "and so is the model" printed '^[0-9]* of [0-9]* ops are refused'
run explain "$work/integers.gguf" --strict
is 1 "--strict"
check "says how many ops" sh -c 'grep -q "2 of [0-9]* ops do not run on device cpu" "$1"' x "$err"
run explain "$work/none.gguf"
fails_with 'No such file' "no such file"
run explain "$model" --ctx 2000000 --kv-type f32
is 0 "a context that no memory holds can be explained: nothing is allocated"
tap_done
