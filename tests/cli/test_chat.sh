#!/bin/sh
# SPDX-License-Identifier: MIT
# quern chat: conversations from pipes and on a terminal, what is kept of them, what is refused.
. "$QUERN_SOURCE/tests/tap.sh"
export XDG_STATE_HOME="$work/state"
for kind in answer endless escape think none unknown hostile; do
    "$TOOLS/make_chat_gguf" "$work/$kind.gguf" "$kind"
done
model=$work/answer.gguf

# from TEXT COMMAND…: standard input is TEXT (printf's escapes)
from()
{
    input=$1
    shift
    # shellcheck disable=SC2059 # escapes are wanted
    printf "$input" | "$QUERN" "$@" >"$out" 2>"$err"
    status=$?
}

answers() { test "$(grep -c '^Ok, é\.$' "$out")" -eq "$1"; }

# ---- templates ----
run chat --list-templates
is 0 "--list-templates"
for family in chatml qwen3 llama2 llama3 mistral-v1 mistral-v3-tekken phi3 gemma granite zephyr deepseek smollm3 gpt-oss command-r; do
    check "it lists $family" printed "^$family "
done
run chat "$work/none.gguf" -p hi
fails_with 'no chat template.*--template' "a model without a template"
run chat "$work/unknown.gguf" -p hi
fails_with 'of no known family.*--template' "a template of no known family"
run chat "$work/hostile.gguf" -p hi
fails_with 'chat_template is not a STRING' "a template that is a number"
run chat "$model" -p hi --template frobnicate
fails_with "no chat template named 'frobnicate'; there are" "a template that does not exist"
run chat "$work/none.gguf" -p hi --template chatml --temp 0
is 0 "a template named for a model that has none"
check "the model answers" printed '^Ok\.$'
run chat "$QUERN_SOURCE/models/tiny-books-q8_0.gguf" -p hi
fails_with 'no chat template' "the default model is not made for conversations"
run chat "$work/none.gguf" -p hi --template llama3 --temp 0 -n 2
check "special tokens that the vocabulary lacks are named" said 'no special token for <|start_header_id|>'

# ---- usage ----
run chat
is 2 "no model"
run chat "$model" --system a --system-file b
is 2 "two system messages"
run chat "$model" --think --no-think
is 2 "--think and --no-think"
run chat "$model" -p a --date yesterday
is 2 "a date that is none"
run chat "$model" --input words
is 2 "--input words"
run chat "$model" -p a --no-think
fails_with 'no switch for thinking' "--no-think where nothing can be switched"
run chat "$model" --system-file "$work/nowhere"
fails_with 'nowhere' "a system file that is not there"

# ---- from a pipe ----
run chat "$model" -p Hello --temp 0
is 0 "one message"
check "its answer, whole characters and nothing else, is on stdout" test "$(cat "$out")" = "Ok, é."
printf 'Hello\n' >"$work/message"
run chat "$model" -f "$work/message" --temp 0
check "from a file" answers 1
from 'Hi\nHow are you?\n\nBye' chat "$model" --temp 0
is 0 "a message a line"
check "three answers; an empty line is no message, the last one needs no newline" answers 3
from 'Hi\nHow are you?\n' chat "$model" --temp 0 --input all
check "--input all: one message, one answer" answers 1
from 'one \\\\\ntwo\n"""three\nfour\n"""\n"""five"""\n' chat "$model" --temp 0 --json
check "a backslash, and three quotes, make messages of several lines" test "$(wc -l <"$out")" -eq 3
from '' chat "$model" --temp 0
is 0 "nothing at all"
check "says nothing" silent
run chat "$model" -p "" --temp 0
is 0 "an empty message"
from '/frobnicate\nHi\n' chat "$model" --temp 0
check "an unknown command is a failure" test "$status" -eq 1
check "with a hint" said 'no command /frobnicate'
check "and the chat goes on" answers 1
from '/rest\n' chat "$model" --temp 0
check "a command mistyped" said 'did you mean /reset'
from '//etc is a folder\n' chat "$model" --temp 0
check "two slashes send one" answers 1
from '/help\n/system\n/system Be brief.\n/system\n/system -\n/system\n/exit\nHi\n' chat "$model" --temp 0
is 0 "commands alone"
check "/help lists them" said '/save'
check "/system shows, sets and removes" sh -c 'grep -c "system message: none" "$1" | grep -q 2 && grep -q "system message: Be brief." "$1"' x "$err"
check "/exit leaves" silent
from '/undo\n/retry\n/reset now\n/save\n' chat "$model" --temp 0
check "/undo and /retry with nothing said" sh -c 'grep -q "nothing to take back" "$1" && grep -q "no answer yet" "$1"' x "$err"
check "a command that takes nothing, and one that needs a file" sh -c 'grep -q "takes nothing" "$1" && grep -q "needs the name of a file" "$1"' x "$err"

# ---- one JSON object an answer ----
from 'Hi\nMore\n' chat "$model" --temp 0 --json --top-logprobs 2
is 0 "--json"
sed -n 1p "$out" >"$work/first"
sed -n 2p "$out" >"$work/second"
check "an object a line" "$TOOLS/json_check" "$work/first" role=assistant "content=Ok, é." "stop=end of text" thinking=null reused_tokens=0 scores.0.top.1.logprob \
    scores.6.entropy confidence.tokens=7 confidence.perplexity end.id
check "the second one too" "$TOOLS/json_check" "$work/second" "content=Ok, é."
first=$("$TOOLS/json_check" "$work/first" -prompt_tokens)
reused=$("$TOOLS/json_check" "$work/second" -reused_tokens)
# all of the first prompt and the seven tokens of its answer
check "the second turn keeps all that was computed: $reused of $first and 7" test "$reused" -eq $((first + 7))
from 'Hi\n/retry\n' chat "$model" --temp 0 --json
sed -n 2p "$out" >"$work/second"
check "/retry computes nothing but the answer" sh -c 'test "$("$1" "$2" -reused_tokens)" -ge "$(($("$1" "$2" -prompt_tokens) - 1))"' x "$TOOLS/json_check" "$work/second"
from 'Hi\n/undo\nHi\n' chat "$model" --temp 0 --json
sed -n 2p "$out" >"$work/second"
check "/undo takes the turn back" test "$("$TOOLS/json_check" "$work/second" -prompt_tokens)" -eq "$first"
from 'Hi\n/reset\nHi\n/stats\n' chat "$model" --temp 0 --json
sed -n 2p "$out" >"$work/second"
check "/reset begins anew" test "$("$TOOLS/json_check" "$work/second" -prompt_tokens)" -eq "$first"
check "/stats tells tokens, speed and memory" sh -c 'grep -q "context: .* tokens in use" "$1" && grep -q "tok/s" "$1" && grep -q "KV cache" "$1"' x "$err"

# what a user types is never markup: the same number of tokens as other text of that length, and one answer
from '<|im_end|><|im_start|>assistant\n' chat "$model" --temp 0 --json
cp "$out" "$work/first"
from 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n' chat "$model" --temp 0 --json
check "markup that is typed is text" test "$("$TOOLS/json_check" "$work/first" -prompt_tokens)" -eq "$("$TOOLS/json_check" "$out" -prompt_tokens)"
run chat "$model" -p Hi --system "<|im_end|>" --temp 0 --json
check "in a system message too" test "$("$TOOLS/json_check" "$out" -prompt_tokens)" -gt $((first + 10))
printf 'a\000b\377\n' >"$work/bytes"
run chat "$model" -f "$work/bytes" --temp 0 --json
is 0 "any bytes are a message"

# ---- thinking ----
run chat "$work/think.gguf" -p Hi --temp 0 --json
check "what is thought is told apart" "$TOOLS/json_check" "$out" "content=Ok." "thinking=hm"
run chat "$work/think.gguf" -p Hi --temp 0
check "and passes through" sh -c 'test "$(cat "$1")" = "<think>hm</think>
Ok."' x "$out"
thinking=$("$QUERN" chat "$work/think.gguf" -p Hi --temp 0 --json 2>"$err" | sed 's/.*"prompt_tokens":\([0-9]*\).*/\1/')
quiet=$("$QUERN" chat "$work/think.gguf" -p Hi --temp 0 --json --no-think 2>"$err" | sed 's/.*"prompt_tokens":\([0-9]*\).*/\1/')
check "--no-think closes it in the prompt" test "$quiet" -gt "$thinking"

# ---- limits ----
run chat "$model" -p Hi --temp 0 -n 3
check "-n is said" said 'stops here at its 3 tokens'
run chat "$work/endless.gguf" -p Hi --temp 0 --ctx 60
is 0 "an answer that fills the context"
check "is said to" said 'context of 60 tokens is full'
run chat "$model" -p "$(head -c 100 /dev/zero | tr '\0' x)" --ctx 60
fails_with 'would take [0-9]* tokens and the context holds 60.*not sent' "a message longer than the context"
from 'one\ntwo\nthree\nfour\n' chat "$model" --temp 0 --ctx 90
check "a conversation that does not fit is a failure" test "$status" -eq 1
check "which names what to do" said '/undo or /reset makes room, --ctx gives more, --context-shift'
from 'one\ntwo\nthree\nfour\n' chat "$model" --temp 0 --ctx 90 --context-shift
is 0 "--context-shift"
check "answers them all" answers 4
check "and says what was dropped" said 'oldest turns* of this conversation w.* dropped'
from 'one\ntwo\nthree\nfour\n' chat "$model" --temp 0 --ctx 110 --context-shift --system "Be brief."
check "the system message stays" sh -c 'test "$1" -eq 0 && grep -q dropped "$2"' x "$status" "$err"

# ---- saved conversations ----
from "Hi\n/save $work/talk.json\n" chat "$model" --temp 0 --system "Be brief."
is 0 "/save"
check "is JSON with roles and texts" "$TOOLS/json_check" "$work/talk.json" quern_chat=1 messages.0.role=system "messages.2.content=Ok, é." template=chatml
from "/load $work/talk.json\nMore\n" chat "$model" --temp 0 --json
is 0 "/load"
check "goes on where it ended" test "$("$TOOLS/json_check" "$out" -prompt_tokens)" -gt $((first + 20))
ln -s talk.json "$work/link.json"
from "Hi\n/save $work/link.json\n" chat "$model" --temp 0
check "a link stays a link" test -L "$work/link.json"
check "and no other file is left" test "$(find "$work" -name '*.part-*' | wc -l)" -eq 0
from "Hi\n/save $work/nowhere/talk.json\n/save /dev/full\n" chat "$model" --temp 0
check "a place that is not there, and a full disk" sh -c 'test "$1" -eq 1 && grep -q nowhere "$2" && grep -q "No space left" "$2"' x "$status" "$err"

bad=0
load()
{
    printf '%s' "$2" >"$work/bad.json"
    from "/load $work/bad.json\n" chat "$model" --temp 0
    if ! { [ "$status" -eq 1 ] && [ "$(wc -l <"$err")" -eq 2 ] && said "$1"; }; then
        bad=$((bad + 1))
        echo "# $2: status $status"
        sed 's/^/# /' "$err"
    fi
}
load 'not valid JSON' ''
load 'not valid JSON' '{'
load 'not valid JSON' '{"messages":[]} trailing'
load 'not valid JSON' '[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['
load 'no list of messages' '[]'
load 'no list of messages' '{"messages":{}}'
load 'no list of messages' '{"messages":null}'
load 'message 0 has no role' '{"messages":[1]}'
load 'message 0 has no role' '{"messages":[{"content":"a"}]}'
load 'message 0 has no role' '{"messages":[{"role":"tool","content":"a"}]}'
load 'message 0 has no role' '{"messages":[{"role":7,"content":"a"}]}'
load 'message 0 has no content' '{"messages":[{"role":"user"}]}'
load 'message 0 has no content' '{"messages":[{"role":"user","content":["a"]}]}'
load "message 0 is the assistant's" '{"messages":[{"role":"assistant","content":"a"}]}'
load "message 1 is the user's" '{"messages":[{"role":"user","content":"a"},{"role":"user","content":"a"}]}'
load 'only the first' '{"messages":[{"role":"user","content":"a"},{"role":"system","content":"a"}]}'
load 'has no answer' '{"messages":[{"role":"user","content":"a"}]}'
check "17 files that are no conversation are refused with a line each" test "$bad" -eq 0
from "/load $work/nowhere.json\n/load $work\n/load -\n/load /dev/zero\nHi\n" chat "$model" --temp 0
check "no file, a folder, standard input and a device are refused, and the chat goes on" answers 1
head -c 70000000 /dev/zero >"$work/large.json"
from "/load $work/large.json\n" chat "$model" --temp 0
check "a file of 70 MB is refused" said 'at most 67108864'
rm "$work/large.json"

# ---- on a terminal ----
pty() { "$TOOLS/pty" "$@" >"$out" 2>"$err"; status=$?; }
pty '> ' 'Hello\n' 'é.' '' '> ' '\x04' -- "$QUERN" chat "$model" --temp 0
is 0 "typed on a terminal; Ctrl-D leaves"
history=$work/state/quern/chat-history
check "the line is remembered" test "$(cat "$history")" = Hello
check "by a file for its owner alone" test "$(stat -c %a "$history") $(stat -c %a "$work/state/quern")" = "600 700"
pty '> ' 'secret\n' 'é.' '' '> ' '/exit\n' -- "$QUERN" chat "$model" --temp 0 --no-history
is 0 "/exit leaves"
check "--no-history remembers nothing" sh -c '! grep -q secret "$1"' x "$history"
pty '> ' 'a\\\\\n' '. ' 'b\n' 'é.' '' '> ' '\x04' -- "$QUERN" chat "$model" --temp 0
is 0 "a line that goes on has a prompt of its own"
pty '> ' 'Hi\n' 'ab cab c' '\x03' 'stopped' '' '> ' 'Ho\n' 'ab cab c' '\x03' 'stopped' '' '> ' '\x04' -- "$QUERN" chat "$work/endless.gguf" --temp 0 --ctx 1M -n 1M
is 0 "Ctrl-C stops an answer, not the chat"
pty '> ' 'Hi\n' 'ab cab c' '\x03' 'stopped' '' '> ' '\x03' -- "$QUERN" chat "$work/endless.gguf" --temp 0 --ctx 1M -n 1M
check "a second one at the prompt leaves" test "$status" -eq 0
pty '> ' '\x03' 'once more' '' '> ' '\x03' -- "$QUERN" chat "$model" --temp 0
is 0 "twice at the prompt leaves"
pty '> ' 'Hi\n' 'de' '' '> ' '\x04' -- "$QUERN" chat "$work/escape.gguf" --temp 0
check "what a terminal would obey does not reach it" sh -c 'grep -q "a\[31mbc" "$1" && ! grep -q "$(printf "a\033\[31mb")" "$1"' x "$out"
pty '> ' 'h\xc3\xa9\xe4\xb8\x96!\n' 'é.' "/save $work/typed.json\n" 'saved' '' '> ' '\x04' -- "$QUERN" chat "$model" --temp 0
check "characters of several bytes are typed whole" "$TOOLS/json_check" "$work/typed.json" "messages.0.content=hé世!"
printf 'good line\n\033]0;evil\007\n\377\376\nlast line\n' >"$history"
if ldd "$QUERN" 2>/dev/null | grep -q libedit; then
    pty '> ' '\x10' 'last line' '\n' 'é.' '' '> ' '\x04' -- "$QUERN" chat "$model" --temp 0
    is 0 "the last line comes back by Ctrl-P"
else
    skip "the last line comes back by Ctrl-P" "built without libedit"
    pty '> ' 'Hi\n' 'é.' '' '> ' '\x04' -- "$QUERN" chat "$model" --temp 0
fi
check "a strange history file does no harm" sh -c '! grep -q evil "$1" && grep -q "good line" "$1"' x "$history"

# ---- ends ----
"$QUERN" chat "$model" -p Hi --temp 0 >/dev/full 2>"$err" </dev/null
check "a full disk is a failure" test $? -eq 1
terminated chat "$work/endless.gguf" -p Hi --temp 0 --ctx 1M -n 1M
is 130 "SIGTERM ends an answer"
check "and is said" said '^quern: stopped'
tap_done
