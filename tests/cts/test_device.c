/* SPDX-License-Identifier: MIT
 * The plugin object, device information, opening and closing. */
#include "tests/cts/cts.h"

#include <ctype.h>
#include <string.h>

void test_plugin_object(cts *t)
{
    const qp_plugin *p = t->plugin;
    ok(p->abi_minor <= 1000 && p->struct_size % 4 == 0, "numbers make sense: struct_size %u, ABI %u.%u", p->struct_size,
       p->abi_major, p->abi_minor);
    int plain = p->name && p->name[0] && strlen(p->name) < 32;
    for (const char *c = p->name; plain && *c; c++)
        plain = islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_' || *c == '-';
    ok(plain, "the name is lower case without spaces: \"%s\"", p->name ? p->name : "(none)");
    ok(p->version && p->version[0] && strlen(p->version) < 64, "the version is there: \"%s\"", p->version ? p->version : "(none)");
    const qp_backend *b = t->backend;
    ok(b->struct_size >= sizeof *b, "the backend table is whole: %u of at least %zu bytes", b->struct_size, sizeof *b);
    int missing = 0;
    for (size_t at = offsetof(qp_backend, device_count); at < sizeof *b; at += sizeof(void (*)(void))) {
        void *pointer;
        memcpy(&pointer, (const char *)b + at, sizeof pointer);
        missing += pointer == NULL;
    }
    ok(!missing, "every function of the table is there");
    ok(b->get_extension("no such thing/1") == NULL, "an unknown extension is NULL");
    b->device_close(NULL);
    b->buffer_destroy(NULL);
    b->program_destroy(NULL);
    b->timeline_destroy(NULL);
    ok(1, "destroying NULL does nothing");
}

static int terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static void check_heaps(const qp_device_info *info)
{
    int sizes = 1, alignments = 1;
    uint32_t known = QP_HEAP_DEVICE_LOCAL | QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED | QP_HEAP_UNIFIED;
    ok(info->heap_count >= 1 && info->heap_count <= QP_MAX_HEAPS, "%u heaps", info->heap_count);
    for (uint32_t i = 0; i < info->heap_count && i < QP_MAX_HEAPS; i++) {
        const qp_heap *h = &info->heaps[i];
        sizes = sizes && h->size && h->budget <= h->size && h->max_allocation; /* drivers report larger ones than a small heap */
        alignments =
            alignments && h->alignment && !(h->alignment & (h->alignment - 1)) && h->alignment <= 65536 && !(h->flags & ~known);
        if (h->flags & QP_HEAP_HOST_CACHED)
            alignments = alignments && h->flags & QP_HEAP_HOST_VISIBLE;
    }
    ok(sizes, "each heap has a size, a budget within it and a largest allocation");
    ok(alignments, "alignments are powers of two, flags are known, cached heaps are visible");
    ok(info->weight_heap < info->heap_count && info->host_heap < info->heap_count, "weight_heap %u and host_heap %u exist",
       info->weight_heap, info->host_heap);
}

void test_device_info(cts *t)
{
    qp_device_info info = {.struct_size = sizeof info};
    uint32_t count = t->backend->device_count();
    ok(count == t->backend->device_count(), "the count of devices is stable: %u", count);
    qp_status status = t->backend->device_info(t->index, &info, cts_words(t));
    cts_worked(t, status, "device_info");
    ok(info.struct_size == sizeof info, "struct_size is left as the caller set it");
    ok(terminated(info.name, sizeof info.name) && info.name[0], "the name is there and ends: %.127s", info.name);
    ok(terminated(info.driver, sizeof info.driver), "the driver's name ends");
    ok(terminated(info.features, sizeof info.features), "the features end: %.255s", info.features);
    ok(info.kind <= QP_DEVICE_NULL, "the kind %u is known", info.kind);
    check_heaps(&info);
    if (info.flags & QP_DEVICE_HAS_PCI)
        ok(info.pci_bus < 256 && info.pci_device < 32 && info.pci_function < 8, "the PCI address makes sense");

    /* A host that knows less gets less, one that knows more gets its other bytes left alone. */
    struct {
        qp_device_info info;
        uint8_t later[64];
    } wide;
    memset(&wide, 0x5a, sizeof wide);
    wide.info.struct_size = sizeof wide;
    status = t->backend->device_info(t->index, &wide.info, cts_words(t));
    int kept = 1;
    for (size_t i = 0; i < sizeof wide.later; i++)
        kept = kept && wide.later[i] == 0x5a;
    ok(status == QP_OK && kept && wide.info.heap_count == info.heap_count,
       "a struct from a later minor is filled as far as it is known");
    memset(&wide, 0x5a, sizeof wide);
    wide.info.struct_size = offsetof(qp_device_info, heaps);
    status = t->backend->device_info(t->index, &wide.info, cts_words(t));
    kept = 1;
    for (size_t i = offsetof(qp_device_info, heaps); i < sizeof wide; i++)
        kept = kept && ((const uint8_t *)&wide)[i] == 0x5a;
    ok(kept, "nothing is written past struct_size (status %d)", status);
    cts_refused(t, t->backend->device_info(count, &info, cts_words(t)), QP_OK, "information on a device past the last");
    cts_refused(t, t->backend->device_info(UINT32_MAX, &info, cts_words(t)), QP_OK, "information on device 2^32 - 1");
    ok(t->backend->device_info(count, &info, NULL) < 0, "without a qp_text it fails all the same");
    char small[8];
    memset(small, 'x', sizeof small);
    qp_text text = {.data = small, .size = 5};
    t->backend->device_info(count, &info, &text);
    ok(memchr(small, 0, 5) && small[5] == 'x', "words are cut to a small text and end");
    qp_text none = {.data = NULL, .size = 0};
    ok(t->backend->device_info(count, &info, &none) < 0, "a qp_text without room is no trouble");
}

void test_device_open(cts *t)
{
    const qp_backend *b = t->backend;
    qp_device *device = NULL, *second = NULL;
    int opened = 0;
    for (int i = 0; i < 5; i++)
        if (b->device_open(t->index, &t->options, &device, cts_words(t)) == QP_OK) {
            opened++;
            b->device_close(device);
        }
    ok(opened == 5, "opens and closes five times%s%s", opened == 5 ? "" : ": ", t->words);
    device = NULL;
    qp_status status = b->device_open(t->index, NULL, &device, cts_words(t));
    cts_worked(t, status, "opens without options");
    status = b->device_open(t->index, &t->options, &second, cts_words(t));
    ok(status == QP_OK || (status < 0 && t->words[0]), "opened twice at a time: works, or is refused in words (%d)", status);
    if (status == QP_OK)
        b->device_close(second);
    b->device_close(device);

    device = (qp_device *)t;
    cts_refused(t, b->device_open(b->device_count(), &t->options, &device, cts_words(t)), QP_OK, "a device past the last");
    ok(device == (qp_device *)t, "on failure the output is left as it was");
    qp_device_options options = {.struct_size = sizeof options, .variant = "no such variant"};
    status = b->device_open(t->index, &options, &device, cts_words(t));
    if (status == QP_OK && !t->computes) { /* a device without kernels has no variants to mistake */
        b->device_close(device);
        cts_skip("a null device has no variants", "an unknown variant");
    } else {
        cts_refused(t, status, QP_ERR_NOT_FOUND, "an unknown variant");
    }
    options = t->options;
    options.threads = 1;
    status = b->device_open(t->index, &options, &device, cts_words(t));
    if (cts_worked(t, status, "opens with one thread"))
        b->device_close(device);
    options.threads = 1000000;
    status = b->device_open(t->index, &options, &device, cts_words(t));
    ok(status == QP_OK || (status < 0 && t->words[0]), "a million threads: clamped or refused in words (%d: %s)", status, t->words);
    if (status == QP_OK)
        b->device_close(device);
    qp_device_options old; /* what lies past struct_size must not be read */
    memset(&old, 0x5a, sizeof old);
    old.struct_size = sizeof old.struct_size;
    status = b->device_open(t->index, &old, &device, cts_words(t));
    if (cts_worked(t, status, "options cut off after struct_size are taken as defaults"))
        b->device_close(device);
}

void test_device_leaks(cts *t)
{
    const qp_backend *b = t->backend;
    cts_host_counts first = {0}, last = {0};
    int failed = 0;
    for (int i = 0; i < 8; i++) {
        qp_device *device = NULL;
        qp_buffer *buffer = NULL;
        qp_timeline *timeline = NULL;
        qp_status status = b->device_open(t->index, &t->options, &device, cts_words(t));
        if (status == QP_OK) {
            failed += b->buffer_create(device, t->info.weight_heap, 4096, &buffer, cts_words(t)) != QP_OK;
            failed += b->timeline_create(device, 1, &timeline, cts_words(t)) != QP_OK;
            b->timeline_destroy(timeline);
            b->buffer_destroy(buffer);
            b->device_close(device);
        }
        failed += status != QP_OK;
        *(i ? &last : &first) = cts_host_now(); /* the first round may set up what lives as long as the plugin */
    }
    ok(!failed, "eight rounds of open, create, destroy, close%s%s", failed ? ": " : "", t->words);
    ok(last.blocks == first.blocks && last.bytes == first.bytes,
       "the host's memory comes back: %lld blocks, %lld bytes out after one round, %lld, %lld after eight", (long long)first.blocks,
       (long long)first.bytes, (long long)last.blocks, (long long)last.bytes);
    ok(last.threads == 0, "no thread of the host's is left (%lld)", (long long)last.threads);
}
