#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "json.h"
#include "plot.h"

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--page:#fafaf8;--card:#fff;--ink:#1d1d1b;--soft:#6b6a66;--rule:#e6e5e0;"
    "--one:#2a6fc4;--two:#c8571b;--warn:#8a2c0d}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#161615;--card:#1f1f1d;--ink:#ececea;--soft:#a3a29c;"
    "--rule:#34342f;--one:#6ea8f0;--two:#ee9055;--warn:#ffb08c}}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1360px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:24px;margin:0 0 4px}h2{font-size:15px;margin:26px 0 6px}\n"
    ".lead{color:var(--soft);margin:0 0 18px}.warn{color:var(--warn);font-weight:600}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:0 0 18px}\n"
    ".tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 16px}\n"
    ".tile b{display:block;font-size:22px;font-weight:600}.tile span{color:var(--soft);font-size:13px}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:14px}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 12px 6px}\n"
    "figcaption{font-weight:600;font-size:14px;margin:0 0 4px}svg{width:100%;height:auto;display:block}\n"
    "svg text{font-size:11.5px;fill:var(--soft)}.grid{stroke:var(--rule)}\n"
    "polyline{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".s0{stroke:var(--one)}.s1{stroke:var(--two)}.s2{stroke:var(--one);opacity:.28;stroke-width:1}\n"
    ".m0{fill:var(--one)}.m1{fill:var(--two)}.m2{fill:var(--one)}\n"
    ".key{font-weight:400;color:var(--soft);margin-left:14px}\n"
    ".key:before{content:'';display:inline-block;width:14px;height:3px;vertical-align:middle;margin-right:5px}\n"
    ".k0:before{background:var(--one)}.k1:before{background:var(--two)}.k2:before{background:var(--one);opacity:.4}\n"
    "table{border-collapse:collapse;font-size:13.5px}td{padding:2px 18px 2px 0;vertical-align:top}\n"
    "td:first-child{color:var(--soft);white-space:nowrap}td+td{overflow-wrap:anywhere}\n"
    ".facts{columns:2 460px;column-gap:40px}.facts table{break-inside:avoid;margin:0 0 14px}\n"
    "</style>\n";

/* Text for HTML. */
static int escaped(struct lk_buf *out, const char *text) {
    int rc = 0;
    for (; *text != '\0' && rc == 0; text++) {
        const char *as = *text == '<'   ? "&lt;"
                         : *text == '>' ? "&gt;"
                         : *text == '&' ? "&amp;"
                         : *text == '"' ? "&quot;"
                                        : NULL;
        rc = as != NULL ? lk_buf_append(out, as, strlen(as)) : lk_buf_append(out, text, 1);
    }
    return rc;
}

enum { STEP_LOSS, LOSS, KNN, NN1, RATE, SPEED, SPREAD, ALIGNMENT, UNIFORMITY, N_SERIES };

static const struct {
    int kind; /* series */
    const char *member;
} members[] = {{LOSS, "loss"},
               {KNN, "knn"},
               {NN1, "nn1"},
               {RATE, "lr"},
               {SPEED, "images_per_second"},
               {SPREAD, "spread"},
               {ALIGNMENT, "alignment"},
               {UNIFORMITY, "uniformity"}};

/* Steps are placed on the epoch axis: step s of a run with `per` steps an epoch stands at s / per. `per` is learnt from
 * the epochs' last logged steps. */
static double steps_per_epoch(const char *metrics) {
    double per = 0;
    for (const char *at = metrics; at != NULL && *at != '\0'; at = strchr(at, '\n'), at = at ? at + 1 : NULL) {
        double epoch, step;
        if (strncmp(at, "{\"kind\": \"step\"", 15) == 0 && lk_json_find(&epoch, at, "epoch") &&
            lk_json_find(&step, at, "step") && epoch > 0 && step / epoch > per)
            per = step / epoch;
    }
    return per;
}

static int read_line(struct lk_series *s, const char *line, double per) {
    double epoch, value;
    int rc = 0;
    if (strncmp(line, "{\"kind\": \"step\"", 15) == 0) {
        double step;
        if (per > 0 && lk_json_find(&step, line, "step") && lk_json_find(&value, line, "loss"))
            rc = lk_points_add(&s[STEP_LOSS].points, step / per, value);
    } else if (strncmp(line, "{\"kind\": \"epoch\"", 16) == 0 && lk_json_find(&epoch, line, "epoch")) {
        for (size_t i = 0; i < sizeof members / sizeof members[0] && rc == 0; i++)
            if (lk_json_find(&value, line, members[i].member))
                rc = lk_points_add(&s[members[i].kind].points, epoch, value);
    }
    return rc;
}

static int read_metrics(struct lk_series *s, const char *metrics) {
    double per = steps_per_epoch(metrics);
    struct lk_buf line = {0};
    int rc = 0;
    for (const char *at = metrics; rc == 0 && *at != '\0';) {
        const char *end = strchr(at, '\n');
        if (end == NULL)
            break; /* a line that was being written */
        lk_buf_clear(&line);
        rc = lk_buf_printf(&line, "%.*s", (int)(end - at), at);
        if (rc == 0)
            rc = read_line(s, (const char *)line.data, per);
        at = end + 1;
    }
    lk_buf_free(&line);
    return rc;
}

static int tile(struct lk_buf *out, const struct lk_points *p, int decimals, const char *unit, const char *name) {
    return p->n == 0 ? 0
                     : lk_buf_printf(out, "<div class=\"tile\"><b>%.*f%s</b><span>%s</span></div>\n", decimals,
                                     p->y[p->n - 1], unit, name);
}

static int plots(struct lk_buf *out, const struct lk_series *s) {
    const struct lk_series loss[] = {s[STEP_LOSS], s[LOSS]}, knn[] = {s[KNN], s[NN1]};
    return lk_plot(out, "Loss: 2 &minus; 2 cos, both directions (0 to 8)", "epoch", loss, 2, 0, 4) ||
           lk_plot(out, "kNN accuracy, per cent", "epoch", knn, 2, 0, 2) ||
           lk_plot(out, "Learning rate, at an epoch's last step", "epoch", &s[RATE], 1, 1, 6) ||
           lk_plot(out, "Images a second, of whole epochs", "epoch", &s[SPEED], 1, 1, 1) ||
           lk_plot(out, "Spread of projections: 1 spread, 0 collapsed", "epoch", &s[SPREAD], 1, 1, 3) ||
           lk_plot(out, "Alignment: distance of two views (lower is better)", "epoch", &s[ALIGNMENT], 1, 1, 4) ||
           lk_plot(out, "Uniformity of embeddings (lower is better)", "epoch", &s[UNIFORMITY], 1, 0, 4);
}

static int fact_table(struct lk_buf *out, const struct lk_report_fact *facts, size_t n) {
    int rc = lk_buf_printf(out, "<div class=\"facts\">\n"), open = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (facts[i].value == NULL) {
            rc = lk_buf_printf(out, "%s<table><tr><td colspan=\"2\"><h2>", open ? "</table>\n" : "") ||
                 escaped(out, facts[i].name) || lk_buf_printf(out, "</h2></td></tr>\n");
            open = 1;
            continue;
        }
        if (!open)
            rc = lk_buf_printf(out, "<table>\n");
        open = 1;
        rc = rc || lk_buf_printf(out, "<tr><td>") || escaped(out, facts[i].name) || lk_buf_printf(out, "</td><td>") ||
             escaped(out, facts[i].value) || lk_buf_printf(out, "</td></tr>\n");
    }
    return rc || lk_buf_printf(out, "%s</div>\n", open ? "</table>" : "");
}

int lk_report_page(struct lk_buf *out, const char *title, const char *verdict, const char *metrics,
                   const struct lk_report_fact *facts, size_t n_facts) {
    struct lk_series s[N_SERIES] = {
        [STEP_LOSS] = {"steps", 2, {0}},
        [LOSS] = {"epoch mean", 0, {0}},
        [KNN] = {"weighted kNN", 0, {0}},
        [NN1] = {"nearest neighbour", 1, {0}},
        [RATE] = {"rate", 0, {0}},
        [SPEED] = {"images/s", 0, {0}},
        [SPREAD] = {"spread", 0, {0}},
        [ALIGNMENT] = {"alignment", 0, {0}},
        [UNIFORMITY] = {"uniformity", 0, {0}},
    };
    int rc = read_metrics(s, metrics);
    rc = rc ||
         lk_buf_printf(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>") ||
         escaped(out, title) || lk_buf_printf(out, "</title>\n%s</head><body><main>\n<h1>", style) ||
         escaped(out, title) || lk_buf_printf(out, "</h1>\n<p class=\"lead\">") || escaped(out, verdict) ||
         lk_buf_printf(out, "</p>\n<div class=\"tiles\">\n") || tile(out, &s[KNN].points, 2, " %", "kNN") ||
         tile(out, &s[NN1].points, 2, " %", "nearest neighbour") ||
         tile(out, &s[LOSS].points, 4, "", "loss of the last epoch") ||
         tile(out, &s[SPEED].points, 0, "", "images a second") ||
         lk_buf_printf(out, "</div>\n<div class=\"plots\">\n") || plots(out, s) || lk_buf_printf(out, "</div>\n") ||
         fact_table(out, facts, n_facts) || lk_buf_printf(out, "</main></body></html>\n");
    for (int i = 0; i < N_SERIES; i++)
        lk_points_free(&s[i].points);
    return rc ? lk_err(LK_ENOMEM, "no memory for the report") : 0;
}
