#!/bin/sh
# SPDX-License-Identifier: MIT
# Whole models on a Vulkan device: the CPU's greedy text, other implementations' logits; and words where there is no driver.
. "$QUERN_SOURCE/tests/tap.sh"

# Without a driver everything else works, and `devices` says what to install. (The loader looks for drivers where these say.)
VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent "$QUERN" devices >"$out" 2>"$err"
status=$?
is 0 "devices works without a Vulkan driver"
if grep -q "quern_vulkan" "$out" "$err"; then
    check "and says what is missing" grep -q -E "finds no driver|find no device|no Vulkan loader" "$out" "$err"
else
    skip "the reason" "the Vulkan plugin is not built here"
fi

run run "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" -p "It was" -n 1 --temp 0 --device vulkan
if [ "$status" -ne 0 ]; then
    skip "whole models" "$(head -n 1 "$err" | tr '#' ' ')"
    tap_done
fi

# same MODEL PROMPT ARGUMENTS…: the same greedy text as the reference on the CPU, which computes in floats, too
same()
{
    model=$1
    prompt=$2
    shift 2
    run run "$model" -p "$prompt" -n 40 --temp 0 --device cpu --variant ref
    cp "$out" "$work/cpu"
    run run "$model" -p "$prompt" -n 40 --temp 0 --device vulkan "$@"
    check "$(basename "$model") $*: the CPU's greedy text" cmp -s "$out" "$work/cpu"
}

# What people type: the default model, and the CPU as it is, with its best kernels.
run run -p "It was a dark night, and" -n 200 --temp 0 --device cpu
cp "$out" "$work/cpu"
run run -p "It was a dark night, and" -n 200 --temp 0 --device vulkan
check "the default model, 200 tokens: the greedy text of --device cpu" cmp -s "$out" "$work/cpu"

same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
unset QUERN_VULKAN_STAGED

# What the driver compiled is kept in the user's cache; a damaged file is as good as none.
XDG_CACHE_HOME=$work/cache
export XDG_CACHE_HOME
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
kept=$(find "$work/cache/quern" -name 'vulkan-*.bin' 2>/dev/null | head -n 1)
check "compiled kernels are kept in a file" test -s "$kept"
check "beside what was found of them" test -s "$(find "$work/cache/quern" -name 'vulkan-*.tests')"
check "and how fast the device is" test -s "$(find "$work/cache/quern" -name 'vulkan-*.rate')"
check "and nothing else is left there" test "$(find "$work/cache/quern" -type f | wc -l)" -eq 3
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
printf 'x' | dd of="$kept" bs=1 seek=30 conv=notrunc 2>/dev/null
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
: >"$kept"
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
XDG_CACHE_HOME=/proc/nowhere
same "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "It was a dark night, and"
unset XDG_CACHE_HOME
if ! fixture logits/llama.gguf; then
    skip "logits" "no fixtures here"
    tap_done
fi
same "$QUERN_FIXTURES/models/stories260K.gguf" "Once upon a time"
run run "$QUERN_FIXTURES/models/stories260K.gguf" -p "Once upon a time" -n 110 --temp 0 --device cpu
cp "$out" "$work/cpu"
run run "$QUERN_FIXTURES/models/stories260K.gguf" -p "Once upon a time" -n 110 --temp 0 --device vulkan
check "stories260K, 110 tokens: the greedy text of --device cpu" cmp -s "$out" "$work/cpu"

# near MODEL LIMIT ARGUMENTS…
near()
{
    name=$1
    limit=$2
    shift 2
    run logits "$QUERN_FIXTURES/$name.gguf" --tokens "$QUERN_FIXTURES/$name.logits" -o "$work/ours" --device vulkan "$@"
    nmse=$("$TOOLS/nmse" "$QUERN_FIXTURES/$name.logits" "$work/ours" "$limit" 2>>"$err")
    point $? "$name $* nmse $nmse, limit $limit"
    rm -f "$work/ours"
}

# Kernels that compute with floats alone: the float bound holds for quantised weights, too.
for file in "$QUERN_FIXTURES"/logits/*.gguf; do
    near "logits/$(basename "$file" .gguf)" 1e-5
done
for file in "$QUERN_FIXTURES"/quants/*.gguf; do
    near "quants/$(basename "$file" .gguf)" 1e-5
done
near logits/llama 1e-5 --chunk 1
near logits/llama 1e-5 --chunk 7
near logits/qwen35 1e-5 --chunk 1
near quants/Q8_0 1e-5 --kv-type f32
near quants/Q8_0 1e-3 --kv-type q8_0
tap_done
