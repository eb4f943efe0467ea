/* Asks a picker which server a request goes to, and tells it afterwards how the request went.
 *
 * Envoy loads this as a dynamic module. The destination becomes dynamic metadata, which the
 * cluster's override_host policy follows. Settings of a route entry are lines of "name=value":
 *
 *   pool=NAMESPACE/NAME   address=unix:PATH or IP:PORT[,IP:PORT...]   timeout_ms=N   fail_open=0|1
 *
 * An empty address is a pool whose picker is nowhere.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.h"
#include "envoy.h"
#include "usage.h"

#define BYTES(text) ((struct bytes){text, sizeof(text) - 1})
/* Envoy takes no more headers than this in a request. */
#define HEADERS_MAX 128
#define POOL_BYTES_MAX 512
#define BODY_PARTS_MAX 60
#define NO_PICKER_DETAILS "inferway_picker_unavailable"
#define DECIDED_DETAILS "inferway_picker_decided"

const char *envoy_dynamic_modules_abi_version = ENVOY_INTERFACE_VERSION;

/* What a route entry says. Requests keep it alive beyond the configuration that it came with. */
struct settings {
  atomic_uint users;
  struct channel *channel;
  char pool[POOL_BYTES_MAX];
  size_t pool_length;
  int64_t timeout;
  bool fail_open;
};

/* One request. */
struct filter {
  envoy_filter envoy;
  struct settings *settings;
  struct question question;
  bool asked, routed, body_seen, reading;
  int64_t began, first, last;
  struct usage usage;
};

/* ---- settings ---- */

static struct bytes setting(struct bytes text, const char *name) {
  size_t name_length = strlen(name);
  const char *at = text.data;
  const char *end = text.data + text.length;
  while (at < end) {
    const char *line = memchr(at, '\n', (size_t)(end - at));
    const char *line_end = line ? line : end;
    if ((size_t)(line_end - at) > name_length && memcmp(at, name, name_length) == 0 &&
        at[name_length] == '=') {
      at += name_length + 1;
      return (struct bytes){at, (size_t)(line_end - at)};
    }
    at = line_end + 1;
  }
  return (struct bytes){NULL, 0};
}

static int64_t number(struct bytes text) {
  int64_t value = 0;
  for (size_t at = 0; at < text.length && at < 10; at++) {
    if (text.data[at] < '0' || text.data[at] > '9') {
      return -1;
    }
    value = value * 10 + (text.data[at] - '0');
  }
  return text.length == 0 ? -1 : value;
}

static void release(struct settings *settings) {
  if (settings != NULL && atomic_fetch_sub(&settings->users, 1) == 1) {
    if (settings->channel != NULL) {
      channel_put(settings->channel);
    }
    free(settings);
  }
}

const void *envoy_dynamic_module_on_program_init(void) { return ENVOY_INTERFACE_VERSION; }

/* The filter itself has no settings: it is off until an entry brings some. */
const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, struct bytes name,
                                                           struct bytes text) {
  static const char nothing;
  (void)envoy, (void)name, (void)text;
  return &nothing;
}

void envoy_dynamic_module_on_http_filter_config_destroy(const void *config) { (void)config; }

const void *envoy_dynamic_module_on_http_filter_per_route_config_new(struct bytes name,
                                                                     struct bytes text) {
  (void)name;
  struct bytes pool = setting(text, "pool");
  int64_t timeout = number(setting(text, "timeout_ms"));
  int64_t fail_open = number(setting(text, "fail_open"));
  struct settings *settings = calloc(1, sizeof *settings);
  if (settings == NULL || pool.length == 0 || pool.length >= POOL_BYTES_MAX || timeout <= 0 ||
      fail_open < 0) {
    free(settings);
    return NULL;
  }
  struct bytes address = setting(text, "address");
  settings->channel = address.length > 0 ? channel_get(address) : NULL;
  if (address.length > 0 && settings->channel == NULL) {
    free(settings);
    return NULL;
  }
  atomic_init(&settings->users, 1);
  memcpy(settings->pool, pool.data, pool.length);
  settings->pool_length = pool.length;
  settings->timeout = timeout * 1000000;
  settings->fail_open = fail_open > 0;
  return settings;
}

void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *config) {
  release((struct settings *)config);
}

/* ---- the question ---- */

const void *envoy_dynamic_module_on_http_filter_new(const void *config, envoy_filter envoy) {
  (void)config;
  struct filter *filter = calloc(1, sizeof *filter);
  if (filter != NULL) {
    filter->envoy = envoy;
    filter->began = now_nanoseconds();
  }
  return filter;
}

static char *append(char *to, const char *data, size_t length) {
  memcpy(to, data, length);
  to[length] = 0;
  return to + length + 1;
}

/* Pool and headers as NUL-separated text after its length; the caller frees it. */
static char *head_of(const struct filter *filter, size_t *length) {
  struct pair headers[HEADERS_MAX];
  size_t count = envoy_dynamic_module_callback_http_get_headers_size(filter->envoy,
                                                                     REQUEST_HEADERS);
  if (count > HEADERS_MAX || !envoy_dynamic_module_callback_http_get_headers(
                                 filter->envoy, REQUEST_HEADERS, headers)) {
    return NULL;
  }
  size_t size = 4 + filter->settings->pool_length + 1;
  for (size_t at = 0; at < count; at++) {
    size += headers[at].key_length + headers[at].value_length + 2;
  }
  char *head = malloc(size);
  if (head == NULL) {
    return NULL;
  }
  uint32_t text = (uint32_t)(size - 4);
  memcpy(head, &text, 4);
  char *to = append(head + 4, filter->settings->pool, filter->settings->pool_length);
  for (size_t at = 0; at < count; at++) {
    to = append(to, headers[at].key, headers[at].key_length);
    to = append(to, headers[at].value, headers[at].value_length);
  }
  *length = size;
  return head;
}

static size_t body_parts(const struct filter *filter, enum body_kind kind, struct bytes **parts) {
  size_t count = envoy_dynamic_module_callback_http_get_body_chunks_size(filter->envoy, kind);
  *parts = count > 0 ? calloc(count, sizeof **parts) : NULL;
  if (*parts == NULL ||
      !envoy_dynamic_module_callback_http_get_body_chunks(filter->envoy, kind, *parts)) {
    return 0;
  }
  return count;
}

/* Puts the body's pieces after the head; many small pieces are copied into one, which ``joined``
 * then is. False: no memory. */
static bool gather(const struct filter *filter, struct iovec *parts, size_t *count,
                   char **joined) {
  static const enum body_kind KINDS[] = {BUFFERED_REQUEST, RECEIVED_REQUEST};
  struct bytes *pieces[2];
  size_t counts[2], total = 0;
  for (int kind = 0; kind < 2; kind++) {
    counts[kind] = body_parts(filter, KINDS[kind], &pieces[kind]);
    for (size_t at = 0; at < counts[kind]; at++) {
      total += pieces[kind][at].length;
    }
  }
  bool join = counts[0] + counts[1] > BODY_PARTS_MAX;
  *joined = join ? malloc(total) : NULL;
  char *to = *joined;
  for (int kind = 0; kind < 2; kind++) {
    for (size_t at = 0; at < counts[kind] && (!join || to != NULL); at++) {
      struct bytes piece = pieces[kind][at];
      if (join) {
        memcpy(to, piece.data, piece.length);
        to += piece.length;
      } else {
        parts[(*count)++] = (struct iovec){(char *)piece.data, piece.length};
      }
    }
    free(pieces[kind]);
  }
  if (join) {
    parts[(*count)++] = (struct iovec){*joined, total};
  }
  return !join || *joined != NULL;
}

static bool ask(struct filter *filter) {
  struct iovec parts[BODY_PARTS_MAX + 1];
  size_t count = 1;
  char *joined = NULL;
  char *head = head_of(filter, &parts[0].iov_len);
  parts[0].iov_base = head;
  bool asked = false;
  filter->asked = true;
  if (head != NULL && filter->settings->channel != NULL && gather(filter, parts, &count, &joined)) {
    filter->question.scheduler =
        envoy_dynamic_module_callback_http_filter_scheduler_new(filter->envoy);
    asked = channel_ask(filter->settings->channel, &filter->question, parts, count,
                        filter->settings->timeout);
  }
  free(joined);
  free(head);
  return asked;
}

static void say_unavailable(const struct filter *filter) {
  /* Envoy's local reply mapper words it, as it words the same answer of the callout. */
  envoy_dynamic_module_callback_http_send_response(filter->envoy, 503, NULL, 0, BYTES(""),
                                                   BYTES(NO_PICKER_DETAILS));
}

/* True: the request waits for its answer, or has got one. */
static bool ask_or_fail(struct filter *filter) {
  if (ask(filter)) {
    return true;
  }
  if (filter->settings->fail_open) {
    return false;
  }
  say_unavailable(filter);
  return true;
}

enum headers_status envoy_dynamic_module_on_http_filter_request_headers(envoy_filter envoy,
                                                                        const void *module,
                                                                        bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  struct settings *settings =
      (struct settings *)envoy_dynamic_module_callback_get_most_specific_route_config(envoy);
  if (settings == NULL) {
    return HEADERS_CONTINUE;
  }
  atomic_fetch_add(&settings->users, 1);
  filter->settings = settings;
  if (end_of_stream) {
    return ask_or_fail(filter) ? HEADERS_STOP : HEADERS_CONTINUE;
  }
  return HEADERS_STOP;
}

enum data_status envoy_dynamic_module_on_http_filter_request_body(envoy_filter envoy,
                                                                  const void *module,
                                                                  bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  (void)envoy;
  if (filter->settings == NULL || filter->asked) {
    return DATA_CONTINUE;
  }
  if (!end_of_stream || ask_or_fail(filter)) {
    return DATA_STOP_AND_BUFFER;
  }
  return DATA_CONTINUE;
}

enum trailers_status envoy_dynamic_module_on_http_filter_request_trailers(envoy_filter envoy,
                                                                          const void *module) {
  struct filter *filter = (struct filter *)module;
  (void)envoy;
  if (filter->settings == NULL || filter->asked) {
    return TRAILERS_CONTINUE;
  }
  return ask_or_fail(filter) ? TRAILERS_STOP : TRAILERS_CONTINUE;
}

/* ---- the answer ---- */

/* The field at ``*at`` of NUL-separated fields; moves ``*at`` behind it. */
static struct bytes field(const struct question *question, size_t *at) {
  const char *data = question->fields + *at;
  size_t rest = question->fields_length - *at;
  const char *end = memchr(data, 0, rest);
  size_t length = end ? (size_t)(end - data) : rest;
  *at += length + (end != NULL);
  return (struct bytes){data, length};
}

/* Puts ``value`` in the place of the body's bytes from ``first`` up to ``last``. Offsets that do not
 * fit leave it as it is: a server answers 404 for a model it does not have, while a body cut at
 * random would be an error that nobody understands. */
static void splice(struct filter *filter, size_t first, size_t last, struct bytes value) {
  size_t size = envoy_dynamic_module_callback_http_get_body_size(filter->envoy, BUFFERED_REQUEST);
  struct bytes *pieces;
  size_t count = body_parts(filter, BUFFERED_REQUEST, &pieces);
  char *body = first <= last && last <= size ? malloc(size - (last - first) + value.length) : NULL;
  if (body != NULL) {
    size_t at = 0, written = 0;
    for (size_t index = 0; index < count; index++) {
      for (size_t place = 0; place < pieces[index].length; place++, at++) {
        if (at == first) {
          memcpy(body + written, value.data, value.length);
          written += value.length;
        }
        if (at < first || at >= last) {
          body[written++] = pieces[index].data[place];
        }
      }
    }
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%zu", written);
    envoy_dynamic_module_callback_http_drain_body(filter->envoy, BUFFERED_REQUEST, size);
    envoy_dynamic_module_callback_http_append_body(filter->envoy, BUFFERED_REQUEST,
                                                   (struct bytes){body, written});
    envoy_dynamic_module_callback_http_set_header(filter->envoy, REQUEST_HEADERS,
                                                  BYTES("content-length"),
                                                  (struct bytes){digits, (size_t)length});
    free(body);
  }
  free(pieces);
}

static void route(struct filter *filter) {
  size_t at = 0;
  struct bytes destination = field(&filter->question, &at);
  envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
      filter->envoy, BYTES("inferway.pick"), BYTES("x-gateway-destination-endpoint"), destination);
  if (at < filter->question.fields_length) {
    int64_t first = number(field(&filter->question, &at));
    int64_t last = number(field(&filter->question, &at));
    struct bytes value = field(&filter->question, &at);
    if (first >= 0 && last >= 0) {
      splice(filter, (size_t)first, (size_t)last, value);
    }
  }
  filter->routed = true;
  envoy_dynamic_module_callback_http_filter_continue_decoding(filter->envoy);
}

static void answer(struct filter *filter) {
  struct question *question = &filter->question;
  struct pair headers[HEADERS_MAX];
  size_t count = 0, at = 0;
  while (at < question->fields_length && count < HEADERS_MAX) {
    struct bytes key = field(question, &at);
    struct bytes value = field(question, &at);
    headers[count++] = (struct pair){key.data, key.length, value.data, value.length};
  }
  envoy_dynamic_module_callback_http_send_response(
      filter->envoy, question->status, headers, count,
      (struct bytes){question->body, question->body_length}, BYTES(DECIDED_DETAILS));
}

void envoy_dynamic_module_on_http_filter_scheduled(envoy_filter envoy, const void *module,
                                                   uint64_t event) {
  struct filter *filter = (struct filter *)module;
  (void)event;
  switch (filter->question.verdict) {
  case VERDICT_ROUTE:
    route(filter);
    break;
  case VERDICT_FINAL:
    answer(filter);
    break;
  default:
    if (filter->settings->fail_open) {
      envoy_dynamic_module_callback_http_filter_continue_decoding(envoy);
    } else {
      say_unavailable(filter);
    }
  }
}

/* ---- the response ---- */

static bool begins(struct bytes text, struct bytes with) {
  return text.length >= with.length && memcmp(text.data, with.data, with.length) == 0;
}

enum headers_status envoy_dynamic_module_on_http_filter_response_headers(envoy_filter envoy,
                                                                         const void *module,
                                                                         bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  (void)end_of_stream;
  if (!filter->routed) {
    return HEADERS_CONTINUE;
  }
  filter->first = filter->last = now_nanoseconds();
  struct bytes type = {0};
  envoy_dynamic_module_callback_http_get_header(envoy, RESPONSE_HEADERS, BYTES("content-type"),
                                                &type, 0, NULL);
  bool events = begins(type, BYTES("text/event-stream"));
  filter->reading = events || begins(type, BYTES("application/json"));
  if (filter->reading) {
    usage_start(&filter->usage, events);
  }
  return HEADERS_CONTINUE;
}

enum data_status envoy_dynamic_module_on_http_filter_response_body(envoy_filter envoy,
                                                                   const void *module,
                                                                   bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  struct bytes some[8], *pieces = some;
  (void)end_of_stream;
  if (!filter->routed) {
    return DATA_CONTINUE;
  }
  filter->last = now_nanoseconds();
  if (!filter->reading) {
    return DATA_CONTINUE;
  }
  size_t count = envoy_dynamic_module_callback_http_get_body_chunks_size(envoy, RECEIVED_RESPONSE);
  if (count > sizeof some / sizeof *some) {
    pieces = calloc(count, sizeof *pieces);
  }
  if (pieces != NULL && count > 0 &&
      envoy_dynamic_module_callback_http_get_body_chunks(envoy, RECEIVED_RESPONSE, pieces)) {
    for (size_t at = 0; at < count; at++) {
      usage_feed(&filter->usage, pieces[at].data, pieces[at].length);
    }
  }
  if (pieces != some) {
    free(pieces);
  }
  return DATA_CONTINUE;
}

enum trailers_status envoy_dynamic_module_on_http_filter_response_trailers(envoy_filter envoy,
                                                                           const void *module) {
  (void)envoy, (void)module;
  return TRAILERS_CONTINUE;
}

/* What a report says in numbers; the texts follow it. Times are microseconds since the request came,
 * 0 where there was none. */
struct __attribute__((packed)) outcome {
  uint16_t status, attempts;
  uint32_t flags;
  uint32_t first, last, duration;
};

static uint32_t since(const struct filter *filter, int64_t time) {
  int64_t micros = (time - filter->began) / 1000;
  return time == 0 ? 0 : micros > UINT32_MAX ? UINT32_MAX : (uint32_t)micros;
}

void envoy_dynamic_module_on_http_filter_stream_complete(envoy_filter envoy, const void *module) {
  const struct filter *filter = module;
  if (!filter->routed) {
    return;
  }
  uint64_t code = 0, flags = 0;
  struct bytes served = {"", 0};
  envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy, ATTRIBUTE_RESPONSE_CODE,
                                                              &code);
  envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy, ATTRIBUTE_RESPONSE_FLAGS,
                                                              &flags);
  envoy_dynamic_module_callback_http_filter_get_attribute_string(
      envoy, ATTRIBUTE_UPSTREAM_ADDRESS, &served);
  size_t attempts = envoy_dynamic_module_callback_http_get_upstream_hosts_attempted_size(envoy);
  struct outcome outcome = {
      .status = (uint16_t)code,
      .attempts = (uint16_t)attempts,
      .flags = (uint32_t)flags,
      .first = since(filter, filter->first),
      .last = since(filter, filter->last),
      .duration = since(filter, now_nanoseconds()),
  };
  struct iovec parts[] = {
      {&outcome, sizeof outcome},
      {(char *)served.data, served.length},
      {"", 1},
      {(char *)filter->usage.text, filter->usage.length},
  };
  channel_report(&filter->question, parts, sizeof parts / sizeof *parts);
}

void envoy_dynamic_module_on_http_filter_destroy(const void *module) {
  struct filter *filter = (struct filter *)module;
  channel_forget(&filter->question);
  if (filter->question.scheduler != NULL) {
    envoy_dynamic_module_callback_http_filter_scheduler_delete(filter->question.scheduler);
  }
  release(filter->settings);
  free(filter);
}
