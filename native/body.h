/* The body of a request that is held until its question is answered. */
#ifndef INFERWAY_BODY_H
#define INFERWAY_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "envoy.h"

/* More pieces than this are joined into one. */
#define BODY_PARTS_MAX 60

/* Puts the body's pieces into ``parts``, which has room for BODY_PARTS_MAX, and how many they are
 * into ``count``; where they had to be joined, the caller frees ``joined``. False: no memory. */
bool body_gather(envoy_filter envoy, struct iovec *parts, size_t *count, char **joined);

/* Puts ``value`` in the place of the body's bytes from ``first`` up to ``last``. Offsets that do not
 * fit leave it as it is: a server answers 404 for a model it does not have, while a body cut at
 * random would be an error that nobody understands. */
void body_splice(envoy_filter envoy, size_t first, size_t last, struct bytes value);

#endif
