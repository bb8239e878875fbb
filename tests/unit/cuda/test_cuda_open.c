/* Does opening a device that is not there say why, in one sentence, and leave nothing behind? */
#include "base/err.h"
#include "check.h"
#include "model/backend.h"

static int device_works(void) {
    struct lk_backend *b = NULL;
    int rc = lk_device_open(&b, "cuda:0", NULL);
    if (rc == 0) {
        lk_ops(b)->close(b);
    }
    return rc == 0;
}

static void one_sentence_without_a_device(void) {
    struct lk_backend *b = (struct lk_backend *)&b;
    if (device_works()) {
        lk_skip("this machine has a CUDA device");
        return;
    }
    LK_CHECK_INT(lk_device_open(&b, "cuda:0", NULL), LK_EUNSUPPORTED);
    LK_CHECK(b == NULL);
    LK_CHECK_HOLDS(lk_error(), "device 'cuda:0': ");
    LK_CHECK(strlen(lk_error()) > 30 && !strchr(lk_error(), '\n'));
    printf("     %s\n", lk_error());
}

static void an_ordinal_beyond_the_last(void) {
    struct lk_backend *b = NULL;
    LK_CHECK_INT(lk_device_open(&b, "cuda:1023", NULL), LK_EUNSUPPORTED);
    LK_CHECK_HOLDS(lk_error(), "device 'cuda:1023': ");
}

static void closing_nothing(void) {
    extern const struct lk_backend_ops lk_cuda_ops;
    LK_CHECK_INT(lk_cuda_ops.version, LK_BACKEND_VERSION);
    lk_cuda_ops.close(NULL);
    lk_cuda_ops.plan_free(NULL);
    lk_cuda_ops.pass_free(NULL);
}

static const struct lk_case cases[] = {LK_CASE(one_sentence_without_a_device), LK_CASE(an_ordinal_beyond_the_last),
                                       LK_CASE(closing_nothing)};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
