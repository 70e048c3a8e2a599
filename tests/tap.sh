# SPDX-License-Identifier: MIT
# tests/tap.sh: the Test Anything Protocol for tests in POSIX sh. Source it; end with `tap_done`.
#
#   run devices --json           runs $QUERN: $status, and the files $out and $err
#   is 0 "devices works"         one point: the status was 0
#   check "says why" said 'no file'

tap_count=0
tap_failed=0
work=$(mktemp -d "${TMPDIR:-/tmp}/quern-test-XXXXXX") || exit 99
trap 'rm -rf "$work"' EXIT
trap 'exit 99' INT TERM HUP
out=$work/out
err=$work/err
status=0

# result TEXT: one point, of the status of the command before
point()
{
    result=$1
    shift
    tap_count=$((tap_count + 1))
    if [ "$result" -eq 0 ]; then
        echo "ok $tap_count - $*"
    else
        tap_failed=$((tap_failed + 1))
        echo "not ok $tap_count - $*"
        echo "# exit status $status, stderr:"
        [ -f "$err" ] && head -n 5 "$err" | sed 's/^/# /'
        echo "# stdout:"
        [ -f "$out" ] && head -n 5 "$out" | cut -c 1-300 | sed 's/^/# /'
    fi
    return 0
}

# check TEXT COMMAND…: one point, passed when the command succeeds
check()
{
    check_text=$1
    shift
    if "$@"; then point 0 "$check_text"; else point 1 "$check_text"; fi
}

skip()
{
    tap_count=$((tap_count + 1))
    echo "ok $tap_count - $1 # SKIP $2"
}

skip_all()
{
    echo "1..0 # SKIP $1"
    exit 0
}

tap_done()
{
    echo "1..$tap_count"
    [ "$tap_failed" -eq 0 ]
    exit $?
}

run()
{
    "$QUERN" "$@" >"$out" 2>"$err" </dev/null
    status=$?
}

# terminated ARGUMENTS…: runs $QUERN until it has written some text, then ends it by SIGTERM
terminated()
{
    : >"$out" # what the run before left there is not its text
    "$QUERN" "$@" >"$out" 2>"$err" </dev/null &
    tries=0
    while [ "$(wc -c <"$out")" -lt 40 ] && [ $tries -lt 600 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    kill -TERM $!
    wait $!
    status=$?
}

# is STATUS TEXT
is()
{
    check "$2" test "$status" -eq "$1"
}

said() { grep -q -e "$1" "$err"; }
printed() { grep -q -e "$1" "$out"; }
silent() { [ ! -s "$out" ]; }
one_line() { [ "$(wc -l <"$err")" -eq 1 ]; }
contains() { case $(cat "$1") in *"$2"*) return 0 ;; esac; return 1; }

# Status 1, one line that matches, nothing on stdout: fails_with PATTERN TEXT
fails_with()
{
    if [ "$status" -eq 1 ] && one_line && said "$1" && silent; then point 0 "$2"; else point 1 "$2"; fi
}

fixture()
{
    [ -n "${QUERN_FIXTURES:-}" ] && [ -r "$QUERN_FIXTURES/$1" ]
}
