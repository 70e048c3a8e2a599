#!/bin/sh
# SPDX-License-Identifier: MIT
# docs/support.md says what the devices say.
. "$QUERN_SOURCE/tests/tap.sh"
page=$QUERN_SOURCE/docs/support.md
references=$QUERN_SOURCE/tests/engine/references

# part NAME: of the page
part() { sed -n "/^<!-- $1 -->\$/,/^<!-- end -->\$/p" "$page" | sed '1d;$d'; }

# same NAME COMMAND…
same()
{
    name=$1
    shift
    part "$name" >"$work/page"
    "$@" >"$out" 2>"$err"
    check "docs/support.md is true for $name: if not, run ninja -C build support-md" cmp -s "$work/page" "$out"
    cmp -s "$work/page" "$out" || diff "$work/page" "$out" | head -n 20 | sed 's/^/# /'
}

same cpu "$SUPPORT" cpu "$references" generic
same kernels "$SUPPORT" --kernels
check "the page lists every architecture's row" test "$(part cpu | grep -c '^| [a-z0-9_-]* | .* | yes |$')" -ge 10
if "$SUPPORT" vulkan "$references" >"$out" 2>"$err" && "$SUPPORT" --name vulkan 2>/dev/null | grep -q llvmpipe; then
    same vulkan "$SUPPORT" vulkan "$references"
else
    skip "docs/support.md is true for vulkan" "no llvmpipe device here"
fi
tap_done
