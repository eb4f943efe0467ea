#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_MIN 4096
/* An empty buffer that has grown beyond this for one large body gives its memory back. */
#define KEPT_BYTES_MAX (1024u * 1024)

bool buffer_reserve(struct buffer *buffer, size_t count) {
  /* Moving bytes pays only where what is free in front is as much as what is moved: otherwise each
   * small put behind a large body would move the body. */
  if (buffer->start + buffer->length + count > buffer->size && buffer->start >= buffer->length) {
    if (buffer->length > 0) {
      memcpy(buffer->memory, buffer_data(buffer), buffer->length);
    }
    buffer->start = 0;
  }
  size_t needed = buffer->start + buffer->length + count;
  if (needed <= buffer->size) {
    return true;
  }
  size_t size = buffer->size ? buffer->size : SIZE_MIN;
  while (size < needed) {
    size *= 2;
  }
  char *memory = realloc(buffer->memory, size);
  if (memory == NULL) {
    return false;
  }
  buffer->memory = memory;
  buffer->size = size;
  return true;
}

bool buffer_put(struct buffer *buffer, const void *data, size_t count) {
  if (count == 0) {
    return true;
  }
  if (!buffer_reserve(buffer, count)) {
    return false;
  }
  memcpy(buffer_data(buffer) + buffer->length, data, count);
  buffer->length += count;
  return true;
}

void buffer_take(struct buffer *buffer, size_t count) {
  buffer->start += count;
  buffer->length -= count;
  if (buffer->length == 0) {
    buffer_clear(buffer);
  }
}

void buffer_clear(struct buffer *buffer) {
  buffer->start = buffer->length = 0;
  if (buffer->size > KEPT_BYTES_MAX) {
    free(buffer->memory);
    buffer->memory = NULL;
    buffer->size = 0;
  }
}
