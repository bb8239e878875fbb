/* Who may ask what: decided from a request's headers alone, before its body is read. Bearer keys where there are some;
 * where there are none, whatever a web page of somebody else's could send is refused, since a browser on this machine
 * reaches a loopback server. */
#ifndef LK_SERVER_ACCESS_H
#define LK_SERVER_ACCESS_H

#include "http.h"

/* An lk_http_app's identify(): 0, or negative with the fault: `unauthorized`, `forbidden`, `cross_site`, `unknown_host`, or
 * an X-Request-Timeout-Ms that is no number. Notes the key's name in the request. */
int lk_access_identify(struct lk_request *r, struct lk_fault *f);

/* 1 when a Host header names this machine by an address, or is "localhost", or one of `allowed` ("a.example,b.example";
 * NULL: none; a member "*": any). A port is ignored. */
int lk_access_host_is_ours(const char *header, const char *allowed);
/* 1 when an Origin header ("https://a.example:8443") is of the host and port that a Host header names. */
int lk_access_same_origin(const char *origin, const char *host);

#endif
