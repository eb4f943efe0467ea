/* The pickers of one pool: a channel to each, and which of them is asked.
 *
 * All replicas of a picker decide, so that questions go to the one that has fewest of them, in turn
 * among equals; one that hangs soon has most. One that is not connected is asked where no other is.
 */
#ifndef INFERWAY_PICKERS_H
#define INFERWAY_PICKERS_H

#include <stdatomic.h>

#include "channel.h"

/* A pool has a few; more are never asked. */
#define PICKERS_MAX 16

struct pickers {
  struct channel *channels[PICKERS_MAX];
  size_t count;
  atomic_uint turn;
};

/* Channels to all of "unix:PATH" or "IP:PORT" with commas between them; none for an empty text.
 * False: an address is too long, or there is no memory. */
bool pickers_get(struct pickers *pickers, struct bytes addresses);
void pickers_put(struct pickers *pickers);

/* Sends a question as channel_ask does. */
bool pickers_ask(struct pickers *pickers, struct question *question, const struct iovec *parts,
                 size_t count);

#endif
