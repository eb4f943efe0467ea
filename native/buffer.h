/* Bytes that are put at the end and taken off the front. A zeroed one is empty. */
#ifndef INFERWAY_BUFFER_H
#define INFERWAY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
  char *memory;
  size_t start, length, size;
};

static inline char *buffer_data(const struct buffer *buffer) {
  return buffer->memory + buffer->start;
}

/* Makes room for ``count`` bytes more. False: no memory. */
bool buffer_reserve(struct buffer *buffer, size_t count);

/* False: no memory, and the buffer is as it was. */
bool buffer_put(struct buffer *buffer, const void *data, size_t count);

void buffer_take(struct buffer *buffer, size_t count);

/* Empties it, and gives its memory back where that is much. */
void buffer_clear(struct buffer *buffer);

#endif
