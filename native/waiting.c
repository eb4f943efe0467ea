#include "waiting.h"

#include <stdlib.h>

#define SLOTS_MIN 64

struct slot {
  struct question *question;
  uint32_t turn; /* makes the ids of one slot differ */
  uint32_t next_free;
};

static bool grow(struct waiting *waiting) {
  uint32_t count = waiting->slot_count ? waiting->slot_count * 2 : SLOTS_MIN;
  if (count > QUESTIONS_MAX) {
    return false;
  }
  struct slot *slots = realloc(waiting->slots, count * sizeof *slots);
  if (slots == NULL) {
    return false;
  }
  for (uint32_t at = waiting->slot_count; at < count; at++) {
    slots[at] = (struct slot){NULL, 0, at + 1 < count ? at + 1 : NOBODY};
  }
  waiting->free_slot = waiting->slot_count;
  waiting->slots = slots;
  waiting->slot_count = count;
  return true;
}

bool waiting_add(struct waiting *waiting, struct question *question) {
  if (waiting->free_slot == NOBODY && !grow(waiting)) {
    return false;
  }
  uint32_t at = waiting->free_slot;
  struct slot *slot = &waiting->slots[at];
  waiting->free_slot = slot->next_free;
  slot->question = question;
  slot->turn++;
  question->id = (uint64_t)slot->turn << 32 | at;
  question->before = waiting->last;
  question->after = NULL;
  *(waiting->last ? &waiting->last->after : &waiting->first) = question;
  waiting->last = question;
  question->waiting = true;
  waiting->count++;
  return true;
}

void waiting_remove(struct waiting *waiting, struct question *question) {
  uint32_t at = (uint32_t)question->id;
  waiting->slots[at].question = NULL;
  waiting->slots[at].next_free = waiting->free_slot;
  waiting->free_slot = at;
  *(question->before ? &question->before->after : &waiting->first) = question->after;
  *(question->after ? &question->after->before : &waiting->last) = question->before;
  question->waiting = false;
  waiting->count--;
}

struct question *waiting_find(const struct waiting *waiting, uint64_t id) {
  uint32_t at = (uint32_t)id;
  if (at >= waiting->slot_count || waiting->slots[at].turn != id >> 32) {
    return NULL;
  }
  return waiting->slots[at].question;
}
