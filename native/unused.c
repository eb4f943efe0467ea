/* Hooks that Envoy wants of every module and that this one has no use for. */
#include "envoy.h"

#define NOTHING(name) \
  HOOK void envoy_dynamic_module_on_http_filter_##name(void); \
  void envoy_dynamic_module_on_http_filter_##name(void) {}

/* Callouts through Envoy's own clients, which are never started. */
NOTHING(http_callout_done)
NOTHING(http_stream_headers)
NOTHING(http_stream_data)
NOTHING(http_stream_trailers)
NOTHING(http_stream_complete)
NOTHING(http_stream_reset)
NOTHING(config_http_callout_done)
NOTHING(config_http_stream_headers)
NOTHING(config_http_stream_data)
NOTHING(config_http_stream_trailers)
NOTHING(config_http_stream_complete)
NOTHING(config_http_stream_reset)
/* Events for a filter's configuration, which are never scheduled. */
NOTHING(config_scheduled)
/* Watermarks are a terminal filter's. */
NOTHING(downstream_above_write_buffer_high_watermark)
NOTHING(downstream_below_write_buffer_low_watermark)
