#!/bin/sh
# SPDX-License-Identifier: MIT
# A driver that makes something wrong of a kernel: found at first use, named, replaced by the next best, remembered.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
need_vulkan explain "$model" --device vulkan --variant lanes
use_layer
unset QUERN_VULKAN_SELF_TEST QUERN_VK_COUNTS
XDG_CACHE_HOME=$work/cache
export XDG_CACHE_HOME
subgroups=CreateShaderModule:0:break=345 # kernels with OpGroupNonUniformShuffle: invocations hand values around
all=CreateShaderModule:0:break

# with FAULT COMMAND…
with()
{
    QUERN_VK_FAULT=$1
    export QUERN_VK_FAULT
    shift
    run "$@"
    unset QUERN_VK_FAULT
}
generate() { with "$1" run "$model" -p "It was a dark night, and" -n 24 --temp 0 --device vulkan --variant lanes --ctx 256 --chunk 64; }
look() { with "$1" explain "$model" --device vulkan --variant lanes --ctx 256 --chunk 64; }
lanes() { printed '  matmul_q8_0.lanes$'; }
warnings() { grep -c 'fails its test' "$err"; }
tests() { find "$XDG_CACHE_HOME/quern" -name 'vulkan-*.tests'; }

# a sound driver
generate ""
is 0 "a sound driver"
check "says nothing of kernels" test "$(warnings)" -eq 0
cp "$out" "$work/text"
check "what was found is kept" test -s "$(tests)"
look "$all"
check "and believed in the next run: no kernel is tested again" lanes

# one that breaks a variant
rm -rf "$XDG_CACHE_HOME/quern"
QUERN_VK_COUNTS=$work/counts
export QUERN_VK_COUNTS
generate "$subgroups"
unset QUERN_VK_COUNTS
is 0 "a broken variant: the answer comes all the same"
check "and is right" cmp -s "$out" "$work/text"
check "the variant is named, with device, driver and what replaces it" said \
    'warning: vulkan: the kernel matmul_q8_0.lanes fails its test on .*driver .*NMSE.*plain takes its place'
check "once" test "$(grep -c 'matmul_q8_0.lanes fails its test' "$err")" -eq 1
check "of the tests and of the run nothing is left" sh -c \
    'grep -q "^Memory made [1-9]" "$1" && ! grep " live " "$1" | grep -v " live 0$"' x "$work/counts"
generate ""
check "the next run says so again" said 'matmul_q8_0.lanes fails its test .*found earlier'
check "once" test "$(grep -c 'matmul_q8_0.lanes fails its test' "$err")" -eq 1
check "and is right" cmp -s "$out" "$work/text"
look "$all"
check "nothing is tested again" test "$(warnings)" -eq "$(grep -c 'found earlier' "$err")"
check "the variant is not used, though it would be right now" sh -c '! grep -q "  matmul_q8_0.lanes$" "$1"' x "$out"
check "explain says why" printed 'not quicker: .*lanes: it fails its test on this device'

# asked to, it looks again, and remembers
cp "$(tests)" "$work/kept"
QUERN_VULKAN_SELF_TEST=always
export QUERN_VULKAN_SELF_TEST
look ""
check "always: a mended driver gets its kernels back" lanes
unset QUERN_VULKAN_SELF_TEST
look "$all"
check "also in the runs after it" lanes
QUERN_VULKAN_SELF_TEST=off
export QUERN_VULKAN_SELF_TEST
cp "$work/kept" "$(tests)"
look ""
check "off: nothing is believed and nothing tested" lanes
unset QUERN_VULKAN_SELF_TEST

# files that are no good are as none
# worthless TEXT
worthless()
{
    look ""
    is 0 "$1"
    check "$1: kernels are tested, and right" lanes
}
file=$(tests)
look ""
check "(the file says that a variant is broken)" sh -c '! grep -q "  matmul_q8_0.lanes$" "$1"' x "$out"
printf 'x' | dd of="$file" bs=1 seek=500 conv=notrunc 2>/dev/null
worthless "a file with a wrong byte"
: >"$file"
worthless "an empty file"
head -c 200 "$work/kept" >"$file"
worthless "half a file"
cp "$work/kept" "$file"
printf 'somebody' | dd of="$file" bs=1 seek=8 conv=notrunc 2>/dev/null
worthless "a file of another device or driver"
rm -f "$file"
mkdir "$file"
worthless "a folder in its place"
rmdir "$file"
XDG_CACHE_HOME=/proc/nowhere
worthless "a folder that cannot be written"
XDG_CACHE_HOME=$work/cache

# two at once
rm -rf "$XDG_CACHE_HOME/quern"
"$QUERN" explain "$model" --device vulkan --variant lanes --ctx 256 --chunk 64 >"$work/one" 2>&1 &
look ""
wait $!
is 0 "two at once"
check "see the same" cmp -s "$out" "$work/one"
look "$all"
check "and leave what the next can read" lanes
check "in one file" test "$(find "$XDG_CACHE_HOME/quern" -name '*.tests*' | wc -l)" -eq 1

# all variants of a kernel by hand
rm -rf "$XDG_CACHE_HOME/quern"
generate "$subgroups"
run selftest --device vulkan --kernels --only matmul_q8_0.lanes
is 0 "selftest --kernels: a mended driver"
check "names what it tests" printed '^ok  *matmul_q8_0.lanes'
look "$all"
check "and what was found holds from then on" lanes
with "$subgroups" selftest --device vulkan --kernels --only matmul_q8_0. --json
is 1 "selftest --kernels: a driver that breaks a variant"
check "says which" "$TOOLS/json_check" "$out" device=vulkan untested=0 ok not_ok kernels.0.kernel
check "and why" printed 'NMSE'
run selftest --device vulkan --kernels --only none-such
is 1 "kernels that are not there"
check "nothing was tested" said "no kernel whose name contains 'none-such'"
run selftest --device cpu --kernels
fails_with 'has no tests of single kernels' "a device whose plugin has no such tests"

# nothing to put in its place
rm -rf "$XDG_CACHE_HOME/quern"
look "$all"
check "plain broken: refused in words" printed 'matmul: the kernel matmul_q8_0.plain fails its test on .*, driver .*NMSE'
check "which takes no warning" test "$(warnings)" -eq 0
with "$all" explain "$model" --device vulkan --variant lanes --strict
is 1 "--strict"
generate "$all"
fails_with 'the kernel .*plain fails its test on' "nor does it generate"

# packing by the device, on a card whose memory the host cannot see
QUERN_VULKAN_STAGED=1
export QUERN_VULKAN_STAGED
rm -rf "$XDG_CACHE_HOME/quern"
generate CreateShaderModule:0:break-bits
is 0 "packing is broken: the answer comes all the same"
check "and is right" cmp -s "$out" "$work/text"
check "it is named, and what replaces it" said 'the kernel pack_q8_0 fails its test on .*wrong result: byte.*; the host takes its place'
check "and held against no other kernel that reads weights" sh -c '! grep "fails its test" "$1" | grep -q "matmul\|get_rows"' x "$err"
run selftest --device vulkan --kernels --only pack_
is 0 "selftest --kernels: a mended driver"
check "tests it for each format" test "$(grep -c '^ok  *pack_' "$out")" -gt 20
generate ""
check "and what was found holds from then on" test "$(warnings)" -eq 0
rm -rf "$XDG_CACHE_HOME/quern"
look QueueSubmit:1:lost
check "lost while a test's tensors go up: held against no kernel" test "$(warnings)" -eq 0
unset QUERN_VULKAN_STAGED

# a driver that does not compile; one that loses the device; one without memory
rm -rf "$XDG_CACHE_HOME/quern"
look CreateComputePipelines:0:failed
check "not compiled: refused in words" printed 'the driver does not take it: .*compiling the kernel'
rm -rf "$XDG_CACHE_HOME/quern"
look QueueSubmit:1:lost
check "lost while it is tested: refused in words" printed 'the device is lost while it runs'
with "" explain "$model" --device vulkan --variant lanes --strict
is 0 "but that is not held against a kernel that has no other"
check "only against one that has" said 'matmul_q8_0.lanes fails its test.*the device is lost.*plain takes its place'
rm -rf "$XDG_CACHE_HOME/quern"
look AllocateMemory:0:oom
is 0 "no memory to test"
check "no verdict" lanes
check "and no warning" test "$(warnings)" -eq 0
tap_done
