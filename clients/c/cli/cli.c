#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Over a progress line, when there may be one. */
static void begin_line(void) {
    fputs(isatty(STDERR_FILENO) ? "\r\033[K"
                                  "likeness: "
                                : "likeness: ",
          stderr);
}

static void on_wait(void *arg, double seconds, int http) {
    (void)arg;
    begin_line();
    fprintf(stderr, "the server is busy (HTTP %d); trying again in %g s\n", http, seconds);
}

/* A file with a key and nothing else, but for white space around it. */
static int read_key(struct file_bytes *key, const char *path) {
    if (cli_read_file(key, path, 4096)) {
        return 1;
    }
    size_t n = key->size, start = 0;
    while (n > 0 && strchr(" \t\r\n", key->data[n - 1])) {
        n--;
    }
    while (start < n && strchr(" \t\r\n", key->data[start])) {
        start++;
    }
    n -= start;
    memmove(key->data, key->data + start, n); /* the buffer has one byte more than the file */
    key->data[n] = '\0';
    if (n == 0 || memchr(key->data, 0, n)) {
        cli_usage("%s: there is no key in it", path);
        free(key->data);
        return 1;
    }
    return 0;
}

int cli_open(struct likeness **client, const struct common *common) {
    *client = NULL;
    struct file_bytes key = {0};
    if (common->key_file && read_key(&key, common->key_file)) {
        return EXIT_USAGE;
    }
    struct likeness_options options;
    likeness_options_init(&options);
    options.server = common->server;
    options.key = (const char *)key.data;
    options.timeout = common->timeout;
    options.retries = common->retries;
    options.on_wait = on_wait;
    const int failed = likeness_open(client, &options) != 0;
    free(key.data);
    if (failed) {
        cli_report(NULL);
        return EXIT_USAGE;
    }
    return 0;
}

static void report(const char *subject, const char *message, const char *code, int http) {
    begin_line();
    fprintf(stderr, "%s%s%s", subject ? subject : "", subject ? ": " : "", message);
    if (*code && http) {
        fprintf(stderr, " [%s, HTTP %d]", code, http);
    } else if (*code) {
        fprintf(stderr, " [%s]", code);
    }
    fputc('\n', stderr);
}

int cli_report(const char *subject) {
    const struct likeness_error *error = likeness_error();
    report(error->status == LIKENESS_ECONNECT ? NULL : subject, error->message, error->code, error->http);
    if (error->http == 401) {
        fputs("  Give a key by:  --key-file FILE, or the environment's LIKENESS_KEY\n", stderr);
    }
    if (error->status != LIKENESS_ECONNECT) {
        return EXIT_SOME_FAILED;
    }
    fputs("  Start one with:      likeness-server --model MODEL.safetensors --catalogue CATALOGUE.db\n"
          "  or name another by:  --server URL, or the environment's LIKENESS_SERVER\n",
          stderr);
    return EXIT_NO_SERVER;
}

void cli_report_outcome(const char *subject, const struct likeness_outcome *outcome) {
    report(subject, outcome->message, outcome->code, 0);
}

int cli_usage(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("likeness: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_USAGE;
}

/* --- Files in ----------------------------------------------------------------------------------------------------- */

int cli_read_file(struct file_bytes *out, const char *path, size_t limit) {
    memset(out, 0, sizeof *out);
    limit = limit ? limit : (size_t)1 << 30;
    const int is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rb");
    struct stat about;
    size_t capacity = 65536;
    const char *why = NULL;
    if (!file || fstat(fileno(file), &about)) {
        why = strerror(errno);
    } else if (S_ISDIR(about.st_mode)) {
        why = strerror(EISDIR);
    } else if (S_ISREG(about.st_mode)) {
        capacity = (uintmax_t)about.st_size < limit ? (size_t)about.st_size + 1 : limit + 1;
    }
    while (!why) {
        unsigned char *data = realloc(out->data, capacity);
        if (!data) {
            why = "memory ran out";
            break;
        }
        out->data = data;
        out->size += fread(data + out->size, 1, capacity - out->size, file);
        if (ferror(file)) {
            why = strerror(errno);
        } else if (out->size > limit) {
            why = "the file is larger than the server takes";
        } else if (out->size < capacity) {
            break;
        }
        capacity = capacity < limit / 2 ? 2 * capacity : limit + 1;
    }
    if (file && !is_stdin) {
        fclose(file);
    }
    if (why) {
        report(path, why, "", 0);
        free(out->data);
        memset(out, 0, sizeof *out);
        return 1;
    }
    return 0;
}

/* --- Files out ---------------------------------------------------------------------------------------------------- */

/* What a signal that ends the program must not leave behind; a program writes one file. */
static _Atomic(const char *) unfinished;

static void on_end(int number) {
    const char *path = atomic_load(&unfinished);
    if (path) {
        unlink(path);
    }
    raise(number); /* SA_RESETHAND: as it would have ended without us */
}

static void watch_for_the_end(const char *path) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction now, before;
    memset(&now, 0, sizeof now);
    now.sa_handler = on_end;
    now.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&now.sa_mask);
    atomic_store(&unfinished, path);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) { /* nohup stays in force */
            sigaction(numbers[i], &now, NULL);
        }
    }
}

int out_open(struct out_file *out, const char *path) {
    memset(out, 0, sizeof *out);
    out->path = path;
    if (strcmp(path, "-") == 0) {
        out->stream = stdout;
        return 0;
    }
    const size_t size = strlen(path) + sizeof ".XXXXXX";
    out->temporary = malloc(size);
    if (!out->temporary) {
        report(path, "memory ran out", "", 0);
        return 1;
    }
    snprintf(out->temporary, size, "%s.XXXXXX", path);
    watch_for_the_end(out->temporary); /* before there is a file of that name */
    const int fd = mkstemp(out->temporary);
    if (fd >= 0) {
        const mode_t mask = umask(0);
        umask(mask);
        (void)fchmod(fd, 0666 & ~mask);
        out->stream = fdopen(fd, "wb");
    }
    if (!out->stream) {
        report(path, strerror(errno), "", 0);
        if (fd >= 0) {
            close(fd);
            unlink(out->temporary);
        }
        atomic_store(&unfinished, NULL);
        free(out->temporary);
        memset(out, 0, sizeof *out);
        return 1;
    }
    return 0;
}

int out_write(void *out_file, const void *bytes, size_t n) {
    struct out_file *out = out_file;
    if (fwrite(bytes, 1, n, out->stream) != n) {
        report(out->path, strerror(errno), "", 0);
        return 1;
    }
    return 0;
}

int out_finish(struct out_file *out, int keep) {
    int failed = 0;
    if (!out->temporary) {
        failed = fflush(out->stream) != 0;
    } else {
        failed = fclose(out->stream) != 0;
        if (!keep || failed || rename(out->temporary, out->path)) {
            failed = failed || keep;
            const int error = errno;
            unlink(out->temporary);
            errno = error;
        }
        atomic_store(&unfinished, NULL);
        free(out->temporary);
    }
    if (failed && keep) {
        report(out->path, strerror(errno), "", 0);
    }
    return failed;
}

/* --- JSON out ----------------------------------------------------------------------------------------------------- */

/* Writes one byte of a JSON string (RFC 8259, section 7); UTF-8 passes as it is. Returns bytes in text, at most 6. */
static int json_byte(char text[8], unsigned char c) {
    if (c == '"' || c == '\\') {
        return snprintf(text, 8, "\\%c", c);
    }
    return snprintf(text, 8, c < 0x20 || c == 0x7F ? "\\u%04x" : "%c", c);
}

void print_json_string(FILE *to, const char *text) {
    char coded[8];
    fputc('"', to);
    for (; *text; text++) {
        json_byte(coded, (unsigned char)*text);
        fputs(coded, to);
    }
    fputc('"', to);
}

char *json_object_of(const char *key, const char *value) {
    const size_t capacity = 6 * (strlen(key) + strlen(value)) + sizeof "{\"\":\"\"}";
    char *object = malloc(capacity), coded[8];
    if (!object) {
        return NULL;
    }
    char *p = object;
    p += sprintf(p, "{\"");
    for (; *key; key++) {
        json_byte(coded, (unsigned char)*key);
        p = stpcpy(p, coded);
    }
    p = stpcpy(p, "\":\"");
    for (; *value; value++) {
        json_byte(coded, (unsigned char)*value);
        p = stpcpy(p, coded);
    }
    stpcpy(p, "\"}");
    return object;
}
