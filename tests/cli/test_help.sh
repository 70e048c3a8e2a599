#!/bin/sh
# SPDX-License-Identifier: MIT
# Help that teaches, and usage errors that name the option, the value and what is allowed, with exit status 2.
. "$QUERN_SOURCE/tests/tap.sh"
commands="run chat devices inspect tokenize logits perplexity quantize selftest"

usage_error()
{
    if [ "$status" -eq 2 ] && one_line && said "$1" && silent; then point 0 "$2"; else point 1 "$2"; fi
}

run --version
is 0 "--version"
check "--version tells one" printed '^quern [0-9][0-9.]*$'
run --help
is 0 "--help"
for command in $commands; do
    check "--help lists $command" printed "^  $command "
done
run help
is 0 "help without a word"
for command in $commands; do
    run "$command" --help
    is 0 "$command --help"
    check "$command --help has usage, options and examples" sh -c 'grep -q "^usage: quern $1" "$2" && grep -q ^Options: "$2" && grep -q -A9 ^Examples: "$2"' x "$command" "$out"
    cp "$out" "$work/first"
    run help "$command"
    check "help $command is the same page" cmp -s "$out" "$work/first"
done
run run --help
for option in temp top-k top-p min-p seed ctx kv-type device threads strict json; do
    check "run --help explains --$option" printed "^  .*--$option"
done

run
usage_error 'quern --help' "no command"
run rum
usage_error "did you mean 'run'" "a command mistyped"
run frobnicate
usage_error "no command 'frobnicate'" "a command that does not exist"
run help frobnicate
usage_error "no command 'frobnicate'" "help for a command that does not exist"
run --frobnicate
usage_error '--frobnicate' "an option in place of a command"
run run --tmep 1
usage_error '--tmep.*did you mean --temp' "an option mistyped"
run run -Z
usage_error '-Z' "a letter that does not exist"
run run -p
usage_error '-p needs a value' "a value missing at the end"
run run --seed
usage_error '--seed needs a value' "a long option's value missing"
run run --json=1
usage_error '--json takes no value' "a value for a flag"
run run one.gguf two.gguf
usage_error "'two.gguf' is one argument too many" "too many operands"
run inspect
usage_error 'MODEL is missing' "an operand missing"
run quantize in.gguf out.gguf
usage_error 'TYPE is missing' "the third operand missing"
run run -n -1
usage_error "-n cannot be '-1': it takes a whole number from 0" "-n -1"
run run --tokens=-1
usage_error "--tokens cannot be '-1'" "--tokens=-1"
run run -n 99999999999999999999
usage_error "-n cannot be" "-n too large for any number"
run run -n ""
usage_error "-n cannot be ''" "-n with an empty value"
run run --ctx 0
usage_error "--ctx cannot be '0': it takes a whole number from 1 to" "--ctx 0"
run run --ctx 16X
usage_error "--ctx cannot be '16X'" "--ctx 16X"
run run --threads 100000
usage_error "--threads cannot be '100000': it takes a whole number from 1 to 1024" "--threads 100000"
run run --threads 0
usage_error "--threads cannot be '0'" "--threads 0"
run run --temp nan
usage_error "--temp cannot be 'nan'" "--temp nan"
run run --temp=-0.5
usage_error "--temp cannot be '-0.5': it takes a number from 0 to 100" "--temp below 0"
run run --top-p 1.5
usage_error "--top-p cannot be '1.5': it takes a number from 1e-06 to 1" "--top-p above 1"
run run --kv-type q9
usage_error "--kv-type cannot be 'q9': it takes one of f32 f16 bf16 q8_0" "--kv-type q9"
run run -p a -f b
usage_error '-p and -f' "two prompts"
run perplexity model.gguf
usage_error '-f FILE is missing' "perplexity without a text"
run logits model.gguf -o x
usage_error '--tokens' "logits without tokens"
run logits model.gguf --tokens x
usage_error '-o' "logits without an output"
run devices --probe-timeout 0
usage_error "--probe-timeout cannot be '0'" "a probe timeout of 0"
tap_done
