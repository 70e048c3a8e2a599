#!/bin/sh
# SPDX-License-Identifier: MIT
# A Vulkan device that is slow, and one that hangs: waiting goes on, or ends in words. tests/vklayer makes them so. The runs of one
# kind are made at once, because they do nothing but wait.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
use_layer
need_vulkan run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan
cp "$out" "$work/whole"

# begin FAULT ARGUMENTS…: a run beside the others; ended FAULT ARGUMENTS…: what came of it: $status, $took, $out, $err and $counts
place() { printf '%s/%s' "$work" "$(printf '%s' "$*" | tr -c 'a-zA-Z0-9' _)"; }
begin()
{
    at=$(place "$@")
    fault=$1
    shift
    (
        QUERN_VK_COUNTS=$at.counts
        QUERN_VK_FAULT=$fault
        start=$(date +%s)
        "$QUERN" run "$model" -p "$prompt" -n 20 --temp 0 --device vulkan --max-submit-ms 20 "$@" >"$at.out" 2>"$at.err" </dev/null
        echo "status=$? took=$(($(date +%s) - start))" >"$at.ended"
    ) &
}
ended()
{
    at=$(place "$@")
    . "$at.ended"
    out=$at.out
    err=$at.err
    counts=$at.counts
}

# ---- slow ----
slow="WaitSemaphores:0:slow=60 QueueSubmit:0:slow=40 WaitSemaphores:0:slow=20,GetSemaphoreCounterValue:0:slow=20
    WaitSemaphores:9:slow=3000"
for fault in $slow; do
    begin "$fault"
done
wait
for fault in $slow; do
    ended "$fault"
    check "$fault: the same text" cmp -s "$out" "$work/whole"
    check "$fault: no object is left" nothing_left "$counts"
done

# ---- hanging. A driver that hangs cannot be cleaned up after: what it may still use is left to it. ----
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
hangs="WaitSemaphores:1:hang WaitSemaphores:9:hang"
for fault in $hangs; do
    begin "$fault"
    begin "$fault" --on-device-loss cpu
done
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
begin WaitSemaphores:2:hang --on-device-loss cpu
unset QUERN_VULKAN_STAGED
wait
for fault in $hangs; do
    ended "$fault"
    is 1 "$fault: the run ends"
    check "$fault: in words" said 'device was lost: .* hangs: nothing .* has ended for 10 s'
    check "$fault: after its time ($took s)" test "$took" -lt 60
    ended "$fault" --on-device-loss cpu
    is 0 "$fault: on to the CPU"
    check "$fault: with the same text" cmp -s "$out" "$work/whole"
done
ended WaitSemaphores:2:hang --on-device-loss cpu
check "hanging while weights go up: with the same text" cmp -s "$out" "$work/whole"

# Meanwhile signals do what they do: the first asks, the second ends at once.
out=$work/out
err=$work/err
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
