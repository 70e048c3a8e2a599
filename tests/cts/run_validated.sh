#!/bin/sh
# SPDX-License-Identifier: MIT
# run_validated.sh CTS PLUGIN [ARGS…]: the conformance suite under Vulkan's validation layer with synchronisation validation, which has to
# stay silent. Speaks TAP: one point for the suite, one for the silence.
cts=$1
plugin=$2
shift 2
layer=VkLayer_khronos_validation.json
found=
for folder in /usr/share /usr/local/share /etc "${XDG_DATA_HOME:-$HOME/.local/share}"; do
    [ -f "$folder/vulkan/explicit_layer.d/$layer" ] && found=yes
done
if [ -z "$found" ]; then
    echo "1..0 # SKIP Vulkan's validation layers are not installed"
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log" "$log.said"' EXIT
# The layer leaves memory behind at the end, which is not ours; cts-vulkan is what looks for leaks.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
    VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT \
    "$cts" "$plugin" "$@" >"$log" 2>&1
status=$?
if grep -q '^1\.\.0 # SKIP' "$log"; then
    grep '^1\.\.0 # SKIP' "$log"
    exit 0
fi
points=$(grep -c '^ok' "$log")
if [ "$status" = 0 ]; then
    echo "ok 1 - $points points of the suite pass under the validation layer"
else
    grep '^not ok' "$log" | sed 's/^/# /'
    echo "not ok 1 - the suite under the validation layer: exit $status"
fi
# Of this message the layer itself says that it is most likely a validation bug: it gives up waiting for its own book-keeping of a
# timeline when the machine is busy. A wait of ours that really hangs fails the suite's own points.
known='UNASSIGNED-VkSemaphore-state-timeout'
grep -v "$known" "$log" | grep -E 'VUID|UNASSIGNED|SYNC-|Validation (Error|Warning)' >"$log.said"
said=$(wc -l <"$log.said")
if [ "$said" = 0 ]; then
    echo "ok 2 - the layer has nothing to say"
else
    cut -c1-400 "$log.said" | head -n 20 | sed 's/^/# /'
    echo "not ok 2 - the layer says $said things"
fi
echo "1..2"
