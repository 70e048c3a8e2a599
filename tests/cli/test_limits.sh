#!/bin/sh
# SPDX-License-Identifier: MIT
# What the system refuses: room in a file, descriptors, the other end of a pipe. One clear line, nothing left, no wait without end.
. "$QUERN_SOURCE/tests/tap.sh"
model=$work/tiny.gguf
"$TOOLS/make_gguf" "$model"
mkdir "$work/outputs"
{ # eight tokens
    printf 'QLOG\010\000\000\000\001\000\000\000'
    for half in 1 2; do printf '\005\000\000\000\006\000\000\000\007\000\000\000\005\000\000\000'; done
    head -c 32 /dev/zero
} >"$work/eight.logits"

nothing_left()
{
    test -z "$(ls -A "$work/outputs")"
}

# a file may not grow past a limit: the write fails, the program does not
(ulimit -f 4 && exec "$QUERN" quantize "$model" "$work/outputs/new.gguf" F32 >"$out" 2>"$err" </dev/null)
status=$?
fails_with 'new.gguf.*too large' "quantize past ulimit -f"
check "leaves nothing" nothing_left
eight=$work/eight.logits
(ulimit -f 4 && exec "$QUERN" logits "$model" --tokens "$eight" -o "$work/outputs/new.logits" >"$out" 2>"$err" </dev/null)
status=$?
fails_with 'new.logits.*too large' "logits past ulimit -f"
check "leaves nothing" nothing_left
run logits "$model" --tokens "$work/eight.logits" -o /dev/full
fails_with 'No space left' "logits of more than a buffer on a full disk"

# an error stands alone, without warnings of what would have come
run quantize "$model" "$work/nowhere/new.gguf" Q8_0
fails_with 'nowhere' "quantize into a folder that is not there"

books=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
(ulimit -f 4000 && exec "$QUERN" quantize "$books" "$work/outputs/new.gguf" F32 >"$out" 2>"$err" </dev/null)
status=$?
fails_with 'new.gguf.*too large' "quantize that fails half-way"
check "leaves nothing" nothing_left

# killed without warning: where files without a name exist, no part of one is left
case $(stat -f -c %T "$work") in
ext2/ext3 | tmpfs | xfs | btrfs)
    cp "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "$work/books.gguf"
    for delay in 0.2 0.4 0.6 0.8; do
        "$QUERN" quantize "$work/books.gguf" "$work/outputs/new.gguf" F32 >"$out" 2>"$err" </dev/null &
        sleep "$delay"
        kill -KILL $! 2>/dev/null
        wait $! 2>/dev/null
        rm -f "$work/outputs/new.gguf"
    done
    check "quantize that is killed leaves no part" nothing_left
    ;;
*) skip "quantize that is killed leaves no part" "only where the file system has files without a name" ;;
esac

# few descriptors: plugins are still tried in processes of their own
(ulimit -n 16 && exec "$QUERN" run "$model" -p ab -n 2 --temp 0 >"$out" 2>"$err" </dev/null)
status=$?
is 0 "run with 16 descriptors"

# nobody at the other end of a pipe: one signal ends the wait
mkfifo "$work/pipe"
for command in "logits $model --tokens $work/pipe -o $work/outputs/new.logits" "perplexity $model -f $work/pipe"; do
    # shellcheck disable=SC2086 # a list of words
    "$QUERN" $command >"$out" 2>"$err" </dev/null &
    child=$!
    sleep 0.3
    kill -TERM "$child"
    for look in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$child" 2>/dev/null || break
        sleep 0.3
    done
    check "one signal ends ${command%% *} before a silent pipe" sh -c '! kill -0 "$1" 2>/dev/null' x "$child"
    kill -KILL "$child" 2>/dev/null
    wait "$child" 2>/dev/null
done

if fixture logits/llama.gguf; then
    run run "$QUERN_FIXTURES/logits/llama.gguf" -p ab --device frobnicator
    fails_with 'has no vocabulary' "a model without words is refused before a device is looked for and weights are read"
else
    skip "a model without words" "the fixtures are absent"
fi

run run "$model" -p ab -n 2 --top-p 0
check "--top-p 0 is wrong usage" test "$status" -eq 2
run run "$model" -p ab -n 2 --temp 0 --ctx 128
check "a context past the model's is warned of once" test "$(grep -c '128' "$err")" -eq 1
tap_done
