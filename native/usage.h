/* Finds the top-level "usage" object in a JSON answer or in the events of a stream.
 *
 * Looks at each byte once, keeps the object's own text and nothing else, and understands nothing
 * beyond JSON's strings and brackets: what the numbers mean is the picker's business.
 */
#ifndef INFERWAY_USAGE_H
#define INFERWAY_USAGE_H

#include <stdbool.h>
#include <stddef.h>

/* A usage with all details of today's servers has 300 bytes; a longer one is not kept. */
#define USAGE_BYTES_MAX 1024

struct usage {
  char text[USAGE_BYTES_MAX]; /* the last complete object */
  size_t length;              /* 0: none was seen */
  char open[USAGE_BYTES_MAX]; /* the object that is being read */
  size_t open_length;
  unsigned depth;
  unsigned char state;
  unsigned char matched;
  bool events;
};

/* ``events``: the body is a text/event-stream; each line "data: {...}" is a document of its own. */
void usage_start(struct usage *usage, bool events);

/* Takes the next bytes of the body. */
void usage_feed(struct usage *usage, const char *data, size_t length);

#endif
