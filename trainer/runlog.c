#include "runlog.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "json.h"

int lk_runlog_open(struct lk_runlog *out, const char *folder, uint64_t keep) {
    struct lk_buf path = {0};
    struct stat st;
    memset(out, 0, sizeof *out);
    if (lk_buf_printf(&path, "%s/metrics.jsonl", folder) != 0) {
        lk_buf_free(&path);
        return LK_ENOMEM;
    }
    out->path = (char *)path.data;
    if (keep > 0 && (stat(out->path, &st) != 0 || (uint64_t)st.st_size < keep)) {
        lk_log_warn("%s is shorter than when the checkpoint was taken: what is missing stays missing", out->path);
        keep = stat(out->path, &st) == 0 ? (uint64_t)st.st_size : 0;
    }
    if (keep > 0 && truncate(out->path, (off_t)keep) != 0) {
        int rc = lk_err(LK_EIO, "%s: %s", out->path, strerror(errno));
        lk_runlog_close(out);
        return rc;
    }
    out->file = fopen(out->path, keep > 0 ? "a" : "w");
    out->bytes = keep;
    if (out->file == NULL) {
        int rc = lk_err(LK_EIO, "%s: %s", out->path, strerror(errno));
        lk_runlog_close(out);
        return rc;
    }
    return 0;
}

void lk_runlog_close(struct lk_runlog *log) {
    if (log->file != NULL)
        fclose(log->file);
    free(log->path);
    memset(log, 0, sizeof *log);
}

int lk_runlog_flush(struct lk_runlog *log) {
    return fflush(log->file) == 0 ? 0 : lk_err(LK_EIO, "%s: %s", log->path, strerror(errno));
}

/* Takes a buffer that holds an object without its closing brace, and frees it. */
static int write_line(struct lk_runlog *log, struct lk_buf *line, int rc) {
    if (rc == 0)
        rc = lk_buf_append(line, "}\n", 2);
    if (rc == 0 && fwrite(line->data, 1, line->size, log->file) != line->size)
        rc = lk_err(LK_EIO, "%s: %s", log->path, strerror(errno));
    if (rc == 0)
        log->bytes += line->size;
    lk_buf_free(line);
    return rc;
}

/* A number with so many decimals, without the noise of a product. */
static int decimals(struct lk_buf *b, const char *name, double x, int n) {
    char text[64];
    snprintf(text, sizeof text, "%.*f", n, x);
    return lk_json_number(b, name, isfinite(x) ? strtod(text, NULL) : x);
}

int lk_runlog_step(struct lk_runlog *log, const struct lk_step_record *r) {
    struct lk_buf b = {0};
    int rc = lk_buf_append(&b, "{", 1) || lk_json_text(&b, "kind", "step") ||
             lk_json_number(&b, "epoch", (double)r->epoch) || lk_json_number(&b, "step", (double)r->step) ||
             lk_json_float(&b, "loss", r->loss) || lk_json_float(&b, "lr", r->lr) || lk_json_float(&b, "tau", r->tau) ||
             decimals(&b, "spread", r->spread, 5);
    return write_line(log, &b, rc ? LK_ENOMEM : 0);
}

int lk_runlog_epoch(struct lk_runlog *log, const struct lk_epoch_record *r) {
    struct lk_buf b = {0};
    int rc = lk_buf_append(&b, "{", 1) || lk_json_text(&b, "kind", "epoch") ||
             lk_json_number(&b, "epoch", (double)r->epoch);
    if (!rc && r->trained)
        rc = decimals(&b, "loss", r->loss, 6) || lk_json_float(&b, "lr", r->lr) || lk_json_float(&b, "tau", r->tau) ||
             decimals(&b, "spread", r->spread, 5) || decimals(&b, "images_per_second", r->images_per_second, 2) ||
             decimals(&b, "seconds", r->seconds, 3);
    const struct lk_evaluation *e = r->evaluation;
    if (!rc && e != NULL && e->has_knn)
        rc = decimals(&b, "knn", e->score.knn, 2) || decimals(&b, "nn1", e->score.nn1, 2);
    if (!rc && e != NULL && e->has_alignment)
        rc = decimals(&b, "alignment", e->alignment, 5);
    if (!rc && e != NULL)
        rc = decimals(&b, "uniformity", e->uniformity, 5) || decimals(&b, "embedding_spread", e->spread, 5);
    rc = write_line(log, &b, rc ? LK_ENOMEM : 0);
    return rc ? rc : lk_runlog_flush(log);
}

int lk_runlog_final(struct lk_runlog *log, const struct lk_final_record *r) {
    struct lk_buf b = {0};
    int rc = lk_buf_append(&b, "{", 1) || lk_json_text(&b, "kind", "final") ||
             lk_json_number(&b, "epochs", (double)r->epochs) || lk_json_number(&b, "steps", (double)r->steps) ||
             lk_json_number(&b, "images", (double)r->images) || decimals(&b, "loss", r->loss, 6) ||
             decimals(&b, "images_per_second", r->images_per_second, 2) || decimals(&b, "wall_s", r->wall_seconds, 1);
    if (!rc && r->knn >= 0)
        rc = decimals(&b, "knn", r->knn, 2) || decimals(&b, "nn1", r->nn1, 2) ||
             decimals(&b, "knn_max", r->knn_max, 2) || lk_json_text(&b, "knn_protocol", r->protocol);
    if (!rc)
        rc = lk_json_text(&b, "device", r->device) || lk_json_number(&b, "collapsed", r->collapsed);
    rc = write_line(log, &b, rc ? LK_ENOMEM : 0);
    return rc ? rc : lk_runlog_flush(log);
}
