#!/bin/sh
# SPDX-License-Identifier: MIT
# --on-device-loss cpu with a Vulkan driver that tests/vklayer makes fail: the text is that of an undisturbed run, and no object of
# Vulkan's is left behind. What of it needs no Vulkan is in test_device_loss.sh.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
use_layer
QUERN_VK_CALLS=$work/calls
export QUERN_VK_CALLS

need_vulkan run "$model" -p "$prompt" -n 1 --temp 0 --device vulkan --ctx 48 # as for 40 tokens
calls() { sed -n "s/^$1 //p" "$work/calls"; }
first=$(calls QueueSubmit) # submissions of the prompt
run run "$model" -p "$prompt" -n 40 --temp 0 --device vulkan
cp "$out" "$work/whole"
submits=$(calls QueueSubmit)
waits=$(calls WaitSemaphores)
echo "# 40 tokens: $submits submissions, $first of them for the prompt, and $waits waits"

# survives FAULT WHERE WORDS ARGUMENTS…: the text is that of $work/whole all the same
survives()
{
    QUERN_VK_FAULT=$1
    where=$2
    words=$3
    shift 3
    rm -f "$work/counts"
    run run "$@" --device vulkan --on-device-loss cpu
    check "$QUERN_VK_FAULT, $where: the same text" cmp -s "$out" "$work/whole"
    check "$QUERN_VK_FAULT, $where: is said" said "device vulkan is lost $words; going on on the CPU"
    check "$QUERN_VK_FAULT, $where: no object is left" nothing_left
    is 0 "$QUERN_VK_FAULT, $where: exit status 0"
    QUERN_VK_FAULT=
}

survives QueueSubmit:1:lost "the prompt" "before the first token" "$model" -p "$prompt" -n 40 --temp 0
survives WaitSemaphores:1:lost "waiting for the prompt" "before the first token" "$model" -p "$prompt" -n 40 --temp 0
survives QueueSubmit:$((first + 1)):lost "the second token" "after 1 token" "$model" -p "$prompt" -n 40 --temp 0
survives QueueSubmit:$((submits / 2)):lost "mid-answer" "after [0-9]* tokens" "$model" -p "$prompt" -n 40 --temp 0
survives WaitSemaphores:$((waits / 2)):lost "waiting mid-answer" "after [0-9]* tokens" "$model" -p "$prompt" -n 40 --temp 0
survives QueueSubmit:$submits:lost "the last token" "after 39 tokens" "$model" -p "$prompt" -n 40 --temp 0
survives QueueSubmit:2:lost "inside the prompt" "before the first token" "$model" -p "$prompt" -n 40 --temp 0 --chunk 3

# as on a card that the host cannot see into: weights go up in submissions, results are read by them
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
survives QueueSubmit:1:lost "the first weights" "before the first token" "$model" -p "$prompt" -n 40 --temp 0
survives QueueSubmit:20:lost "weights" "before the first token" "$model" -p "$prompt" -n 40 --temp 0
survives WaitSemaphores:9:lost "waiting for weights" "before the first token" "$model" -p "$prompt" -n 40 --temp 0
unset QUERN_VULKAN_STAGED

# sampling goes on where it was
run run "$model" -p "$prompt" -n 50 --seed 11 --repeat-penalty 1.1 --device vulkan
cp "$out" "$work/whole"
survives QueueSubmit:25:lost "sampling" "after [0-9]* tokens" "$model" -p "$prompt" -n 50 --seed 11 --repeat-penalty 1.1

if fixture models/stories260K.gguf; then
    stories=$QUERN_FIXTURES/models/stories260K.gguf
    run run "$stories" -p "Once upon a time" -n 60 --temp 0 --device vulkan
    cp "$out" "$work/whole"
    survives QueueSubmit:30:lost "stories260K" "after [0-9]* tokens" "$stories" -p "Once upon a time" -n 60 --temp 0
else
    skip "stories260K" "no fixtures here"
fi

# several runs in a row, each a process (tests/engine/test_vulkan_leaks.c has a hundred in one)
rm -f "$work/counts"
for again in 1 2 3 4 5; do
    "$QUERN" run "$model" -p "$prompt" -n 4 --temp 0 --device vulkan >"$out" 2>"$err" </dev/null || status=1
done
check "five runs in a row leave no object" nothing_left
check "and counted five times" test "$(grep -c '^Memory made' "$work/counts")" -eq 5

# a device that is lost stays so: without the option the run ends, in words
QUERN_VK_FAULT=QueueSubmit:$((submits / 2)):lost
rm -f "$work/counts"
run run "$model" -p "$prompt" -n 40 --temp 0 --device vulkan
is 1 "without the option the run ends"
check "in one line" sh -c 'test "$(grep -c "device was lost" "$1")" -eq 1' x "$err"
check "and leaves no object" nothing_left
tap_done
