/* SPDX-License-Identifier: MIT
 * cli/selftest_code.c: quern selftest --compile: what a device's driver makes of its kernels, none of which is run. */
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/selftest_ops.h"

#include <json-c/json.h>
#include <quern/device.h>
#include <string.h>

typedef struct compiled {
    json_object *list; /* NULL: for people */
    unsigned ok, refused;
    uint64_t time_ns;
} compiled;

static void print_text(const char *text, size_t most)
{
    const char *end = memchr(text, '\0', most);
    cli_print_text(text, end ? (size_t)(end - text) : most, 0);
}

static void print_code(const qp_kernel_code *code)
{
    cli_print("%-8s", code->result == QP_KERNEL_RIGHT ? "ok" : "not ok");
    print_text(code->kernel, sizeof code->kernel);
    cli_print("  ");
    print_text(code->module, sizeof code->module);
    cli_print("  %.0f ms", (double)code->time_ns / 1e6);
    if (code->subgroup)
        cli_print(", subgroups of %u", code->subgroup);
    cli_print("\n");
    if (code->words[0]) {
        cli_print("        ");
        print_text(code->words, sizeof code->words);
        cli_print("\n");
    }
    for (uint32_t i = 0; i < code->figure_count; i++) {
        cli_print(i ? ", " : "        ");
        print_text(code->figures[i].name, sizeof code->figures[i].name);
        cli_print(" %.10g", code->figures[i].value);
    }
    if (code->figure_count)
        cli_print("\n");
    for (uint32_t i = 0; i < code->listing_count; i++) {
        cli_print("---- ");
        cli_print_text(code->listings[i].name, strlen(code->listings[i].name), 0);
        cli_print(" ----\n");
        cli_print_text(code->listings[i].text, strlen(code->listings[i].text), 1);
        cli_print("\n");
    }
}

static json_object *text_of(const char *text, size_t most)
{
    const char *end = memchr(text, '\0', most);
    return cli_json_text(text, end ? (size_t)(end - text) : most);
}

static void add_code(json_object *list, const qp_kernel_code *code)
{
    json_object *object = json_object_new_object(), *figures = json_object_new_object();
    json_object_object_add(object, "kernel", text_of(code->kernel, sizeof code->kernel));
    json_object_object_add(object, "module", text_of(code->module, sizeof code->module));
    json_object_object_add(object, "result", json_object_new_string(code->result == QP_KERNEL_RIGHT ? "ok" : "not ok"));
    json_object_object_add(object, "reason", code->words[0] ? text_of(code->words, sizeof code->words) : NULL);
    json_object_object_add(object, "ms", cli_json_real((double)code->time_ns / 1e6));
    json_object_object_add(object, "subgroup", code->subgroup ? json_object_new_int64(code->subgroup) : NULL);
    for (uint32_t i = 0; i < code->figure_count; i++) {
        char name[sizeof code->figures[i].name + 1] = "";
        memcpy(name, code->figures[i].name, sizeof code->figures[i].name);
        json_object_object_add(figures, name, cli_json_real(code->figures[i].value));
    }
    json_object_object_add(object, "figures", figures);
    if (code->listing_count) {
        json_object *listings = json_object_new_object();
        for (uint32_t i = 0; i < code->listing_count; i++)
            json_object_object_add(listings, code->listings[i].name,
                                   cli_json_text(code->listings[i].text, strlen(code->listings[i].text)));
        json_object_object_add(object, "texts", listings);
    }
    json_object_array_add(list, object);
}

static int on_code(void *ctx, const qp_kernel_code *code)
{
    compiled *c = ctx;
    c->ok += code->result == QP_KERNEL_RIGHT;
    c->refused += code->result != QP_KERNEL_RIGHT;
    c->time_ns += code->time_ns;
    if (c->list)
        add_code(c->list, code);
    else
        print_code(code);
    return 0;
}

int st_compile_kernels(quern_device *device, const char *only, uint32_t flags, int json)
{
    quern_error error = {0};
    compiled c = {.list = json ? json_object_new_array() : NULL};
    quern_status status = quern_kernels_compile(device, only, flags, on_code, &c, &error);
    const char *id = quern_device_id(device);
    if (status != QP_OK) {
        json_object_put(c.list);
        return cli_status(status, &error);
    }
    if (json) {
        json_object *root = json_object_new_object();
        json_object_object_add(root, "device", json_object_new_string(id));
        json_object_object_add(root, "ok", json_object_new_int((int)c.ok));
        json_object_object_add(root, "not_ok", json_object_new_int((int)c.refused));
        json_object_object_add(root, "kernels", c.list);
        cli_print_json(root);
    } else {
        cli_print("%s: %u compiled, %u refused by the driver, %.1f s\n", id, c.ok, c.refused, (double)c.time_ns / 1e9);
    }
    if (!c.ok && !c.refused)
        return cli_fail("%s has no kernel whose name contains '%s': nothing was compiled", id, only ? only : "");
    if (c.refused)
        return cli_fail("the driver of %s does not compile %u kernels; others take their place where there are some", id, c.refused);
    return CLI_OK;
}
