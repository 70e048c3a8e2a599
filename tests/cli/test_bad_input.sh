#!/bin/sh
# SPDX-License-Identifier: MIT
# Hostile models and files: one clear line, exit status 1, nothing left behind, no crash.
. "$QUERN_SOURCE/tests/tap.sh"
model=$work/tiny.gguf
"$TOOLS/make_gguf" "$model"
run run "$model" -p ab -n 4 --temp 0
is 0 "the model without a fault runs"
check "no escape sequence of its name reaches the terminal" sh -c '! grep -q "$(printf "\033")" "$1"' x "$err"
run inspect "$model"
is 0 "inspect of it"
check "inspect lets no escape sequence through" sh -c '! grep -q "$(printf "\033")" "$1"' x "$out"
run inspect "$model" --json --all --tensors
check "its JSON is valid, broken UTF-8 in its name or not" "$TOOLS/json_check" "$out" architecture=llama layers=1 metadata tensors.0.name

"$TOOLS/make_gguf" --list >"$work/faults"
while IFS='	' read -r fault pattern; do
    "$TOOLS/make_gguf" "$work/$fault.gguf" "$fault"
    run run "$work/$fault.gguf" -p ab -n 4 --temp 0
    fails_with "$pattern" "run: $fault"
    run inspect "$work/$fault.gguf"
    check "inspect: $fault does not crash" test "$status" -le 1
    run tokenize "$work/$fault.gguf"
    check "tokenize: $fault does not crash" test "$status" -le 1
done <"$work/faults"

run inspect "$work/no-tensor.gguf"
check "inspect says that a model does not run, and why" grep -q "not runnable.*tensor .*ffn_down.* is missing" "$out"
run inspect "$work/no-tensor.gguf" --json
check "so does its JSON" "$TOOLS/json_check" "$out" runs=false refused_because

run run "$work/none-such.gguf" -p a
fails_with 'none-such.gguf.*No such file' "a file that is not there"
run run "$work" -p a
fails_with "$work" "a folder"
head -c 100000 /dev/urandom >"$work/noise"
run run "$work/noise" -p a
fails_with 'GGUF' "noise"
run run "$model" -f "$work/none-such.txt"
fails_with 'none-such.txt.*No such file' "a prompt file that is not there"
run run "$model" -p ab --device frobnicator
fails_with 'frobnicator' "a device that is not there"
run run "$model" -p "$(head -c 400 /dev/zero | tr '\0' b)" -n 1
fails_with 'prompt is [0-9]* tokens.*context holds 64' "a prompt longer than the context"
run run "$model" -p "abab abab abab abab" --ctx 4
fails_with 'prompt is [0-9]* tokens.*context holds 4' "a prompt longer than --ctx"

# cut everywhere: never a crash, never a success
size=$(wc -c <"$model")
bad=0
for at in 1 3 4 7 8 20 24 30 60 100 200 400 1000 2000 5000 9000 $((size - 70000)) $((size - 100)) $((size - 1)); do
    head -c "$at" "$model" >"$work/cut.gguf"
    run run "$work/cut.gguf" -p ab -n 1
    { [ "$status" -eq 1 ] && one_line; } || { bad=$((bad + 1)) && echo "# cut at $at: status $status" && sed 's/^/# /' "$err"; }
done
check "a file cut at 19 places" test "$bad" -eq 0

# a file that shrinks while it is read: whatever the moment, an end with status 0 or 1
bad=0
for delay in 0 0.005 0.01 0.02 0.05; do
    cp "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" "$work/shrinks.gguf"
    "$QUERN" run "$work/shrinks.gguf" -p "The" -n 8 >"$out" 2>"$err" </dev/null &
    sleep "$delay"
    : >"$work/shrinks.gguf"
    wait $!
    status=$?
    [ "$status" -le 1 ] || { bad=$((bad + 1)) && echo "# after $delay s: status $status"; }
done
check "a file that shrinks while it is read" test "$bad" -eq 0

# memory
if [ -n "${QUERN_SANITIZED:-}" ]; then
    skip "not enough memory" "sanitizers need the address space"
    skip "not enough memory for the weights" "sanitizers need the address space"
else
    (ulimit -v 1000000 && exec "$QUERN" run "$model" -p a -n 1 --ctx 16M >"$out" 2>"$err" </dev/null)
    status=$?
    # the model was not trained for such a context: that is noted first
    sed -i '/^quern: --ctx/d' "$err"
    fails_with 'memory\|MiB\|GiB' "a KV cache larger than ulimit -v"
    bad=0
    for limit in 30000 40000 60000 80000 100000 150000; do
        (ulimit -v $limit && exec "$QUERN" run "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" -p a -n 1 >"$out" 2>"$err" </dev/null)
        status=$?
        # 127: not even the program's libraries fit
        case $status in 0 | 1 | 127) ;; *) bad=$((bad + 1)) && echo "# ulimit -v $limit: status $status" ;; esac
    done
    check "ulimit -v of 30 MB to 150 MB" test "$bad" -eq 0
fi

# outputs: complete or not there
printf 'QLOG' >"$work/short.logits"
run logits "$model" --tokens "$work/short.logits" -o "$work/new.logits"
fails_with 'short.logits' "a reference that is too short"
printf 'QLOG\001\000\000\000\377\377\377\377\001\000\000\000' >"$work/wrong.logits"
run logits "$model" --tokens "$work/wrong.logits" -o "$work/new.logits"
fails_with 'match' "a reference whose size is not what its header says"
printf 'QLOG\001\000\000\000\001\000\000\000\377\377\000\000\000\000\000\000' >"$work/outside.logits"
run logits "$model" --tokens "$work/outside.logits" -o "$work/new.logits"
fails_with 'outside the model.s vocabulary' "a reference with a token outside the vocabulary"
printf 'QLOG\001\000\000\000\001\000\000\000\005\000\000\000\000\000\000\000' >"$work/one.logits"
run logits "$work/nan.gguf" --tokens "$work/one.logits" -o "$work/nowhere/new.logits"
fails_with 'nowhere' "an output in a folder that is not there"
run logits "$model" --tokens "$work/one.logits" -o "$work"
fails_with 'folder' "an output that is a folder"
check "no output was left" sh -c '! ls "$1" | grep -q "new.logits"' x "$work"
run logits "$model" --tokens "$work/one.logits" -o /dev/full
check "an output on a full disk" test "$status" -eq 1
check "says so" said 'No space left'
run logits "$model" --tokens "$work/one.logits" -o "$work/good.logits"
is 0 "an output that can be written"
check "has its size" test "$(wc -c <"$work/good.logits")" -eq $((12 + 4 + 4 * 264))
check "and only it is there" test "$(find "$work" -name 'good.logits*' | wc -l)" -eq 1

# tokenize --decode
printf '5 nine 7' >"$work/ids"
"$QUERN" tokenize "$model" --decode <"$work/ids" >"$out" 2>"$err"
status=$?
fails_with "'nine' is no token id" "decode of a word"
printf '5 264' | "$QUERN" tokenize "$model" --decode >"$out" 2>"$err"
status=$?
fails_with "'264' is no token id" "decode of an id past the vocabulary"
tap_done
