#include "index_faiss.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <AutoTune_c.h>
#include <IndexFlat_c.h>
#include <Index_c.h>
#include <error_c.h>
#include <index_factory_c.h>
#include <index_io_c.h>
#include <omp.h>
#include <utils/distances_c.h>

#include "base/buf.h"
#include "base/err.h"

/* FAISS 1.7.3's C API cannot give a search its efSearch: it is a field of the index. Searches that want the value that is
 * set go side by side, one that wants another waits until they have left and sets it, by turns. */
struct turns {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t next, serving; /* tickets */
    int searching;
    size_t ef; /* what is set */
};

struct lk_vectors {
    FaissIndex *index;
    size_t dim;
    int is_graph;
    struct turns turns; /* of a graph */
};

static int failed(const char *doing) {
    const char *why = faiss_get_last_error();
    int memory = why != NULL && strstr(why, "bad_alloc") != NULL;
    return lk_err(memory ? LK_ENOMEM : LK_EFAIL, "FAISS, %s: %s", doing, why != NULL ? why : "unknown error");
}

/* FAISS opens a parallel region for a search, whatever there is to do in it, and OpenBLAS takes every thread it can. The
 * setting is the calling thread's own. Returns what it was. */
static int limit_threads(int threads) {
    const int before = omp_get_max_threads();
    if (before != threads)
        omp_set_num_threads(threads);
    return before;
}

static int set_parameter(struct lk_vectors *v, const char *name, size_t value) {
    FaissParameterSpace *space = NULL;
    int rc = 0;
    if (faiss_ParameterSpace_new(&space) != 0 ||
        faiss_ParameterSpace_set_index_parameter(space, v->index, name, (double)value) != 0)
        rc = failed(name);
    faiss_ParameterSpace_free(space);
    return rc;
}

static int open_vectors(struct lk_vectors **out, int dim, int is_graph) {
    struct lk_vectors *v = lk_calloc(1, sizeof *v);
    *out = NULL;
    if (v == NULL)
        return LK_ENOMEM;
    v->dim = (size_t)dim;
    v->is_graph = is_graph;
    (void)pthread_mutex_init(&v->turns.mutex, NULL); /* neither can fail on Linux */
    (void)pthread_cond_init(&v->turns.changed, NULL);
    *out = v;
    return 0;
}

/* Room is reserved by filling and emptying it: a C++ vector keeps its capacity. */
int lk_vectors_flat(struct lk_vectors **out, int dim, size_t reserve) {
    float *zeros = NULL;
    int rc = open_vectors(out, dim, 0);
    if (rc == 0 && (zeros = lk_calloc(reserve * (size_t)dim, sizeof *zeros)) == NULL)
        rc = LK_ENOMEM;
    if (rc == 0 &&
        (faiss_IndexFlat_new_with(&(*out)->index, dim, METRIC_INNER_PRODUCT) != 0 ||
         faiss_Index_add((*out)->index, (faiss_idx_t)reserve, zeros) != 0 || faiss_Index_reset((*out)->index) != 0))
        rc = failed("making an index");
    free(zeros);
    if (rc < 0) {
        lk_vectors_free(*out);
        *out = NULL;
    }
    return rc;
}

int lk_vectors_graph(struct lk_vectors **out, int dim, int m, int ef_construction) {
    char description[32];
    int rc = open_vectors(out, dim, 1);
    snprintf(description, sizeof description, "HNSW%d,Flat", m);
    if (rc == 0 && faiss_index_factory(&(*out)->index, dim, description, METRIC_INNER_PRODUCT) != 0)
        rc = failed("making a graph");
    if (rc == 0)
        rc = set_parameter(*out, "efConstruction", (size_t)ef_construction);
    if (rc < 0) {
        lk_vectors_free(*out);
        *out = NULL;
    }
    return rc;
}

/* FAISS 1.7.3's faiss_clone_index forgets that the graph is over a Flat index, and what it makes cannot be written to a
 * file. So the copy is written by one thread and read by another. */
struct copying {
    const struct lk_vectors *from;
    FILE *to;
    int status;
    char error[256];
};

static void *copy_out(void *arg) {
    struct copying *c = arg;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE); /* a reader that fails is an error of writing, not a death */
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    c->status = lk_vectors_write(c->from, c->to);
    if (fclose(c->to) != 0 && c->status == 0)
        c->status = lk_err(LK_EIO, "a graph cannot be copied: %s", strerror(errno));
    if (c->status < 0)
        snprintf(c->error, sizeof c->error, "%s", lk_error());
    return NULL;
}

int lk_vectors_clone(struct lk_vectors **out, const struct lk_vectors *from) {
    struct copying c = {.from = from};
    FILE *in = NULL;
    pthread_t thread;
    int ends[2], rc;
    *out = NULL;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return lk_err(LK_EFAIL, "no pipe to copy a graph: %s", strerror(errno));
    in = fdopen(ends[0], "rb");
    c.to = fdopen(ends[1], "wb");
    if (in == NULL || c.to == NULL || pthread_create(&thread, NULL, copy_out, &c) != 0) {
        (void)(in != NULL ? fclose(in) : close(ends[0]));
        (void)(c.to != NULL ? fclose(c.to) : close(ends[1]));
        return lk_err(LK_ENOMEM, "no thread or memory to copy a graph");
    }
    rc = lk_vectors_read(out, in, (int)from->dim, (size_t)faiss_Index_ntotal(from->index));
    (void)fclose(in);
    (void)pthread_join(thread, NULL);
    if (rc == 0 && c.status < 0) {
        lk_vectors_free(*out);
        *out = NULL;
        rc = lk_err(c.status, "%s", c.error);
    }
    return rc;
}

void lk_vectors_free(struct lk_vectors *v) {
    if (v == NULL)
        return;
    if (v->index != NULL)
        faiss_Index_free(v->index);
    (void)pthread_mutex_destroy(&v->turns.mutex);
    (void)pthread_cond_destroy(&v->turns.changed);
    free(v);
}

int lk_vectors_add(struct lk_vectors *v, size_t n, const float *vectors, int threads) {
    const int before = limit_threads(v->is_graph ? threads : 1);
    const int rc = faiss_Index_add(v->index, (faiss_idx_t)n, vectors);
    (void)limit_threads(before);
    return rc != 0 ? failed("adding vectors") : 0;
}

static int enter(struct lk_vectors *v, size_t ef) {
    struct turns *t = &v->turns;
    int rc = 0;
    (void)pthread_mutex_lock(&t->mutex);
    const uint64_t ticket = t->next++;
    while (t->serving != ticket || (t->searching > 0 && t->ef != ef))
        (void)pthread_cond_wait(&t->changed, &t->mutex);
    if (t->ef != ef && (rc = set_parameter(v, "efSearch", ef)) == 0)
        t->ef = ef;
    t->searching += rc == 0;
    t->serving++;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
    return rc;
}

static void leave(struct lk_vectors *v) {
    struct turns *t = &v->turns;
    (void)pthread_mutex_lock(&t->mutex);
    if (--t->searching == 0)
        (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mutex);
}

int lk_vectors_search(struct lk_vectors *v, size_t n, const float *queries, size_t ask, size_t ef, float *scores,
                      int64_t *slots) {
    int rc;
    while (ef < ask)
        ef *= 2;
    if (v->is_graph && (rc = enter(v, ef)) < 0)
        return rc;
    const int threads = limit_threads(1);
    rc = faiss_Index_search(v->index, (faiss_idx_t)n, queries, (faiss_idx_t)ask, scores, slots);
    (void)limit_threads(threads);
    if (rc != 0)
        rc = failed("searching");
    if (v->is_graph)
        leave(v);
    return rc;
}

/* Of a Flat index, where they lie. */
static const float *flat_vectors(const struct lk_vectors *v, size_t first) {
    float *vectors = NULL;
    faiss_IndexFlat_xb(v->index, &vectors, NULL);
    return vectors + first * v->dim;
}

int lk_vectors_scores(const struct lk_vectors *v, const float *query, size_t first, size_t n, float *scores) {
    float *copies = NULL;
    int rc = 0;
    if (v->is_graph) { /* its vectors can only be copied out */
        if ((copies = lk_calloc(n * v->dim, sizeof *copies)) == NULL)
            return LK_ENOMEM;
        rc = lk_vectors_copy(v, first, n, copies);
    }
    if (rc == 0)
        faiss_fvec_inner_products_ny(scores, query, v->is_graph ? copies : flat_vectors(v, first), v->dim, n);
    free(copies);
    return rc;
}

int lk_vectors_copy(const struct lk_vectors *v, size_t first, size_t n, float *out) {
    if (!v->is_graph)
        memcpy(out, flat_vectors(v, first), n * v->dim * sizeof *out);
    else if (faiss_Index_reconstruct_n(v->index, (faiss_idx_t)first, (faiss_idx_t)n, out) != 0)
        return failed("copying vectors");
    return 0;
}

int lk_vectors_write(const struct lk_vectors *v, FILE *file) {
    return faiss_write_index(v->index, file) != 0 ? failed("writing a graph") : 0;
}

int lk_vectors_read(struct lk_vectors **out, FILE *file, int dim, size_t count) {
    int rc = open_vectors(out, dim, 1);
    if (rc == 0 && faiss_read_index(file, 0, &(*out)->index) != 0)
        rc = failed("reading a graph");
    if (rc == 0 && (faiss_Index_d((*out)->index) != dim || (size_t)faiss_Index_ntotal((*out)->index) != count ||
                    faiss_Index_metric_type((*out)->index) != METRIC_INNER_PRODUCT))
        rc = lk_err(LK_EFORMAT, "the graph is not one of %zu vectors of %d dimensions", count, dim);
    if (rc < 0) {
        lk_vectors_free(*out);
        *out = NULL;
    }
    return rc;
}
