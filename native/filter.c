/* Asks a picker which server a request goes to, and tells it afterwards how the request went.
 *
 * Envoy loads this as a dynamic module. The destination becomes dynamic metadata, which the
 * cluster's override_host policy follows. The filter is off until a route's entry brings settings.
 */
#include <stdlib.h>
#include <string.h>

#include "body.h"
#include "channel.h"
#include "envoy.h"
#include "restore.h"
#include "settings.h"
#include "trace.h"
#include "usage.h"

#define BYTES(text) ((struct bytes){text, sizeof(text) - 1})
/* Envoy takes a hundred headers in a request, and adds some of its own. */
#define HEADERS_MAX 128
/* A connection that was lost is no reason to fail; a picker that hangs up on each question is. */
#define ASKS_MAX 3
#define NO_PICKER_DETAILS "inferway_picker_unavailable"
#define DECIDED_DETAILS "inferway_picker_decided"
#define RESPONSE_PIECES 8
#define RESTORE ":model"

/* One request. */
struct filter {
  envoy_filter envoy;
  struct settings *settings;
  struct question question;
  unsigned asks;
  bool routed, reading, answered_here;
  int64_t began, first, last;
  struct usage usage;
  struct restore restore;
};

/* ---- settings ---- */

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
  return settings_read(text);
}

void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *config) {
  settings_release((struct settings *)config);
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

/* Sets a header in the place of what the client sent; how many there are then. */
static size_t replace(struct pair *headers, size_t count, struct bytes key, struct bytes value) {
  size_t kept = 0;
  for (size_t at = 0; at < count; at++) {
    if (headers[at].key_length != key.length ||
        memcmp(headers[at].key, key.data, key.length) != 0) {
      headers[kept++] = headers[at];
    }
  }
  headers[kept] = (struct pair){key.data, key.length, value.data, value.length};
  return kept + 1;
}

/* Pool and headers as NUL-separated text after its length; the caller frees it. */
static char *head_of(const struct filter *filter, size_t *length) {
  struct pair headers[HEADERS_MAX + 1];
  size_t count = envoy_dynamic_module_callback_http_get_headers_size(filter->envoy,
                                                                     REQUEST_HEADERS);
  if (count > HEADERS_MAX || !envoy_dynamic_module_callback_http_get_headers(
                                 filter->envoy, REQUEST_HEADERS, headers)) {
    return NULL;
  }
  char traceparent[TRACEPARENT_BYTES];
  if (filter->settings->traced && trace_parent(filter->envoy, filter->settings, traceparent)) {
    count = replace(headers, count, (struct bytes){TRACEPARENT, sizeof(TRACEPARENT) - 1},
                    (struct bytes){traceparent, TRACEPARENT_BYTES});
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

static bool ask(struct filter *filter) {
  struct iovec parts[1 + BODY_PARTS_MAX];
  size_t count = 0;
  char *joined = NULL;
  char *head = head_of(filter, &parts[0].iov_len);
  struct question *question = &filter->question;
  bool asked = false;
  parts[0].iov_base = head;
  filter->asks++;
  if (question->scheduler == NULL) {
    question->scheduler = envoy_dynamic_module_callback_http_filter_scheduler_new(filter->envoy);
    question->deadline = now_nanoseconds() + filter->settings->timeout;
  }
  if (head != NULL && body_gather(filter->envoy, parts + 1, &count, &joined)) {
    asked = pickers_ask(&filter->settings->pickers, question, parts, 1 + count);
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

/* True: the request waits for its answer, or has got one, and the filter may be gone. */
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
  return !end_of_stream || ask_or_fail(filter) ? HEADERS_STOP : HEADERS_CONTINUE;
}

enum data_status envoy_dynamic_module_on_http_filter_request_body(envoy_filter envoy,
                                                                  const void *module,
                                                                  bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  (void)envoy;
  if (filter->settings == NULL || filter->asks > 0) {
    return DATA_CONTINUE;
  }
  return !end_of_stream || ask_or_fail(filter) ? DATA_STOP_AND_BUFFER : DATA_CONTINUE;
}

enum trailers_status envoy_dynamic_module_on_http_filter_request_trailers(envoy_filter envoy,
                                                                          const void *module) {
  struct filter *filter = (struct filter *)module;
  (void)envoy;
  if (filter->settings == NULL || filter->asks > 0) {
    return TRAILERS_CONTINUE;
  }
  return ask_or_fail(filter) ? TRAILERS_STOP : TRAILERS_CONTINUE;
}

/* ---- the answer ---- */

/* The field at ``*at`` of NUL-separated fields; moves ``*at`` behind it. */
static struct bytes field(struct bytes fields, size_t *at) {
  const char *data = fields.data + *at;
  size_t rest = fields.length - *at;
  const char *end = memchr(data, 0, rest);
  size_t length = end ? (size_t)(end - data) : rest;
  *at += length + (end != NULL);
  return (struct bytes){data, length};
}

/* Whether the text can stand in a header: a stray line end would make two of it. */
static bool plain(struct bytes text) {
  for (size_t at = 0; at < text.length; at++) {
    if ((unsigned char)text.data[at] < ' ') {
      return false;
    }
  }
  return true;
}

/* The next header of names and values in turns; passes over what can be none. False: no more. */
static bool next_header(struct bytes fields, size_t *at, struct bytes *key, struct bytes *value) {
  while (*at < fields.length) {
    *key = field(fields, at);
    *value = field(fields, at);
    if (key->length > 0 && key->data[0] != ':' && plain(*key) && plain(*value)) {
      return true;
    }
  }
  return false;
}

static void set_headers(envoy_filter envoy, enum header_map map, struct bytes fields, size_t at) {
  struct bytes key, value;
  while (next_header(fields, &at, &key, &value)) {
    envoy_dynamic_module_callback_http_set_header(envoy, map, key, value);
  }
}

static void route(struct filter *filter) {
  struct bytes fields = {filter->question.fields, filter->question.fields_length};
  size_t at = 0;
  struct bytes destination = field(fields, &at);
  envoy_dynamic_module_callback_http_set_dynamic_metadata_string(
      filter->envoy, BYTES("inferway.pick"), BYTES("x-gateway-destination-endpoint"), destination);
  if (at < fields.length) {
    int64_t first = number(field(fields, &at));
    int64_t last = number(field(fields, &at));
    struct bytes value = field(fields, &at);
    if (first >= 0 && last >= 0) {
      body_splice(filter->envoy, (size_t)first, (size_t)last, value);
    }
    set_headers(filter->envoy, REQUEST_HEADERS, fields, at);
  }
  filter->routed = true;
  envoy_dynamic_module_callback_http_filter_continue_decoding(filter->envoy);
}

static void answer(struct filter *filter) {
  struct question *question = &filter->question;
  struct bytes fields = {question->fields, question->fields_length}, key, value;
  struct pair headers[HEADERS_MAX];
  size_t count = 0, at = 0;
  while (count < HEADERS_MAX && next_header(fields, &at, &key, &value)) {
    headers[count++] = (struct pair){key.data, key.length, value.data, value.length};
  }
  envoy_dynamic_module_callback_http_send_response(
      filter->envoy, question->status, headers, count,
      (struct bytes){question->body, question->body_length}, BYTES(DECIDED_DETAILS));
}

/* The filter may be gone after each of these. */
void envoy_dynamic_module_on_http_filter_scheduled(envoy_filter envoy, const void *module,
                                                   uint64_t event) {
  struct filter *filter = (struct filter *)module;
  (void)event;
  if (filter->answered_here) {
    return;
  }
  switch (filter->question.verdict) {
  case VERDICT_ROUTE:
    route(filter);
    return;
  case VERDICT_FINAL:
    answer(filter);
    return;
  case VERDICT_LOST:
    if (filter->asks < ASKS_MAX && ask(filter)) {
      return;
    }
    break;
  default:
    break;
  }
  if (filter->settings->fail_open) {
    envoy_dynamic_module_callback_http_filter_continue_decoding(envoy);
  } else {
    say_unavailable(filter);
  }
}

/* ---- the response ---- */

/* Envoy itself answers, for a server that did not or because of a time that is over. */
enum local_reply_status
envoy_dynamic_module_on_http_filter_local_reply(envoy_filter envoy, const void *module,
                                                uint32_t status, struct bytes details,
                                                bool reset_imminent) {
  struct filter *filter = (struct filter *)module;
  (void)envoy, (void)status, (void)details, (void)reset_imminent;
  filter->answered_here = true;
  return LOCAL_REPLY_CONTINUE;
}

static bool begins(struct bytes text, struct bytes with) {
  return text.length >= with.length && memcmp(text.data, with.data, with.length) == 0;
}

static struct bytes response_header(envoy_filter envoy, struct bytes name) {
  struct bytes value = {0};
  envoy_dynamic_module_callback_http_get_header(envoy, RESPONSE_HEADERS, name, &value, 0, NULL);
  return value;
}

/* Makes ready to put back the model's name where the picker gave one, among the headers for the
 * client but with a name that is none. */
static void prepare_restore(struct filter *filter, bool events) {
  struct bytes fields = {filter->question.body, filter->question.body_length}, key, value;
  size_t at = 0;
  while (at < fields.length) {
    key = field(fields, &at);
    value = field(fields, &at);
    if (key.length != sizeof(RESTORE) - 1 || !begins(key, BYTES(RESTORE)) || value.length == 0) {
      continue;
    }
    struct bytes encoding = response_header(filter->envoy, BYTES("content-encoding"));
    if (encoding.length == 0 || begins(encoding, BYTES("identity"))) {
      restore_start(&filter->restore, value.data, value.length, events);
      /* Another name has another length. */
      envoy_dynamic_module_callback_http_set_header(filter->envoy, RESPONSE_HEADERS,
                                                    BYTES("content-length"), (struct bytes){0});
    }
    return;
  }
}

enum headers_status envoy_dynamic_module_on_http_filter_response_headers(envoy_filter envoy,
                                                                         const void *module,
                                                                         bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  if (!filter->routed) {
    return HEADERS_CONTINUE;
  }
  /* Also where Envoy answers for a server, as ext_authz does. */
  struct question *question = &filter->question;
  set_headers(envoy, RESPONSE_HEADERS, (struct bytes){question->body, question->body_length}, 0);
  if (filter->answered_here) {
    return HEADERS_CONTINUE;
  }
  filter->first = filter->last = now_nanoseconds();
  struct bytes type = response_header(envoy, BYTES("content-type"));
  bool events = begins(type, BYTES("text/event-stream"));
  filter->reading = events || begins(type, BYTES("application/json"));
  if (filter->reading) {
    usage_start(&filter->usage, events);
    if (question->body_length > 0 && !end_of_stream) {
      prepare_restore(filter, events);
    }
  }
  return HEADERS_CONTINUE;
}

/* Reads the pieces of the answer that came, and replaces them where they name a model. */
static void take_pieces(struct filter *filter, const struct bytes *pieces, size_t count) {
  struct restore *restore = &filter->restore;
  struct buffer made = {0};
  size_t total = 0;
  bool whole = true, changed = false;
  for (size_t at = 0; at < count; at++) {
    usage_feed(&filter->usage, pieces[at].data, pieces[at].length);
    if (restore->name != NULL) {
      total += pieces[at].length;
      whole = restore_feed(restore, pieces[at].data, pieces[at].length, &made, &changed) && whole;
    }
  }
  if (whole && changed) {
    envoy_dynamic_module_callback_http_drain_body(filter->envoy, RECEIVED_RESPONSE, total);
    if (made.length > 0) {
      envoy_dynamic_module_callback_http_append_body(
          filter->envoy, RECEIVED_RESPONSE, (struct bytes){buffer_data(&made), made.length});
    }
  }
  free(made.memory);
}

enum data_status envoy_dynamic_module_on_http_filter_response_body(envoy_filter envoy,
                                                                   const void *module,
                                                                   bool end_of_stream) {
  struct filter *filter = (struct filter *)module;
  struct bytes some[RESPONSE_PIECES], *pieces = some;
  (void)end_of_stream;
  if (!filter->routed || filter->answered_here) {
    return DATA_CONTINUE;
  }
  filter->last = now_nanoseconds();
  if (!filter->reading) {
    return DATA_CONTINUE;
  }
  size_t count = envoy_dynamic_module_callback_http_get_body_chunks_size(envoy, RECEIVED_RESPONSE);
  if (count > RESPONSE_PIECES) {
    pieces = calloc(count, sizeof *pieces);
  }
  if (pieces != NULL && count > 0 &&
      envoy_dynamic_module_callback_http_get_body_chunks(envoy, RECEIVED_RESPONSE, pieces)) {
    take_pieces(filter, pieces, count);
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
  struct filter *filter = (struct filter *)module;
  if (!filter->routed) {
    return;
  }
  uint64_t code = 0, flags = 0, attempts = 0;
  struct bytes served = {"", 0};
  envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy, ATTRIBUTE_RESPONSE_CODE,
                                                              &code);
  envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy, ATTRIBUTE_RESPONSE_FLAGS,
                                                              &flags);
  envoy_dynamic_module_callback_http_filter_get_attribute_string(
      envoy, ATTRIBUTE_UPSTREAM_ADDRESS, &served);
  envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy, ATTRIBUTE_UPSTREAM_ATTEMPTS,
                                                              &attempts);
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
  settings_release(filter->settings);
  free(filter);
}
