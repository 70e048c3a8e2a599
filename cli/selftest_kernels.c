/* SPDX-License-Identifier: MIT
 * cli/selftest_kernels.c: quern selftest --kernels: every kernel of a device by its plugin's own tests. */
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/selftest_ops.h"

#include <json-c/json.h>
#include <quern/device.h>
#include <string.h>

enum { RESULTS = 3 };
static const char *const result_words[RESULTS] = {"untested", "ok", "not ok"};

typedef struct tally {
    json_object *list; /* NULL: for people */
    qp_kernel_result last;
    unsigned alike; /* results like the last one, which are told together */
    unsigned counts[RESULTS];
} tally;

static void print_last(const tally *t)
{
    if (!t->alike)
        return;
    cli_print("%-10s", result_words[t->last.result]);
    cli_print_text(t->last.kernel, strlen(t->last.kernel), 0);
    if (t->alike > 1)
        cli_print(" (%u forms)", t->alike);
    if (t->last.words[0]) {
        cli_print(": ");
        cli_print_text(t->last.words, strlen(t->last.words), 0);
    }
    cli_print("\n");
}

static void add_json(json_object *list, const qp_kernel_result *result)
{
    json_object *object = json_object_new_object();
    json_object_object_add(object, "kernel", cli_json_text(result->kernel, strlen(result->kernel)));
    json_object_object_add(object, "result", json_object_new_string(result_words[result->result]));
    json_object_object_add(object, "reason", result->words[0] ? cli_json_text(result->words, strlen(result->words)) : NULL);
    json_object_array_add(list, object);
}

static int on_result(void *ctx, const qp_kernel_result *raw)
{
    tally *t = ctx;
    qp_kernel_result result = *raw;
    result.result = result.result < RESULTS ? result.result : QP_KERNEL_UNTESTED;
    result.kernel[sizeof result.kernel - 1] = '\0';
    result.words[sizeof result.words - 1] = '\0';
    t->counts[result.result]++;
    if (t->list) {
        add_json(t->list, &result);
        return 0;
    }
    if (t->alike && !strcmp(t->last.kernel, result.kernel) && t->last.result == result.result &&
        !strcmp(t->last.words, result.words)) {
        t->alike++;
        return 0;
    }
    print_last(t);
    t->last = result;
    t->alike = 1;
    return 0;
}

int st_test_kernels(quern_device *device, const char *only, int json)
{
    quern_error error = {0};
    tally t = {.list = json ? json_object_new_array() : NULL};
    quern_status status = quern_kernels_test(device, only, on_result, &t, &error);
    const char *id = quern_device_id(device);
    if (status != QP_OK) {
        json_object_put(t.list);
        return cli_status(status, &error);
    }
    if (json) {
        json_object *root = json_object_new_object();
        json_object_object_add(root, "device", json_object_new_string(id));
        json_object_object_add(root, "ok", json_object_new_int((int)t.counts[QP_KERNEL_RIGHT]));
        json_object_object_add(root, "not_ok", json_object_new_int((int)t.counts[QP_KERNEL_WRONG]));
        json_object_object_add(root, "untested", json_object_new_int((int)t.counts[QP_KERNEL_UNTESTED]));
        json_object_object_add(root, "kernels", t.list);
        cli_print_json(root);
    } else {
        print_last(&t);
        cli_print("%s: %u ok, %u not ok, %u untested\n", id, t.counts[QP_KERNEL_RIGHT], t.counts[QP_KERNEL_WRONG],
                  t.counts[QP_KERNEL_UNTESTED]);
    }
    if (!t.counts[QP_KERNEL_RIGHT] && !t.counts[QP_KERNEL_WRONG])
        return cli_fail("%s has no kernel whose name contains '%s': nothing was tested", id, only ? only : "");
    if (t.counts[QP_KERNEL_WRONG])
        return cli_fail("%s computes %u kernels wrongly; others take their place where there are some", id,
                        t.counts[QP_KERNEL_WRONG]);
    return CLI_OK;
}
