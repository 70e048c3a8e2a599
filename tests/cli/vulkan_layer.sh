# SPDX-License-Identifier: MIT
# tests/cli/vulkan_layer.sh: what tests with the layer that makes Vulkan drivers fail (tests/vklayer) begin with. Source it behind
# tests/tap.sh, then:
#
#   need_layer              the test is skipped where there is no layer
#   need_vulkan COMMAND…    or no Vulkan: where this command does not work
#   use_layer               from here on every run has it, with no self-test, whose calls and objects would be counted, too
#   nothing_left            the last run freed what it made, says the layer in $work/counts
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
prompt="It was a dark night, and"

need_layer()
{
    [ -f "$VKLAYER/VkLayer_quern_faults.json" ] || skip_all "the layer that makes a Vulkan driver fail is not built here"
}

need_vulkan()
{
    run "$@"
    [ "$status" -eq 0 ] || skip_all "$(head -n 1 "$err" | tr '#' ' ')"
}

use_layer()
{
    VK_LAYER_PATH=$VKLAYER
    VK_INSTANCE_LAYERS=VK_LAYER_QUERN_faults
    QUERN_VULKAN_SELF_TEST=off
    QUERN_VK_COUNTS=$work/counts
    QUERN_VK_FAULT=
    export VK_LAYER_PATH VK_INSTANCE_LAYERS QUERN_VULKAN_SELF_TEST QUERN_VK_COUNTS QUERN_VK_FAULT
}

# nothing_left [COUNTS]
nothing_left() { grep -q '^Memory made [1-9]' "${1:-$work/counts}" && ! grep -v ' live 0$' "${1:-$work/counts}"; }
