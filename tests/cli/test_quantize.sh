#!/bin/sh
# SPDX-License-Identifier: MIT
# quern quantize: what it writes runs, and foresees a text as well as the format allows.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf

for type in F32 F16 BF16 Q8_0 q4_0; do
    run quantize "$model" "$work/$type.gguf" $type --json
    is 0 "to $type"
    check "says what it wrote" "$TOOLS/json_check" "$out" output_bytes type
    run inspect "$work/$type.gguf" --json --tensors
    upper=$(echo "$type" | tr a-z A-Z)
    check "the file has $type tensors" printed "\"$upper\""
    run run "$work/$type.gguf" -p "It was a dark night, and" -n 12 --temp 0
    check "and speaks" test -s "$out"
done
run run "$work/F32.gguf" -p "It was a dark night, and" -n 12 --temp 0
check "F32 of it says what Q8_0 says" contains "$out" ' the sun was still in the sunlight.'
run quantize "$model" "$work/F32.gguf" Q9
check "a type that does not exist is a usage error" test "$status" -eq 2
check "that lists those that do" said "F32, F16, BF16, Q8_0, Q4_0"
run quantize "$work/none.gguf" "$work/new.gguf" Q8_0
fails_with 'none.gguf' "an input that is not there"
run quantize "$model" "$work/nowhere/new.gguf" Q8_0
fails_with 'nowhere' "an output in a folder that is not there"
cp "$work/F16.gguf" "$work/same.gguf"
run quantize "$work/same.gguf" "$work/same.gguf" Q8_0
fails_with 'same.gguf' "an output that is the input"
check "which is left as it was" cmp -s "$work/same.gguf" "$work/F16.gguf"
"$TOOLS/make_gguf" "$work/short.gguf" short-data
run quantize "$work/short.gguf" "$work/new.gguf" Q8_0
fails_with 'short.gguf' "an input that is cut short"
check "nothing is left behind" sh -c '! ls "$1" | grep -q new.gguf' x "$work"

if fixture models/alice.txt; then
    # within MODEL EXPECTED PERCENT
    within()
    {
        run perplexity "$1" -f "$QUERN_FIXTURES/models/alice.txt" --ctx 256 --json
        got=$("$TOOLS/json_check" "$out" -perplexity)
        awk -v got="$got" -v want="$2" -v percent="$3" 'BEGIN { exit !(got < want * (1 + percent / 100) && got > want * 0.9) }'
        point $? "$(basename "$1"): perplexity $got, expected $2 or less"
    }
    run quantize "$QUERN_FIXTURES/models/tiny-books-f16.gguf" "$work/f16-q8_0.gguf" Q8_0
    within "$work/f16-q8_0.gguf" 27.412 0.3
    run quantize "$QUERN_FIXTURES/models/tiny-books-f16.gguf" "$work/f16-q4_0.gguf" Q4_0
    within "$work/f16-q4_0.gguf" 27.783 0.3
else
    skip "perplexities" "no fixtures here"
fi
tap_done
