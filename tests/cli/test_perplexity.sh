#!/bin/sh
# SPDX-License-Identifier: MIT
# quern perplexity: within 0.3 % of what another implementation measured on the same text.
. "$QUERN_SOURCE/tests/tap.sh"
fixture models/alice.txt || skip_all "no fixtures here"

# near MODEL EXPECTED
near()
{
    run perplexity "$QUERN_FIXTURES/models/tiny-books-$1.gguf" -f "$QUERN_FIXTURES/models/alice.txt" --ctx 256 --json
    got=$("$TOOLS/json_check" "$out" -perplexity)
    awk -v got="$got" -v want="$2" 'BEGIN { exit !(got > want * 0.997 && got < want * 1.003) }'
    point $? "$1: $got, expected $2 within 0.3 %"
}

near q8_0 27.412
near q4_k_m 27.570
near f16 27.415
check "--json has a standard error" "$TOOLS/json_check" "$out" standard_error tokens_scored chunks
run perplexity "$QUERN_FIXTURES/models/tiny-books-q8_0.gguf" -f "$QUERN_FIXTURES/models/alice.txt" --chunks 3 --chunk 50
is 0 "three chunks, computed 50 tokens at a time"
check "for people" printed '^perplexity [0-9.]* +/- [0-9.]* (381 tokens scored)$'
cp "$out" "$work/first"
run perplexity "$QUERN_FIXTURES/models/tiny-books-q8_0.gguf" -f "$QUERN_FIXTURES/models/alice.txt" --chunks 3 --chunk 256
# Attention adds in another order when it computes several rows in one call; int8 activations make a little more of that.
check "the same computed at once, to 0.1 %" awk 'NR == FNR { first = $2; next } { exit !($2 > first * 0.999 && $2 < first * 1.001) }' \
    "$work/first" "$out"
echo "A short text." >"$work/short"
run perplexity "$QUERN_FIXTURES/models/tiny-books-q8_0.gguf" -f "$work/short"
fails_with 'fewer than one chunk of 256' "a text that is too short"
tap_done
