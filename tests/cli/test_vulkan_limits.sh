#!/bin/sh
# SPDX-License-Identifier: MIT
# A Vulkan device with little room in one allocation, or with the least that Vulkan promises: the same text, or words that tell sizes.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
need_vulkan run "$model" -p "It was" -n 1 --temp 0 --device vulkan
use_layer

# limited LIMIT FILE ARGS…: what the model says goes to FILE; $made: memory allocations of the driver, $submitted: its submissions
limited()
{
    limit=$1
    text=$2
    shift 2
    rm -f "$work/counts"
    QUERN_VK_LIMIT=$limit
    export QUERN_VK_LIMIT
    run run "$model" -p "It was a" -n 16 --temp 0 --device vulkan --ctx 256 --chunk 4 "$@"
    unset QUERN_VK_LIMIT
    cp "$out" "$text"
    made=$(sed -n 's/^Memory made \([0-9]*\) .*/\1/p' "$work/counts" 2>/dev/null)
    submitted=$(sed -n 's/^Submission made \([0-9]*\) .*/\1/p' "$work/counts" 2>/dev/null)
}

limited "" "$work/plain"
is 0 "no limits"
few=$made
few_submitted=$submitted
# the embedding (2.1 MiB) and the matrices of the MLPs are larger than this
limited allocation=262144 "$work/text"
is 0 "256 KiB in one allocation"
check "the same text" cmp -s "$work/plain" "$work/text"
check "from more allocations ($made, not $few)" test "$made" -gt "$((few + 20))"
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
limited allocation=8500000 "$work/text"
unset QUERN_VULKAN_STAGED
is 0 "8.1 MiB in one allocation, of memory that the host does not see"
check "the same text" cmp -s "$work/plain" "$work/text"
limited allocation=262144 "$work/text" --ctx 4096
fails_with 'KV cache of layer 0 .*needs 1.00 MiB in one piece, and the largest allocation .*256.00 KiB' "a cache that is larger"
limited allocation=262144 "$work/text" --chunk 256
fails_with 'work space .*--chunk.* in one piece, and the largest allocation .*256.00 KiB' "a work space that is larger"
limited least "$work/text"
is 0 "the least limits that Vulkan promises"
check "the same text" cmp -s "$work/plain" "$work/text"

limited "" "$work/text" --max-submit-ms 1
is 0 "--max-submit-ms 1"
check "the same text" cmp -s "$work/plain" "$work/text"
check "in more submissions ($submitted, not $few_submitted)" test "$submitted" -gt "$((2 * few_submitted))"
tap_done
