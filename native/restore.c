#include "restore.h"

#include <string.h>

static const char DATA[] = "data:";

enum {
  LINE,   /* event streams: matching "data:" at the beginning of a line */
  SKIP,   /* event streams: a line that is not data, up to its end */
  VALUES, /* outside of strings */
  KEYED,  /* in a string that may be a key that counts */
  STRING, /* in any other string */
  COLON,  /* behind a string that is such a key if a colon follows */
  BEFORE, /* between that colon and the value */
  CUT,    /* in the value that is left out */
};

static void begin(struct restore *restore) {
  restore->state = restore->events ? LINE : VALUES;
  restore->depth = 0;
  restore->key_length = 0;
  restore->escaped = restore->held = false;
}

void restore_start(struct restore *restore, const char *name, size_t length, bool events) {
  restore->name = name;
  restore->name_length = length;
  restore->events = events;
  begin(restore);
}

static bool key_is(const struct restore *restore, const char *key) {
  return restore->key_length == strlen(key) && memcmp(restore->key, key, restore->key_length) == 0;
}

static bool key_holds(const struct restore *restore) {
  return key_is(restore, "message") || key_is(restore, "response");
}

static void outside(struct restore *restore, char byte) {
  switch (byte) {
  case '"':
    restore->state =
        restore->depth == 1 || (restore->depth == 2 && restore->held) ? KEYED : STRING;
    restore->key_length = 0;
    break;
  case '{':
  case '[':
    restore->depth++;
    break;
  case '}':
  case ']':
    if (restore->depth > 0) {
      restore->depth--;
    }
    restore->held = restore->held && restore->depth > 1;
    break;
  default:
    break;
  }
}

static void in_string(struct restore *restore, char byte) {
  if (byte == '"') {
    bool counts = restore->state == KEYED && (key_is(restore, "model") || key_holds(restore));
    restore->state = counts ? COLON : VALUES;
  } else if (byte == '\\') {
    restore->escaped = true;
    restore->state = restore->state == KEYED ? STRING : restore->state;
  } else if (restore->state == KEYED && restore->key_length <= RESTORE_KEY_BYTES_MAX) {
    if (restore->key_length < RESTORE_KEY_BYTES_MAX) {
      restore->key[restore->key_length] = byte;
    }
    restore->key_length++;
  }
}

static void in_line(struct restore *restore, char byte) {
  if (byte != DATA[restore->key_length]) {
    restore->state = SKIP;
  } else if (++restore->key_length == sizeof DATA - 1) {
    restore->state = VALUES;
  }
}

static void after_key(struct restore *restore, char byte) {
  if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
    return;
  }
  if (restore->state == COLON && byte == ':') {
    restore->state = BEFORE;
    return;
  }
  if (restore->state == BEFORE && byte == '{' && restore->depth == 1) {
    restore->held = key_holds(restore);
  }
  restore->state = VALUES;
  outside(restore, byte);
}

/* A byte that stays. */
static void pass(struct restore *restore, char byte) {
  switch (restore->state) {
  case LINE:
    in_line(restore, byte);
    break;
  case VALUES:
    outside(restore, byte);
    break;
  case KEYED:
  case STRING:
    in_string(restore, byte);
    break;
  case COLON:
  case BEFORE:
    after_key(restore, byte);
    break;
  default:
    break;
  }
}

/* A byte of the value that is left out. */
static void cut(struct restore *restore, char byte) {
  if (byte == '"') {
    restore->state = VALUES;
  } else if (byte == '\\') {
    restore->escaped = true;
  }
}

bool restore_feed(struct restore *restore, const char *data, size_t length, struct buffer *to,
                  bool *changed) {
  size_t kept = 0;
  bool stored = true;
  for (size_t at = 0; at < length; at++) {
    char byte = data[at];
    bool left_out = restore->state == CUT;
    if (restore->events && (byte == '\n' || byte == '\r')) {
      /* JSON has no line ends inside of strings, so an event's document ends with its line. */
      begin(restore);
      left_out = false;
    } else if (restore->escaped) {
      restore->escaped = false;
    } else if (left_out) {
      cut(restore, byte);
    } else if (restore->state == BEFORE && byte == '"' && key_is(restore, "model")) {
      stored = stored && buffer_put(to, data + kept, at - kept) &&
               buffer_put(to, restore->name, restore->name_length);
      restore->state = CUT;
      left_out = true;
    } else {
      pass(restore, byte);
    }
    if (left_out) {
      kept = at + 1;
      *changed = true;
    }
  }
  return buffer_put(to, data + kept, length - kept) && stored;
}
