/* Are the run's records well-formed: JSON lines, the cut of a resumed run, plots and the report page? */
#include "check.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fs.h"
#include "trainer/json.h"
#include "trainer/plot.h"
#include "trainer/report.h"
#include "trainer/runlog.h"

static char folder[64];

static void json_text_is_escaped_and_numbers_read_back(void) {
    struct lk_buf b = {0};
    double x = 0;
    LK_CHECK_INT(lk_buf_append(&b, "{", 1), 0);
    LK_CHECK_INT(lk_json_text(&b, "name", "a\"b\\c\n\x01 \xC3\xA9 \xFF"), 0);
    LK_CHECK_INT(lk_json_number(&b, "third", 1.0 / 3), 0);
    LK_CHECK_INT(lk_json_float(&b, "tenth", .1f), 0);
    LK_CHECK_INT(lk_json_number(&b, "none", (double)NAN), 0);
    LK_CHECK_INT(lk_buf_append(&b, "}", 2), 0);
    const char *text = (const char *)b.data;
    LK_CHECK_HOLDS(text, "\"name\": \"a\\\"b\\\\c\\u000a\\u0001 \xC3\xA9 \xEF\xBF\xBD\", \"third\": ");
    LK_CHECK_HOLDS(text, "\"tenth\": 0.1,");
    LK_CHECK_HOLDS(text, "\"none\": null}");
    LK_CHECK_INT(lk_json_find(&x, text, "third"), 1);
    LK_CHECK(x == 1.0 / 3);
    LK_CHECK_INT(lk_json_find(&x, text, "none"), 0);
    LK_CHECK_INT(lk_json_find(&x, text, "absent"), 0);
    lk_buf_free(&b);
}

static char *slurp(const char *path) {
    struct lk_buf b = {0};
    if (lk_fs_read(&b, path, 0) != 0 || lk_buf_append(&b, "", 1) != 0)
        return NULL;
    return (char *)b.data;
}

static void write_three_steps_and_an_epoch(struct lk_runlog *log, uint64_t first) {
    struct lk_evaluation e = {.has_knn = 1, .score = {.knn = 48.046, .nn1 = 44.5}, .uniformity = -2.5, .spread = .8};
    for (uint64_t s = first; s < first + 3; s++) {
        struct lk_step_record r = {1, s, 1.25f / (float)s, .06f, .99f, .75};
        LK_CHECK_INT(lk_runlog_step(log, &r), 0);
    }
    struct lk_epoch_record r = {.epoch = 1,
                                .trained = 1,
                                .loss = 1.0625,
                                .spread = .75,
                                .lr = .05f,
                                .tau = .99f,
                                .images_per_second = 123.456,
                                .seconds = 9.87654,
                                .evaluation = &e};
    LK_CHECK_INT(lk_runlog_epoch(log, &r), 0);
}

static void metrics_have_the_reference_runs_field_names(void) {
    struct lk_runlog log;
    LK_REQUIRE(lk_runlog_open(&log, folder, 0) == 0);
    write_three_steps_and_an_epoch(&log, 1);
    char *text = slurp(log.path);
    LK_REQUIRE(text != NULL);
    LK_CHECK_INT(strlen(text), log.bytes);
    LK_CHECK_HOLDS(text,
                   "{\"kind\": \"step\", \"epoch\": 1, \"step\": 2, \"loss\": 0.625, \"lr\": 0.06, \"tau\": 0.99, "
                   "\"spread\": 0.75}\n");
    LK_CHECK_HOLDS(text,
                   "{\"kind\": \"epoch\", \"epoch\": 1, \"loss\": 1.0625, \"lr\": 0.05, \"tau\": 0.99, \"spread\": "
                   "0.75, \"images_per_second\": 123.46, \"seconds\": 9.877, \"knn\": 48.05, \"nn1\": 44.5, "
                   "\"uniformity\": -2.5, \"embedding_spread\": 0.8}\n");
    free(text);
    lk_runlog_close(&log);
}

static void a_resumed_run_cuts_what_came_after_its_checkpoint(void) {
    struct lk_runlog log;
    LK_REQUIRE(lk_runlog_open(&log, folder, 0) == 0);
    write_three_steps_and_an_epoch(&log, 1);
    uint64_t at = log.bytes;
    char *before = slurp(log.path);
    write_three_steps_and_an_epoch(&log, 4); /* lost with the process */
    lk_runlog_close(&log);
    LK_REQUIRE(lk_runlog_open(&log, folder, at) == 0);
    LK_CHECK_INT(log.bytes, at);
    write_three_steps_and_an_epoch(&log, 40);
    char *after = slurp(log.path);
    LK_REQUIRE(before != NULL && after != NULL);
    LK_CHECK_INT(strncmp(before, after, at), 0);
    LK_CHECK_HOLDS(after + at, "\"step\": 40");
    LK_CHECK(strstr(after, "\"step\": 4,") == NULL);
    free(before), free(after);
    lk_runlog_close(&log);
}

static void ticks_are_round_and_cover_the_range(void) {
    static const double ranges[][2] = {{0, 1}, {.73, 1.36}, {30.92, 48.05}, {0, 200}, {1e-6, .06}, {-4, -1}, {5, 5}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        double first, step, low = ranges[i][0], high = ranges[i][1];
        lk_plot_ticks(low, high, 5, &first, &step);
        double mantissa = step / pow(10, floor(log10(step) + 1e-9));
        LK_CHECK(fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 || fabs(mantissa - 5) < 1e-6);
        LK_CHECK(first >= low - 1e-9 && first < low + step);
        LK_CHECK(high == low || (high - low) / step <= 5 + 1e-9);
    }
}

static int count(const char *text, const char *part) {
    int n = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        n++;
    return n;
}

static void the_report_plots_what_the_metrics_hold(void) {
    static const char metrics[] =
        "{\"kind\": \"epoch\", \"epoch\": 0, \"knn\": 30.92, \"nn1\": 26.18}\n"
        "{\"kind\": \"step\", \"epoch\": 1, \"step\": 10, \"loss\": 1.5, \"lr\": 0.06}\n"
        "{\"kind\": \"step\", \"epoch\": 1, \"step\": 20, \"loss\": 1.2, \"lr\": 0.06}\n"
        "{\"kind\": \"epoch\", \"epoch\": 1, \"loss\": 1.35674, \"lr\": 0.059427, \"images_per_second\": 380.36}\n"
        "not a line of ours\n"
        "{\"kind\": \"epoch\", \"epoch\": 2, \"loss\": null, \"lr\": 0.05, \"knn\": 40.48}\n"
        "{\"kind\": \"epoch\", \"epoch\": 3, \"loss\": 0.9"; /* being written */
    static const struct lk_report_fact facts[] = {{"settings", NULL}, {"name", "a<b & \"c\""}};
    struct lk_buf page = {0};
    LK_REQUIRE(lk_report_page(&page, "run <1>", "Fine.", metrics, facts, 2) == 0);
    LK_CHECK_INT(lk_buf_append(&page, "", 1), 0);
    const char *text = (const char *)page.data;
    LK_CHECK_HOLDS(text, "<title>run &lt;1&gt;</title>");
    LK_CHECK_HOLDS(text, "a&lt;b &amp; &quot;c&quot;");
    LK_CHECK_INT(count(text, "<figure>"), 4); /* loss, kNN, rate, throughput; no spread or alignment */
    LK_CHECK_INT(count(text, "<svg"), count(text, "</svg>"));
    LK_CHECK_HOLDS(text, "epoch 1: epoch mean 1.3567");
    LK_CHECK_HOLDS(text, "epoch 2: weighted kNN 40.48");
    LK_CHECK_HOLDS(text, "<b>40.48 %</b>");
    LK_CHECK(strstr(text, "nan") == NULL && strstr(text, "inf,") == NULL);
    LK_CHECK_INT(count(text, "http://") + count(text, "https://"), 0); /* nothing outside itself */
    lk_buf_free(&page);
}

static void a_report_without_a_line_is_still_a_page(void) {
    struct lk_buf page = {0};
    LK_REQUIRE(lk_report_page(&page, "empty", "", "", NULL, 0) == 0);
    LK_CHECK_INT(lk_buf_append(&page, "", 1), 0);
    LK_CHECK_HOLDS((const char *)page.data, "</main></body></html>");
    LK_CHECK_INT(count((const char *)page.data, "<figure>"), 0);
    lk_buf_free(&page);
}

static const struct lk_case cases[] = {
    LK_CASE(json_text_is_escaped_and_numbers_read_back),
    LK_CASE(metrics_have_the_reference_runs_field_names),
    LK_CASE(a_resumed_run_cuts_what_came_after_its_checkpoint),
    LK_CASE(ticks_are_round_and_cover_the_range),
    LK_CASE(the_report_plots_what_the_metrics_hold),
    LK_CASE(a_report_without_a_line_is_still_a_page),
};

int main(int argc, char **argv) {
    snprintf(folder, sizeof folder, "/tmp/lk_records_%ld", (long)getpid());
    if (lk_fs_mkdir_parents(folder) != 0)
        return 1;
    int rc = lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
    char path[96];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    unlink(path);
    rmdir(folder);
    return rc;
}
