#include "items.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void lk_items_close(struct lk_items *items) {
    if (items->close != NULL)
        items->close(items);
    for (size_t i = 0; i < items->n; i++) {
        free(items->name[i]);
        if (items->label != NULL)
            free(items->label[i]);
    }
    free(items->name);
    free(items->label);
    free(items->place);
    memset(items, 0, sizeof *items);
}

int lk_items_add(struct lk_items *items, size_t *room, char *name, char *label) {
    if (name == NULL)
        goto fail;
    if (items->n == *room) {
        size_t more = *room + *room / 2 + 256;
        char **names = realloc(items->name, more * sizeof *names);
        if (names == NULL)
            goto fail;
        items->name = names;
        char **labels = realloc(items->label, more * sizeof *labels);
        if (labels == NULL)
            goto fail;
        items->label = labels;
        *room = more;
    }
    items->name[items->n] = name;
    items->label[items->n++] = label;
    return 0;
fail:
    free(name);
    free(label);
    return lk_err(LK_ENOMEM, "no memory for the names of pictures");
}
