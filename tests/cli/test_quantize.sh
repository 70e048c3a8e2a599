#!/bin/sh
# SPDX-License-Identifier: MIT
# quern quantize: what it writes runs, and foresees a text as well as the format allows.
. "$QUERN_SOURCE/tests/tap.sh"
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf

for type in F32 F16 BF16 Q8_0 q4_0 Q4_K_M q2_k; do
    run quantize "$model" "$work/$type.gguf" $type --json
    is 0 "to $type"
    check "says what it wrote" "$TOOLS/json_check" "$out" output_bytes type bits_per_weight formats dry_run=false
    run inspect "$work/$type.gguf" --json --tensors
    upper=$(echo "$type" | tr a-z A-Z | sed 's/_[SML]$//')
    check "the file has $type tensors" printed "\"$upper\""
    run run "$work/$type.gguf" -p "It was a dark night, and" -n 12 --temp 0
    check "and speaks" test -s "$out"
done
run run "$work/F32.gguf" -p "It was a dark night, and" -n 12 --temp 0
check "F32 of it says what Q8_0 says" contains "$out" ' the sun was still in the sunlight.'

# every recipe, and the table of the documentation
run quantize --list --json
is 0 "--list"
check "has Q2_K's members" "$TOOLS/json_check" "$out" 2.type=Q2_K 2.about 2.file_type=10 2.tensors.output.usual=Q6_K
run quantize --list
check "the table of docs/quantize.md is that of the program" sh -c \
    'while IFS= read -r line; do grep -qxF -e "$line" "$2" || { echo "# not there: $line"; exit 1; }; done <"$1"' x "$out" \
    "$QUERN_SOURCE/docs/quantize.md"
sed -n 's/^| \([A-Z0-9_]*\) |.*/\1/p' "$out" | grep -v TYPE >"$work/types"
check "there are many" test "$(wc -l <"$work/types")" -ge 22
while read -r type; do
    run quantize "$model" "$work/one.gguf" "$type" --json
    is 0 "writes $type"
    written=$("$TOOLS/json_check" "$out" -output_bytes)
    run quantize --dry-run "$model" "$type" --json
    check "and foretold its size" "$TOOLS/json_check" "$out" dry_run=true "output_bytes=$written"
done <"$work/types"

# the same bytes however it is computed
for how in "-t 1" "-t 3" "--variant generic" "--variant ref"; do
    run quantize "$model" "$work/how.gguf" Q4_K_M $how
    check "the same file with $how" cmp -s "$work/how.gguf" "$work/Q4_K_M.gguf"
done

# a choice for single tensors
run quantize -n --tensors "$model" Q4_K_M --tensor-type ffn_up=Q5_K --tensor-type 'blk.[01].ffn_up.*=Q8_0'
is 0 "rules for tensors"
check "the last that matches" printed 'blk.1.ffn_up.weight  Q8_0 -> Q8_0'
check "and the one before it" printed 'blk.2.ffn_up.weight  Q8_0 -> Q5_K'
check "others as the recipe has it" printed 'blk.2.ffn_gate.weight  Q8_0 -> Q4_K'
check "norms are left alone" printed 'blk.2.ffn_norm.weight  F32 -> F32'
run quantize -n "$model" Q4_K_M --tensor-type nothing_like_it=Q5_K
fails_with 'nothing_like_it' "a rule that matches nothing"
for rule in attn_q attn_q= =Q4_K attn_q=IQ2_S attn_q=I32 attn_q=Q9; do
    run quantize -n "$model" Q4_K_M --tensor-type "$rule"
    check "--tensor-type $rule is a usage error" test "$status" -eq 2
done

run quantize "$model" "$work/new.gguf" Q9
check "a type that does not exist is a usage error" test "$status" -eq 2
check "that lists those that do" said "Q4_K_S, Q4_K_M"
for pair in IQ1_S:Q2_K IQ2_XXS:Q2_K IQ3_S:Q3_K_M; do
    run quantize "$model" "$work/new.gguf" "${pair%:*}"
    check "${pair%:*} is a usage error" test "$status" -eq 2
    check "that says what to take" said "${pair#*:}"
done
run quantize "$model" Q4_0
check "no output is a usage error" test "$status" -eq 2
run quantize --dry-run "$model" "$work/new.gguf" Q4_0
check "an output of a dry run, too" test "$status" -eq 2
run quantize -n "$model" MXFP4
is 0 "MXFP4 of a model without experts"
check "is warned of" said "no experts"
run quantize "$model" "$work/again.gguf" Q6_K
check "quantised input is warned of" said "quantised already"
run quantize "$work/none.gguf" "$work/new.gguf" Q8_0
fails_with 'none.gguf' "an input that is not there"
run quantize "$model" "$work/nowhere/new.gguf" Q8_0
fails_with 'nowhere' "an output in a folder that is not there"
run quantize "$model" /proc/new.gguf Q8_0
fails_with '/proc/new.gguf' "a folder that takes no files"
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
    # perplexities that another implementation's quantisers gave
    while read -r type expected; do
        run quantize "$QUERN_FIXTURES/models/tiny-books-f16.gguf" "$work/from-f16-$type.gguf" "$type"
        within "$work/from-f16-$type.gguf" "$expected" 0.3
    done <<END
Q8_0 27.412
Q6_K 27.467
Q4_K_M 27.570
Q4_0 27.783
Q3_K_M 27.974
END
else
    skip "perplexities" "no fixtures here"
fi
tap_done
