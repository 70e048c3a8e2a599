#!/bin/sh
# SPDX-License-Identifier: MIT
# --on-device-loss: a device that is lost while a model runs on it. It is the CPU in disguise (tests/plugins/flaky), so that texts
# can be compared without any GPU; test_vulkan_loss.sh does the same with a Vulkan driver.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
prompt="It was a dark night, and"
QUERN_PLUGIN_PATH=$FLAKY:$QUERN_PLUGIN_PATH
QUERN_FLAKY_flaky=
export QUERN_PLUGIN_PATH QUERN_FLAKY_TARGET QUERN_FLAKY_flaky

# lost FAULT ARGUMENTS…: run on the device that has the fault
lost()
{
    QUERN_FLAKY_flaky=$1
    shift
    run run "$model" -p "$prompt" --device flaky "$@"
    QUERN_FLAKY_flaky=
}

# The device computes like the reference, in floats: the text must not show where it was left.
run run "$model" -p "$prompt" --device flaky --variant ref -n 24 --temp 0
is 0 "a device that is not lost"
cp "$out" "$work/whole"
run run "$model" -p "$prompt" --device cpu --variant ref -n 24 --temp 0 --on-device-loss cpu
check "--on-device-loss changes nothing where no device is lost" cmp -s "$out" "$work/whole"

lost run:5:lost -n 24 --temp 0 --variant ref
check "without the option: exit status 1 ($status)" test "$status" -eq 1
check "one line says what happened" sh -c 'test "$(grep -c "device was lost" "$1")" -eq 1' x "$err"
check "nothing goes on" sh -c '! grep -q "going on" "$1"' x "$err"
lost run:5:lost -n 24 --temp 0 --variant ref --on-device-loss fail
check "--on-device-loss fail is the same" test "$status" -eq 1

faults="pack:1 pack:30 run:1 wait:1 read:1 run:2 wait:2 read:2 run:12 wait:12 read:31 run:24 wait:24 read:70"
[ -z "${QUERN_SANITIZED:-}" ] || faults="pack:30 run:1 wait:2 read:31 run:24" # each takes seconds then
for fault in $faults; do
    lost $fault:lost -n 24 --temp 0 --variant ref --on-device-loss cpu
    is 0 "$fault lost, on to the CPU"
    check "$fault: the same greedy text" cmp -s "$out" "$work/whole"
    check "$fault: is said" said 'device flaky is lost .*going on on the CPU'
    check "$fault: with the driver's reason" said 'flaky: the device was lost: the card fell out of its slot'
done
lost run:21:lost -n 24 --temp 0 --variant ref --on-device-loss cpu
check "after how many tokens is said" said 'is lost after 20 tokens'
lost run:1:lost -n 24 --temp 0 --variant ref --on-device-loss cpu
check "or that there was none" said 'is lost before the first token'
lost run:2:lost -n 24 --temp 0 --variant ref --on-device-loss cpu --chunk 3
check "in the middle of a prompt" cmp -s "$out" "$work/whole"

QUERN_FLAKY_flaky=run:12:lost "$TOOLS/pty" -- "$QUERN" run "$model" -p "$prompt" --device flaky -n 24 --temp 0 --variant ref \
    --on-device-loss cpu >"$out" 2>"$err"
status=$?
is 0 "on a terminal"
check "what is read again is shown" printed 'reading again'
check "and the note begins on a line of its own" sh -c 'tr -d "\r" <"$1" | grep -q "^quern: flaky: the device was lost"' x "$out"

# sampling goes on where it was: seed, penalty and all
run run "$model" -p "$prompt" --device flaky --variant ref -n 30 --seed 5 --repeat-penalty 1.2
cp "$out" "$work/sampled"
for fault in run:1 run:15 read:40; do
    lost $fault:lost -n 30 --seed 5 --repeat-penalty 1.2 --variant ref --on-device-loss cpu
    check "$fault lost: the same sampled text" cmp -s "$out" "$work/sampled"
done

# the session is as it was: context, format of the cache
lost run:9:lost -n 24 --temp 0 --variant ref --on-device-loss cpu --ctx 20 --kv-type q8_0 --ignore-eos --json
is 0 "a small context and a quantised cache"
check "are the CPU's, too; and JSON tells of the device" "$TOOLS/json_check" "$out" context=20 "stop=context full" device=cpu \
    device_lost.device=flaky device_lost.after_tokens=8 device_lost.reason device_lost.seconds scores.12.logprob
cp "$out" "$work/moved.json"
run run "$model" -p "$prompt" --device flaky --variant ref -n 24 --temp 0 --ctx 20 --kv-type q8_0 --ignore-eos --json
check "with the same tokens" test "$("$TOOLS/json_check" "$out" -text)" = "$("$TOOLS/json_check" "$work/moved.json" -text)"
check "where none was lost, none is told" sh -c 'grep -q "\"device_lost\": null" "$1"' x "$out"

if fixture models/stories260K.gguf; then
    stories=$QUERN_FIXTURES/models/stories260K.gguf
    run run "$stories" -p "Once upon a time" --device flaky --variant ref -n 40 --temp 0
    cp "$out" "$work/story"
    for fault in run:1 wait:7 run:40; do
        QUERN_FLAKY_flaky=$fault:lost "$QUERN" run "$stories" -p "Once upon a time" --device flaky --variant ref -n 40 --temp 0 \
            --on-device-loss cpu >"$out" 2>"$err"
        check "stories260K, $fault lost: the same text" cmp -s "$out" "$work/story"
    done
else
    skip "stories260K" "no fixtures here"
fi

# ---- conversations ----
chat_model=$work/answer.gguf
"$TOOLS/make_chat_gguf" "$chat_model" answer
talk()
{
    # shellcheck disable=SC2059 # escapes are wanted
    printf "$1" | "$QUERN" chat "$chat_model" --temp 0 --device flaky --variant ref --on-device-loss cpu $2 >"$out" 2>"$err"
    status=$?
}
talk 'Hi\nHow are you?\nBye\n' --json
check "a conversation on the device" sh -c 'test "$(grep -c "\"device\":\"flaky\"" "$1")" -eq 3' x "$out"
sed 's/.*"content":"\([^"]*\)".*/\1/' "$out" >"$work/answers"
QUERN_FLAKY_flaky=run:6:lost talk 'Hi\nHow are you?\nBye\n/stats\n' --json
is 0 "a conversation whose device is lost"
sed 's/.*"content":"\([^"]*\)".*/\1/' "$out" >"$work/moved"
check "its answers are the same" cmp -s "$work/answers" "$work/moved"
check "and the rest of it stays on the CPU" sh -c \
    'tail -n 1 "$1" | grep -q "\"device\":\"cpu\".*\"device_lost\":{\"device\":\"flaky\""' x "$out"
check "later turns keep what the CPU has read" sh -c '! tail -n 1 "$1" | grep -q "\"reused_tokens\":0,"' x "$out"
check "said once" test "$(grep -c 'going on on the CPU' "$err")" -eq 1
check "/stats tells where it runs" said 'device: cpu'
check "and why" said 'device flaky was lost'
QUERN_FLAKY_flaky=run:1:lost talk 'Hi\n'
check "lost at the first message" test "$(cat "$out")" = "Ok, é."

# ---- nothing to go on on ----
QUERN_PLUGIN_PATH=$FLAKY/full:$QUERN_PLUGIN_PATH
QUERN_FLAKY_cpu=buffer:1:oom
export QUERN_FLAKY_cpu
lost run:21:lost -n 24 --temp 0 --variant ref --on-device-loss cpu
is 1 "the CPU has no memory for the model"
check "is said" said 'no memory is left'
check "and that the text ends" said 'cannot take over'
cp "$out" "$work/cut"
run run "$model" -p "$prompt" --device flaky --variant ref -n 20 --temp 0
check "the text so far is there" cmp -s "$out" "$work/cut"
lost run:21:lost -n 24 --temp 0 --variant ref --on-device-loss cpu --json
is 1 "with --json"
check "the text so far is printed" "$TOOLS/json_check" "$out" "stop=device lost" tokens.19 \
    device_lost.after_tokens=20 device=flaky scores.19.text
QUERN_FLAKY_cpu=buffer:2:oom
lost run:21:lost -n 24 --temp 0 --variant ref --on-device-loss cpu --json
is 1 "memory for the model but none for the session"
check "the text so far is printed" "$TOOLS/json_check" "$out" "stop=device lost" tokens.19 device=flaky
QUERN_FLAKY_flaky=run:6:lost talk 'Hi\nHow are you?\n/stats\n/save '"$work"'/saved.json\n' --json
is 1 "a conversation that nothing can go on with"
check "keeps the part of the answer that there is" sh -c \
    'test "$(wc -l <"$1")" -eq 1 && grep -q "\"stop\":\"device lost\"" "$1"' x "$out"
check "says so at the next message" said 'there is nothing to answer with'
check "and can be saved" "$TOOLS/json_check" "$work/saved.json" messages.1.role=assistant
QUERN_FLAKY_cpu=run:3:lost
lost run:21:lost -n 24 --temp 0 --variant ref --on-device-loss cpu
is 1 "a second loss is the end"
check "after one try" test "$(grep -c 'going on on the CPU' "$err")" -eq 1
tap_done
