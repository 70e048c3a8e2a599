#!/bin/sh
# SPDX-License-Identifier: MIT
# Who may include what (docs/architecture.md): checked for every C file of the tree, and on planted offences, so that the check
# itself is known to see them.
QUERN=true
. "$QUERN_SOURCE/tests/tap.sh"

# offences ROOT: a line for each include that breaks the rule
offences()
{
    (cd "$1" && find include kernels backends plugins core engine cli -name '*.[ch]' 2>/dev/null | sort | xargs -r awk '
        function offence(why) { print FILENAME ":" FNR ": " why ": " $0 }
        FNR == 1 { split(FILENAME, part, "/"); top = part[1]; own = part[1] "/" part[2] "/" }
        !/^[ \t]*#[ \t]*include/ { next }
        {
            line = $0
            sub(/^[ \t]*#[ \t]*include[ \t]*/, "", line)
            quoted = substr(line, 1, 1) == "\""
            name = line
            sub(/^["<]/, "", name)
            sub(/[">].*/, "", name)
            public = name ~ /^quern\//
        }
        !quoted && name ~ /^(hwloc|cuda|nvml|volk|vulkan|CL|hip|level_zero)/ {
            if (!(FILENAME == "core/topology.c" && name ~ /^hwloc/) && top != "backends") offence("a vendor or hwloc header")
        }
        !quoted && name ~ /^pcre2/ && FILENAME != "engine/pretokenizer.c" { offence("PCRE2 outside the pre-tokenizer") }
        quoted && name !~ /\// { offence("not written from the root"); next }
        quoted && public { offence("public headers go in <>"); next }
        FILENAME == "include/quern/plugin.h" { if (name != "stdint.h" && name != "stddef.h") offence("plugin.h stands alone"); next }
        top == "include" { if (quoted) offence("public headers know only each other"); next }
        public && (top == "kernels" || top == "backends" || top == "plugins") { if (name != "quern/plugin.h") offence("only plugin.h"); next }
        !quoted { next }
        top == "kernels" { if (name !~ /^kernels\//) offence("kernels know only kernels"); next }
        top == "backends" { if (name !~ /^kernels\// && index(name, own) != 1) offence("backends know kernels and themselves"); next }
        top == "plugins" { backend = own; sub(/^plugins/, "backends", backend)
                           if (index(name, backend) != 1 && index(name, own) != 1) offence("a plugin knows its backend"); next }
        index(name, top "/") != 1 { offence(top " knows public headers and itself") }
    ')
}

# plant FILE LINE WHY: a tree with this one offence
plant()
{
    rm -rf "$work/tree"
    mkdir -p "$work/tree/$(dirname "$1")"
    printf '/* a file */\n%s\n' "$2" >"$work/tree/$1"
    offences "$work/tree" >"$out"
    check "sees an offence: $1 $2" test -s "$out"
}

allow()
{
    rm -rf "$work/tree"
    mkdir -p "$work/tree/$(dirname "$1")"
    printf '%s\n' "$2" >"$work/tree/$1"
    offences "$work/tree" >"$out"
    check "allows: $1 $2" test ! -s "$out"
}

plant include/quern/plugin.h '#include <stdio.h>'
plant engine/tokenizer_bpe.c '#include <pcre2.h>'
allow engine/pretokenizer.c '#include <pcre2.h>'
plant include/quern/status.h '#include "core/status.h"'
plant kernels/ref/a.c '#include <quern/device.h>'
plant kernels/cpu/a.c '#include "core/arena.h"'
plant backends/cpu/a.c '#include <quern/status.h>'
plant backends/cpu/a.c '#include "backends/null/device.h"'
plant plugins/cpu/entry.c '#include "kernels/ref/ref.h"'
plant plugins/cpu/entry.c '#include "backends/null/device.h"'
plant core/loader.c '#include "engine/gguf.h"'
plant core/loader.c '#include <hwloc.h>'
plant core/loader.c '  #  include <vulkan/vulkan.h>'
plant core/loader.c '#include "loader.h"'
plant engine/model.c '#include "core/arena.h"'
plant engine/model.c '#include "kernels/common/formats.h"'
plant cli/main.c '#include "engine/gguf.h"'
plant cli/main.c '#include "quern/engine.h"'
allow core/topology.c '#include <hwloc.h>'
allow core/loader.c '#include "core/loader.h"'
allow backends/cpu/a.c '#include "kernels/cpu/kernels.h"'
allow plugins/cpu/entry.c '#include "backends/cpu/device.h"'
allow cli/main.c '#include <quern/engine.h>'

for top in include kernels backends plugins core engine cli; do
    offences "$QUERN_SOURCE" | grep "^$top/" >"$out"
    [ -s "$out" ] && sed 's/^/# /' "$out"
    check "$top/ includes only what it may" test ! -s "$out"
done
tap_done
