#!/bin/sh
# SPDX-License-Identifier: MIT
# quern selftest: the CPU computes every op rightly, in each variant that this machine has.
. "$QUERN_SOURCE/tests/tap.sh"
run selftest --device cpu --json
is 0 "the CPU"
check "is right in all it does" "$TOOLS/json_check" "$out" device=cpu not_ok=0 checks.39.result
check "refuses nothing" "$TOOLS/json_check" "$out" refused=0
run selftest --device cpu --variant ref
is 0 "the reference kernels"
check "say ok" printed '^ok  *matmul Q8_0'
run selftest --device cpu --seed 99
is 0 "another seed"
run selftest --device frobnicator
fails_with 'frobnicator' "a device that is not there"
tap_done
