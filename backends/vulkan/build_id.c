/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/build_id.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static char id[2 * 64 + 1];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void take_note(const ElfW(Nhdr) * note)
{
    const uint8_t *bytes = (const uint8_t *)(note + 1) + 4;
    for (uint32_t i = 0; i < note->n_descsz && 2 * i + 2 < sizeof id; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

/* Notes are a header, a name and a description, the last two filled up to four bytes. */
static void look_through(const char *at, size_t size)
{
    while (size >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        size_t whole = sizeof *note + (((size_t)note->n_namesz + 3) & ~(size_t)3) + (((size_t)note->n_descsz + 3) & ~(size_t)3);
        if (whole > size)
            return;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && !memcmp(note + 1, "GNU", 4))
            take_note(note);
        at += whole;
        size -= whole;
    }
}

static int is_ours(const struct dl_phdr_info *object)
{
    uintptr_t me = (uintptr_t)&once;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &object->dlpi_phdr[i];
        if (h->p_type == PT_LOAD && me - (object->dlpi_addr + h->p_vaddr) < h->p_memsz)
            return 1;
    }
    return 0;
}

static int visit(struct dl_phdr_info *object, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (!is_ours(object))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_NOTE)
            look_through((const char *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr), object->dlpi_phdr[i].p_memsz);
    return 1;
}

static void find(void)
{
    dl_iterate_phdr(visit, NULL);
}

const char *qv_build_id(void)
{
    pthread_once(&once, find);
    return id;
}
