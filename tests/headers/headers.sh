#!/bin/sh
# SPDX-License-Identifier: MIT
# Each public header compiles alone, twice in a row, as C11, C17 and C++17, without a warning. $CC and $CXX ("" when there is none).
QUERN=true
. "$QUERN_SOURCE/tests/tap.sh"
warnings="-Wall -Wextra -Wpedantic -Werror"

compiles()
{
    # shellcheck disable=SC2086 # $1 may be several words: ccache gcc
    $1 $warnings "-std=$2" -x "$3" -fsyntax-only -I"$QUERN_SOURCE/include" "$4" 2>"$err"
}

for header in "$QUERN_SOURCE"/include/quern/*.h; do
    name=quern/$(basename "$header")
    printf '#include <%s>\n#include <%s>\nextern int used;\nint used;\n' "$name" "$name" >"$work/one.c"
    check "$name alone as C11" compiles "$CC" c11 c "$work/one.c"
    check "$name alone as C17" compiles "$CC" c17 c "$work/one.c"
    if [ -n "$CXX" ]; then
        check "$name alone as C++17" compiles "$CXX" c++17 c++ "$work/one.c"
    else
        skip "$name alone as C++17" "no C++ compiler here"
    fi
done
tap_done
