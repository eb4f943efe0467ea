#include "settings.h"

#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 10
#define NANOSECONDS_IN_MILLISECOND 1000000

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
    if (line == NULL) {
      break;
    }
    at = line + 1;
  }
  return (struct bytes){"", 0};
}

int64_t number(struct bytes text) {
  int64_t value = 0;
  if (text.length == 0 || text.length > DIGITS_MAX) {
    return -1;
  }
  for (size_t at = 0; at < text.length; at++) {
    if (text.data[at] < '0' || text.data[at] > '9') {
      return -1;
    }
    value = value * 10 + (text.data[at] - '0');
  }
  return value;
}

struct settings *settings_read(struct bytes text) {
  struct bytes pool = setting(text, "pool");
  struct bytes address = setting(text, "address");
  int64_t timeout = number(setting(text, "timeout_ms"));
  int64_t fail_open = number(setting(text, "fail_open"));
  struct settings *settings = calloc(1, sizeof *settings);
  if (settings == NULL || pool.length == 0 || pool.length > POOL_BYTES_MAX || timeout <= 0 ||
      fail_open < 0) {
    free(settings);
    return NULL;
  }
  if (!pickers_get(&settings->pickers, address)) {
    free(settings);
    return NULL;
  }
  atomic_init(&settings->users, 1);
  memcpy(settings->pool, pool.data, pool.length);
  settings->pool_length = pool.length;
  settings->timeout = timeout * NANOSECONDS_IN_MILLISECOND;
  settings->fail_open = fail_open > 0;
  int64_t sampled = number(setting(text, "sampled_ppm"));
  if (sampled >= 0 && sampled <= PPM) {
    settings->traced = true;
    settings->sampled_ppm = (uint64_t)sampled;
    settings->parent_decides = number(setting(text, "parent_decides")) > 0;
  }
  return settings;
}

void settings_release(struct settings *settings) {
  if (settings != NULL && atomic_fetch_sub(&settings->users, 1) == 1) {
    pickers_put(&settings->pickers);
    free(settings);
  }
}
