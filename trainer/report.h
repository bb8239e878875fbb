/* report.html: one file without links to anything else, made from metrics.jsonl and a list of facts. Plots of loss, kNN
 * accuracy, learning rate, throughput and the spread of projections, as inline SVG; light and dark by the reader's
 * setting. */
#ifndef LK_TRAINER_REPORT_H
#define LK_TRAINER_REPORT_H

#include <stddef.h>

#include "base/buf.h"

struct lk_report_fact {
    const char *name, *value; /* value NULL: name is a heading */
};

/* Appends the page to out. metrics: the text of metrics.jsonl (lines that are cut or foreign are passed over), NUL-ended.
 * verdict: one sentence at the top; "" for none. */
int lk_report_page(struct lk_buf *out, const char *title, const char *verdict, const char *metrics,
                   const struct lk_report_fact *facts, size_t n_facts);

#endif
