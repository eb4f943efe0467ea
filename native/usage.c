#include "usage.h"

#include <string.h>

static const char KEY[] = "usage";
static const char DATA[] = "data:";

enum {
  LINE,    /* event streams: matching "data:" at the beginning of a line */
  SKIP,    /* event streams: a line that is not data, up to its end */
  VALUES,  /* outside of strings */
  KEYED,   /* in a string at depth 1 that may be the key */
  STRING,  /* in any other string */
  ESCAPED, /* after a backslash in a string */
  FOUND,   /* the key was read: its colon, or the end of a value that looked like it */
  OBJECT,  /* in the object that is kept */
  QUOTED,  /* in a string of that object */
  QUOTED_ESCAPED,
};

static void begin(struct usage *usage) {
  usage->state = usage->events ? LINE : VALUES;
  usage->depth = 0;
  usage->matched = 0;
  usage->open_length = 0;
}

void usage_start(struct usage *usage, bool events) {
  usage->length = 0;
  usage->events = events;
  begin(usage);
}

static void keep(struct usage *usage, char byte) {
  if (usage->open_length < USAGE_BYTES_MAX) {
    usage->open[usage->open_length] = byte;
  }
  usage->open_length++;
}

static void complete(struct usage *usage) {
  if (usage->open_length <= USAGE_BYTES_MAX) {
    memcpy(usage->text, usage->open, usage->open_length);
    usage->length = usage->open_length;
  }
  usage->open_length = 0;
  usage->state = VALUES;
}

static void outside(struct usage *usage, char byte) {
  switch (byte) {
  case '"':
    usage->state = usage->depth == 1 ? KEYED : STRING;
    usage->matched = 0;
    break;
  case '{':
  case '[':
    usage->depth++;
    break;
  case '}':
  case ']':
    if (usage->depth > 0) {
      usage->depth--;
    }
    break;
  default:
    break;
  }
}

static void in_key(struct usage *usage, char byte) {
  if (byte == '"') {
    usage->state = usage->matched == sizeof KEY - 1 ? FOUND : VALUES;
  } else if (byte == '\\') {
    usage->state = ESCAPED;
  } else if (usage->matched < sizeof KEY - 1 && byte == KEY[usage->matched]) {
    usage->matched++;
  } else {
    usage->state = STRING;
  }
}

static void after_key(struct usage *usage, char byte) {
  if (byte == ':' || byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
    return;
  }
  if (byte == '{') {
    usage->state = OBJECT;
    usage->depth++;
    keep(usage, byte);
    return;
  }
  usage->state = VALUES;
  outside(usage, byte);
}

static void in_object(struct usage *usage, char byte) {
  keep(usage, byte);
  if (byte == '"') {
    usage->state = QUOTED;
  } else if (byte == '{' || byte == '[') {
    usage->depth++;
  } else if ((byte == '}' || byte == ']') && --usage->depth == 1) {
    complete(usage);
  }
}

static void in_line(struct usage *usage, char byte) {
  if (byte == DATA[usage->matched]) {
    usage->matched++;
    if (usage->matched == sizeof DATA - 1) {
      usage->state = VALUES;
    }
  } else {
    usage->state = SKIP;
  }
}

static void take(struct usage *usage, char byte) {
  switch (usage->state) {
  case LINE:
    in_line(usage, byte);
    break;
  case SKIP:
    break;
  case VALUES:
    outside(usage, byte);
    break;
  case KEYED:
    in_key(usage, byte);
    break;
  case STRING:
    if (byte == '"') {
      usage->state = VALUES;
    } else if (byte == '\\') {
      usage->state = ESCAPED;
    }
    break;
  case ESCAPED:
    usage->state = STRING;
    break;
  case FOUND:
    after_key(usage, byte);
    break;
  case OBJECT:
    in_object(usage, byte);
    break;
  case QUOTED:
    keep(usage, byte);
    if (byte == '"') {
      usage->state = OBJECT;
    } else if (byte == '\\') {
      usage->state = QUOTED_ESCAPED;
    }
    break;
  case QUOTED_ESCAPED:
    keep(usage, byte);
    usage->state = QUOTED;
    break;
  default:
    break;
  }
}

/* Where the next byte is that can matter in a string; most of an answer is text. */
static size_t through_string(const char *data, size_t at, size_t length) {
  while (at < length && data[at] != '"' && data[at] != '\\' && data[at] != '\n' &&
         data[at] != '\r') {
    at++;
  }
  return at;
}

void usage_feed(struct usage *usage, const char *data, size_t length) {
  for (size_t at = 0; at < length; at++) {
    if (usage->state == STRING) {
      at = through_string(data, at, length);
      if (at == length) {
        return;
      }
    }
    /* JSON has no line ends inside of strings, so an event's document ends with its line. */
    if (usage->events && (data[at] == '\n' || data[at] == '\r')) {
      begin(usage);
      continue;
    }
    take(usage, data[at]);
  }
}
