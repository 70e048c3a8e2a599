/* SPDX-License-Identifier: MIT
 * cli/main.c: picks the subcommand. */
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <fcntl.h>
#include <quern/log.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const cli_command *const commands[] = {
#define CLI_ENTRY(name) &cli_##name,
    CLI_COMMANDS(CLI_ENTRY)
#undef CLI_ENTRY
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static const cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i]->name, name))
            return commands[i];
    return NULL;
}

static void print_overview(void)
{
    cli_print("Quern runs language models on your own hardware.\n\n"
              "usage: quern COMMAND [arguments]\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        cli_print("  %-12s%s\n", commands[i]->name, commands[i]->summary);
    cli_print("\nA first try, with the small model that comes with quern:\n"
              "  quern run -p \"It was a dark night, and\" -n 100\n\n"
              "Your own model, in GGUF format:\n"
              "  quern inspect model.gguf\n"
              "  quern run model.gguf -p \"Once upon a time\"\n\n"
              "quern COMMAND --help explains a command; --json gives results as JSON; quern --version tells the version.\n"
              "Results go to stdout, all else to stderr. Exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.\n"
              "Environment: QUERN_PLUGIN_PATH (more folders with plugins), QUERN_DATA (folder of the default model),\n"
              "QUERN_LOG (error, warn, info or debug: what is told on stderr; default warn).\n");
}

static int unknown_command(const char *name)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    const char *near = cli_nearest(name, names, COMMAND_COUNT, sizeof *names);
    if (near)
        return cli_usage("there is no command '%s', did you mean '%s'? (quern --help lists them)", name, near);
    return cli_usage("there is no command '%s' (quern --help lists them)", name);
}

static int help(const char *name)
{
    if (!name) {
        print_overview();
        return CLI_OK;
    }
    const cli_command *command = find_command(name);
    if (!command)
        return unknown_command(name);
    cli_print_help(command);
    return CLI_OK;
}

static int run_command(const cli_command *command, int argc, char **argv)
{
    uint32_t operand_count = 0;
    void *args = calloc(1, command->args_size);
    if (!args)
        return cli_fail("no memory for %zu bytes", command->args_size);
    memcpy(args, command->defaults, command->args_size);
    int status = CLI_USAGE;
    switch (cli_parse(command, argc, argv, args, &operand_count)) {
    case CLI_PARSED: status = command->run(args, argv, operand_count); break;
    case CLI_PARSED_HELP: status = help(command->name); break;
    case CLI_PARSED_ERROR: break;
    }
    free(args);
    return status;
}

static void on_log(void *ctx, quern_log_level level, const char *message)
{
    static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
    (void)ctx;
    cli_note("%s%s", (unsigned)level < 4 ? names[level] : "", message);
}

static void start_log(void)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const char *wanted = getenv("QUERN_LOG");
    quern_log_level level = QUERN_LOG_WARN;
    for (unsigned i = 0; wanted && i < 4; i++)
        if (!strcmp(wanted, names[i]))
            level = (quern_log_level)i;
    quern_log_set(on_log, NULL, level);
}

/* A caller may have closed one of the three: a model file must not become number 1. Reading /dev/null makes writes to it fail. */
static void open_standard_files(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
            return;
}

int main(int argc, char **argv)
{
    open_standard_files();
    cli_signals_init();
    start_log();
    const char *word = argc > 1 ? argv[1] : NULL;
    const cli_command *command = word ? find_command(word) : NULL;
    int status;
    if (command)
        status = run_command(command, argc - 2, argv + 2);
    else if (!word)
        status =
            cli_usage("name a command: quern --help lists them; quern run -p \"It was a dark night, and\" -n 100 is a first try");
    else if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
        status = help(argc > 2 ? argv[2] : NULL);
    else if (!strcmp(word, "--version"))
        status = cli_print("quern %s\n", QUERN_VERSION) ? CLI_OK : CLI_FAILED;
    else if (word[0] == '-')
        status = cli_usage("there is no option %s here: a command comes first (quern --help lists them)", word);
    else
        status = unknown_command(word);
    return cli_finish(status);
}
