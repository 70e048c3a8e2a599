#!/bin/sh
# SPDX-License-Identifier: MIT
# Kernels compiled by the compiler of real GPUs' driver, RADV, for GPUs that are not here: nothing is run. The layer of tests/vklayer
# stands in for memory, semaphores and submissions. With `all` every kernel that ops would get, else those of a few formats.
. "$QUERN_SOURCE/tests/tap.sh"
icd=
for file in /usr/share/vulkan/icd.d/radeon_icd*.json /usr/local/share/vulkan/icd.d/radeon_icd*.json; do
    [ -f "$file" ] && icd=$file
done
[ -n "$icd" ] || skip_all "RADV is not installed (on Debian: mesa-vulkan-drivers)"

# selftest --compile on whatever device there is
run explain "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" --device vulkan
if [ "$status" -eq 0 ]; then
    run selftest --device vulkan --compile --only norm --json
    is 0 "selftest --compile"
    check "norms compile on this machine's device" "$TOOLS/json_check" "$out" not_ok=0 kernels.0.result=ok kernels.0.figures
    run selftest --device vulkan --compile --only no-such-kernel
    is 1 "kernels of no name"
    check "nothing was compiled" said "nothing was compiled"
    run selftest --device vulkan --compile --kernels
    fails_with "one of the two at a time" "compiling and testing at once"
else
    skip "selftest --compile on this machine's device" "there is none: $(head -n 1 "$err" | tr '#' ' ')"
fi

VK_ICD_FILENAMES=$icd
VK_DRIVER_FILES=$icd
VK_LAYER_PATH=$VKLAYER
VK_INSTANCE_LAYERS=VK_LAYER_QUERN_faults
QUERN_VK_MASK=hollow,heaps=card
QUERN_VULKAN_SELF_TEST=off # nothing that it computes is right
XDG_CACHE_HOME=$work
export VK_ICD_FILENAMES VK_DRIVER_FILES VK_LAYER_PATH VK_INSTANCE_LAYERS QUERN_VK_MASK QUERN_VULKAN_SELF_TEST XDG_CACHE_HOME

# Of the text that selftest --compile prints, kernels that put registers into memory.
spilling()
{
    awk '/^(ok|not ok) /{kernel = $0} /Spilled VGPRs [1-9]|Scratch size [1-9]/{print kernel}' "$out"
}

# compiled ONLY…: kernels of these names compile, and none spills
compiled()
{
    for only in "$@"; do
        run selftest --device vulkan --taken --only "$only"
        check "$gpu: $only: every kernel compiles" sh -c \
            '[ "$1" -eq 0 ] && grep -q " 0 refused by the driver" "$2" && grep -q "VGPRs [1-9]" "$2"' x "$status" "$out"
        if [ "$gpu" = gfx1100 ] && [ -n "$narrow" ]; then
            skip "$gpu: $only: registers are enough" "this Mesa gives RDNA 3 half of its registers"
            continue
        fi
        spilling >"$work/spilling"
        check "$gpu: $only: registers are enough" sh -c '! [ -s "$1" ] || { sed "s/^/# /" "$1"; false; }' x "$work/spilling"
    done
}

# explained MODEL: matmuls and attention get kernels made for GPUs
explained()
{
    run explain "$1" --device vulkan --strict
    check "$gpu: $2 runs" test "$status" -eq 0
    check "$gpu: $2: matmuls and attention are those for GPUs" sh -c \
        'grep -q " matmul_[a-z0-9_]*\.\(rows\|dot\)$" "$1" && grep -q "[a-z]tiles$\|\.tiles$\|matrices$\|half$" "$1" && ! grep " matmul_[^ ]*plain$\| attention_[^ ]*plain$" "$1"' \
        x "$out"
}

families="vega10 navi10 navi21 gfx1100"
for gpu in $families; do
    RADV_FORCE_FAMILY=$gpu
    export RADV_FORCE_FAMILY
    run devices
    narrow=$(grep 'driver .* Mesa 2[12]\.' "$out")
    if ! printed "discrete GPU"; then
        skip "$gpu" "this driver does not compile for a GPU that is not there: $(grep -o 'vulkan  .*' "$out" | head -n 1 | tr '#' ' ')"
        continue
    fi
    if [ "${1-}" = all ]; then
        compiled _ norm rope sample elementwise short_conv delta_rule
    else
        compiled q4_k norm rope attention_f16
    fi
    explained "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "a Llama"
    explained "$QUERN_SOURCE/tests/engine/references/qwen2.gguf" "a Qwen2"
    explained "$QUERN_SOURCE/tests/engine/references/mixtral.gguf" "a mixture"
done
[ "$tap_count" -gt 4 ] || skip_all "RADV here does not compile for a GPU that is not there"
tap_done
