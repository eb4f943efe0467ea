#include "pickers.h"

#include <string.h>

bool pickers_get(struct pickers *pickers, struct bytes addresses) {
  const char *at = addresses.data;
  const char *end = addresses.data + addresses.length;
  while (at < end && pickers->count < PICKERS_MAX) {
    const char *comma = memchr(at, ',', (size_t)(end - at));
    const char *last = comma ? comma : end;
    struct channel *channel = channel_get((struct bytes){at, (size_t)(last - at)});
    if (channel == NULL) {
      pickers_put(pickers);
      return false;
    }
    pickers->channels[pickers->count++] = channel;
    at = last + 1;
  }
  return true;
}

void pickers_put(struct pickers *pickers) {
  while (pickers->count > 0) {
    channel_put(pickers->channels[--pickers->count]);
  }
}

/* Of all but ``other``. */
static struct channel *least(struct pickers *pickers, size_t from, const struct channel *other) {
  struct channel *found = NULL;
  uint32_t fewest = NOBODY_TO_ASK;
  for (size_t at = 0; at < pickers->count && fewest > 0; at++) {
    struct channel *channel = pickers->channels[(from + at) % pickers->count];
    uint32_t load = channel == other ? NOBODY_TO_ASK : channel_load(channel);
    if (load < fewest) {
      fewest = load;
      found = channel;
    }
  }
  return found;
}

bool pickers_ask(struct pickers *pickers, struct question *question, const struct iovec *parts,
                 size_t count) {
  if (pickers->count == 1) {
    return channel_ask(pickers->channels[0], question, parts, count);
  }
  size_t from = atomic_fetch_add(&pickers->turn, 1);
  /* A picker that dies may take one more connection before it is gone. */
  const struct channel *lost = question->verdict == VERDICT_LOST ? question->channel : NULL;
  struct channel *first = pickers->count > 0 ? least(pickers, from, lost) : NULL;
  if (first != NULL && channel_ask(first, question, parts, count)) {
    return true;
  }
  /* It was lost just now, or takes no more. */
  for (size_t at = 0; at < pickers->count; at++) {
    struct channel *channel = pickers->channels[(from + at) % pickers->count];
    if (channel != first && channel_ask(channel, question, parts, count)) {
      return true;
    }
  }
  return false;
}
