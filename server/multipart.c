#include "multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

enum state {
    PREAMBLE,  /* before the first delimiter; ignored */
    BODY,      /* in the content of a part */
    DELIMITER, /* after a delimiter: "--" ends all, a line end begins a part */
    DASH,      /* after the first of the two dashes */
    LINE_END,  /* after the CR */
    HEADER,    /* in the headers of a part */
    EPILOGUE   /* after the closing delimiter; ignored */
};

/* Finds `name` among the parameters "; name=value; name="quoted"" of a header value. The result is allocated; NULL when
 * it is not there or memory ran out (*failed). In quotes, a quote comes as %22 from browsers and today's curl (HTML's form
 * encoding) and as \" from others, who write \\ for a backslash too; a backslash before anything else stands for itself,
 * as old browsers send paths. */
static char *header_parameter(const char *value, const char *name, int *failed) {
    const char *p = strchr(value, ';');
    while (p && *p == ';') {
        do
            p++;
        while (*p == ' ' || *p == '\t');
        const char *key = p;
        while (*p && *p != '=' && *p != ';')
            p++;
        size_t key_size = (size_t)(p - key);
        while (key_size && (key[key_size - 1] == ' ' || key[key_size - 1] == '\t'))
            key_size--;
        int wanted = key_size == strlen(name) && strncasecmp(key, name, key_size) == 0;
        if (*p != '=')
            continue;
        p++;
        char *out = NULL;
        size_t size = 0;
        if (wanted && !(out = lk_calloc(strlen(p) + 1, 1))) {
            *failed = 1;
            return NULL;
        }
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++) {
                if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
                    p++;
                int quote = strncmp(p, "%22", 3) == 0;
                if (out)
                    out[size++] = quote ? '"' : *p;
                p += quote ? 2 : 0;
            }
            while (*p && *p != ';')
                p++;
        } else {
            for (; *p && *p != ';'; p++)
                if (out)
                    out[size++] = *p;
            while (out && size && (out[size - 1] == ' ' || out[size - 1] == '\t'))
                out[--size] = 0;
        }
        if (out)
            return out;
    }
    return NULL;
}

int lk_multipart_open(struct lk_multipart *m, const char *content_type, const struct lk_multipart_events *events) {
    *m = (struct lk_multipart){.events = *events, .state = PREAMBLE};
    size_t kind = strlen("multipart/form-data");
    if (strncasecmp(content_type, "multipart/form-data", kind) != 0 ||
        (content_type[kind] && !strchr("; \t", content_type[kind])))
        return lk_err(LK_EINVAL, "the Content-Type is not multipart/form-data");
    int failed = 0;
    char *boundary = header_parameter(content_type, "boundary", &failed);
    if (failed)
        return LK_ENOMEM;
    size_t size = boundary ? strlen(boundary) : 0;
    int good = size >= 1 && size <= 70 && !strpbrk(boundary, "\r\n");
    if (good) {
        memcpy(m->delimiter, "\r\n--", 4);
        memcpy(m->delimiter + 4, boundary, size);
        m->delimiter_size = size + 4;
        m->matched = 2; /* the first delimiter may stand at the very beginning */
    }
    free(boundary);
    return good ? 0 : lk_err(LK_EINVAL, "the Content-Type names no boundary of 1 to 70 characters");
}

/* The headers of a part are complete: m->header holds lines that end in CR LF. */
static int begin_part(struct lk_multipart *m) {
    int rc = lk_buf_append(&m->header, "", 1);
    if (rc)
        return rc;
    if (memchr(m->header.data, 0, m->header.size - 1))
        return lk_err(LK_EFORMAT, "the headers of a part hold a NUL byte");
    char *disposition = NULL, *type = NULL;
    for (char *line = (char *)m->header.data; *line;) {
        char *end = strstr(line, "\r\n");
        *end = 0;
        char *colon = strchr(line, ':');
        if (colon) {
            char *value = colon + 1 + strspn(colon + 1, " \t");
            if (colon - line == 19 && strncasecmp(line, "Content-Disposition", 19) == 0)
                disposition = value;
            if (colon - line == 12 && strncasecmp(line, "Content-Type", 12) == 0)
                type = value;
        }
        line = end + 2;
    }
    if (!disposition)
        return lk_err(LK_EFORMAT, "a part has no Content-Disposition");
    int failed = 0;
    char *name = header_parameter(disposition, "name", &failed);
    char *file_name = header_parameter(disposition, "filename", &failed);
    struct lk_part part = {name ? name : "", file_name, type};
    rc = failed ? LK_ENOMEM : m->events.begin(m->events.arg, &part);
    free(name);
    free(file_name);
    return rc;
}

/* One byte of a part's headers. They end with an empty line, which may be the first. */
static int header_byte(struct lk_multipart *m, char c) {
    int rc = lk_buf_append(&m->header, &c, 1);
    if (rc)
        return rc;
    size_t n = m->header.size;
    const uint8_t *h = m->header.data;
    int empty_line = (n == 2 && memcmp(h, "\r\n", 2) == 0) || (n >= 4 && memcmp(h + n - 4, "\r\n\r\n", 4) == 0);
    if (!empty_line)
        return n >= LK_MULTIPART_HEADER_MAX
                   ? lk_err(LK_EFORMAT, "the headers of a part exceed %d bytes", LK_MULTIPART_HEADER_MAX)
                   : 0;
    m->header.size -= 2;
    m->state = BODY;
    m->matched = 0;
    return begin_part(m);
}

/* Content: *p is advanced to what was consumed. Only a delimiter begins with CR, and it holds no second one, so after a
 * mismatch what was matched is content and the search begins anew at the same byte. */
static int content(struct lk_multipart *m, const char **p, const char *end) {
    int in_part = m->state == BODY;
    int rc = 0;
    if (m->matched == 0) {
        const char *cr = memchr(*p, '\r', (size_t)(end - *p));
        if (!cr)
            cr = end;
        if (in_part && cr > *p)
            rc = m->events.data(m->events.arg, *p, (size_t)(cr - *p));
        *p = cr;
        if (cr < end && rc == 0) {
            m->matched = 1;
            ++*p;
        }
        return rc;
    }
    if (**p == m->delimiter[m->matched]) {
        ++*p;
        if (++m->matched == m->delimiter_size) {
            m->state = DELIMITER;
            m->matched = 0;
            if (in_part)
                rc = m->events.end(m->events.arg);
        }
        return rc;
    }
    if (in_part)
        rc = m->events.data(m->events.arg, m->delimiter, m->matched);
    m->matched = 0;
    return rc;
}

int lk_multipart_feed(struct lk_multipart *m, const void *bytes, size_t n) {
    const char *p = bytes, *end = p + n;
    int rc = 0;
    while (p < end && rc == 0) {
        switch (m->state) {
        case PREAMBLE:
        case BODY: rc = content(m, &p, end); break;
        case DELIMITER:
            if (*p == '-')
                m->state = DASH;
            else if (*p == '\r')
                m->state = LINE_END;
            else if (*p != ' ' && *p != '\t')
                rc = lk_err(LK_EFORMAT, "a boundary is followed by something else than a line end");
            p++;
            break;
        case DASH:
            rc = *p++ == '-' ? 0 : lk_err(LK_EFORMAT, "a boundary is followed by something else than a line end");
            m->state = EPILOGUE;
            break;
        case LINE_END:
            rc = *p++ == '\n' ? 0 : lk_err(LK_EFORMAT, "a boundary is followed by something else than a line end");
            m->state = HEADER;
            lk_buf_clear(&m->header);
            break;
        case HEADER: rc = header_byte(m, *p++); break;
        default: p = end; break;
        }
    }
    return rc;
}

int lk_multipart_finish(struct lk_multipart *m) {
    return m->state == EPILOGUE ? 0 : lk_err(LK_EFORMAT, "the multipart body ends before its closing boundary");
}

void lk_multipart_close(struct lk_multipart *m) {
    lk_buf_free(&m->header);
    *m = (struct lk_multipart){0};
}
