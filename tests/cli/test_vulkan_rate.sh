#!/bin/sh
# SPDX-License-Identifier: MIT
# How fast a Vulkan device is, is measured once and kept; a slower one gets its work in more and smaller submissions, and the same text
# comes out.
. "$QUERN_SOURCE/tests/tap.sh"
. "$QUERN_SOURCE/tests/cli/vulkan_layer.sh"
need_layer
need_vulkan run "$model" -p "It was" -n 1 --temp 0 --device vulkan
use_layer
unset QUERN_VULKAN_SELF_TEST
QUERN_LOG=info
export QUERN_LOG

# timed CACHE FAULT TEXT: runs with this folder for what is kept; $submitted: submissions of the run, and of what was measured before
timed()
{
    rm -f "$work/counts"
    XDG_CACHE_HOME=$work/$1 QUERN_VK_FAULT=$2 "$QUERN" run "$model" -p "It was a" -n 4 --temp 0 --device vulkan --ctx 64 --chunk 1 \
        --max-submit-ms 100 >"$work/$3" 2>"$err"
    status=$?
    submitted=$(sed -n 's/^Submission made \([0-9]*\) .*/\1/p' "$work/counts" | tail -n 1)
}

timed quick "" plain
is 0 "the first run on a device"
check "measures" said 'measured [0-9]* million multiply-adds a second'
timed quick "" text
is 0 "the second"
check "does not" sh -c '! grep -q "measured" "$1"' x "$err"
check "and says the same" cmp -s "$work/plain" "$work/text"
quick=$submitted
timed slow WaitSemaphores:0:slow=100 text
is 0 "the first run on a device whose waits take 100 ms more"
check "measures" said 'measured [0-9]* million multiply-adds a second'
check "and says the same" cmp -s "$work/plain" "$work/text"
timed slow "" text
is 0 "afterwards"
check "work is cut smaller: $submitted submissions, not $quick" test "$submitted" -gt "$quick"
check "and the text is the same" cmp -s "$work/plain" "$work/text"
for file in "$work"/slow/quern/*.rate; do
    printf 'damaged' >"$file"
done
timed slow "" text
is 0 "a file that is damaged"
check "is as good as none" said 'measured [0-9]* million multiply-adds a second'
timed none QueueSubmit:0:slow=20 text
is 0 "slow submissions"
check "the same text" cmp -s "$work/plain" "$work/text"
tap_done
