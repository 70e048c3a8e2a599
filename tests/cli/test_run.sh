#!/bin/sh
# SPDX-License-Identifier: MIT
# quern run: the text, its ends, its outputs.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
said_in_the_dark=' the sun was still in the sunlight.
"I'"'"'m not going to be a-going," said the old man, "but I'"'"'m going to be a-going to-morrow."'

run run -p "It was a dark night, and" -n 60 --temp 0
is 0 "the default model, found without being named"
check "says greedily what it was trained to" contains "$out" "$said_in_the_dark"
check "timings are the last line of stderr" sh -c 'tail -n 1 "$1" | grep -q "loaded in .* tok/s.* tok/s; memory .*peak"' x "$err"
cp "$out" "$work/default"
run run "$model" -p "It was a dark night, and" -n 60 --temp 0
check "the same by its name" cmp -s "$out" "$work/default"
run run --prompt="It was a dark night, and" --tokens=60 --temp=0
check "the same by long options" cmp -s "$out" "$work/default"
echo "It was a dark night, and" >"$work/prompt"
run run -f "$work/prompt" -n 60 --temp 0
check "the same from a file" cmp -s "$out" "$work/default"
"$QUERN" run -n 60 --temp 0 <"$work/prompt" >"$out" 2>"$err"
check "the same from standard input" cmp -s "$out" "$work/default"
for chunk in 1 3; do
    run run -p "It was a dark night, and" -n 60 --temp 0 --chunk $chunk
    check "the same with --chunk $chunk" cmp -s "$out" "$work/default"
done
run run -p "It was a dark night, and" -n 60 --temp 0 --threads 1
check "the same with one thread" cmp -s "$out" "$work/default"
run run -p "It was a dark night, and" -n 20 --temp 0 --kv-type q8_0 --strict --device cpu
is 0 "a quantised KV cache, --strict, --device cpu"

QUERN_DATA=$QUERN_SOURCE/models "$QUERN" run -p a -n 1 >"$out" 2>"$err"
check "QUERN_DATA names the folder of the default model" test $? -eq 0
QUERN_DATA=$work/nowhere "$QUERN" run -p a -n 1 >"$out" 2>"$err"
status=$?
fails_with 'tiny-books-q8_0.gguf.*QUERN_DATA' "QUERN_DATA that is wrong"

run run -p "The" -n 30 --seed 7
cp "$out" "$work/seven"
run run -p "The" -n 30 --seed 7
check "the same seed gives the same text" cmp -s "$out" "$work/seven"
run run -p "The" -n 30 --seed 8
check "another seed gives another" sh -c '! cmp -s "$1" "$2"' x "$out" "$work/seven"
run run -p "The" -n 30
check "a fresh seed is told" said 'seed [0-9]'
cp "$out" "$work/fresh"
seed=$(sed -n 's/.*--seed \([0-9]*\)).*/\1/p' "$err")
run run -p "The" -n 30 --seed "$seed"
check "and gives its text again" cmp -s "$out" "$work/fresh"

run run -p "The" -n 0
is 0 "-n 0"
check "-n 0 says nothing" silent
run run -p "The" -n 40 --temp 0 --ignore-eos --ctx 16
is 0 "a context that fills up"
check "is said to be full" said 'context of 16 tokens is full'
check "after some text" test -s "$out"
run run -p "" -n 3 --temp 0
is 0 "an empty prompt begins with BOS"
run run -p "" -n 3 --no-bos
fails_with 'prompt is empty' "an empty prompt without BOS"

run run -p "The" -n 12 --temp 0 --json
is 0 "--json"
check "is one JSON object with text, tokens, timings and memory" "$TOOLS/json_check" "$out" text stop=count tokens.11 prompt_tokens=2 \
    context timings.load_seconds timings.decode_tokens_per_second memory.weights memory.kv_cache memory.peak_resident device=cpu
text=$("$TOOLS/json_check" "$out" -text)
run run -p "The" -n 12 --temp 0
check "with the same text" test "$text" = "$(cat "$out")"
run run -p "The" -n 5 --temp 0 --json --top-logprobs 3 --unsure 0.5
check "scores of each token, and a summary" "$TOOLS/json_check" "$out" scores.4.id scores.4.text scores.4.logprob scores.4.entropy scores.4.rank=0 \
    scores.4.top.2.logprob confidence.tokens=5 confidence.mean_logprob confidence.perplexity confidence.min_at confidence.unsure_tokens
id=$("$TOOLS/json_check" "$out" -scores.3.id)
check "greedy text is made of the likeliest tokens" sh -c 'test "$("$1" "$2" -scores.3.top.0.id)" -eq "$3" && test "$("$1" "$2" -tokens.3)" -eq "$3"' x "$TOOLS/json_check" "$out" "$id"
first=$("$TOOLS/json_check" "$out" -scores.0.logprob)
run run -p "The" -n 5 --seed 3 --temp 2 --top-k 0 --repeat-penalty 1.5 --json --top-logprobs 1
check "sampling options do not change what the model gave" test "$("$TOOLS/json_check" "$out" -scores.0.top.0.logprob)" = "$first"
run run -p "The" -n 1 --temp 0
check "one token has no rate" sh -c 'tail -n 1 "$1" | grep -q "text 1 tokens; memory"' x "$err"
run run -p "The" -n 40 --temp 0 --ignore-eos --ctx 16 --json
check "its stop reason" "$TOOLS/json_check" "$out" "stop=context full" context=16

# memory: file + KV cache + 64 MiB
if [ -n "${QUERN_SANITIZED:-}" ]; then
    skip "peak memory" "sanitizers take their own"
else
    run run -p "It was" -n 200 --ctx 512 --temp 0 --ignore-eos --json
    peak=$("$TOOLS/json_check" "$out" -memory.peak_resident)
    kv=$("$TOOLS/json_check" "$out" -memory.kv_cache)
    echo "# peak $peak, KV cache $kv"
    check "peak memory is at most file + KV cache + 64 MiB" test "$peak" -le $(($(wc -c <"$model") + kv + 67108864))
fi

# ends
terminated run -p "The" -n 1000000 --ctx 1000000 --ignore-eos --seed 1
is 130 "SIGTERM in the middle of a text ends it"
check "with its last line" sh -c 'grep -q "^quern: stopped" "$1" && tail -n 1 "$1" | grep -q "loaded in"' x "$err"
check "and leaves whole lines" sh -c 'test -s "$1" && test "$(tail -c 1 "$1")" = ""' x "$out"
# a shell's background jobs ignore SIGINT, so this one goes through timeout
timeout --preserve-status -s INT 2 "$QUERN" run -p "The" -n 1000000 --ctx 1000000 --ignore-eos --seed 1 >"$out" 2>"$err" </dev/null
status=$?
is 130 "Ctrl-C does the same"
check "and is said" said '^quern: stopped'
"$QUERN" run -p "The" -n 100000 --ctx 100000 --ignore-eos --seed 1 2>"$err" </dev/null | head -c 20 >"$out"
check "a reader that goes away ends the text" said 'standard output: Broken pipe'
"$QUERN" run -p "The" -n 5 --temp 0 >/dev/full 2>"$err" </dev/null
status=$?
check "a full disk is a failure" test "$status" -eq 1
check "that is said" said 'No space left'
"$QUERN" run -p "The" -n 5 --temp 0 >&- 2>"$err" </dev/null
status=$?
check "a closed stdout is a failure" test "$status" -eq 1
"$QUERN" devices >/dev/full 2>"$err"
check "of devices too" test $? -eq 1

if fixture models/stories260K.gguf; then
    run run "$QUERN_FIXTURES/models/stories260K.gguf" -p "Once upon a time" -n 60 --temp 0
    check "stories260K tells its story" contains "$out" ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
    run run "$QUERN_FIXTURES/models/stories260K.gguf" -p "Once upon a time" -n 600 --temp 0 --ignore-eos
    check "and stops where its context is full" said 'context of 128 tokens is full'
    run run "$QUERN_FIXTURES/logits/llama.gguf" -p a -n 1
    fails_with 'vocabulary' "a model without a vocabulary is refused"
else
    skip "stories260K" "no fixtures here"
fi
tap_done
