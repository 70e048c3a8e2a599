#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/chat.txt: conversations as Jinja renders them, for tests/unit/test_chat.c.

Each template below is a short one of its family: it has the features by which models' own templates are recognised, and renders a
conversation without tools as they do. What renders is Jinja2 itself, set up as in the transformers package (blocks trimmed).

usage: tools/make_chat_reference.py [FILE]        (default: tests/data/chat.txt beside this script)
"""
import datetime
import os
import sys

import jinja2.sandbox

NOW = datetime.datetime(2024, 7, 26, tzinfo=datetime.timezone.utc)
BAR, LOW = "\uff5c", "\u2581"

CHATML_TURN = "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
CHATML_OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
THINK_SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
SPLIT = "{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
QWEN3_TURN = SPLIT + "{{ '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>' + '\\n' }}"


def each(body):
    return "{% for m in messages %}" + body + "{% endfor %}"


def headers(first):
    """Llama 3's turns."""
    turn = "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    return "{{ bos_token }}" + first + turn + "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"


LLAMA31 = headers("""{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}
{% else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' + strftime_now('%d %b %Y') + '\\n\\n' + system + '<|eot_id|>' }}
{%- for m in messages %}""")

MISTRAL = """{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}
{{- bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{% if loop.WHERE and system is defined %}
{{- OPEN + system + '\\n\\n' + m['content'] + CLOSE }}{% else %}{{ OPEN + m['content'] + CLOSE }}{% endif %}
{% else %}{{ ANSWER + eos_token }}{% endif %}{% endfor %}"""


def mistral(where, begin, end, answer):
    text = MISTRAL.replace("WHERE", where).replace("OPEN", "'%s'" % begin).replace("CLOSE", "'%s'" % end)
    return text.replace("ANSWER", answer)


def tagged(system, user, answer):
    """mistral's later ones"""
    return ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '" + system + "' + m['content'] + '[/SYSTEM_PROMPT]' }}"
            "{% elif m['role'] == 'user' %}{{ '" + user + "' + m['content'] + '[/INST]' }}{% else %}{{ " + answer + " + eos_token }}"
            "{% endif %}{% endfor %}")


LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set messages = messages[1:] %}{% else %}{% set system = false %}{% endif %}
{% for m in messages %}{% if loop.index0 == 0 and system != false %}
{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}
{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set lead = messages[0]['content'] + '\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set lead = '' %}{% endif %}
{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' + (lead if loop.first else '') }}
{{- m['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GRANITE = """{% if messages[0]['role'] != 'system' and DATED %}{{ "<|start_of_role|>system<|end_of_role|>Knowledge Cutoff Date: April 2024.\\nToday's Date: " }}
{{- strftime_now('%B %d, %Y') }}{{ ".\\nYou are Granite, developed by IBM. You are a helpful AI assistant.<|end_of_text|>\\n" }}{% endif %}
{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\\n' }}
{% if loop.last and add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}{% endfor %}"""

SMOLLM3 = """{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}
{% if enable_thinking %}{% set reasoning_mode = "/think" %}{% else %}{% set reasoning_mode = "/no_think" %}{% endif %}
{{- "<|im_start|>system\\n" -}}
{% set own = "" %}
{% if messages[0].role == "system" %}{% set system = messages[0].content %}{% set messages = messages[1:] %}
{% if "/no_think" in system %}{% set reasoning_mode = "/no_think" %}{% elif "/think" in system %}{% set reasoning_mode = "/think" %}{% endif %}
{% set own = system.replace("/no_think", "").replace("/think", "").rstrip() %}{% endif %}
{% if "/system_override" in own %}{{ own.replace("/system_override", "").rstrip() }}{{ "<|im_end|>\\n" }}
{% else %}{{ "## Metadata\\n\\nKnowledge Cutoff Date: June 2025\\nToday Date: " ~ strftime_now("%d %B %Y") ~ "\\n" }}
{{- "Reasoning Mode: " + reasoning_mode + "\\n\\n## Custom Instructions\\n\\n" }}
{%- if own %}{{ own + "\\n\\n" }}
{%- elif reasoning_mode == "/think" -%}
    {{- "Think before you speak, say the others.\\n\\n" -}}
{% else %}{{ "You are a helpful AI assistant named SmolLM, trained by Hugging Face.\\n\\n" }}{% endif %}{{ "<|im_end|>\\n" }}{% endif %}
{% for m in messages %}{% if m.role == "user" %}{{ "<|im_start|>user\\n" + m.content + "<|im_end|>\\n" }}
{%- else %}{{ "<|im_start|>assistant\\n" + ("" if reasoning_mode == "/think" else "<think>\\n\\n</think>\\n") + m.content.lstrip("\\n") + "<|im_end|>\\n" }}{% endif %}{% endfor %}
{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" + ("" if reasoning_mode == "/think" else "<think>\\n\\n</think>\\n") }}{% endif %}"""

HARMONY = """{{ "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\nKnowledge cutoff: 2024-06\\n" }}
{{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n\\nReasoning: " + (reasoning_effort if reasoning_effort is defined else "medium") + "\\n\\n" }}
{{- "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>" }}
{%- if messages[0].role == 'system' %}{{ "<|start|>developer<|message|># Instructions\\n\\n" + messages[0].content + "\\n\\n<|end|>" }}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}{% if m.role == 'user' %}{{ "<|start|>user<|message|>" + m.content + "<|end|>" }}
{%- else %}{{ "<|start|>assistant<|channel|>final<|message|>" + m.content + "<|end|>" }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ "<|start|>assistant" }}{% endif %}"""

COMMAND_R = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + messages[0]['content'] + '<|END_OF_TURN_TOKEN|>' }}{% set messages = messages[1:] %}{% endif %}
{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' + ('<|USER_TOKEN|>' if m['role'] == 'user' else '<|CHATBOT_TOKEN|>') + m['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""

R1 = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}{{ '<BARUserBAR>' + m['content'] }}"
      "{% else %}{% set c = m['content'] %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}{{ '<BARAssistantBAR>' + c + eos_token }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<BARAssistantBAR>OPEN' }}{% endif %}").replace("BAR", BAR)

CODER = """{%- set ns = namespace(found=false) -%}{%- for m in messages -%}{%- if m['role'] == 'system' -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}
{{bos_token}}{%- if not ns.found -%}
{{'Only about programs.\\n'}}
{%- endif %}
{%- for m in messages %}
{%- if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}{{ '### Instruction:\\n' + m['content'] + '\\n' }}
{%- else %}{{ '### Response:\\n' + m['content'] + '\\n<|EOT|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"""


def plain(system, user, answer, invite):
    def turn(ends):
        return "{{ '%s' + message['content'] + %s }}" % ends
    return ("{% for message in messages %}{% if message['role'] == 'system' %}" + turn(system) + "{% elif message['role'] == 'user' %}" + turn(user) +
            "{% else %}" + turn(answer) + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '" + invite + "' }}{% endif %}")


ZEPHYR = plain(("<|system|>\\n", "eos_token + '\\n'"), ("<|user|>\\n", "eos_token + '\\n'"), ("<|assistant|>\\n", "eos_token + '\\n'"), "<|assistant|>\\n")
TULU = "{{ bos_token }}" + plain(("<|system|>\\n", "'\\n'"), ("<|user|>\\n", "'\\n'"), ("<|assistant|>\\n", "eos_token + '\\n'"), "<|assistant|>\\n")
DEEPSEEK = "{{ bos_token }}" + plain(("", "'\\n\\n'"), ("User: ", "'\\n\\n'"), ("Assistant: ", "eos_token"), "Assistant:")
PHI3 = plain(("<|system|>\\n", "'<|end|>\\n'"), ("<|user|>\\n", "'<|end|>\\n'"), ("<|assistant|>\\n", "'<|end|>\\n'"), "<|assistant|>\\n")
PHI4 = plain(("<|im_start|>system<|im_sep|>", "'<|im_end|>'"), ("<|im_start|>user<|im_sep|>", "'<|im_end|>'"),
             ("<|im_start|>assistant<|im_sep|>", "'<|im_end|>'"), "<|im_start|>assistant<|im_sep|>")
PHI4_MINI = "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
PHI4_MINI_PARTS = "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m.content %}{{ m['content'] }}{% endif %}{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
PHI3_PARTS = each("{{ '<|' + m['role'] + '|>' + '\\n' + m['content'] + '<|end|>' + '\\n' }}") + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
OPENCHAT = "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m['role'].title() + ': ' + m['content'] + '<|end_of_turn|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
CHATML_DEFAULT = ("{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a quern.<|im_end|>\\n' }}{% endif %}"
                  + CHATML_TURN + "{% endfor %}")

# name of the case, family, template
TEMPLATES = [
    ("chatml", "chatml", each(CHATML_TURN) + CHATML_OPEN + "{% endif %}"),
    ("chatml, default system text", "chatml", CHATML_DEFAULT + CHATML_OPEN + "{% endif %}"),
    ("chatml with BOS", "chatml", "{{ bos_token }}" + each(CHATML_TURN) + CHATML_OPEN + "{% endif %}"),
    ("qwen3", "qwen3", each(QWEN3_TURN) + CHATML_OPEN + THINK_SWITCH + "{% endif %}"),
    ("qwq, which opens <think>", "qwen3", each(QWEN3_TURN) + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"),
    ("qwen3.5, which opens or closes <think>", "qwen3", each(QWEN3_TURN) + CHATML_OPEN + "{% if enable_thinking is defined and enable_thinking is false %}"
     "{{ '<think>\\n\\n</think>\\n\\n' }}{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}"),
    ("qwen3.5, small, which thinks when told to", "qwen3", each(QWEN3_TURN) + CHATML_OPEN + "{% if enable_thinking is defined and enable_thinking is true %}"
     "{{ '<think>\\n' }}{% else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"),
    ("smollm3", "smollm3", SMOLLM3),
    ("phi4", "phi4", PHI4),
    ("llama3", "llama3", headers("{% for m in messages %}")),
    ("llama3.1", "llama3.1", LLAMA31),
    ("granite 3.0", "granite", GRANITE.replace("DATED", "false").replace("{{- strftime_now('%B %d, %Y') }}", "")),
    ("granite 3.3", "granite", GRANITE.replace("DATED", "true")),
    ("gemma", "gemma", GEMMA),
    ("command-r", "command-r", COMMAND_R),
    ("phi3", "phi3", PHI3),
    ("phi3, in parts", "phi3", PHI3_PARTS),
    ("phi4-mini", "phi4-mini", PHI4_MINI),
    ("phi4-mini, in parts", "phi4-mini", PHI4_MINI_PARTS),
    ("zephyr", "zephyr", ZEPHYR),
    ("tulu", "tulu", TULU),
    ("deepseek v3", "deepseek-r1", R1.replace("OPEN", "")),
    ("deepseek r1", "deepseek-r1", R1.replace("OPEN", "<think>\\n")),
    ("deepseek llm", "deepseek", DEEPSEEK),
    ("deepseek coder", "deepseek-coder", CODER),
    ("openchat", "openchat", OPENCHAT),
    ("llama2", "llama2", LLAMA2),
    ("mistral v0", "mistral-v0", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
     "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"),
    ("mistral v1", "mistral-v1", mistral("first", " [INST] ", " [/INST]", "' ' + m['content']")),
    ("mistral v3", "mistral-v3", mistral("last", "[INST] ", "[/INST]", "' ' + m['content'] | trim")),
    ("mistral v3 tekken", "mistral-v3-tekken", mistral("last", "[INST]", "[/INST]", "m['content']")),
    ("mistral v7", "mistral-v7", tagged("[SYSTEM_PROMPT] ", "[INST] ", "' ' + m['content']")),
    ("mistral v7 tekken", "mistral-v7-tekken", tagged("[SYSTEM_PROMPT]", "[INST]", "m['content']")),
    ("gpt-oss", "gpt-oss", HARMONY),
]

# Qwen3.5 trims all texts, before it takes the thinking out of past answers
QWEN35 = ("{% macro render_content(content, count) %}{{ content }}{% endmacro %}{% for message in messages %}{% set content = render_content(message.content, true)|trim %}"
          "{% if message.role == 'assistant' and '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
          "{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{% endfor %}" + CHATML_OPEN +
          "{% if enable_thinking is defined and enable_thinking is true %}{{ '<think>\\n' }}{% else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}")
TEMPLATES.append(("qwen3.5, which trims", "qwen3", QWEN35))

HELLO = [("user", "Hello")]
LONG = [("system", "Be brief."), ("user", "Who are you?"), ("assistant", "A mill."), ("user", "  What do you\ngrind?\n\n"), ("assistant", "\n Words. \n"), ("user", "More \u00e9\u4e16\U0001f999")]
MARKED = [("system", " It's \"{{ bos_token }}\" \\n "), ("user", "<|im_end|>\n</s><s>[INST] <end_of_turn> <|eot_id|>"), ("assistant", "{% raw %}"), ("user", "\u00a0x\u3000")]
THOUGHT = [("user", "2+2?"), ("assistant", "<think>\nhm</think>\n two\n</think>\n\nFour"), ("user", "Sure?")]
QUIET = [("system", "Be brief. /no_think"), ("user", "Hi"), ("assistant", "Ho"), ("user", "Hi")]
OVERRIDE = [("system", "All yours. /system_override"), ("user", "Hi")]


def raise_exception(words):
    raise jinja2.exceptions.TemplateError(words)


def tight(template):
    """Line breaks above are for who reads them: an expression's would come out."""
    return template.replace("\n", "")


def render(template, messages, **more):
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    words = [{"role": role, "content": text} for role, text in messages]
    return env.from_string(template).render(messages=words, bos_token="<s>", eos_token="</s>", add_generation_prompt=True, **more)


def cases():
    for name, family, template in ((n, f, tight(t)) for n, f, t in TEMPLATES):
        for label, messages in (("hello", HELLO), ("long", LONG), ("marked", MARKED), ("thought", THOUGHT)):
            try:
                yield name + ": " + label, family, 0, template, messages, render(template, messages)
            except jinja2.exceptions.TemplateError:
                pass  # a template without a system role
        if "enable_thinking" in template:
            for flags, thinks in ((1, True), (2, False)):
                yield "%s: thinks %s" % (name, thinks), family, flags, template, THOUGHT, render(template, THOUGHT, enable_thinking=thinks)
    smollm3, harmony = tight(SMOLLM3), tight(HARMONY)
    yield "smollm3: quiet", "smollm3", 0, smollm3, QUIET, render(smollm3, QUIET)
    yield "smollm3: override", "smollm3", 0, smollm3, OVERRIDE, render(smollm3, OVERRIDE)
    yield "gpt-oss: low", "gpt-oss", 2, harmony, LONG, render(harmony, LONG, reasoning_effort="low")


def field(name, text):
    data = text.encode()
    return b"%s %d\n%s\n" % (name.encode(), len(data), data)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "tests", "data", "chat.txt")
    with open(path, "wb") as file:
        last = None
        for name, family, flags, template, messages, text in cases():
            if template != last:
                file.write(field("template", template))
            last = template
            file.write(field("case", name) + field("family", family) + b"flags %d\n\n" % flags)
            for role, words in messages:
                file.write(field(role, words))
            file.write(field("want", text))


if __name__ == "__main__":
    main()
