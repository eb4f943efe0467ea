/* A connection to one picker, shared by all worker threads of a proxy.
 *
 * Workers write their questions themselves; one thread of the channel reads the answers, watches the
 * deadlines, connects again, and sends what could not be written at once. Each question that the
 * picker chose a server for is followed by one report or one cancellation on the same connection,
 * or the connection ends. Frames and their fields stand in docs/design/pick-channel.md.
 */
#ifndef INFERWAY_CHANNEL_H
#define INFERWAY_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "envoy.h"

/* Reports wait for the next question, or for this long. */
#define TICK_MILLISECONDS 50
/* A picker that is gone is tried again this often; a Unix socket refuses in microseconds. */
#define RECONNECT_MILLISECONDS 100
/* What a picker that reads slowly may leave unsent: two of the largest bodies. */
#define BACKLOG_BYTES_MAX (128u * 1024 * 1024)
/* A picker that holds questions says every second that it is there (an answer to question 0). One
 * that has said nothing for so long, while a question waited all that time, hangs. */
#define SILENCE_MILLISECONDS 5000
/* Answers are a few headers and an error body, or a list of models. */
#define ANSWER_BYTES_MAX (1024u * 1024)
/* Questions at a time; more requests than a proxy holds streams. */
#define QUESTIONS_MAX (1u << 20)
/* Pieces of a question behind its head. */
#define PARTS_MAX 64

/* LOST: the connection ended before the answer came; another attempt may find another picker. */
enum verdict { VERDICT_NONE, VERDICT_ROUTE, VERDICT_FINAL, VERDICT_FAILED, VERDICT_LOST };

/* One question and its answer. The filter owns it; while it waits, the channel may write it. */
struct question {
  uint64_t id;
  struct channel *channel;
  struct question *before, *after;
  int64_t deadline; /* set by the filter, by the clock of now_nanoseconds */
  int64_t asked;
  uint64_t connection;
  envoy_scheduler scheduler;
  enum verdict verdict;
  uint16_t status;
  char *fields; /* NUL-separated; freed by channel_forget */
  size_t fields_length;
  const char *body;
  size_t body_length;
  bool waiting;
  bool owed; /* a server was chosen, and the picker was not told how that ended */
};

/* Nanoseconds of a clock that never goes back. */
int64_t now_nanoseconds(void);

/* The channel to "unix:PATH" or "IP:PORT". NULL if the address is too long. Each call is answered by
 * one channel_put. */
struct channel *channel_get(struct bytes address);
void channel_put(struct channel *channel);

/* What channel_load says of one that is not connected and not about to be; and what it adds where it
 * is not known yet whether there will be a connection. */
#define NOBODY_TO_ASK UINT32_MAX
#define NOT_YET (1u << 30)

/* How many questions wait for the picker. */
uint32_t channel_load(struct channel *channel);

/* Sends a question whose parts are what follows a frame's head. True: a verdict will come by the
 * question's scheduler. False: there is no picker to ask. */
bool channel_ask(struct channel *channel, struct question *question, const struct iovec *parts,
                 size_t count);

/* No answer is wanted any more, and the answer that there is may go. */
void channel_forget(struct question *question);

/* Sends a report about an answered question, with the next question or a little later. */
void channel_report(struct question *question, const struct iovec *parts, size_t count);

#endif
