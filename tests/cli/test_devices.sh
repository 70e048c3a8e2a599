#!/bin/sh
# SPDX-License-Identifier: MIT
# quern devices: what is there, and that no plugin can keep it from saying so.
. "$QUERN_SOURCE/tests/tap.sh"
run devices
is 0 "devices"
check "lists the CPU" printed '^  cpu  '
check "with its memory" printed '^    memory '
check "and the machine" printed '^Machine:'
run devices --json
is 0 "--json"
check "is one JSON object" "$TOOLS/json_check" "$out" devices.0.id devices.0.backend devices.0.memory.0.size plugins_not_loaded machine.memory.available \
    machine.packages.0.cores machine.cores machine.pci machine.numa.0.memory

# one folder with all that can go wrong
echo "not a shared object" >"$PLUGINS/quern_text.so"
: >"$PLUGINS/quern_empty.so"
start=$(date +%s%N)
QUERN_PLUGIN_PATH=$PLUGINS "$QUERN" devices --probe-timeout 2000 >"$out" 2>"$err"
status=$?
took=$((($(date +%s%N) - start) / 1000000))
is 0 "devices with hostile plugins"
echo "# took $took ms"
limit=3000
[ -n "${QUERN_SANITIZED:-}" ] && limit=9000
check "within 3 s of a 2 s limit" test "$took" -lt "$limit"
check "still lists the CPU" printed '^  cpu  '
for plugin in trap hang exit symbol magic major refuse text empty; do
    check "says why $plugin did not load" printed "^  $plugin  ..*"
done
check "a crash by its signal" sh -c 'grep "^  trap  " "$1" | grep -qi "signal\|SIGSEGV\|segmentation"' x "$out"
check "a hang by its time" sh -c 'grep "^  hang  " "$1" | grep -q "2000\|2 s\|2\.0"' x "$out"
check "a refusal in the plugin's words" printed '^  refuse  .*no millstone was found'
QUERN_PLUGIN_PATH=$PLUGINS "$QUERN" devices --json --probe-timeout 500 >"$out" 2>"$err"
check "the same as JSON" "$TOOLS/json_check" "$out" plugins_not_loaded.8.reason
QUERN_PLUGIN_PATH=$PLUGINS "$QUERN" run --device trap -p a -n 1 >"$out" 2>"$err" </dev/null
status=$?
fails_with 'trap' "running on a plugin that crashes"
run devices --probe-timeout 5000
is 0 "a longer limit"

# other machines, saved by lstopo or described
HWLOC_SYNTHETIC='Package:2 NUMANode:1 Core:4 PU:2' HWLOC_THISSYSTEM=0 "$QUERN" devices --json >"$out" 2>"$err"
status=$?
is 0 "a described machine of two packages"
check "has them" "$TOOLS/json_check" "$out" machine.packages.1.cores=4 machine.cores=8 machine.numa.1.node=1
tap_done
