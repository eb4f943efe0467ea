/* What a route entry says, as lines of "name=value":
 *
 *   pool=NAMESPACE/NAME   address=unix:PATH or IP:PORT[,IP:PORT...]   timeout_ms=N   fail_open=0|1
 *
 * An empty address is a pool whose picker is nowhere. Where requests are traced there is also
 *
 *   sampled_ppm=N   parent_decides=0|1
 *
 * the share of traces to keep in parts of a million, and whether a client's own decision holds.
 */
#ifndef INFERWAY_SETTINGS_H
#define INFERWAY_SETTINGS_H

#include <stdatomic.h>

#include "envoy.h"
#include "pickers.h"

#define POOL_BYTES_MAX 512
#define PPM 1000000

/* Requests keep it alive beyond the configuration that it came with. */
struct settings {
  atomic_uint users;
  struct pickers pickers;
  char pool[POOL_BYTES_MAX];
  size_t pool_length;
  int64_t timeout; /* nanoseconds */
  bool fail_open;
  bool traced, parent_decides;
  uint64_t sampled_ppm;
};

/* Decimal digits, at most ten; -1 for anything else. */
int64_t number(struct bytes text);

/* For one more user. NULL: the text can not be understood, or there is no memory. */
struct settings *settings_read(struct bytes text);

/* One user less. */
void settings_release(struct settings *settings);

#endif
