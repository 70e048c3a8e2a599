#!/bin/sh
# SPDX-License-Identifier: MIT
# quern logits against another implementation's logits: 1e-5 in float, 1e-4 with int8 activations.
. "$QUERN_SOURCE/tests/tap.sh"
fixture logits/llama.gguf || skip_all "no fixtures here"

# near MODEL LIMIT ARGUMENTS…
near()
{
    name=$1
    limit=$2
    shift 2
    run logits "$QUERN_FIXTURES/$name.gguf" --tokens "$QUERN_FIXTURES/$name.logits" -o "$work/ours" "$@"
    nmse=$("$TOOLS/nmse" "$QUERN_FIXTURES/$name.logits" "$work/ours" "$limit" 2>>"$err")
    point $? "$name $* nmse $nmse, limit $limit"
    rm -f "$work/ours"
}

for chunk in "--chunk 1" "--chunk 7" ""; do
    # shellcheck disable=SC2086
    {
        near logits/llama 1e-5 $chunk
        near quants/F16 1e-5 $chunk
        near quants/BF16 1e-4 $chunk
        near quants/Q8_0 1e-4 $chunk
        near quants/Q4_0 1e-4 $chunk
    }
done
near quants/Q8_0 1e-4 --kv-type f32
near quants/Q8_0 1e-3 --kv-type q8_0
near quants/Q8_0 1e-4 --threads 1
near logits/llama 1e-5 --variant ref
run logits "$QUERN_FIXTURES/logits/llama.gguf" --tokens "$QUERN_FIXTURES/logits/llama.logits" -o "$work/ours" --json
check "--json says what was written" "$TOOLS/json_check" "$out" tokens vocabulary chunk device=cpu
# ended in the middle: nothing is left
model=$QUERN_SOURCE/models/tiny-books-q8_0.gguf
count=30000
{
    printf 'QLOG\060\165\000\000\001\000\000\000'
    head -c $((count * 8)) /dev/zero
} >"$work/many.logits"
for signal in TERM HUP; do
    # what runs under nohup ignores SIGHUP, and so does all that it starts
    if sh -c "kill -$signal \$\$" 2>/dev/null; then
        skip "SIG$signal ends it" "it is ignored here, as by nohup"
        continue
    fi
    "$QUERN" logits "$model" --tokens "$work/many.logits" -o "$work/ended.logits" >"$out" 2>"$err" </dev/null &
    tries=0
    # it is at work once the warning about its context is there
    while ! said 'context of 30000' && [ $tries -lt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    sleep 0.3
    kill -$signal $! 2>/dev/null
    wait $! 2>/dev/null
    status=$?
    left=$(find "$work" -name 'ended.logits*' | wc -l)
    check "SIG$signal ends it (status $status) and leaves nothing" test "$status" -gt 128 -a "$left" -eq 0
done
tap_done
