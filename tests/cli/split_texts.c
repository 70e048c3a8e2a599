/* SPDX-License-Identifier: MIT
 * split_texts FILE.inp FOLDER: writes the texts of a tokenizer fixture, which a line "__ggml_vocab_test__" separates, to
 * FOLDER/000, 001, … byte for byte, and prints how many there are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_text(const char *folder, int number, const char *text, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%03d", folder, number);
    FILE *file = fopen(path, "wb");
    if (!file)
        return 0;
    int fine = fwrite(text, 1, size, file) == size;
    return !fclose(file) && fine;
}

int main(int argc, char **argv)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    char *data = file ? calloc(1, (1 << 20) + 1) : NULL;
    if (!data)
        return 2;
    size_t size = fread(data, 1, 1 << 20, file);
    fclose(file);
    int count = 0, fine = 1;
    for (char *at = data; fine && at <= data + size;) {
        char *end = memmem(at, size - (size_t)(at - data), mark, sizeof mark - 1);
        size_t length = end ? (size_t)(end - at) : size - (size_t)(at - data);
        fine = write_text(argv[2], count++, at, length);
        at += length + sizeof mark - 1;
        if (!end)
            break;
    }
    printf("%d\n", count);
    free(data);
    return !fine;
}
