#!/bin/sh
# SPDX-License-Identifier: MIT
# The installed package as a user meets it: the program, pkg-config, and docs/examples built with nothing else. PREFIX is where it was
# installed; not part of `meson test`, which knows no installed package.
QUERN=$PREFIX/bin/quern
. "$QUERN_SOURCE/tests/tap.sh"
PKG_CONFIG_PATH=$(dirname "$(find "$PREFIX" -name quern.pc)")
LD_LIBRARY_PATH=$(dirname "$(find "$PREFIX" -name libquern.so | head -n 1)")
export PKG_CONFIG_PATH LD_LIBRARY_PATH
plugins=$(dirname "$(find "$PREFIX" -name quern_cpu.so)")
model=$(find "$PREFIX" -name tiny-books-q8_0.gguf)

run devices
check "the installed quern lists the CPU" printed '^  cpu  '
run run -p "It was a dark night, and" -n 12 --temp 0
check "finds its default model and speaks" contains "$out" ' the sun was still in the sunlight.'
check "pkg-config knows quern" pkg-config --exists quern
check "and quern-engine" pkg-config --exists quern-engine

# example NAME PACKAGE ARGUMENTS…
example()
{
    name=$1
    # shellcheck disable=SC2046 # words of flags
    ${CC:-cc} -std=c17 -Wall -Wextra -Wpedantic -Werror "$QUERN_SOURCE/docs/examples/$name.c" $(pkg-config --cflags --libs "$2") -lm -ldl \
        -o "$work/$name" >"$out" 2>"$err"
    status=$?
    is 0 "docs/examples/$name.c builds against $2"
    shift 2
    "$work/$name" "$@" >"$out" 2>"$err"
    status=$?
    is 0 "and runs"
}

example matmul quern
check "lists a device" printed '^device cpu'
check "and computes rightly" printed 'right$'
example generate quern-engine "$model" "It was a dark night, and" 12
check "and speaks" contains "$out" ' the sun was still in the sunlight.'

# plugin.h alone: its folder is all of the package that this one may see
# shellcheck disable=SC2046
${CC:-cc} -std=c17 -Wall -Wextra -Wpedantic -Werror "$QUERN_SOURCE/docs/examples/plugin.c" $(pkg-config --cflags quern) -ldl -o "$work/plugin" \
    >"$out" 2>"$err"
status=$?
is 0 "docs/examples/plugin.c builds with no library of ours"
(unset LD_LIBRARY_PATH && "$work/plugin" "$plugins/quern_cpu.so") >"$out" 2>"$err"
status=$?
is 0 "and runs"
check "one op, rightly" printed 'a + b: 0 of 32 wrong'

for plugin in "$plugins"/quern_*.so; do
    name=$(basename "$plugin")
    exported=$(nm -D --defined-only "$plugin" | awk '{print $3}' | tr '\n' ' ')
    echo "# $name exports $exported"
    check "$name exports one symbol" test "$exported" = "quern_plugin "
    nm -D --undefined-only "$plugin" | awk '{print $2}' | grep -E '^(quern|qp|qi|qk|hwloc|json)_' >"$out"
    check "$name imports nothing of ours" test ! -s "$out"
    check "$name needs the C library alone" sh -c '! objdump -p "$1" | grep NEEDED | grep -Ev "lib(c|m|dl|pthread|gcc_s)\.so|ld-linux"' x "$plugin"
done

# moved to another folder it still works
mkdir "$work/moved"
cp -a "$PREFIX/." "$work/moved/"
mv "$PREFIX" "$PREFIX.away"
env -u LD_LIBRARY_PATH "$work/moved/bin/quern" run -p "It was a dark night, and" -n 12 --temp 0 >"$out" 2>"$err" </dev/null
status=$?
mv "$PREFIX.away" "$PREFIX"
is 0 "an installation that was moved works"
check "and speaks" contains "$out" ' the sun was still in the sunlight.'
tap_done
