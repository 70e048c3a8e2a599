/* SPDX-License-Identifier: MIT
 * engine/chat_families.c: how families of models write a conversation down. A new one is a row here, and conversations in
 * tools/make_chat_reference.py that a Jinja engine writes down by its template. */
#include "engine/chat.h"

#include <stdio.h>
#include <time.h>

#define BAR "\xef\xbd\x9c" /* U+FF5C, in DeepSeek's tokens */
#define LOW "\xe2\x96\x81" /* U+2581 */
#define DEEPSEEK_END "<" BAR "end" LOW "of" LOW "sentence" BAR ">"

typedef enum date_form { DAY_MON, DAY_MONTH, MONTH_DAY, ISO } date_form;

/* Of today, in UTC. */
static const char *date(const quern_chat *chat, date_form form, char dst[40])
{
    time_t now = (time_t)chat->now;
    struct tm day;
    size_t size = 0;
    if (gmtime_r(&now, &day))
        switch (form) {
        case DAY_MON: size = strftime(dst, 40, "%d %b %Y", &day); break;
        case DAY_MONTH: size = strftime(dst, 40, "%d %B %Y", &day); break;
        case MONTH_DAY: size = strftime(dst, 40, "%B %d, %Y", &day); break;
        case ISO: size = strftime(dst, 40, "%Y-%m-%d", &day); break;
        }
    dst[size] = '\0';
    return dst;
}

static int has_system(const quern_chat_message *messages, size_t count)
{
    return count && messages[0].role == QUERN_CHAT_SYSTEM;
}

static quern_string system_text(const quern_chat *chat, const quern_chat_message *messages, size_t count)
{
    return has_system(messages, count) ? chat_message_text(chat, &messages[0]) : (quern_string){"", 0};
}

/* ---- families with a system message of their own ---- */

static void put_turns(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    const chat_family *f = chat->family;
    for (size_t i = has_system(messages, count); i < count; i++) {
        if (messages[i].role == QUERN_CHAT_ASSISTANT) {
            chat_markup(w, f->answer[0]);
            chat_answer(chat, w, &messages[i], "");
            chat_markup(w, f->answer[1]);
            continue;
        }
        quern_string text = chat_message_text(chat, &messages[i]);
        chat_markup(w, f->user[0]);
        chat_words(w, text.data, text.size);
        chat_markup(w, f->user[1]);
    }
    chat_markup(w, f->open);
    if (!chat_thinks(chat, flags))
        chat_markup(w, f->no_think);
}

static void render_llama31(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    char words[128], day[40];
    quern_string system = chat_trim(system_text(chat, messages, count));
    if (chat->bos)
        chat_markup(w, "\2");
    snprintf(words, sizeof words, "Cutting Knowledge Date: December 2023\nToday Date: %s\n\n", date(chat, DAY_MON, day));
    chat_markup(w, chat->family->system[0]);
    chat_markup(w, words);
    chat_words(w, system.data, system.size);
    chat_markup(w, chat->family->system[1]);
    put_turns(chat, w, messages, count, flags);
}

static void render_granite(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    char words[200], day[40];
    quern_string system = system_text(chat, messages, count);
    if (has_system(messages, count) || strstr(chat->template, "strftime_now('%B %d, %Y')")) {
        snprintf(words, sizeof words,
                 "Knowledge Cutoff Date: April 2024.\nToday's Date: %s.\nYou are Granite, developed by IBM. You are a helpful AI "
                 "assistant.",
                 date(chat, MONTH_DAY, day));
        chat_markup(w, chat->family->system[0]);
        if (has_system(messages, count))
            chat_words(w, system.data, system.size);
        else
            chat_markup(w, words);
        chat_markup(w, chat->family->system[1]);
    }
    put_turns(chat, w, messages, count, flags);
}

/* Text with every occurrence of two words taken out; malloc'd. */
static char *without(quern_string text, const char *a, const char *b, size_t *size)
{
    char *out = malloc(text.size + 1);
    size_t n = 0, a_size = strlen(a), b_size = strlen(b);
    for (size_t i = 0; out && i < text.size;) {
        if (text.size - i >= a_size && !memcmp(text.data + i, a, a_size))
            i += a_size;
        else if (text.size - i >= b_size && !memcmp(text.data + i, b, b_size))
            i += b_size;
        else
            out[n++] = text.data[i++];
    }
    *size = n;
    return out;
}

static int contains(quern_string text, const char *word)
{
    return text.data && text.size && memmem(text.data, text.size, word, strlen(word)) != NULL;
}

/* The system's text can switch thinking off by "/no_think", and take the place of all of it by "/system_override". */
static void put_smollm3_system(const quern_chat *chat, chat_writer *w, quern_string system, int thinks)
{
    char words[160], day[40];
    size_t size = 0;
    char *plain = without(system, "/no_think", "/think", &size);
    if (!plain) {
        w->status = quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory for a system message of %llu bytes",
                               (unsigned long long)system.size);
        return;
    }
    quern_string own = chat_trim_end((quern_string){plain, size});
    chat_markup(w, chat->family->system[0]);
    if (contains(own, "/system_override")) {
        char *rest = without(own, "/system_override", "/system_override", &size);
        own = chat_trim_end((quern_string){rest, rest ? size : 0});
        chat_words(w, own.data, own.size);
        free(rest);
        chat_markup(w, chat->family->system[1]);
        free(plain);
        return;
    }
    snprintf(words, sizeof words,
             "## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: %s\nReasoning Mode: %s\n\n## Custom Instructions\n\n",
             date(chat, DAY_MONTH, day), thinks ? "/think" : "/no_think");
    chat_markup(w, words);
    if (own.size)
        chat_words(w, own.data, own.size);
    else
        chat_markup(w, thinks && chat->fallback ? chat->fallback
                                                : "You are a helpful AI assistant named SmolLM, trained by Hugging Face.");
    chat_markup(w, "\n\n");
    chat_markup(w, chat->family->system[1]);
    free(plain);
}

static void render_smollm3(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    quern_string system = system_text(chat, messages, count);
    int thinks = chat_thinks(chat, flags);
    if (contains(system, "/no_think"))
        thinks = 0;
    else if (contains(system, "/think"))
        thinks = 1;
    put_smollm3_system(chat, w, system, thinks);
    for (size_t i = has_system(messages, count); i < count; i++) {
        quern_string text = chat_message_text(chat, &messages[i]);
        int user = messages[i].role == QUERN_CHAT_USER;
        chat_markup(w, user ? chat->family->user[0] : chat->family->answer[0]);
        if (!user && !thinks)
            chat_markup(w, chat->family->no_think);
        while (!user && text.size && text.data[0] == '\n')
            text.data++, text.size--;
        if (user || !w->ids || !messages[i].tokens)
            chat_words(w, text.data, text.size);
        else
            chat_answer(chat, w, &messages[i], "");
        chat_markup(w, user ? chat->family->user[1] : chat->family->answer[1]);
    }
    chat_markup(w, chat->family->open);
    if (!thinks)
        chat_markup(w, chat->family->no_think);
}

/* OpenAI's harmony: the system message is the model's own, what the caller calls so is the developer's. */
static void render_harmony(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    char words[320], day[40];
    quern_string system = system_text(chat, messages, count);
    snprintf(words, sizeof words,
             "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: "
             "%s\n\nReasoning: %s\n\n"
             "# Valid channels: analysis, commentary, final. Channel must be included for every message.",
             date(chat, ISO, day), flags & QUERN_CHAT_NO_THINK ? "low" : "medium");
    chat_markup(w, "<|start|>system<|message|>");
    chat_markup(w, words);
    chat_markup(w, "<|end|>");
    if (system.size) {
        chat_markup(w, "<|start|>developer<|message|># Instructions\n\n");
        chat_words(w, system.data, system.size);
        chat_markup(w, "\n\n<|end|>");
    }
    put_turns(chat, w, messages, count, flags & ~(uint32_t)QUERN_CHAT_NO_THINK);
}

/* ---- the table ---- */

#define CHATML                                                                                                                     \
    .system = {"<|im_start|>system\n", "<|im_end|>\n"}, .user = {"<|im_start|>user\n", "<|im_end|>\n"},                            \
    .answer = {"<|im_start|>assistant\n", "<|im_end|>\n"}, .open = "<|im_start|>assistant\n", .ends = "<|im_end|>"
#define HEADERS(flag)                                                                                                              \
    .flags = (flag) | CHAT_TRIM_SYSTEM | CHAT_TRIM | CHAT_TRIM_ANSWER,                                                             \
    .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},                                                    \
    .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},                                                        \
    .answer = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},                                                 \
    .open = "<|start_header_id|>assistant<|end_header_id|>\n\n",                                                                   \
    .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, .ends = "<|eot_id|>"

const chat_family chat_families[] = {
    {.info = {"gpt-oss", "gpt-oss (harmony: channels for thinking and answers)"},
     .has = {"<|channel|>", "<|start|>", "<|message|>"},
     .flags = CHAT_CHANNELS,
     .user = {"<|start|>user<|message|>", "<|end|>"},
     .answer = {"<|start|>assistant<|channel|>final<|message|>", "<|end|>"},
     .open = "<|start|>assistant",
     .render = render_harmony,
     .tokens = {"<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>"},
     .ends = "<|return|>"},
    {.info = {"smollm3", "SmolLM3"},
     .has = {"<|im_start|>", "Reasoning Mode", "Custom Instructions"},
     CHATML,
     .no_think = "<think>\n\n</think>\n",
     .default_at = "elif reasoning_mode == \"/think\" -%}",
     .render = render_smollm3,
     .flags = CHAT_LATE_DEFAULT,
     .tokens = {"<|im_start|>", "<|im_end|>"}},
    {.info = {"phi4", "Phi-4"},
     .has = {"<|im_start|>", "<|im_sep|>"},
     .system = {"<|im_start|>system<|im_sep|>", "<|im_end|>"},
     .user = {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
     .answer = {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"},
     .open = "<|im_start|>assistant<|im_sep|>",
     .tokens = {"<|im_start|>", "<|im_sep|>", "<|im_end|>"},
     .ends = "<|im_end|>"},
    {.info = {"qwen3", "Qwen3, QwQ and others that write <|im_start|> and think"},
     .has = {"<|im_start|>", "<|im_end|>", "</think>"},
     .lacks = {"<|im_user|>", "<|im_middle|>"},
     .flags = CHAT_DROP_THINKING | CHAT_DROP_NEWLINES,
     CHATML,
     .no_think = "<think>\n\n</think>\n\n",
     .default_at = "<|im_start|>system\\n",
     .tokens = {"<|im_start|>", "<|im_end|>"}},
    {.info = {"chatml", "Qwen 1.5 to 2.5, SmolLM2, Yi, Hermes and others that write <|im_start|>"},
     .has = {"<|im_start|>", "<|im_end|>"},
     .lacks = {"<|im_user|>", "<|im_middle|>"},
     CHATML,
     .default_at = "<|im_start|>system\\n",
     .tokens = {"<|im_start|>", "<|im_end|>"}},
    {.info = {"llama3.1", "Llama 3.1, 3.2 and 3.3 (the system message tells the date)"},
     .has = {"<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date"},
     .render = render_llama31,
     HEADERS(CHAT_BOS)},
    {.info = {"llama3", "Llama 3"}, .has = {"<|start_header_id|>", "<|eot_id|>"}, HEADERS(CHAT_BOS)},
    {.info = {"granite", "Granite 3"},
     .has = {"<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"},
     .system = {"<|start_of_role|>system<|end_of_role|>", "<|end_of_text|>\n"},
     .user = {"<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n"},
     .answer = {"<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n"},
     .open = "<|start_of_role|>assistant<|end_of_role|>",
     .render = render_granite,
     .tokens = {"<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"},
     .ends = "<|end_of_text|>"},
    {.info = {"gemma", "Gemma 1 to 3 (the system message becomes part of the first turn)"},
     .has = {"<start_of_turn>", "<end_of_turn>"},
     .flags = CHAT_BOS | CHAT_TRIM | CHAT_TRIM_ANSWER | CHAT_FOLD,
     .system = {"", "\n\n"},
     .user = {"<start_of_turn>user\n", "<end_of_turn>\n"},
     .answer = {"<start_of_turn>model\n", "<end_of_turn>\n"},
     .open = "<start_of_turn>model\n",
     .tokens = {"<start_of_turn>", "<end_of_turn>"},
     .ends = "<end_of_turn>"},
    {.info = {"command-r", "Command R"},
     .has = {"<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"},
     .lacks = {"<|START_RESPONSE|>"},
     .flags = CHAT_BOS | CHAT_TRIM | CHAT_TRIM_ANSWER,
     .system = {"<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .user = {"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .answer = {"<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .open = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
     .tokens = {"<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"},
     .ends = "<|END_OF_TURN_TOKEN|>"},
    {.info = {"phi4-mini", "Phi-4-mini"},
     .has = {"<|end|>", "<|assistant|>"},
     .lacks = {"<|message|>", "[gMASK]", "~<|end|>\\n", "~'<|end|>'+'\\n'"}, /* Phi-3 has line breaks there */
     .system = {"<|system|>", "<|end|>"},
     .user = {"<|user|>", "<|end|>"},
     .answer = {"<|assistant|>", "<|end|>"},
     .open = "<|assistant|>",
     .tokens = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"},
     .ends = "<|end|>"},
    {.info = {"phi3", "Phi-3 and Phi-3.5"},
     .has = {"<|end|>", "<|assistant|>"},
     .lacks = {"<|message|>", "[gMASK]"},
     .system = {"<|system|>\n", "<|end|>\n"},
     .user = {"<|user|>\n", "<|end|>\n"},
     .answer = {"<|assistant|>\n", "<|end|>\n"},
     .open = "<|assistant|>\n",
     .tokens = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"},
     .ends = "<|end|>"},
    {.info = {"zephyr", "Zephyr, TinyLlama-Chat"},
     .has = {"~'<|user|>\\n'+message['content']+eos_token"},
     .system = {"<|system|>\n", "\1\n"},
     .user = {"<|user|>\n", "\1\n"},
     .answer = {"<|assistant|>\n", "\1\n"},
     .open = "<|assistant|>\n"},
    {.info = {"tulu", "Tulu 3, OLMo 2, Falcon 3"},
     .has = {"~'<|user|>\\n'+message['content']+'\\n'", "~'<|assistant|>\\n'+message['content']+eos_token+'\\n'"},
     .system = {"<|system|>\n", "\n"},
     .user = {"<|user|>\n", "\n"},
     .answer = {"<|assistant|>\n", "\1\n"},
     .open = "<|assistant|>\n"},
    {.info = {"deepseek-r1", "DeepSeek V3 and R1, and the models distilled from R1"},
     .has = {"<" BAR "User" BAR ">", "<" BAR "Assistant" BAR ">"},
     .lacks = {"thinking is defined", "thinking_end_token", "~{{'</think>'}}"},
     .flags = CHAT_BOS | CHAT_DROP_THINKING,
     .system = {"", ""},
     .user = {"<" BAR "User" BAR ">", ""},
     .answer = {"<" BAR "Assistant" BAR ">", "\1"},
     .open = "<" BAR "Assistant" BAR ">",
     .tokens = {"<" BAR "User" BAR ">", "<" BAR "Assistant" BAR ">", DEEPSEEK_END}},
    {.info = {"deepseek", "DeepSeek LLM and V2"},
     .has = {"~'User:'+message['content']+'\\n\\n'", "~'Assistant:'+message['content']+eos_token"},
     .flags = CHAT_BOS,
     .system = {"", "\n\n"},
     .user = {"User: ", "\n\n"},
     .answer = {"Assistant: ", "\1"},
     .open = "Assistant:",
     .tokens = {DEEPSEEK_END}},
    {.info = {"deepseek-coder", "DeepSeek Coder 1"},
     .has = {"### Instruction:", "### Response:", "<|EOT|>"},
     .flags = CHAT_BOS | CHAT_LATE_DEFAULT,
     .system = {"", ""},
     .user = {"### Instruction:\n", "\n"},
     .answer = {"### Response:\n", "\n<|EOT|>\n"},
     .open = "### Response:\n",
     .default_at = "if not ns.found -%}",
     .tokens = {"<|EOT|>"},
     .ends = "<|EOT|>"},
    {.info = {"openchat", "OpenChat 3.5"},
     .has = {"GPT4 Correct", "<|end_of_turn|>"},
     .flags = CHAT_BOS,
     .system = {"GPT4 Correct System: ", "<|end_of_turn|>"},
     .user = {"GPT4 Correct User: ", "<|end_of_turn|>"},
     .answer = {"GPT4 Correct Assistant: ", "<|end_of_turn|>"},
     .open = "GPT4 Correct Assistant:",
     .tokens = {"<|end_of_turn|>"},
     .ends = "<|end_of_turn|>"},
    {.info = {"llama2", "Llama 2"},
     .has = {"[INST]", "<<SYS>>", "[/INST]"},
     .flags = CHAT_TRIM | CHAT_TRIM_ANSWER | CHAT_FOLD,
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"\2[INST] ", " [/INST]"},
     .answer = {" ", " \1"},
     .open = ""},
    {.info = {"mistral-v7-tekken", "Mistral Small 3 and newer"},
     .has = {"[SYSTEM_PROMPT]", "[INST]", "[/INST]"},
     .lacks = {"[INST] "},
     .flags = CHAT_BOS,
     .system = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"},
     .user = {"[INST]", "[/INST]"},
     .answer = {"", "\1"},
     .open = "",
     .tokens = {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}},
    {.info = {"mistral-v7", "Mistral Large 2411"},
     .has = {"[SYSTEM_PROMPT] ", "[INST] ", "[/INST]"},
     .flags = CHAT_BOS,
     .system = {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"},
     .user = {"[INST] ", "[/INST]"},
     .answer = {" ", "\1"},
     .open = "",
     .tokens = {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}},
    {.info = {"mistral-v1", "Mistral 7B Instruct 0.2 and Mixtral, newer templates"},
     .has = {" [INST] ", " [/INST]"},
     .flags = CHAT_BOS | CHAT_FOLD,
     .system = {"", "\n\n"},
     .user = {" [INST] ", " [/INST]"},
     .answer = {" ", "\1"},
     .open = ""},
    {.info = {"mistral-v0", "Mistral 7B Instruct 0.1 and 0.2, first templates"},
     .has = {"[INST] ", " [/INST]", "~message['content']+eos_token"},
     .flags = CHAT_BOS | CHAT_FOLD,
     .system = {"", "\n\n"},
     .user = {"[INST] ", " [/INST]"},
     .answer = {"", "\1"},
     .open = ""},
    {.info = {"mistral-v3", "Mistral 7B Instruct 0.3, Mistral Large 2407 (the system message is part of the last turn)"},
     .has = {"[INST] ", "[/INST]"},
     .lacks = {" [/INST]"},
     .flags = CHAT_BOS | CHAT_FOLD_LAST | CHAT_TRIM_ANSWER,
     .system = {"", "\n\n"},
     .user = {"[INST] ", "[/INST]"},
     .answer = {" ", "\1"},
     .open = "",
     .tokens = {"[INST]", "[/INST]"}},
    {.info = {"mistral-v3-tekken", "Mistral Nemo (the system message is part of the last turn)"},
     .has = {"[INST]", "[/INST]"},
     .lacks = {"[INST] ", " [/INST]"},
     .flags = CHAT_BOS | CHAT_FOLD_LAST,
     .system = {"", "\n\n"},
     .user = {"[INST]", "[/INST]"},
     .answer = {"", "\1"},
     .open = "",
     .tokens = {"[INST]", "[/INST]"}},
};
const uint32_t chat_family_count = sizeof chat_families / sizeof *chat_families;
