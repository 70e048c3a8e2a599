#!/bin/sh
# SPDX-License-Identifier: MIT
# A Vulkan driver that fails: one line that says what, exit status 1, no crash; and one that does not, with nothing left behind.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
need_vulkan run "$model" -p "It was" -n 1 --temp 0 --device vulkan
use_layer

# fault WHAT PATTERN: the run ends with status 1 and a line with the pattern
fault()
{
    QUERN_VK_FAULT=$1
    export QUERN_VK_FAULT
    run run "$model" -p "It was" -n 4 --temp 0 --device vulkan
    unset QUERN_VK_FAULT
    check "$1: exit status 1 ($status)" test "$status" -eq 1
    check "$1: is said" said "$2"
}

fault QueueSubmit:3:lost 'device was lost.*giving work'
fault QueueSubmit:4:oom 'memory is used up'
fault WaitSemaphores:4:lost 'device was lost.*waiting'
fault AllocateMemory:1:oom "asked of device memory.*the device's memory is used up"
fault AllocateMemory:2:oom-host "the host's memory is used up"
fault MapMemory:1:failed 'INITIALIZATION_FAILED'
fault CreateShaderModule:1:failed 'compiling the kernel [a-z]'
fault CreateComputePipelines:2:oom-host "compiling the kernel [a-zA-Z0-9_]*: .*the host's memory is used up"

# whatever was made is gone when the device is, after a run that went well as after one that failed
for what in "" CreateComputePipelines:2:oom-host AllocateMemory:3:oom QueueSubmit:3:lost; do
    rm -f "$work/counts"
    QUERN_VK_FAULT=$what QUERN_VK_COUNTS=$work/counts "$QUERN" run "$model" -p "It was" -n 4 --temp 0 --device vulkan >"$out" 2>"$err"
    check "${what:-no fault}: objects were made and none is left" nothing_left
done
tap_done
