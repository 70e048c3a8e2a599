#!/bin/sh
# SPDX-License-Identifier: MIT
# quern tokenize: ids, special tokens, the way back, and the real vocabularies of the fixtures line by line.
. "$QUERN_SOURCE/tests/tap.sh"
model=$work/tiny.gguf
"$TOOLS/make_gguf" "$model"

encode() { printf "$1" | "$QUERN" tokenize "$model" $2 $3 >"$out" 2>"$err"; status=$?; }

encode 'ab' --no-bos
check "merges by score" test "$(cat "$out")" = "263 260" -o "$(cat "$out")" = "259 262"
encode 'ab'
check "BOS in front by default" printed '^1 '
encode '</s>' --no-bos
check "special tokens' text is text" sh -c '! grep -qw 2 "$1"' x "$out"
encode '</s>' --no-bos --special
check "unless --special" sh -c 'grep -qw 2 "$1"' x "$out"
encode ''
check "nothing but BOS for nothing" test "$(cat "$out")" = 1
encode 'ab' --json
check "--json" "$TOOLS/json_check" "$out" ids.0=1
printf 'b\303\251 \377\n\n a' >"$work/text"
"$QUERN" tokenize "$model" --no-bos <"$work/text" >"$work/ids" 2>"$err"
"$QUERN" tokenize "$model" --decode <"$work/ids" >"$out" 2>>"$err"
check "--decode gives the bytes back" cmp -s "$out" "$work/text"
"$QUERN" tokenize "$model" --json <"$work/text" | sed -n 's/[^0-9,]//gp' >"$work/ids"
"$QUERN" tokenize "$model" --decode --json <"$work/ids" >"$out"
check "--decode --json is valid JSON even where the text is not UTF-8" "$TOOLS/json_check" "$out" text
printf 'a\000b' | "$QUERN" tokenize "$model" --no-bos >"$out" 2>"$err"
check "a NUL byte is a byte" printed '\<3\>'

for name in llama-spm phi-3 gpt-2; do
    base=tokenizers/ggml-vocab-$name.gguf
    if ! fixture $base; then
        skip "$name" "no fixtures here"
        continue
    fi
    if ! "$QUERN" tokenize "$QUERN_FIXTURES/$base" </dev/null >"$out" 2>"$err" && grep -q 'needs PCRE2' "$err"; then
        skip "$name" "built without PCRE2"
        continue
    fi
    mkdir "$work/$name"
    count=$("$TOOLS/split_texts" "$QUERN_FIXTURES/$base.inp" "$work/$name")
    bad=0
    number=0
    for text in "$work/$name"/*; do
        number=$((number + 1))
        want=$(sed -n "${number}p" "$QUERN_FIXTURES/$base.out" | tr -s ' ' | sed 's/^ //;s/ $//')
        got=$("$QUERN" tokenize "$QUERN_FIXTURES/$base" --no-bos <"$text")
        [ "$want" = "$got" ] || { bad=$((bad + 1)) && echo "# text $number: wanted $want, got $got"; }
        echo "$got" | "$QUERN" tokenize "$QUERN_FIXTURES/$base" --decode >"$work/back"
        cmp -s "$work/back" "$text" || { bad=$((bad + 1)) && echo "# text $number does not come back"; }
    done
    check "$name: $count texts match to the line and come back" test "$bad" -eq 0 -a "$number" -eq "$count" -a "$number" -gt 40
done
tap_done
