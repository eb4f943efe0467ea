/* Questions that wait for an answer: by id, and by age. A zeroed one with free_slot NOBODY is empty.
 */
#ifndef INFERWAY_WAITING_H
#define INFERWAY_WAITING_H

#include "channel.h"

#define NOBODY UINT32_MAX

struct waiting {
  struct question *first, *last; /* oldest first */
  struct slot *slots;
  uint32_t slot_count, free_slot;
  uint32_t count; /* of questions */
};

/* Gives the question an id that no question had before. False: no memory, or too many. */
bool waiting_add(struct waiting *waiting, struct question *question);

void waiting_remove(struct waiting *waiting, struct question *question);

/* NULL: no question of this id waits. */
struct question *waiting_find(const struct waiting *waiting, uint64_t id);

#endif
