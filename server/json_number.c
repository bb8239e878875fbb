#include "json_number.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_TENS = 22, FIFTHS = 27, LONGEST = 63 };

/* Powers of ten that doubles hold exactly. */
static const double tens[EXACT_TENS + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* 5^-k = (reciprocal + something below 1) * 2^-(63 + bits); bits is the length of 5^k. */
static const struct {
    uint64_t reciprocal;
    int bits;
} fifths[FIFTHS + 1] = {{0, 0},
                        {0xCCCCCCCCCCCCCCCC, 3},
                        {0xA3D70A3D70A3D70A, 5},
                        {0x83126E978D4FDF3B, 7},
                        {0xD1B71758E219652B, 10},
                        {0xA7C5AC471B478423, 12},
                        {0x8637BD05AF6C69B5, 14},
                        {0xD6BF94D5E57A42BC, 17},
                        {0xABCC77118461CEFC, 19},
                        {0x89705F4136B4A597, 21},
                        {0xDBE6FECEBDEDD5BE, 24},
                        {0xAFEBFF0BCB24AAFE, 26},
                        {0x8CBCCC096F5088CB, 28},
                        {0xE12E13424BB40E13, 31},
                        {0xB424DC35095CD80F, 33},
                        {0x901D7CF73AB0ACD9, 35},
                        {0xE69594BEC44DE15B, 38},
                        {0xB877AA3236A4B449, 40},
                        {0x9392EE8E921D5D07, 42},
                        {0xEC1E4A7DB69561A5, 45},
                        {0xBCE5086492111AEA, 47},
                        {0x971DA05074DA7BEE, 49},
                        {0xF1C90080BAF72CB1, 52},
                        {0xC16D9A0095928A27, 54},
                        {0x9ABE14CD44753B52, 56},
                        {0xF79687AED3EEC551, 59},
                        {0xC612062576589DDA, 61},
                        {0x9E74D1B791E07E48, 63}};

/* The upper half of a product of 128 bits. */
static uint64_t high_product(uint64_t a, uint64_t b) {
    const uint64_t low = UINT32_MAX, a0 = a & low, a1 = a >> 32, b0 = b & low, b1 = b >> 32;
    const uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & low)) >> 32);
}

static double power_of_two(int exponent) {
    const uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* digits * 10^-k, digits > 0, k in 1..27, rounded to nearest; 0 when that cannot be told from the upper 64 bits of the
 * product with the reciprocal, which lie less than 2 below the true ones. */
static int divide(uint64_t digits, int k, double *out) {
    const int zeros = __builtin_clzll(digits);
    const uint64_t product = high_product(digits << zeros, fifths[k].reciprocal);
    const int spare = 10 + (int)(product >> 63); /* bits behind the 53 of a double */
    const uint64_t half = (uint64_t)1 << (spare - 1), rest = product & (2 * half - 1);
    if (rest == half - 1 || rest == half)
        return 0;
    *out = (double)((product >> spare) + (rest > half)) * power_of_two(spare + 1 - zeros - fifths[k].bits - k);
    return 1;
}

/* digits * 10^exponent when that is quick (Clinger, "How to read floating point numbers accurately", PLDI 1990, for the
 * exact powers). 0: it is not. */
static int quick(uint64_t digits, int exponent, double *out) {
    if (digits <= (uint64_t)1 << 53 && exponent >= -EXACT_TENS && exponent <= EXACT_TENS) {
        *out = exponent < 0 ? (double)digits / tens[-exponent] : (double)digits * tens[exponent];
        return 1;
    }
    return digits > 0 && exponent < 0 && exponent >= -FIFTHS && divide(digits, -exponent, out);
}

static const char *by_library(const char *p, const char *end, double *out) {
    char text[LONGEST + 1];
    if (end - p > LONGEST)
        return NULL;
    memcpy(text, p, (size_t)(end - p));
    text[end - p] = 0;
    *out = strtod(text, NULL);
    return isfinite(*out) ? end : NULL;
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }

const char *lk_json_number(const char *p, const char *end, double *out) {
    const char *begin = p;
    const int negative = p < end && *p == '-';
    uint64_t digits = 0;
    int exponent = 0, whole = 1;
    p += negative;
    const char *first = p;
    while (p < end && is_digit(*p))
        digits = digits * 10 + (uint64_t)(*p++ - '0');
    int64_t count = p - first;
    if (count == 0 || (*first == '0' && count > 1))
        return NULL;
    if (p < end && *p == '.') {
        const char *point = p++;
        while (digits == 0 && p < end && *p == '0') /* they are no digits of the number's */
            p++;
        count = digits ? count : 0;
        const char *significant = p;
        while (p < end && is_digit(*p))
            digits = digits * 10 + (uint64_t)(*p++ - '0');
        count += p - significant;
        if (p == point + 1)
            return NULL;
        exponent = p - point > LONGEST ? -LONGEST : -(int)(p - point - 1);
        whole = 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        const int down = p + 1 < end && p[1] == '-';
        int power = 0;
        p += 1 + (p + 1 < end && (p[1] == '-' || p[1] == '+'));
        first = p;
        for (; p < end && is_digit(*p); p++)
            power = power < 10000 ? power * 10 + (*p - '0') : power;
        if (p == first)
            return NULL;
        exponent += down ? -power : power;
        whole = 0;
    }
    if (whole && count > 18)
        return NULL;
    if (count > 19 || p - begin > LONGEST || !quick(digits, exponent, out))
        return by_library(begin, p, out);
    *out = negative && !(whole && digits == 0) ? -*out : *out;
    return p;
}
