#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/tap-count.sh LOG.json…: adds up the TAP points in meson's test logs (meson-logs/testlog.json): prints the tests with failed
# points, then "passed failed skipped" as three numbers. A test that crashed, ran out of time or broke off counts as one failed
# point more; a test that skips as a whole counts as one skipped.
exec awk '
function note(what) { print "# " what ": " name }
{
    line = $0
    gsub(/\\\\/, "\002", line)
    gsub(/\\"/, "\001", line)
    name = field(line, "name")
    result = field(line, "result")
    count = split(field(line, "stdout"), rows, /\\n/)
    good = bad = 0
    for (i = 1; i <= count; i++) {
        row = rows[i]
        if (row ~ /^1\.\.0/) skipped++
        else if (row ~ /^(not )?ok .*# *[Ss][Kk][Ii][Pp]/) skipped++
        else if (row ~ /^not ok .*# *[Tt][Oo][Dd][Oo]/) good++
        else if (row ~ /^ok .*# *[Tt][Oo][Dd][Oo]/) { bad++; note("passes but is marked TODO: " row) }
        else if (row ~ /^ok( |$)/) good++
        else if (row ~ /^not ok( |$)/) { bad++; note(row) }
    }
    if (result !~ /^(OK|SKIP|EXPECTEDFAIL)$/ && !bad) {
        bad++
        note("ended with " result)
    }
    passed += good
    failed += bad
}
function field(text, key,    at) {
    at = index(text, "\"" key "\": \"")
    if (!at) return ""
    text = substr(text, at + length(key) + 5)
    return substr(text, 1, index(text, "\"") - 1)
}
END { print passed + 0, failed + 0, skipped + 0 }
' "$@"
