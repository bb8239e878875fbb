#include "rfc3339.h"

/* Reads `digits` digits at *s; -1: they are not there. */
static int number(const char **s, const char *end, int digits) {
    int value = 0;
    if (end - *s < digits)
        return -1;
    for (int i = 0; i < digits; i++, ++*s) {
        if (**s < '0' || **s > '9')
            return -1;
        value = value * 10 + (**s - '0');
    }
    return value;
}

static int sign(const char **s, const char *end, char wanted) {
    if (*s == end || **s != wanted)
        return 0;
    ++*s;
    return 1;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar: years that begin in March, so that the leap day is last. */
static int64_t days_since_1970(int year, int month, int day) {
    int64_t y = year - (month <= 2), m = month + (month <= 2 ? 9 : -3);
    int64_t century = (y >= 0 ? y : y - 399) / 400, in_century = y - century * 400;
    return century * 146097 + in_century * 365 + in_century / 4 - in_century / 100 + (153 * m + 2) / 5 + day - 1 -
           719468;
}

static int days_in(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* ".123" to nanoseconds; 0 when the digits are missing. */
static int fraction(const char **s, const char *end, int32_t *nanoseconds) {
    int32_t unit = 100000000;
    const char *start = *s;
    for (; *s < end && **s >= '0' && **s <= '9'; ++*s, unit /= 10)
        *nanoseconds += (**s - '0') * unit;
    return *s > start;
}

/* "Z" or "+01:30" in seconds. */
static int zone(const char **s, const char *end, int *offset) {
    if (sign(s, end, 'Z') || sign(s, end, 'z'))
        return 1;
    int minus = *s < end && **s == '-';
    if (!sign(s, end, '+') && !sign(s, end, '-'))
        return 0;
    int hours = number(s, end, 2);
    int minutes = sign(s, end, ':') ? number(s, end, 2) : -1;
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return 0;
    *offset = (minus ? -1 : 1) * (hours * 3600 + minutes * 60);
    return 1;
}

int lk_rfc3339_parse(struct lk_instant *out, const char *text, size_t n) {
    const char *s = text, *end = text + n;
    struct lk_instant t = {0};
    int year = number(&s, end, 4);
    int month = year >= 0 && sign(&s, end, '-') ? number(&s, end, 2) : -1;
    int day = month >= 1 && month <= 12 && sign(&s, end, '-') ? number(&s, end, 2) : -1;
    if (day < 1 || day > days_in(year, month))
        return 0;
    t.seconds = days_since_1970(year, month, day) * 86400;
    if (s < end) {
        int offset = 0;
        if (!sign(&s, end, 'T') && !sign(&s, end, 't') && !sign(&s, end, ' '))
            return 0;
        int hour = number(&s, end, 2);
        int minute = hour >= 0 && sign(&s, end, ':') ? number(&s, end, 2) : -1;
        int second = minute >= 0 && sign(&s, end, ':') ? number(&s, end, 2) : -1;
        if (hour > 23 || minute > 59 || second < 0 || second > 60 || /* 60: a leap second */
            (sign(&s, end, '.') && !fraction(&s, end, &t.nanoseconds)) || !zone(&s, end, &offset) || s != end)
            return 0;
        t.seconds += hour * 3600 + minute * 60 + second - offset;
    }
    *out = t;
    return 1;
}

int lk_instant_compare(const struct lk_instant *a, const struct lk_instant *b) {
    if (a->seconds != b->seconds)
        return a->seconds < b->seconds ? -1 : 1;
    return (a->nanoseconds > b->nanoseconds) - (a->nanoseconds < b->nanoseconds);
}
