#include "channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS_BYTES_MAX 1024
#define HEAD_BYTES 16
#define PARTS_MAX 64
static const char GREETING[] = "IWPICK1\n";

struct head {
  uint32_t length; /* of what follows the head */
  uint8_t kind;
  uint8_t reserved[3];
  uint64_t id;
};

struct buffer {
  char *data;
  size_t length, size;
};

struct slot {
  struct question *question;
  uint32_t turn; /* makes the ids of one slot differ */
  uint32_t next_free;
};

struct channel {
  struct channel *next;
  char address[ADDRESS_BYTES_MAX];
  unsigned users;

  pthread_t thread;
  pthread_mutex_t lock; /* everything below */
  int wake;
  int socket; /* -1: not connected */
  bool stopping;
  uint64_t connection; /* counts connections; reports go only to the one that answered */
  struct buffer backlog, reports;
  struct question *first, *last; /* waiting, oldest first */
  struct slot *slots;
  uint32_t slot_count, free_slot;
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

static bool put(struct buffer *buffer, const void *data, size_t length, size_t most) {
  if (length > most - buffer->length) {
    return false;
  }
  if (buffer->length + length > buffer->size) {
    size_t size = buffer->size ? buffer->size : 4096;
    while (size < buffer->length + length) {
      size *= 2;
    }
    char *data_new = realloc(buffer->data, size);
    if (data_new == NULL) {
      return false;
    }
    buffer->data = data_new;
    buffer->size = size;
  }
  memcpy(buffer->data + buffer->length, data, length);
  buffer->length += length;
  return true;
}

static void drop_front(struct buffer *buffer, size_t count) {
  buffer->length -= count;
  memmove(buffer->data, buffer->data + count, buffer->length);
}

/* ---- questions, by id; all under the lock ---- */

static bool grow_slots(struct channel *channel) {
  uint32_t count = channel->slot_count ? channel->slot_count * 2 : 64;
  if (count > QUESTIONS_MAX) {
    return false;
  }
  struct slot *slots = realloc(channel->slots, count * sizeof *slots);
  if (slots == NULL) {
    return false;
  }
  for (uint32_t at = channel->slot_count; at < count; at++) {
    slots[at] = (struct slot){NULL, 0, at + 1 < count ? at + 1 : UINT32_MAX};
  }
  channel->free_slot = channel->slot_count;
  channel->slots = slots;
  channel->slot_count = count;
  return true;
}

static bool enlist(struct channel *channel, struct question *question) {
  if (channel->free_slot == UINT32_MAX && !grow_slots(channel)) {
    return false;
  }
  uint32_t at = channel->free_slot;
  struct slot *slot = &channel->slots[at];
  channel->free_slot = slot->next_free;
  slot->question = question;
  slot->turn++;
  question->id = (uint64_t)slot->turn << 32 | at;
  question->before = channel->last;
  question->after = NULL;
  *(channel->last ? &channel->last->after : &channel->first) = question;
  channel->last = question;
  question->waiting = true;
  return true;
}

static struct question *find(struct channel *channel, uint64_t id) {
  uint32_t at = (uint32_t)id;
  if (at >= channel->slot_count || channel->slots[at].turn != id >> 32) {
    return NULL;
  }
  return channel->slots[at].question;
}

static void delist(struct channel *channel, struct question *question) {
  uint32_t at = (uint32_t)question->id;
  channel->slots[at].question = NULL;
  channel->slots[at].next_free = channel->free_slot;
  channel->free_slot = at;
  *(question->before ? &question->before->after : &channel->first) = question->after;
  *(question->after ? &question->after->before : &channel->last) = question->before;
  question->waiting = false;
}

static void resolve(struct channel *channel, struct question *question, enum verdict verdict) {
  delist(channel, question);
  question->verdict = verdict;
  envoy_dynamic_module_callback_http_filter_scheduler_commit(question->scheduler, 0);
}

/* ---- writing; all under the lock ---- */

static void nudge(const struct channel *channel) {
  uint64_t one = 1;
  ssize_t ignored = write(channel->wake, &one, sizeof one);
  (void)ignored; /* full means that the thread is awake already */
}

static bool keep_from(struct channel *channel, const struct iovec *parts, size_t count,
                      size_t sent) {
  for (size_t at = 0; at < count; at++) {
    size_t skip = sent < parts[at].iov_len ? sent : parts[at].iov_len;
    sent -= skip;
    if (!put(&channel->backlog, (char *)parts[at].iov_base + skip, parts[at].iov_len - skip,
             BACKLOG_BYTES_MAX)) {
      return false;
    }
  }
  return true;
}

/* False: nothing of these parts was or will be sent. */
static bool send_parts(struct channel *channel, const struct iovec *parts, size_t count) {
  size_t total = 0;
  for (size_t at = 0; at < count; at++) {
    total += parts[at].iov_len;
  }
  if (channel->backlog.length + total > BACKLOG_BYTES_MAX) {
    return false;
  }
  size_t sent = 0;
  if (channel->backlog.length == 0) {
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
    ssize_t result = sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* The thread that reads learns of a broken connection too, and is the one that handles it. */
    sent = result > 0 ? (size_t)result : 0;
  }
  if (sent == total) {
    return true;
  }
  nudge(channel);
  if (!keep_from(channel, parts, count, sent)) {
    /* Half a frame is out and there is no memory for the rest: the connection is of no use. */
    shutdown(channel->socket, SHUT_RDWR);
  }
  return true;
}

static void flush_reports(struct channel *channel) {
  if (channel->reports.length > 0 && channel->socket >= 0) {
    struct iovec part = {channel->reports.data, channel->reports.length};
    send_parts(channel, &part, 1);
  }
  channel->reports.length = 0;
}

bool channel_ask(struct channel *channel, struct question *question, const struct iovec *parts,
                 size_t count, int64_t timeout_nanoseconds) {
  struct iovec all[PARTS_MAX + 2];
  struct head head = {.kind = FRAME_PICK};
  if (count > PARTS_MAX) {
    return false;
  }
  for (size_t at = 0; at < count; at++) {
    all[at + 2] = parts[at];
    head.length += (uint32_t)parts[at].iov_len;
  }
  bool asked = false;
  question->channel = channel;
  question->deadline = now_nanoseconds() + timeout_nanoseconds;
  pthread_mutex_lock(&channel->lock);
  if (channel->socket >= 0 && enlist(channel, question)) {
    head.id = question->id;
    question->connection = channel->connection;
    all[0] = (struct iovec){channel->reports.data, channel->reports.length};
    all[1] = (struct iovec){&head, HEAD_BYTES};
    asked = send_parts(channel, all, count + 2);
    if (asked) {
      channel->reports.length = 0;
    } else {
      delist(channel, question);
    }
  }
  pthread_mutex_unlock(&channel->lock);
  return asked;
}

void channel_forget(struct question *question) {
  struct channel *channel = question->channel;
  if (channel != NULL) {
    pthread_mutex_lock(&channel->lock);
    if (question->waiting) {
      delist(channel, question);
      if (channel->socket >= 0) {
        struct head head = {.kind = FRAME_CANCEL, .id = question->id};
        struct iovec part = {&head, HEAD_BYTES};
        send_parts(channel, &part, 1);
      }
    }
    pthread_mutex_unlock(&channel->lock);
  }
  free(question->fields);
  question->fields = NULL;
}

void channel_report(const struct question *question, const struct iovec *parts, size_t count) {
  struct channel *channel = question->channel;
  struct head head = {.kind = FRAME_DONE, .id = question->id};
  for (size_t at = 0; at < count; at++) {
    head.length += (uint32_t)parts[at].iov_len;
  }
  pthread_mutex_lock(&channel->lock);
  if (channel->socket >= 0 && channel->connection == question->connection &&
      channel->reports.length + HEAD_BYTES + head.length <= BACKLOG_BYTES_MAX) {
    bool kept = put(&channel->reports, &head, HEAD_BYTES, BACKLOG_BYTES_MAX);
    for (size_t at = 0; at < count && kept; at++) {
      kept = put(&channel->reports, parts[at].iov_base, parts[at].iov_len, BACKLOG_BYTES_MAX);
    }
    if (!kept) {
      /* Half a frame would be the end of the connection; without memory no report matters. */
      channel->reports.length = 0;
    }
  }
  pthread_mutex_unlock(&channel->lock);
}

/* ---- the channel's thread ---- */

static void disconnect(struct channel *channel) {
  close(channel->socket);
  channel->socket = -1;
  channel->backlog.length = 0;
  channel->reports.length = 0;
  while (channel->first != NULL) {
    resolve(channel, channel->first, VERDICT_FAILED);
  }
}

static int connect_unix(const char *path, size_t length) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  if (length >= sizeof name.sun_path) {
    return -1;
  }
  memcpy(name.sun_path, path, length);
  int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made >= 0 && connect(made, (struct sockaddr *)&name, sizeof name) != 0) {
    close(made);
    return -1;
  }
  return made;
}

static int connect_tcp(const char *text, size_t length) {
  char host[64];
  struct sockaddr_storage name = {0};
  socklen_t size;
  const char *colon = memrchr(text, ':', length);
  if (colon == NULL) {
    return -1;
  }
  size_t host_length = (size_t)(colon - text);
  if (host_length > 1 && text[0] == '[' && colon[-1] == ']') {
    text++;
    host_length -= 2;
  }
  if (host_length >= sizeof host) {
    return -1;
  }
  memcpy(host, text, host_length);
  host[host_length] = 0;
  uint16_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
  struct sockaddr_in *four = (struct sockaddr_in *)&name;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&name;
  if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = port;
    size = sizeof *four;
  } else if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = port;
    size = sizeof *six;
  } else {
    return -1;
  }
  int made = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) {
    return -1;
  }
  int yes = 1;
  setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  struct pollfd ready = {.fd = made, .events = POLLOUT};
  int failed = 0;
  socklen_t failed_size = sizeof failed;
  if (connect(made, (struct sockaddr *)&name, size) == 0 ||
      (errno == EINPROGRESS && poll(&ready, 1, RECONNECT_MILLISECONDS) == 1 &&
       getsockopt(made, SOL_SOCKET, SO_ERROR, &failed, &failed_size) == 0 && failed == 0)) {
    return made;
  }
  close(made);
  return -1;
}

static int connect_first(const char *addresses) {
  int made = -1;
  while (made < 0 && *addresses != 0) {
    size_t length = strcspn(addresses, ",");
    if (length > 5 && strncmp(addresses, "unix:", 5) == 0) {
      made = connect_unix(addresses + 5, length - 5);
    } else if (length > 0) {
      made = connect_tcp(addresses, length);
    }
    addresses += length + (addresses[length] == ',');
  }
  if (made >= 0 && send(made, GREETING, sizeof GREETING - 1, MSG_NOSIGNAL) < 0) {
    close(made);
    made = -1;
  }
  return made;
}

/* Takes whole answers off the buffer. False: this is no picker. Under the lock. */
static bool take_answers(struct channel *channel, struct buffer *input) {
  size_t at = 0;
  while (input->length - at >= HEAD_BYTES) {
    struct head head;
    memcpy(&head, input->data + at, HEAD_BYTES);
    if (head.kind != FRAME_ANSWER || head.length < 8 || head.length > ANSWER_BYTES_MAX) {
      return false;
    }
    if (input->length - at - HEAD_BYTES < head.length) {
      break;
    }
    const char *frame = input->data + at + HEAD_BYTES;
    at += HEAD_BYTES + head.length;
    struct question *question = find(channel, head.id);
    if (question == NULL) {
      continue; /* its client left, or its time was over */
    }
    uint16_t kind, status;
    uint32_t fields;
    memcpy(&kind, frame, 2);
    memcpy(&status, frame + 2, 2);
    memcpy(&fields, frame + 4, 4);
    if (fields > head.length - 8 || kind < VERDICT_ROUTE || kind > VERDICT_FAILED) {
      return false;
    }
    question->fields = malloc(head.length - 8 + 1);
    if (question->fields == NULL) {
      resolve(channel, question, VERDICT_FAILED);
      continue;
    }
    memcpy(question->fields, frame + 8, head.length - 8);
    question->fields_length = fields;
    question->body = question->fields + fields;
    question->body_length = head.length - 8 - fields;
    question->status = status;
    resolve(channel, question, kind);
  }
  drop_front(input, at);
  return true;
}

static void fail_late(struct channel *channel) {
  int64_t now = now_nanoseconds();
  struct question *question = channel->first;
  while (question != NULL) {
    struct question *after = question->after;
    if (question->deadline <= now) {
      struct head head = {.kind = FRAME_CANCEL, .id = question->id};
      struct iovec part = {&head, HEAD_BYTES};
      send_parts(channel, &part, 1);
      resolve(channel, question, VERDICT_FAILED);
    }
    question = after;
  }
}

/* Reads what is there. False: the connection is over. */
static bool receive(struct channel *channel, int from, struct buffer *input) {
  char data[65536];
  for (;;) {
    ssize_t count = recv(from, data, sizeof data, MSG_DONTWAIT);
    if (count < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    if (count == 0 || !put(input, data, (size_t)count, ANSWER_BYTES_MAX * 2)) {
      return false;
    }
    pthread_mutex_lock(&channel->lock);
    bool understood = take_answers(channel, input);
    pthread_mutex_unlock(&channel->lock);
    if (!understood) {
      return false;
    }
    if ((size_t)count < sizeof data) {
      return true;
    }
  }
}

static void send_backlog(struct channel *channel) {
  if (channel->backlog.length > 0) {
    ssize_t sent = send(channel->socket, channel->backlog.data, channel->backlog.length,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      drop_front(&channel->backlog, (size_t)sent);
    }
  }
}

static void serve(struct channel *channel, int to, struct buffer *input) {
  bool alive = true;
  bool stopping = false;
  int64_t ticked = now_nanoseconds();
  input->length = 0;
  while (alive && !stopping) {
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
    if (now - ticked >= TICK_MILLISECONDS * 1000000LL) {
      ticked = now;
      flush_reports(channel);
      fail_late(channel);
    }
    stopping = channel->stopping;
    pthread_mutex_unlock(&channel->lock);
  }
}

static void *run(void *argument) {
  struct channel *channel = argument;
  struct buffer input = {0};
  bool stopping = false;
  while (!stopping) {
    int made = connect_first(channel->address);
    if (made >= 0) {
      pthread_mutex_lock(&channel->lock);
      channel->socket = made;
      channel->connection++;
      pthread_mutex_unlock(&channel->lock);
      serve(channel, made, &input);
      pthread_mutex_lock(&channel->lock);
      disconnect(channel);
    } else {
      struct pollfd ready = {.fd = channel->wake, .events = POLLIN};
      poll(&ready, 1, RECONNECT_MILLISECONDS);
      pthread_mutex_lock(&channel->lock);
    }
    stopping = channel->stopping;
    pthread_mutex_unlock(&channel->lock);
  }
  free(input.data);
  return NULL;
}

/* ---- life ---- */

static struct channel *make(struct bytes address) {
  struct channel *channel = calloc(1, sizeof *channel);
  if (channel == NULL) {
    return NULL;
  }
  memcpy(channel->address, address.data, address.length);
  channel->socket = -1;
  channel->free_slot = UINT32_MAX;
  channel->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_mutex_init(&channel->lock, NULL);
  /* Signals are for Envoy's own threads. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = channel->wake < 0 || pthread_create(&channel->thread, NULL, run, channel) != 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) {
    if (channel->wake >= 0) {
      close(channel->wake);
    }
    free(channel);
    return NULL;
  }
  pthread_setname_np(channel->thread, "inferway:pick");
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
  if (!last) {
    return;
  }
  pthread_mutex_lock(&channel->lock);
  channel->stopping = true;
  nudge(channel);
  pthread_mutex_unlock(&channel->lock);
  pthread_join(channel->thread, NULL);
  close(channel->wake);
  pthread_mutex_destroy(&channel->lock);
  free(channel->slots);
  free(channel->backlog.data);
  free(channel->reports.data);
  free(channel);
}
