/* Puts the model that a client named back into the answer of a server that was told another one.
 *
 * Follows JSON's strings and brackets, and changes the string of a member "model" of a document, and
 * of the object "message" or "response" right in it, where events of Anthropic's API and of responses
 * have it; nothing else. No byte waits for the next piece: the key passes, the new name stands where
 * the value begins, and the old one is left out as it comes. picker/restore.py does the same.
 */
#ifndef INFERWAY_RESTORE_H
#define INFERWAY_RESTORE_H

#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"

/* No key that counts is longer. */
#define RESTORE_KEY_BYTES_MAX 8

struct restore {
  const char *name; /* JSON text with its quotes, the caller's; NULL: nothing is put back */
  size_t name_length;
  unsigned depth;
  unsigned char state;
  unsigned char key_length; /* one more than fits for a longer key */
  char key[RESTORE_KEY_BYTES_MAX];
  bool events, escaped;
  bool held; /* the object at depth 2 is one that has the model in it */
};

/* ``events``: the body is a text/event-stream; each line "data: {...}" is a document of its own. */
void restore_start(struct restore *restore, const char *name, size_t length, bool events);

/* Takes the next bytes of the body and puts at the end of ``to`` what is to be sent in their place.
 * ``changed`` becomes true where that is something else. False: no memory, and ``to`` has a part. */
bool restore_feed(struct restore *restore, const char *data, size_t length, struct buffer *to,
                  bool *changed);

#endif
