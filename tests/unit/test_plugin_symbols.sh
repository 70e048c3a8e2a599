#!/bin/sh
# SPDX-License-Identifier: MIT
# Each plugin named shows one symbol, imports the C library (libc, libm) and nothing else, calls nothing that ends the process, and
# runs no code when it is loaded. Speaks TAP.
nm=${NM:-nm}
readelf=${READELF:-readelf}
count=0
failed=0

point() { # passed? words
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
        failed=1
    fi
}

none() { # what should be an empty list, words
    [ -z "$1" ]
    point $? "$2${1:+: $1}"
}

if ! command -v "$nm" >/dev/null || ! command -v "$readelf" >/dev/null; then
    echo "1..0 # SKIP nm and readelf are needed (binutils)"
    exit 0
fi

for plugin in "$@"; do
    name=$(basename "$plugin")
    shown=$("$nm" -D --defined-only "$plugin" | awk '{ print $NF }' | tr '\n' ' ')
    [ "$shown" = "quern_plugin " ]
    point $? "$name shows quern_plugin alone ($shown)"

    imports=$("$nm" -D --undefined-only "$plugin" | awk '{ print $(NF - 1), $NF }')
    # weak ones that every object made by a C compiler has
    strange=$(echo "$imports" | grep -vE '^U [A-Za-z0-9_]+@GLIBC_[0-9.]+$' |
        grep -vE '^w (_ITM_(de)?registerTMCloneTable|__gmon_start__|__cxa_finalize(@GLIBC_[0-9.]+)?)$' | awk '{ print $2 }' | tr '\n' ' ')
    none "$strange" "$name imports nothing but the C library"

    ends=$(echo "$imports" | sed 's/@.*//' |
        grep -E '^U (abort|exit|_exit|_Exit|quick_exit|raise|kill|pthread_kill|signal|sigaction|__assert_fail|system|fork|longjmp)$' | awk '{ print $2 }' | tr '\n' ' ')
    none "$ends" "$name calls nothing that ends the process or changes its signals"

    needed=$("$readelf" -dW "$plugin" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' | grep -vE '^(libc|libm|libpthread|libdl|ld-linux[-a-z0-9_]*)\.so' | tr '\n' ' ')
    none "$needed" "$name needs no library but the C library's"

    # the one entry that the compiler's own start files make
    size=$("$readelf" -SW "$plugin" | sed 's/\[ *[0-9]*\]//' | awk '$1 == ".init_array" { print $5 }')
    [ -z "$size" ] || [ $((0x$size)) -le 8 ]
    point $? "$name has no constructors"
done
echo "1..$count"
exit $failed
