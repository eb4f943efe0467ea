/* What this module uses of Envoy's dynamic module interface, written down for Envoy 1.40.
 *
 * Envoy calls the functions named ..._on_...; the module calls those named ..._callback_... A buffer
 * that Envoy lends is valid until the hook returns. Each hook runs on the thread of its request, and
 * a filter may be destroyed inside of send_response and filter_continue_decoding. Reference: Envoy's
 * documentation of dynamic modules, interface version v0.2.0.
 */
#ifndef INFERWAY_ENVOY_H
#define INFERWAY_ENVOY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENVOY_INTERFACE_VERSION "v0.2.0"

/* The module is compiled with all else hidden, so that none of its names meet those of another. */
#define HOOK __attribute__((visibility("default")))

/* Bytes that somebody else owns. */
struct bytes {
  const char *data;
  size_t length;
};

/* A header or metadata pair that somebody else owns. */
struct pair {
  const char *key;
  size_t key_length;
  const char *value;
  size_t value_length;
};

enum header_map { REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS };

enum body_kind { RECEIVED_REQUEST, BUFFERED_REQUEST, RECEIVED_RESPONSE, BUFFERED_RESPONSE };

enum headers_status { HEADERS_CONTINUE, HEADERS_STOP };

enum data_status { DATA_CONTINUE, DATA_STOP_AND_BUFFER };

enum trailers_status { TRAILERS_CONTINUE, TRAILERS_STOP };

enum local_reply_status { LOCAL_REPLY_CONTINUE };

/* The attributes that are read, by their place in Envoy's list. */
enum attribute {
  ATTRIBUTE_RESPONSE_CODE = 15,
  ATTRIBUTE_RESPONSE_FLAGS = 17,
  ATTRIBUTE_UPSTREAM_ADDRESS = 41,
  ATTRIBUTE_UPSTREAM_ATTEMPTS = 53,
};

typedef void *envoy_filter;
typedef void *envoy_scheduler;
typedef void *envoy_span;

/* ---- hooks ---- */

HOOK const void *envoy_dynamic_module_on_program_init(void);

HOOK const void *
envoy_dynamic_module_on_http_filter_config_new(void *envoy, struct bytes name, struct bytes text);

HOOK void
envoy_dynamic_module_on_http_filter_config_destroy(const void *config);

HOOK const void *
envoy_dynamic_module_on_http_filter_per_route_config_new(struct bytes name, struct bytes text);

HOOK void
envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *config);

HOOK const void *
envoy_dynamic_module_on_http_filter_new(const void *config, envoy_filter);

HOOK enum headers_status
envoy_dynamic_module_on_http_filter_request_headers(envoy_filter, const void *, bool end_of_stream);

HOOK enum data_status
envoy_dynamic_module_on_http_filter_request_body(envoy_filter, const void *, bool end_of_stream);

HOOK enum trailers_status
envoy_dynamic_module_on_http_filter_request_trailers(envoy_filter, const void *);

HOOK void
envoy_dynamic_module_on_http_filter_scheduled(envoy_filter, const void *, uint64_t event);

HOOK enum local_reply_status
envoy_dynamic_module_on_http_filter_local_reply(envoy_filter, const void *, uint32_t status,
                                                struct bytes details, bool reset_imminent);

HOOK enum headers_status
envoy_dynamic_module_on_http_filter_response_headers(envoy_filter, const void *,
                                                     bool end_of_stream);

HOOK enum data_status
envoy_dynamic_module_on_http_filter_response_body(envoy_filter, const void *, bool end_of_stream);

HOOK enum trailers_status
envoy_dynamic_module_on_http_filter_response_trailers(envoy_filter, const void *);

HOOK void
envoy_dynamic_module_on_http_filter_stream_complete(envoy_filter, const void *);

HOOK void
envoy_dynamic_module_on_http_filter_destroy(const void *);

/* ---- callbacks ---- */

size_t
envoy_dynamic_module_callback_http_get_headers_size(envoy_filter, enum header_map);

bool
envoy_dynamic_module_callback_http_get_headers(envoy_filter, enum header_map, struct pair *);

bool
envoy_dynamic_module_callback_http_get_header(envoy_filter, enum header_map, struct bytes key,
                                              struct bytes *value, size_t index, size_t *count);

bool
envoy_dynamic_module_callback_http_set_header(envoy_filter, enum header_map, struct bytes key,
                                              struct bytes value);

size_t
envoy_dynamic_module_callback_http_get_body_chunks_size(envoy_filter, enum body_kind);

bool
envoy_dynamic_module_callback_http_get_body_chunks(envoy_filter, enum body_kind, struct bytes *);

bool
envoy_dynamic_module_callback_http_append_body(envoy_filter, enum body_kind, struct bytes);

bool
envoy_dynamic_module_callback_http_drain_body(envoy_filter, enum body_kind, size_t count);

void
envoy_dynamic_module_callback_http_set_dynamic_metadata_string(envoy_filter, struct bytes space,
                                                               struct bytes key,
                                                               struct bytes value);

void
envoy_dynamic_module_callback_http_send_response(envoy_filter, uint32_t status,
                                                 struct pair *headers, size_t count,
                                                 struct bytes body, struct bytes details);

void
envoy_dynamic_module_callback_http_filter_continue_decoding(envoy_filter);

const void *
envoy_dynamic_module_callback_get_most_specific_route_config(envoy_filter);

bool
envoy_dynamic_module_callback_http_filter_get_attribute_string(envoy_filter, enum attribute,
                                                               struct bytes *);

bool
envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy_filter, enum attribute,
                                                            uint64_t *);

/* NULL where requests are not traced. */
envoy_span
envoy_dynamic_module_callback_http_get_active_span(envoy_filter);

/* Both are hexadecimal, and good until the next of these calls of the thread. */
bool
envoy_dynamic_module_callback_http_span_get_trace_id(envoy_span, struct bytes *);

bool
envoy_dynamic_module_callback_http_span_get_span_id(envoy_span, struct bytes *);

void
envoy_dynamic_module_callback_http_span_set_sampled(envoy_span, bool);

envoy_scheduler
envoy_dynamic_module_callback_http_filter_scheduler_new(envoy_filter);

/* From any thread. */
void
envoy_dynamic_module_callback_http_filter_scheduler_commit(envoy_scheduler, uint64_t event);

void
envoy_dynamic_module_callback_http_filter_scheduler_delete(envoy_scheduler);

#endif
