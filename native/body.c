#include "body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pieces {
  struct bytes *all; /* the caller frees it */
  size_t count, total;
};

/* False: no memory. */
static bool pieces_of(envoy_filter envoy, enum body_kind kind, struct pieces *pieces) {
  size_t count = envoy_dynamic_module_callback_http_get_body_chunks_size(envoy, kind);
  *pieces = (struct pieces){0};
  if (count == 0) {
    return true;
  }
  pieces->all = calloc(count, sizeof *pieces->all);
  if (pieces->all == NULL) {
    return false;
  }
  if (envoy_dynamic_module_callback_http_get_body_chunks(envoy, kind, pieces->all)) {
    pieces->count = count;
  }
  for (size_t at = 0; at < pieces->count; at++) {
    pieces->total += pieces->all[at].length;
  }
  return true;
}

static char *copy(char *to, const struct pieces *pieces) {
  for (size_t at = 0; at < pieces->count; at++) {
    memcpy(to, pieces->all[at].data, pieces->all[at].length);
    to += pieces->all[at].length;
  }
  return to;
}

static size_t point(struct iovec *parts, const struct pieces *pieces) {
  for (size_t at = 0; at < pieces->count; at++) {
    parts[at] = (struct iovec){(char *)pieces->all[at].data, pieces->all[at].length};
  }
  return pieces->count;
}

bool body_gather(envoy_filter envoy, struct iovec *parts, size_t *count, char **joined) {
  struct pieces held, new;
  bool read = pieces_of(envoy, BUFFERED_REQUEST, &held);
  read = pieces_of(envoy, RECEIVED_REQUEST, &new) && read;
  *count = 0;
  *joined = NULL;
  if (read && held.count + new.count > BODY_PARTS_MAX) {
    *joined = malloc(held.total + new.total + 1);
    if (*joined != NULL) {
      copy(copy(*joined, &held), &new);
      parts[0] = (struct iovec){*joined, held.total + new.total};
      *count = 1;
    }
    read = *joined != NULL;
  } else if (read) {
    *count = point(parts, &held);
    *count += point(parts + *count, &new);
  }
  free(held.all);
  free(new.all);
  return read;
}

void body_splice(envoy_filter envoy, size_t first, size_t last, struct bytes value) {
  struct pieces held;
  char *body = NULL;
  if (pieces_of(envoy, BUFFERED_REQUEST, &held) && first <= last && last <= held.total) {
    body = malloc(held.total + value.length + 1);
  }
  if (body != NULL) {
    char digits[24];
    size_t written = held.total - (last - first) + value.length;
    int length = snprintf(digits, sizeof digits, "%zu", written);
    copy(body, &held);
    memmove(body + first + value.length, body + last, held.total - last);
    memcpy(body + first, value.data, value.length);
    envoy_dynamic_module_callback_http_drain_body(envoy, BUFFERED_REQUEST, held.total);
    envoy_dynamic_module_callback_http_append_body(envoy, BUFFERED_REQUEST,
                                                   (struct bytes){body, written});
    envoy_dynamic_module_callback_http_set_header(
        envoy, REQUEST_HEADERS, (struct bytes){"content-length", strlen("content-length")},
        (struct bytes){digits, (size_t)length});
    free(body);
  }
  free(held.all);
}
