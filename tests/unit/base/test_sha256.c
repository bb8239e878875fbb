/* Are the digests those of FIPS 180-4 (and of Python's hashlib, for lengths around the padding's edges)? */
#include "base/sha256.h"
#include "check.h"

static void digest_of(char hex[65], const void *bytes, size_t n, size_t piece) {
    struct lk_sha256 s;
    uint8_t digest[32];
    lk_sha256_init(&s);
    for (size_t at = 0; at < n; at += piece)
        lk_sha256_update(&s, (const uint8_t *)bytes + at, n - at < piece ? n - at : piece);
    lk_sha256_final(&s, digest);
    lk_sha256_hex(digest, hex);
}

static void digests_equal_the_standard(void) {
    char hex[65];
    digest_of(hex, "", 0, 1);
    LK_CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_of(hex, "abc", 3, 3);
    LK_CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_of(hex, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 56);
    LK_CHECK_STR(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void a_million_letters_in_odd_pieces(void) {
    char text[997], hex[65];
    uint8_t digest[32];
    memset(text, 'a', sizeof text);
    struct lk_sha256 s;
    lk_sha256_init(&s);
    for (size_t left = 1000000; left > 0;) {
        size_t n = left < sizeof text ? left : sizeof text;
        lk_sha256_update(&s, text, n);
        left -= n;
    }
    lk_sha256_final(&s, digest);
    lk_sha256_hex(digest, hex);
    LK_CHECK_STR(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void pieces_do_not_matter_at_the_edges(void) {
    static const struct {
        size_t n;
        const char *want;
    } lines[] = {
        {55, "e7313d333c272e639f790978283f9eb392e843d0f29b7016828bb1daa4aac70b"},
        {56, "4324d65f3c103567f5589c710bc08f8523f929a9272e3af36fc968e52abc6c27"},
        {63, "81c80242132f230c3bd41b3e63bbcff16107339549214a99614ff26664625055"},
        {64, "39e3d7b6b5d075d37d053ad89b24b41bef4f3c29760c84447cab3f3be1882241"},
        {65, "aacca6ff74fdbb296d165a45cecfa04e5127bc008770fbbdd48006f2d2fae95e"},
        {119, "9ce7368e4daf32341631b492e80359dc9f594b48453cd0dd5bf0b19279cc177e"},
        {120, "7836b787757e95e58b3ca5aec90b1b004e8deba1e50e9675af9cabf1a13a04b5"},
        {1000, "1e9bc38cbf860b9ec31918b065f9b52476c549a782e0e7990bed8ce3868d2371"},
    };
    uint8_t bytes[1000];
    char hex[65];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + 3);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        for (size_t piece = 1; piece <= 130; piece += 43) {
            digest_of(hex, bytes, lines[i].n, piece);
            LK_CHECK_STR(hex, lines[i].want);
        }
}

static const struct lk_case cases[] = {
    LK_CASE(digests_equal_the_standard),
    LK_CASE(a_million_letters_in_odd_pieces),
    LK_CASE(pieces_do_not_matter_at_the_edges),
};

int main(int argc, char **argv) { return lk_run_cases(argc, argv, cases, sizeof cases / sizeof *cases); }
