/* What `retrain` does before and after the training: the server's weights come into the run folder, and the new ones go to
 * the server, which is watched until it serves them. Its pictures come as those of any URL (source.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/fs.h"
#include "base/log.h"
#include "document.h"
#include "remote.h"
#include "run.h"
#include "stop.h"

enum { POLL_MS = 500, LOST_POLLS = 60 }; /* polls in a row without an answer, until the server counts as gone */

static int connect_to(struct lk_remote **out, struct lk_run *run) {
    const struct lk_remote_options options = {
        .key_file = run->config.key_file, .progress = lk_console_bytes, .arg = &run->console, .stop = lk_stop_asked};
    return lk_remote_open(out, run->config.server, &options);
}

static int get_document(struct lk_document **out, struct lk_remote *r, const char *target) {
    struct lk_buf answer = {0};
    *out = NULL;
    int rc = lk_remote_get(r, target, &answer);
    if (rc == 0 && (rc = lk_document_open(out, answer.data, answer.size)) != 0)
        lk_err_prefix(rc, "%s%s", lk_remote_url(r), target);
    lk_buf_free(&answer);
    return rc;
}

/* --- before ---------------------------------------------------------------------------------------------------------- */

static int take_weights(struct lk_run *run, struct lk_remote *r, char *path) {
    struct lk_train_config *c = &run->config;
    struct lk_document *d = NULL;
    double generation = 0;
    int rc = get_document(&d, r, "/model");
    if (rc != 0)
        return rc;
    const char *name = lk_document_text(d, NULL, "model");
    if (name == NULL || !lk_document_number(d, NULL, "generation", &generation))
        rc = lk_err(LK_EFORMAT, "%s/model: not the answer of a likeness-server", lk_remote_url(r));
    else
        lk_console_line(&run->console, "server     %s serves %s, generation %.0f", lk_remote_url(r), name, generation);
    if (rc == 0 && c->name == NULL) /* the name stays, the generation tells them apart */
        rc = lk_config_own(c, &c->name, lk_strdup(name));
    lk_document_close(d);
    if (rc == 0 && c->init == NULL && (rc = lk_remote_fetch(r, "/model/weights", path, NULL)) == 0)
        rc = lk_config_own(c, &c->init, lk_strdup(path));
    lk_console_clear(&run->console);
    return rc;
}

int lk_run_fetch(struct lk_run *run) {
    struct lk_train_config *c = &run->config;
    struct lk_remote *r = NULL;
    if (c->server == NULL) /* resumed, from a run that `pretrain` began */
        return lk_err(LK_EINVAL, "%s is no run of retrain: go on with pretrain --resume, or give --server", c->run_dir);
    char *path = lk_run_path(run, "served.safetensors");
    int rc = path == NULL ? LK_ENOMEM : 0;
    if (rc == 0 && c->data == NULL)
        rc = lk_config_own(c, &c->data, lk_strdup(c->server));
    if (rc == 0 && c->resume) {
        if (lk_fs_exists(path) && !lk_config_given(c, "init")) /* the folder may have moved */
            rc = lk_config_own(c, &c->init, lk_strdup(path));
    } else if (rc == 0 && (rc = lk_fs_mkdir_parents(c->run_dir)) == 0 && (rc = connect_to(&r, run)) == 0) {
        rc = take_weights(run, r, path);
    }
    lk_remote_close(r);
    free(path);
    return rc;
}

/* --- after ----------------------------------------------------------------------------------------------------------- */

static void compare(struct lk_run *run) {
    const struct lk_progress *p = &run->progress;
    const struct lk_evaluation *e = &run->evaluation;
    struct lk_console *c = &run->console;
    if (p->first_knn >= 0 && p->knn >= 0)
        lk_console_line(c, "compared   kNN %.2f %% -> %.2f %%, nearest neighbour %.2f %% -> %.2f %%", p->first_knn,
                        p->knn, p->first_nn1, p->nn1);
    if (p->first_alignment >= 0 && run->evaluated && e->has_alignment)
        lk_console_line(c, "compared   alignment %.3f -> %.3f, uniformity %.3f -> %.3f", p->first_alignment,
                        e->alignment, p->first_uniformity, e->uniformity);
}

static void wait_a_moment(void) {
    struct timespec t = {0, POLL_MS * 1000000L};
    nanosleep(&t, NULL); /* a signal may end it early */
}

struct publication {
    double operation, items, embedded, generation;
    int ended;
};

static int read_status(struct publication *p, const struct lk_document *d) {
    double operation = 0, failed = 0;
    const char *state = lk_document_text(d, NULL, "state"), *error = lk_document_text(d, NULL, "error");
    if (state == NULL || !lk_document_number(d, NULL, "operation", &operation))
        return lk_err(LK_EFORMAT, "/model/status is not the answer of a likeness-server");
    if (operation < p->operation)
        return lk_err(LK_EIO, "the server was started again meanwhile, and knows nothing of the publication");
    if (operation > p->operation)
        return lk_err(LK_EIO, "another publication has begun since; whether this one was served is not known");
    if (strcmp(state, "failed") == 0)
        return lk_err(LK_EFAIL, "the server could not publish them: %s", error != NULL ? error : "no reason given");
    (void)lk_document_number(d, NULL, "items", &p->items);
    (void)lk_document_number(d, NULL, "embedded", &p->embedded);
    (void)lk_document_number(d, NULL, "to_generation", &p->generation);
    p->ended = strcmp(state, "done") == 0;
    if (p->ended && lk_document_number(d, NULL, "failed", &failed) && failed > 0)
        lk_log_warn("%.0f items could not be embedded again and are not searched", failed);
    return 0;
}

/* Until the server serves the new weights. */
static int watch(struct lk_run *run, struct lk_remote *r, struct publication *p) {
    int lost = 0;
    for (;;) {
        struct lk_document *d = NULL;
        int rc = get_document(&d, r, "/model/status");
        if (rc == 0) {
            lost = 0;
            rc = read_status(p, d);
        } else if (rc == LK_EBUSY || rc == LK_EIO) { /* overloaded, or starting again: it may come back */
            if (++lost < LOST_POLLS)
                rc = 0;
        }
        lk_document_close(d);
        if (rc || p->ended)
            return rc;
        if (lk_stop_asked())
            return lk_err(LK_ECANCELLED, "stopped; the server goes on publishing: see %s/model/status",
                          lk_remote_url(r));
        if (lk_console_due(&run->console))
            lk_console_progress(&run->console, "publishing: %.0f of %.0f items embedded again", p->embedded, p->items);
        wait_a_moment();
    }
}

static int hand_over(struct lk_run *run, struct publication *p) {
    struct lk_remote *r = NULL;
    struct lk_buf answer = {0};
    struct lk_document *d = NULL;
    int rc;
    if ((rc = connect_to(&r, run)) || (rc = lk_remote_put(r, "/model", run->config.out, &answer)) ||
        (rc = lk_document_open(&d, answer.data, answer.size)))
        goto done;
    if (!lk_document_number(d, NULL, "operation", &p->operation))
        rc = lk_err(LK_EFORMAT, "%s/model: not the answer of a likeness-server", lk_remote_url(r));
    else
        rc = watch(run, r, p);
done:
    lk_console_clear(&run->console);
    lk_document_close(d);
    lk_buf_free(&answer);
    lk_remote_close(r);
    return rc;
}

/* The reason, and what can be done by hand. */
static int not_published(const struct lk_run *run, int rc) {
    char reason[900];
    const struct lk_train_config *c = &run->config;
    snprintf(reason, sizeof reason, "%s", lk_error());
    return lk_err(rc,
                  "not published: %s. The weights are in %s. To publish them by hand: curl -T %s %s%s/model, or "
                  "likeness-trainer retrain --resume --run-dir %s",
                  reason, c->out, c->out, c->key_file != NULL ? "-H 'Authorization: Bearer KEY' " : "", c->server,
                  c->run_dir);
}

int lk_run_publish(struct lk_run *run) {
    const struct lk_train_config *c = &run->config;
    struct publication p = {0};
    compare(run);
    if (!c->publish) {
        lk_console_line(&run->console, "kept       %s (--no-publish)", c->out);
        return 0;
    }
    if (run->progress.collapsed_epochs > 0 && run->progress.collapse_seen)
        return not_published(run,
                             lk_err(LK_EINVAL, "the projections collapsed, so that all pictures get nearly the same "
                                               "vector"));
    int rc = hand_over(run, &p);
    if (rc != 0)
        return not_published(run, rc);
    lk_console_line(&run->console, "published  %s serves %s as generation %.0f", c->server, c->name, p.generation);
    return 0;
}
