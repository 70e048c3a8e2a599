#!/bin/sh
# SPDX-License-Identifier: MIT
# bootstrap.sh: from a bare machine to a model that speaks. See --help.
set -eu
cd "$(dirname "$0")"
build=${QUERN_BUILD:-build}
log=$build/bootstrap.log

usage()
{
    cat <<'END'
usage: ./bootstrap.sh COMMAND

  deps          install what is needed to build (Debian and Ubuntu, by apt; elsewhere it says what to install)
  deps --ci     and what .ci/run needs beside that: clang, a C++ compiler, the cross compiler and emulator for ARM
  build         compile into build/
  run [ARGS…]   all of that, then let the model that comes with quern speak (ARGS go to `quern run`)
  test          all of that, then run the tests; ends in a line "N passed, N failed"

Each one does what is still to do of those before it. Environment: QUERN_BUILD (the build folder; default build), CC.
END
}

say()
{
    printf 'quern: %s\n' "$*" >&2
}

fail()
{
    say "$@"
    exit 1
}

# quietly WORDS COMMAND…: shows the command's output only when it fails
quietly()
{
    say "$1 …"
    shift
    mkdir -p "$build"
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        fail "failed: $* (all of its output is in $log)"
    fi
}

have()
{
    command -v "$1" >/dev/null 2>&1
}

# What is missing, in words; nothing when all is there.
missing()
{
    have "${CC:-cc}" || have gcc || have clang || echo "a C compiler (gcc or clang)"
    have meson || echo "meson (1.0 or newer)"
    have ninja || echo "ninja"
    have pkg-config || echo "pkg-config"
    if have pkg-config; then
        pkg-config --exists 'hwloc >= 2.4' || echo "hwloc 2.4 or newer, with its headers"
        pkg-config --exists json-c || echo "json-c, with its headers"
        pkg-config --exists 'libpcre2-8 >= 10.30' || echo "PCRE2 (10.30 or newer), with its headers"
        pkg-config --exists libedit || echo "libedit, with its headers"
    fi
    # the Vulkan plugin is left out without these two, so nothing is asked for where packages cannot be installed by us
    if have apt-get; then
        have glslangValidator || echo "glslangValidator (the Vulkan plugin's kernels)"
        ! have pkg-config || pkg-config --exists vulkan || echo "the Vulkan headers"
    fi
    if have meson; then
        case $(meson --version) in
        0.*) echo "meson 1.0 or newer (here is $(meson --version); pipx install meson gives a new one)" ;;
        esac
    fi
}

missing_for_ci()
{
    have clang || echo "clang"
    have c++ || echo "a C++ compiler"
    have qemu-aarch64 || echo "qemu-user"
    have aarch64-linux-gnu-gcc || echo "gcc-aarch64-linux-gnu"
    have ccache || echo "ccache"
    ls /usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1 || echo "a software Vulkan device (mesa-vulkan-drivers)"
    ls /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json >/dev/null 2>&1 || echo "Vulkan's validation layers"
}

other_systems()
{
    cat >&2 <<'END'
Install these, then run this again:
  Fedora, RHEL     sudo dnf install gcc meson ninja-build pkgconf-pkg-config hwloc-devel json-c-devel pcre2-devel libedit-devel vulkan-loader-devel glslang
  Arch             sudo pacman -S gcc meson ninja pkgconf hwloc json-c pcre2 libedit vulkan-headers vulkan-icd-loader glslang
  openSUSE         sudo zypper install gcc meson ninja pkgconf hwloc-devel libjson-c-devel pcre2-devel libedit-devel vulkan-devel glslang-devel
  Alpine           sudo apk add build-base meson ninja pkgconf hwloc-dev json-c-dev pcre2-dev libedit-dev vulkan-loader-dev glslang linux-headers
  Void             sudo xbps-install gcc meson ninja pkg-config libhwloc-devel json-c-devel pcre2-devel libedit-devel Vulkan-Headers glslang
  NixOS            nix-shell -p gcc meson ninja pkg-config hwloc json_c pcre2 libedit vulkan-headers vulkan-loader glslang
  macOS, Windows   are not supported yet: use a Linux machine, a virtual one or WSL
END
}

# apt as root, by sudo where needed
apt()
{
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive apt-get "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive apt-get "$@"
    fi
}

deps()
{
    packages="gcc libc6-dev meson ninja-build pkg-config libhwloc-dev libjson-c-dev libpcre2-dev libedit-dev libvulkan-dev glslang-tools"
    lack=$(missing)
    if [ "${1:-}" = --ci ]; then
        packages="$packages g++ clang ccache qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross mesa-vulkan-drivers vulkan-validationlayers"
        # libFuzzer and the sanitizers of clang are a package of their own on Debian 12
        if [ -r /etc/os-release ] && grep -q '^VERSION_ID="12"' /etc/os-release; then
            packages="$packages libclang-rt-14-dev"
        fi
        lack=$(missing; missing_for_ci)
    elif [ $# -gt 0 ]; then
        fail "deps takes --ci or nothing, not '$1'"
    fi
    [ -n "$lack" ] || return 0
    say "missing: $(echo "$lack" | tr '\n' ',' | sed 's/,$//; s/,/, /g')"
    if ! have apt-get; then
        other_systems
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! have sudo; then
        fail "installing needs root and there is no sudo here: as root, run: apt-get install $packages"
    fi
    quietly "asking the package archive what there is" apt update
    # shellcheck disable=SC2086 # a list of words
    quietly "installing $packages" apt install -y --no-install-recommends $packages
    lack=$(missing)
    [ -z "$lack" ] || fail "still missing: $(echo "$lack" | tr '\n' ' ')"
}

build()
{
    deps
    if [ ! -f "$build/build.ninja" ]; then
        quietly "configuring" meson setup "$build"
    fi
    quietly "compiling" ninja -C "$build"
}

run()
{
    build
    if [ $# -eq 0 ]; then
        set -- -p "It was a dark night, and" -n 120
        say "the model that comes with quern goes on from: It was a dark night, and"
    fi
    exec "$build/cli/quern" run "$@"
}

run_tests()
{
    build
    say "testing …"
    status=0
    meson test -C "$build" --no-rebuild --quiet --no-suite soak >"$log" 2>&1 || status=$?
    counts=$(sh tools/tap-count.sh "$build/meson-logs/testlog.json")
    echo "$counts" | sed '$d' >&2
    # shellcheck disable=SC2046 # three numbers
    set -- $(echo "$counts" | tail -n 1)
    if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then
        tail -n 40 "$log" >&2
        fail "meson test failed, and no test says why"
    fi
    [ "$3" -eq 0 ] || say "$3 skipped; the reasons are in $build/meson-logs/testlog.txt"
    echo "$1 passed, $2 failed"
    [ "$2" -eq 0 ]
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
deps) deps "$@" && say "all that is needed is here" ;;
build) build && say "built: $build/cli/quern" ;;
run) run "$@" ;;
test) run_tests ;;
-h | --help | help) usage ;;
'') usage >&2 && exit 2 ;;
*) usage >&2 && say "there is no command '$command'" && exit 2 ;;
esac
