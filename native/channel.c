#include "channel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "connect.h"
#include "waiting.h"

#define ADDRESS_BYTES_MAX 1024
#define READ_BYTES 65536
/* A channel that nobody uses any more sends its last reports for so long. */
#define FAREWELL_MILLISECONDS 1000
#define NANOSECONDS(milliseconds) ((milliseconds)*1000000LL)

enum frame_kind { FRAME_PICK = 1, FRAME_DONE = 2, FRAME_CANCEL = 3, FRAME_ANSWER = 4 };

struct head {
  uint32_t length; /* of what follows the head */
  uint8_t kind;
  uint8_t reserved[3];
  uint64_t id;
};

struct answer_head {
  uint16_t verdict, status;
  uint32_t fields_length;
};

_Static_assert(sizeof(struct head) == 16 && sizeof(struct answer_head) == 8, "as on the wire");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are little-endian on the wire");

struct channel {
  struct channel *next;
  char address[ADDRESS_BYTES_MAX];
  unsigned users;

  pthread_mutex_t lock; /* everything below */
  int wake;
  int socket;          /* -1: not connected */
  bool trying;         /* the thread is connecting, and questions wait for how that ends */
  bool broken;         /* the two ends no longer agree on what is open: the connection must end */
  int64_t stopping;    /* since when nobody uses it, or 0; the thread frees it */
  uint64_t connection; /* counts connections */
  int64_t heard;       /* when anything came from the picker last */
  struct buffer backlog, reports;
  struct waiting waiting;
};

/* Channels by address. A proxy makes its filters anew with each change of configuration, and its
 * connections to pickers outlive that. */
static pthread_mutex_t channels_lock = PTHREAD_MUTEX_INITIALIZER;
static struct channel *channels;

int64_t now_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The filter is alive and so is its scheduler: it forgets its question, under this lock, first. */
static void resolve(struct channel *channel, struct question *question, enum verdict verdict) {
  waiting_remove(&channel->waiting, question);
  question->verdict = verdict;
  envoy_dynamic_module_callback_http_filter_scheduler_commit(question->scheduler, 0);
}

/* ---- writing; all under the lock ---- */

static void nudge(const struct channel *channel) {
  uint64_t one = 1;
  ssize_t ignored = write(channel->wake, &one, sizeof one);
  (void)ignored; /* full means that the thread is awake already */
}

static void break_off(struct channel *channel) {
  channel->broken = true;
  nudge(channel);
}

static bool keep_from(struct channel *channel, const struct iovec *parts, size_t count, size_t sent,
                      size_t total) {
  if (!buffer_reserve(&channel->backlog, total - sent)) {
    return false;
  }
  for (size_t at = 0; at < count; at++) {
    size_t skip = sent < parts[at].iov_len ? sent : parts[at].iov_len;
    sent -= skip;
    buffer_put(&channel->backlog, (char *)parts[at].iov_base + skip, parts[at].iov_len - skip);
  }
  return true;
}

/* False: nothing of these parts was or will be sent. */
static bool send_parts(struct channel *channel, const struct iovec *parts, size_t count) {
  size_t total = 0, sent = 0;
  for (size_t at = 0; at < count; at++) {
    total += parts[at].iov_len;
  }
  if (total > BACKLOG_BYTES_MAX || channel->backlog.length > BACKLOG_BYTES_MAX - total) {
    return false;
  }
  if (channel->socket >= 0 && channel->backlog.length == 0) {
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    ssize_t result = sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* The thread that reads learns of a broken connection too, and is the one that handles it. */
    sent = result > 0 ? (size_t)result : 0;
  }
  if (sent == total) {
    return true;
  }
  if (keep_from(channel, parts, count, sent, total)) {
    nudge(channel);
    return true;
  }
  if (sent > 0) {
    break_off(channel);
  }
  return sent > 0;
}

static void send_cancel(struct channel *channel, const struct question *question) {
  struct head head = {.kind = FRAME_CANCEL, .id = question->id};
  struct iovec part = {&head, sizeof head};
  if (!send_parts(channel, &part, 1)) {
    break_off(channel);
  }
}

static void send_reports(struct channel *channel) {
  struct iovec part = {buffer_data(&channel->reports), channel->reports.length};
  if (part.iov_len > 0 && !send_parts(channel, &part, 1)) {
    break_off(channel);
  }
  buffer_clear(&channel->reports);
}

/* ---- what filters ask for ---- */

bool channel_ask(struct channel *channel, struct question *question, const struct iovec *parts,
                 size_t count) {
  struct iovec all[PARTS_MAX + 2];
  struct head head = {.kind = FRAME_PICK};
  size_t length = 0;
  if (count > PARTS_MAX) {
    return false;
  }
  for (size_t at = 0; at < count; at++) {
    all[at + 2] = parts[at];
    length += parts[at].iov_len;
  }
  if (length > BACKLOG_BYTES_MAX) {
    return false;
  }
  head.length = (uint32_t)length;
  bool asked = false;
  pthread_mutex_lock(&channel->lock);
  question->channel = channel;
  question->verdict = VERDICT_NONE;
  if ((channel->socket >= 0 || channel->trying) && waiting_add(&channel->waiting, question)) {
    question->connection = channel->connection;
    question->asked = now_nanoseconds();
    head.id = question->id;
    all[0] = (struct iovec){buffer_data(&channel->reports), channel->reports.length};
    all[1] = (struct iovec){&head, sizeof head};
    asked = send_parts(channel, all, count + 2);
    if (asked) {
      buffer_clear(&channel->reports);
    } else {
      waiting_remove(&channel->waiting, question);
    }
  }
  pthread_mutex_unlock(&channel->lock);
  return asked;
}

uint32_t channel_load(struct channel *channel) {
  pthread_mutex_lock(&channel->lock);
  uint32_t load = channel->socket >= 0 ? channel->waiting.count
                  : channel->trying    ? NOT_YET + channel->waiting.count
                                       : NOBODY_TO_ASK;
  pthread_mutex_unlock(&channel->lock);
  return load;
}

void channel_forget(struct question *question) {
  struct channel *channel = question->channel;
  if (channel != NULL) {
    pthread_mutex_lock(&channel->lock);
    bool waiting = question->waiting;
    if (waiting) {
      waiting_remove(&channel->waiting, question);
    }
    /* Owed: the answer came, and the client left before the filter could act on it. */
    if ((waiting || question->owed) && channel->connection == question->connection) {
      send_cancel(channel, question);
    }
    question->owed = false;
    pthread_mutex_unlock(&channel->lock);
  }
  free(question->fields);
  question->fields = NULL;
}

void channel_report(struct question *question, const struct iovec *parts, size_t count) {
  struct channel *channel = question->channel;
  struct head head = {.kind = FRAME_DONE, .id = question->id};
  for (size_t at = 0; at < count; at++) {
    head.length += (uint32_t)parts[at].iov_len;
  }
  pthread_mutex_lock(&channel->lock);
  /* A picker that this connection does not lead to any more knows nothing of the question. */
  if (question->owed && channel->connection == question->connection) {
    size_t total = sizeof head + head.length;
    if (channel->reports.length + total <= BACKLOG_BYTES_MAX &&
        buffer_reserve(&channel->reports, total)) {
      buffer_put(&channel->reports, &head, sizeof head);
      for (size_t at = 0; at < count; at++) {
        buffer_put(&channel->reports, parts[at].iov_base, parts[at].iov_len);
      }
    } else {
      break_off(channel);
    }
  }
  question->owed = false;
  pthread_mutex_unlock(&channel->lock);
}

/* ---- the channel's thread: reading ---- */

static bool take_answer(struct channel *channel, const struct head *head, const char *frame) {
  struct answer_head answer;
  memcpy(&answer, frame, sizeof answer);
  size_t rest = head->length - sizeof answer;
  if (answer.fields_length > rest || answer.verdict < VERDICT_ROUTE ||
      answer.verdict > VERDICT_FAILED ||
      (answer.verdict == VERDICT_FINAL && (answer.status < 200 || answer.status > 599))) {
    return false;
  }
  struct question *question = waiting_find(&channel->waiting, head->id);
  if (question == NULL) {
    return true; /* its client left, or its time was over, and the picker was told */
  }
  char *fields = malloc(rest + 1);
  if (fields == NULL) {
    send_cancel(channel, question);
    resolve(channel, question, VERDICT_FAILED);
    return true;
  }
  memcpy(fields, frame + sizeof answer, rest);
  question->fields = fields;
  question->fields_length = answer.fields_length;
  question->body = fields + answer.fields_length;
  question->body_length = rest - answer.fields_length;
  question->status = answer.status;
  question->owed = answer.verdict == VERDICT_ROUTE;
  resolve(channel, question, answer.verdict);
  return true;
}

/* Takes whole answers off the buffer. False: this is no picker. Under the lock. */
static bool take_answers(struct channel *channel, struct buffer *input) {
  while (input->length >= sizeof(struct head)) {
    struct head head;
    memcpy(&head, buffer_data(input), sizeof head);
    if (head.kind != FRAME_ANSWER || head.length < sizeof(struct answer_head) ||
        head.length > ANSWER_BYTES_MAX) {
      return false;
    }
    if (input->length < sizeof head + head.length) {
      break;
    }
    if (!take_answer(channel, &head, buffer_data(input) + sizeof head)) {
      return false;
    }
    buffer_take(input, sizeof head + head.length);
  }
  return true;
}

/* Reads what is there. False: the connection is over. */
static bool receive(struct channel *channel, int from, struct buffer *input) {
  for (;;) {
    if (!buffer_reserve(input, READ_BYTES)) {
      return false;
    }
    ssize_t count = recv(from, buffer_data(input) + input->length, READ_BYTES, MSG_DONTWAIT);
    if (count <= 0) {
      return count < 0 && (errno == EAGAIN || errno == EINTR);
    }
    input->length += (size_t)count;
    pthread_mutex_lock(&channel->lock);
    channel->heard = now_nanoseconds();
    bool understood = take_answers(channel, input);
    pthread_mutex_unlock(&channel->lock);
    if (!understood || count < READ_BYTES) {
      return understood;
    }
  }
}

/* ---- the channel's thread: the rest ---- */

static void send_backlog(struct channel *channel) {
  ssize_t sent = send(channel->socket, buffer_data(&channel->backlog), channel->backlog.length,
                      MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) {
    buffer_take(&channel->backlog, (size_t)sent);
  }
}

static void fail_late(struct channel *channel) {
  int64_t now = now_nanoseconds();
  int64_t silent_since = now - NANOSECONDS(SILENCE_MILLISECONDS);
  bool silent = channel->heard <= silent_since;
  struct question *question = channel->waiting.first;
  while (question != NULL) {
    struct question *after = question->after;
    if (question->deadline <= now || (silent && question->asked <= silent_since)) {
      send_cancel(channel, question);
      resolve(channel, question, VERDICT_FAILED);
    }
    question = after;
  }
}

static bool said_farewell(const struct channel *channel, int64_t now) {
  return channel->stopping != 0 &&
         (channel->backlog.length == 0 ||
          now - channel->stopping > NANOSECONDS(FAREWELL_MILLISECONDS));
}

static void serve(struct channel *channel, int to, struct buffer *input) {
  bool alive = true;
  int64_t ticked = now_nanoseconds();
  buffer_clear(input);
  while (alive) {
    struct pollfd ready[2] = {{.fd = to, .events = POLLIN}, {.fd = channel->wake, .events = POLLIN}};
    pthread_mutex_lock(&channel->lock);
    ready[0].events |= channel->backlog.length > 0 ? POLLOUT : 0;
    pthread_mutex_unlock(&channel->lock);
    poll(ready, 2, TICK_MILLISECONDS);
    if (ready[1].revents != 0) {
      uint64_t count;
      ssize_t ignored = read(channel->wake, &count, sizeof count);
      (void)ignored;
    }
    if (ready[0].revents & (POLLIN | POLLHUP | POLLERR)) {
      alive = receive(channel, to, input);
    }
    pthread_mutex_lock(&channel->lock);
    if (ready[0].revents & POLLOUT) {
      send_backlog(channel);
    }
    int64_t now = now_nanoseconds();
    if (now - ticked >= NANOSECONDS(TICK_MILLISECONDS) || channel->stopping != 0) {
      ticked = now;
      send_reports(channel);
      fail_late(channel);
    }
    alive = alive && !channel->broken && !said_farewell(channel, now);
    pthread_mutex_unlock(&channel->lock);
  }
}

/* Ends a connection, or an attempt at one, and says whether another may begin at once. */
static void disconnect(struct channel *channel, bool again) {
  if (channel->socket >= 0) {
    close(channel->socket);
  }
  channel->socket = -1;
  channel->broken = false;
  channel->trying = again;
  channel->connection++;
  buffer_clear(&channel->backlog);
  buffer_clear(&channel->reports);
  while (channel->waiting.first != NULL) {
    /* Another picker may answer; this one is asked once more only if it may be there by now. */
    resolve(channel, channel->waiting.first, VERDICT_LOST);
  }
}

static void destroy(struct channel *channel) {
  close(channel->wake);
  pthread_mutex_destroy(&channel->lock);
  free(channel->waiting.slots);
  free(channel->backlog.memory);
  free(channel->reports.memory);
  free(channel);
}

static void *run(void *argument) {
  struct channel *channel = argument;
  struct buffer input = {0};
  bool again = true, stopping = false;
  while (!stopping) {
    if (!again) {
      struct pollfd ready = {.fd = channel->wake, .events = POLLIN};
      poll(&ready, 1, RECONNECT_MILLISECONDS);
    }
    pthread_mutex_lock(&channel->lock);
    channel->trying = true;
    stopping = channel->stopping != 0;
    pthread_mutex_unlock(&channel->lock);
    int64_t began = now_nanoseconds();
    int made = stopping ? -1 : connect_picker(channel->address);
    if (made >= 0) {
      pthread_mutex_lock(&channel->lock);
      channel->socket = made;
      channel->trying = false;
      channel->heard = now_nanoseconds();
      pthread_mutex_unlock(&channel->lock);
      serve(channel, made, &input);
    }
    /* What accepts and hangs up at once is asked at leisure. */
    again = made >= 0 && now_nanoseconds() - began >= NANOSECONDS(RECONNECT_MILLISECONDS);
    pthread_mutex_lock(&channel->lock);
    disconnect(channel, again);
    stopping = channel->stopping != 0;
    pthread_mutex_unlock(&channel->lock);
  }
  free(input.memory);
  destroy(channel);
  return NULL;
}

/* ---- life ---- */

static bool start(struct channel *channel) {
  pthread_t thread;
  /* Signals are for Envoy's own threads. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = pthread_create(&thread, NULL, run, channel) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (started) {
    pthread_setname_np(thread, "inferway:pick");
    pthread_detach(thread);
  }
  return started;
}

static struct channel *make(struct bytes address) {
  struct channel *channel = calloc(1, sizeof *channel);
  if (channel == NULL) {
    return NULL;
  }
  memcpy(channel->address, address.data, address.length);
  channel->socket = -1;
  channel->trying = true;
  channel->waiting.free_slot = NOBODY;
  channel->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_mutex_init(&channel->lock, NULL);
  if (channel->wake < 0 || !start(channel)) {
    destroy(channel);
    return NULL;
  }
  return channel;
}

struct channel *channel_get(struct bytes address) {
  if (address.length == 0 || address.length >= ADDRESS_BYTES_MAX) {
    return NULL;
  }
  pthread_mutex_lock(&channels_lock);
  struct channel *channel = channels;
  while (channel != NULL && (strlen(channel->address) != address.length ||
                             memcmp(channel->address, address.data, address.length) != 0)) {
    channel = channel->next;
  }
  if (channel == NULL) {
    channel = make(address);
    if (channel != NULL) {
      channel->next = channels;
      channels = channel;
    }
  }
  if (channel != NULL) {
    channel->users++;
  }
  pthread_mutex_unlock(&channels_lock);
  return channel;
}

/* Never waits for the channel's thread: this may be the last request of a worker, with others
 * behind it. */
void channel_put(struct channel *channel) {
  pthread_mutex_lock(&channels_lock);
  bool last = --channel->users == 0;
  if (last) {
    struct channel **link = &channels;
    while (*link != channel) {
      link = &(*link)->next;
    }
    *link = channel->next;
  }
  pthread_mutex_unlock(&channels_lock);
  if (last) {
    pthread_mutex_lock(&channel->lock);
    channel->stopping = now_nanoseconds();
    nudge(channel);
    pthread_mutex_unlock(&channel->lock);
  }
}
