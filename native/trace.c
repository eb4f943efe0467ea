#include "trace.h"

#include <string.h>

#define TRACE_HEX 32
#define SPAN_HEX 16
/* The last seven bytes of a trace's id are the random ones (W3C Trace Context, level 2). */
#define RANDOM_HEX 14
#define RANDOM_BITS 56
/* A share of at most 10^6 < 2^20 parts may be shifted by this within 64 bits. */
#define PPM_SHIFT 44

static int digit(char character) {
  return character >= '0' && character <= '9'   ? character - '0'
         : character >= 'a' && character <= 'f' ? character - 'a' + 10
                                                : -1;
}

/* By the id alone, so that everybody who reckons so decides alike. */
static bool within_share(const char *trace, uint64_t ppm) {
  uint64_t random = 0;
  for (size_t at = TRACE_HEX - RANDOM_HEX; at < TRACE_HEX; at++) {
    random = random << 4 | (uint64_t)(digit(trace[at]) & 15);
  }
  return random < (ppm << PPM_SHIFT) / PPM << (RANDOM_BITS - PPM_SHIFT);
}

bool trace_parent(envoy_filter envoy, const struct settings *settings,
                  char text[TRACEPARENT_BYTES]) {
  struct bytes given = {0}, id = {0};
  envoy_span span = envoy_dynamic_module_callback_http_get_active_span(envoy);
  if (span == NULL) {
    return false;
  }
  memcpy(text, "00-", 3);
  char *trace = text + 3, *own = trace + TRACE_HEX + 1;
  if (!envoy_dynamic_module_callback_http_span_get_trace_id(span, &id) || id.length != TRACE_HEX) {
    return false;
  }
  memcpy(trace, id.data, TRACE_HEX);
  trace[TRACE_HEX] = '-';
  if (!envoy_dynamic_module_callback_http_span_get_span_id(span, &id) || id.length != SPAN_HEX) {
    return false;
  }
  memcpy(own, id.data, SPAN_HEX);
  /* Envoy begins no span below a parent that it can not read, so what is given here is one. */
  bool kept;
  if (settings->parent_decides &&
      envoy_dynamic_module_callback_http_get_header(
          envoy, REQUEST_HEADERS, (struct bytes){TRACEPARENT, sizeof(TRACEPARENT) - 1}, &given, 0,
          NULL) &&
      given.length >= TRACEPARENT_BYTES) {
    kept = digit(given.data[TRACEPARENT_BYTES - 1]) & 1;
  } else {
    kept = within_share(trace, settings->sampled_ppm);
  }
  envoy_dynamic_module_callback_http_span_set_sampled(span, kept);
  memcpy(own + SPAN_HEX, kept ? "-01" : "-00", 3);
  return true;
}
