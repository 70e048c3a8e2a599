#!/bin/sh
# SPDX-License-Identifier: MIT
# A Vulkan device that is slow, and one that hangs: waiting goes on, or ends in words. tests/vklayer makes them so.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
prompt="It was a dark night, and"
if [ ! -f "$VKLAYER/VkLayer_quern_faults.json" ]; then
    skip_all "the layer that makes a driver fail is not built here"
fi
QUERN_VULKAN_SELF_TEST=off # its calls would be counted, too
VK_LAYER_PATH=$VKLAYER
VK_INSTANCE_LAYERS=VK_LAYER_QUERN_faults
QUERN_VK_COUNTS=$work/counts
QUERN_VK_FAULT=
export QUERN_VULKAN_SELF_TEST VK_LAYER_PATH VK_INSTANCE_LAYERS QUERN_VK_COUNTS QUERN_VK_FAULT
run run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan
if [ "$status" -ne 0 ]; then
    skip_all "$(head -n 1 "$err" | tr '#' ' ')"
fi
cp "$out" "$work/whole"

# ---- slow ----
for fault in WaitSemaphores:0:slow=60 QueueSubmit:0:slow=40 WaitSemaphores:0:slow=20,GetSemaphoreCounterValue:0:slow=20 \
    WaitSemaphores:9:slow=3000; do
    QUERN_VK_FAULT=$fault
    rm -f "$work/counts"
    run run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan --max-submit-ms 20
    check "$fault: the same text" cmp -s "$out" "$work/whole"
    check "$fault: no object is left" sh -c 'grep -q "^Memory made [1-9]" "$1" && ! grep -v " live 0$" "$1"' x "$work/counts"
done

# ---- hanging. A driver that hangs cannot be cleaned up after: what it may still use is left to it. ----
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
for fault in WaitSemaphores:1:hang WaitSemaphores:9:hang; do
    QUERN_VK_FAULT=$fault
    start=$(date +%s)
    run run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan --max-submit-ms 20
    took=$(($(date +%s) - start))
    is 1 "$fault: the run ends"
    check "$fault: in words" said 'device was lost: .* hangs: nothing .* has ended for 10 s'
    check "$fault: after its time ($took s)" test "$took" -lt 60
    run run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan --max-submit-ms 20 --on-device-loss cpu
    is 0 "$fault: on to the CPU"
    check "$fault: with the same text" cmp -s "$out" "$work/whole"
done
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
QUERN_VK_FAULT=WaitSemaphores:2:hang
run run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan --max-submit-ms 20 --on-device-loss cpu
check "hanging while weights go up: with the same text" cmp -s "$out" "$work/whole"
unset QUERN_VULKAN_STAGED

# Meanwhile signals do what they do: the first asks, the second ends at once.
QUERN_VK_FAULT=WaitSemaphores:9:hang
QUERN_VK_CALLS=$work/calls # written when it begins to hang
export QUERN_VK_CALLS
"$QUERN" run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan >"$out" 2>"$err" </dev/null &
child=$!
tries=0
while [ ! -s "$work/calls" ] && [ $tries -lt 600 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
sleep 0.5
check "a device that hangs is waited for" kill -0 "$child"
kill -TERM "$child"
sleep 0.3
kill -TERM "$child"
start=$(date +%s)
wait "$child"
status=$?
check "a second signal ends the wait at once ($status)" test "$status" -eq 143
check "indeed" test $(($(date +%s) - start)) -lt 5
tap_done
