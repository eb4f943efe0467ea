/* The span that Envoy has begun for a request, worded for the picker. */
#ifndef INFERWAY_TRACE_H
#define INFERWAY_TRACE_H

#include "envoy.h"
#include "settings.h"

#define TRACEPARENT "traceparent"
/* Version, trace, span and flags of W3C Trace Context, with hyphens between. */
#define TRACEPARENT_BYTES 55

/* Writes ``traceparent`` and decides whether the trace is kept, so that Envoy and the picker agree.
 * False: the request is not traced. */
bool trace_parent(envoy_filter envoy, const struct settings *settings,
                  char text[TRACEPARENT_BYTES]);

#endif
