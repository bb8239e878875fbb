/* A number of a JSON text to the double that strtod makes of it, several times as fast: a vector is hundreds of them. */
#ifndef LK_SERVER_JSON_NUMBER_H
#define LK_SERVER_JSON_NUMBER_H

/* The number that begins at p, by the grammar of RFC 8259, section 6; what lies behind it is the caller's to look at.
 * Returns its end, or NULL when there is none, when it overflows, and when it is unusual enough to be left to a library
 * (whole numbers past 18 digits, texts past 63 bytes). A whole "-0" is 0, as it is for Jansson. */
const char *lk_json_number(const char *p, const char *end, double *out);

#endif
