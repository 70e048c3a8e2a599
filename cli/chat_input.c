/* SPDX-License-Identifier: MIT
 * cli/chat_input.c: reading messages. On a terminal by libedit where quern was built with it, else as the terminal gives lines. */
#include "cli/chat_input.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#ifdef QUERN_HAVE_LIBEDIT
#include <histedit.h>
#endif

enum { MAX_MESSAGE = 16 << 20 };

struct chat_input {
    int terminal, keep; /* keep: lines go to the history file */
    int more;           /* a message goes on */
    char *path;         /* of that file, NULL: none */
    chat_history past;  /* with what was typed now */
    char *line;
    size_t line_size;
#ifdef QUERN_HAVE_LIBEDIT
    EditLine *edit;
    History *history;
#endif
};

static const char *prompt_of(const chat_input *in)
{
    return in->more ? ". " : "> ";
}

/* ---- libedit ---- */

#ifdef QUERN_HAVE_LIBEDIT

static volatile sig_atomic_t resized, continued;

static void on_resize(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        continued = 1;
}

static char *edit_prompt(EditLine *edit)
{
    static char prompt[8];
    void *in = NULL;
    el_get(edit, EL_CLIENTDATA, &in);
    snprintf(prompt, sizeof prompt, "%s", in ? prompt_of(in) : "");
    return prompt;
}

/* A character of the locale's. libedit's own reader tries again after a signal; here one that asks to stop is an end. */
static int read_character(EditLine *edit, wchar_t *out)
{
    mbstate_t state = {0};
    for (;;) {
        char byte;
        ssize_t n = cli_stop ? 0 : read(STDIN_FILENO, &byte, 1);
        if (resized) {
            resized = 0;
            el_resize(edit);
        }
        if (continued) { /* the shell has put the terminal back into its own mode */
            continued = 0;
            el_set(edit, EL_PREP_TERM, 1);
            el_set(edit, EL_REFRESH);
        }
        if (n < 0 && errno == EINTR && !cli_stop)
            continue;
        if (n <= 0)
            return 0;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-2)
            continue;
        if (used == (size_t)-1) { /* no character: leave it out */
            state = (mbstate_t){0};
            continue;
        }
        return 1;
    }
}

/* Characters of more than one byte need a locale that has them. */
static void set_locale(void)
{
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static void edit_open(chat_input *in)
{
    HistEvent event;
    struct sigaction action = {.sa_handler = on_resize};
    set_locale();
    in->edit = el_init("quern", stdin, stderr, stderr);
    in->history = in->edit ? history_init() : NULL;
    if (!in->history)
        return;
    history(in->history, &event, H_SETSIZE, CHAT_HISTORY_LINES);
    history(in->history, &event, H_SETUNIQUE, 1);
    for (size_t i = 0; i < in->past.count; i++)
        history(in->history, &event, H_ENTER, in->past.lines[i]);
    el_set(in->edit, EL_CLIENTDATA, in);
    el_set(in->edit, EL_EDITOR, "emacs");
    el_set(in->edit, EL_PROMPT, edit_prompt);
    el_set(in->edit, EL_SIGNAL, 0);
    el_set(in->edit, EL_HIST, history, in->history);
    el_set(in->edit, EL_GETCFN, read_character);
    el_source(in->edit, NULL); /* the user's own keys */
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
}

static void edit_close(chat_input *in)
{
    if (in->history)
        history_end(in->history);
    if (in->edit)
        el_end(in->edit);
}

/* *line without its newline; 0: nothing came. */
static int edit_line(chat_input *in, const char **line, size_t *size)
{
    int count = 0;
    const char *text = el_gets(in->edit, &count);
    if (!text || count <= 0)
        return 0;
    *line = text;
    *size = (size_t)count - (text[count - 1] == '\n');
    return 1;
}

static void edit_remember(chat_input *in, const char *line)
{
    HistEvent event;
    if (in->history)
        history(in->history, &event, H_ENTER, line);
}

static int edits(const chat_input *in)
{
    return in->edit && in->history;
}

#else

static void edit_open(chat_input *in)
{
    (void)in;
}

static void edit_close(chat_input *in)
{
    (void)in;
}

static int edit_line(chat_input *in, const char **line, size_t *size)
{
    (void)in, (void)line, (void)size;
    return 0;
}

static void edit_remember(chat_input *in, const char *line)
{
    (void)in, (void)line;
}

static int edits(const chat_input *in)
{
    (void)in;
    return 0;
}

#endif

/* ---- lines ---- */

static int plain_line(chat_input *in, const char **line, size_t *size)
{
    if (in->terminal) {
        fputs(prompt_of(in), stderr);
        fflush(stderr);
    }
    ssize_t count = getline(&in->line, &in->line_size, stdin);
    if (count < 0) {
        if (errno == EINTR)
            clearerr(stdin);
        return 0;
    }
    *line = in->line;
    *size = (size_t)count - (in->line[count - 1] == '\n');
    return 1;
}

static void remember(chat_input *in, const char *line, size_t size)
{
    size_t before = in->past.count;
    if (!in->terminal)
        return;
    chat_history_add(&in->past, line, size);
    if (in->past.count && (in->past.count != before || before == CHAT_HISTORY_LINES))
        edit_remember(in, in->past.lines[in->past.count - 1]);
}

static chat_heard next_line(chat_input *in, const char **line, size_t *size)
{
    if (cli_stop)
        return cli_stop_signal == SIGINT && in->terminal ? CHAT_HEARD_STOP : CHAT_HEARD_END;
    errno = 0;
    cli_signals_wake(1);
    int heard = edits(in) ? edit_line(in, line, size) : plain_line(in, line, size);
    cli_signals_wake(0);
    if (cli_stop || !heard) {
        if (in->terminal)
            fputc('\n', stderr);
        return cli_stop && cli_stop_signal == SIGINT && in->terminal ? CHAT_HEARD_STOP : CHAT_HEARD_END;
    }
    remember(in, *line, *size);
    return CHAT_HEARD;
}

/* ---- messages ---- */

typedef struct message {
    char *text;
    size_t size, capacity;
} message;

static int append(message *to, const char *text, size_t size)
{
    if (to->size + size + 2 > to->capacity) {
        size_t larger = 2 * to->capacity + size + 256;
        char *grown = larger > 2 * (size_t)MAX_MESSAGE ? NULL : realloc(to->text, larger);
        if (!grown) {
            cli_note("a message of more than %d bytes is too long: its end is left out", MAX_MESSAGE);
            return 0;
        }
        to->text = grown;
        to->capacity = larger;
    }
    if (size)
        memcpy(to->text + to->size, text, size);
    to->size += size;
    to->text[to->size] = '\0';
    return 1;
}

/* The lines up to one that ends in """. */
static chat_heard read_block(chat_input *in, message *to, const char *line, size_t size)
{
    static const char fence[] = "\"\"\"";
    chat_heard heard = CHAT_HEARD;
    line += 3;
    size -= 3;
    for (int first = 1; heard == CHAT_HEARD; first = 0) {
        int closes = size >= 3 && !memcmp(line + size - 3, fence, 3);
        int skips = first && !size; /* nothing follows the opening fence: the text begins on the next line */
        if (!skips && (!append(to, line, closes ? size - 3 : size) || (!closes && !append(to, "\n", 1))))
            return CHAT_HEARD;
        if (closes) {
            if (to->size && size == 3 && to->text[to->size - 1] == '\n')
                to->text[--to->size] = '\0';
            return CHAT_HEARD;
        }
        in->more = 1;
        heard = next_line(in, &line, &size);
    }
    return heard;
}

static chat_heard read_message(chat_input *in, message *to)
{
    const char *line = NULL;
    size_t size = 0;
    chat_heard heard = next_line(in, &line, &size);
    if (heard == CHAT_HEARD && size >= 3 && !memcmp(line, "\"\"\"", 3))
        return read_block(in, to, line, size);
    while (heard == CHAT_HEARD) {
        int goes_on = size && line[size - 1] == '\\';
        if (!append(to, line, size - (size_t)goes_on) || !goes_on)
            return heard;
        append(to, "\n", 1);
        in->more = 1;
        heard = next_line(in, &line, &size);
    }
    return heard;
}

chat_heard chat_input_next(chat_input *in, char **text, size_t *size)
{
    message m = {0};
    in->more = 0;
    chat_heard heard = read_message(in, &m);
    in->more = 0;
    if (heard == CHAT_HEARD_END && m.size && !cli_stop) /* what was said before the end of the input counts */
        heard = CHAT_HEARD;
    if (heard != CHAT_HEARD || !m.text) {
        free(m.text);
        return heard == CHAT_HEARD ? CHAT_HEARD_END : heard;
    }
    *text = m.text;
    *size = m.size;
    return CHAT_HEARD;
}

/* ---- opening ---- */

chat_input *chat_input_open(int history)
{
    chat_input *in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    in->terminal = isatty(STDIN_FILENO);
    if (in->terminal && history && (in->path = chat_history_path()))
        chat_history_load(&in->past, in->path);
    if (in->terminal)
        edit_open(in);
    return in;
}

void chat_input_close(chat_input *in)
{
    if (!in)
        return;
    edit_close(in);
    if (in->path && in->past.count)
        chat_history_save(&in->past, in->path);
    chat_history_free(&in->past);
    free(in->path);
    free(in->line);
    free(in);
}

int chat_input_is_terminal(const chat_input *in)
{
    return in->terminal;
}
