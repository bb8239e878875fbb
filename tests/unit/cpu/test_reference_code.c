/* Is a convolution refused that oneDNN could only compute by its reference code, 50 to 100 times too slowly? */
#include "check.h"
#include "base/err.h"
#include "cpu/dnnl.h"

/* Planes in, pixel by pixel out: a pair of layouts for which oneDNN has nothing but loops. */
static int plan(double macs) {
    struct lk_dnnl d = {0};
    struct lk_prim forward = {0};
    lk_md *src = NULL, *weights = NULL, *dst = NULL;
    int rc;
    if ((rc = lk_dnnl__open(&d, 1)) || (rc = lk_dnnl__md(&src, LK_DT_F32, LK_NCHW, 1, 3, 32, 32)) ||
        (rc = lk_dnnl__md(&weights, LK_DT_F32, LK_ANY, 64, 3, 3, 3)) ||
        (rc = lk_dnnl__md(&dst, LK_DT_F32, LK_NHWC, 1, 64, 32, 32)))
        goto done;
    struct lk_conv_spec spec = {.inference = 1,
                                .stride = 1,
                                .pad = 1,
                                .pad_right_h = 1,
                                .pad_right_w = 1,
                                .src = src,
                                .weights = weights,
                                .dst = dst,
                                .macs = macs};
    rc = lk_dnnl__forward(&forward, &d, &spec);
done:
    lk_dnnl__prim_free(&forward);
    lk_dnnl__md_free(src);
    lk_dnnl__md_free(weights);
    lk_dnnl__md_free(dst);
    lk_dnnl__close(&d);
    return rc;
}

static void it_is_refused_by_name(void) {
    LK_CHECK_INT(plan(64.0 * 3 * 9 * 32 * 32), LK_EUNSUPPORTED);
    LK_CHECK_HOLDS(lk_error(), "only reference code (ref");
    LK_CHECK_HOLDS(lk_error(), "a convolution");
}

static void a_tiny_one_may_be_slow(void) { LK_CHECK_INT(plan(1000), 0); }

static const struct lk_case cases[] = {LK_CASE(it_is_refused_by_name), LK_CASE(a_tiny_one_may_be_slow)};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
