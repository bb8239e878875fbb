/* Does what was acknowledged survive a power cut, at every sync of a load, whatever of the rest survives? */
#include "fixture.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "base/log.h"
#include "power/power_vfs.h"
#include "store/store_internal.h"

enum { PER_BATCH = 4, IDS = 17, BATCHES = 14 };

/* What write number n does, so that the state after any number of writes can be worked out. */
static void name_of(char id[24], int n) { snprintf(id, 24, "item %d", n * 5 % IDS); }
static void image_of(char image[20000], int n) {
    memset(image, 'a' + n % 26, 19999);
    snprintf(image, 12, "%d", n);
    image[strlen(image)] = '-';
    image[n % 3 == 0 ? 19999 : 200] = '\0'; /* some on several pages */
}
static int is_delete(int n) { return n % 7 == 5; }

static int write_batch(struct lk_store *store, int from) {
    char id[24];
    static char image[20000];
    int rc = lk_store_begin(store);
    for (int n = from; n < from + PER_BATCH && rc == 0; n++) {
        name_of(id, n);
        image_of(image, n);
        rc = is_delete(n) ? lk_store_delete(store, id, NULL) : put_in(store, id, image, "s", (float)n);
        rc = rc == LK_ENOTFOUND ? 0 : rc;
    }
    return rc < 0 ? rc : lk_store_commit(store);
}

/* The process whose power is cut. Tells after each batch how many writes were acknowledged; 0: all done. */
static int load(const char *path, int tell) {
    struct lk_store *store;
    int n = 0;
    if (lk_store_open(&store, path, NULL) < 0)
        return 1;
    store->long_wal = store->wal_patience = 30; /* so that the -wal file is checkpointed and begun anew several times */
    for (int batch = 0; batch < BATCHES; batch++) {
        if (write_batch(store, n) < 0)
            return 2;
        n += PER_BATCH;
        if (write(tell, &n, sizeof n) != (ssize_t)sizeof n)
            return 3;
    }
    lk_store_close(store);
    return 0;
}

static int is_state_after(struct lk_store *store, int n) {
    int last[IDS];
    memset(last, -1, sizeof last);
    for (int i = 0; i < n; i++)
        last[i * 5 % IDS] = i;
    for (int i = 0; i < IDS; i++) {
        char id[24], media_type[64];
        static char image[20000];
        struct lk_buf got = {0};
        struct copy c = {0};
        snprintf(id, sizeof id, "item %d", i);
        const int there = last[i] >= 0 && !is_delete(last[i]);
        if (lk_store_get(store, id, "s", copy_item, &c) != (there ? 0 : LK_ENOTFOUND))
            return 0;
        if (!there)
            continue;
        image_of(image, last[i]);
        const int rc = lk_store_image(store, id, &got, media_type);
        const int same = rc == 0 && got.size == strlen(image) && memcmp(got.data, image, got.size) == 0 && c.dim == 3 &&
                         c.vector[0] == (float)last[i];
        lk_buf_free(&got);
        if (!same)
            return 0;
    }
    return 1;
}

/* 1: everything acknowledged is there. 0: not, or the file is damaged. */
static int is_whole(struct fixture *f, int acknowledged) {
    int whole = 0;
    if (lk_store_open(&f->store, f->path, NULL) == 0) {
        whole = is_state_after(f->store, acknowledged) || is_state_after(f->store, acknowledged + PER_BATCH);
        whole = whole && put(f->store, "one more", "image", "s", 1) == 0;
        lk_store_close(f->store);
        f->store = NULL;
        whole = whole && fixture_sql(f, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") == 1;
    }
    return whole;
}

struct outcome {
    int cuts, damaged, acknowledged, past_first; /* past_first: cuts after the first acknowledgement */
};

/* Runs the load once for every sync that it makes and cuts there. */
static struct outcome cut_everywhere(const char *start_from, int torn, int lies, uint64_t seed) {
    struct outcome o = {0};
    struct power_control *control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                                         0);
    if (control == MAP_FAILED)
        abort();
    for (int at = 1, done = 0; !done && at < 1000; at++) {
        struct fixture f;
        int tell[2], status = -1, n, acknowledged = 0;
        fixture_folder(&f);
        if (start_from != NULL) {
            char command[1200];
            snprintf(command, sizeof command, "cp '%s' '%s'", start_from, f.path);
            LK_CHECK_INT(system(command), 0); /* NOLINT(cert-env33-c,concurrency-mt-unsafe): a test's own words */
        }
        *control = (struct power_control){.cut_at = at, .torn = torn, .lies = lies, .seed = seed + (uint64_t)at};
        if (pipe(tell) != 0)
            abort();
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            close(tell[0]);
            power_vfs_install(control);
            _exit(load(f.path, tell[1]));
        }
        close(tell[1]);
        while (read(tell[0], &n, sizeof n) == (ssize_t)sizeof n)
            acknowledged = n;
        close(tell[0]);
        LK_CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
        done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (!done && !LK_CHECK_INT(WEXITSTATUS(status), POWER_CUT))
            done = 1;
        o.cuts += !done;
        o.acknowledged = acknowledged;
        o.past_first += !done && acknowledged > 0;
        if (!is_whole(&f, acknowledged)) {
            o.damaged++;
            if (!lies)
                printf("     cut at sync %d after %d acknowledged writes: %s\n", at, acknowledged, lk_error());
        }
        fixture_close(&f);
    }
    munmap(control, sizeof *control);
    return o;
}

static void at_every_sync_of_a_new_catalogue_all_unsynced_is_lost(void) {
    struct outcome o = cut_everywhere(NULL, 0, 0, 0);
    LK_CHECK_INT(o.damaged, 0);
    LK_CHECK_INT(o.acknowledged, PER_BATCH * BATCHES); /* the last run was not cut */
    LK_CHECK(o.cuts > BATCHES + 10 && o.past_first > BATCHES);
    printf("     %d cuts\n", o.cuts);
}

static void at_every_sync_a_random_part_of_what_is_unsynced_survives(void) {
    int cuts = 0;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct outcome o = cut_everywhere(NULL, 1, 0, seed * 1000);
        LK_CHECK_INT(o.damaged, 0);
        cuts += o.cuts;
    }
    printf("     %d cuts\n", cuts);
}

static void at_every_sync_of_bringing_an_old_catalogue_up_to_date(void) {
    char path[600];
    snprintf(path, sizeof path, "%s/tests/data/catalogue-v1.sqlite", getenv("LK_SOURCE_DIR"));
    LK_CHECK_INT(cut_everywhere(path, 0, 0, 0).damaged, 0);
    LK_CHECK_INT(cut_everywhere(path, 1, 0, 77).damaged, 0);
}

/* If this did not fail, the cases above would show nothing. */
static void a_disk_that_lies_about_the_log_is_noticed(void) {
    struct outcome o = cut_everywhere(NULL, 0, 1, 0);
    printf("     %d of %d cuts lost something\n", o.damaged, o.cuts);
    LK_CHECK(o.damaged > 5);
    o = cut_everywhere(NULL, 1, 1, 5);
    printf("     %d of %d cuts lost something\n", o.damaged, o.cuts);
    LK_CHECK(o.damaged > 5);
}

static const struct lk_case cases[] = {
    LK_CASE(at_every_sync_of_a_new_catalogue_all_unsynced_is_lost),
    LK_CASE(at_every_sync_a_random_part_of_what_is_unsynced_survives),
    LK_CASE(at_every_sync_of_bringing_an_old_catalogue_up_to_date),
    LK_CASE(a_disk_that_lies_about_the_log_is_noticed),
};

int main(int argc, char **argv) {
    lk_log_set_level(LK_LOG_ERROR); /* a line for every migration else */
    return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
