/* The native pick filter between a false Envoy and a false picker, for sanitizers.
 *
 *   native_stress SOCKET SECONDS
 *
 * Workers begin requests, let clients leave at any time, and follow answers as Envoy would: a filter
 * may be destroyed inside of a callback. The main thread replaces settings. The picker answers in
 * every way there is, stops reading, hangs up and talks nonsense, and at the end works well, so that
 * all that it chose must have been reported or taken back. Exits 0 if so.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"
#include "envoy.h"

#define WORKERS 3
#define STREAMS 40
#define PIECE 16384
#define QUEUE 65536
#define OPEN_MAX 100000

struct stream {
  struct worker *worker;
  const void *module;
  size_t body;
  uint32_t turn;
  bool alive, routed;
};

struct event {
  unsigned slot;
  uint32_t turn;
};

struct worker {
  pthread_t thread;
  pthread_mutex_t lock;
  struct event queue[QUEUE];
  size_t head, tail;
  struct stream streams[STREAMS];
  unsigned seed;
};

struct scheduler {
  struct worker *worker;
  struct event event;
};

static struct worker workers[WORKERS];
static pthread_rwlock_t config_lock = PTHREAD_RWLOCK_INITIALIZER;
static const void *config;
static char letters[PIECE];
static atomic_bool calm, over;
static atomic_long begun, routed, refused, destroyed, still_open, connections;
static atomic_long told_server, told_client, restored, misread;
static const char *path;

static unsigned dice(unsigned *seed, unsigned sides) { return (unsigned)rand_r(seed) % sides; }

/* What servers answer, a byte a piece, and what clients get that want their name back. */
static const char ANSWERED[] = "{\"model\": \"target\", \"usage\": {\"prompt_tokens\": 3}}";
static const char RESTORED[] = "{\"model\": \"alias\", \"usage\": {\"prompt_tokens\": 3}}";

static bool is(struct bytes text, const char *with) {
  return text.length == strlen(with) && memcmp(text.data, with, text.length) == 0;
}

static void finish(struct stream *stream) {
  if (stream->alive) {
    stream->alive = false;
    envoy_dynamic_module_on_http_filter_stream_complete(stream, stream->module);
    envoy_dynamic_module_on_http_filter_destroy(stream->module);
    destroyed++;
  }
}

/* ---- what Envoy offers ---- */

size_t envoy_dynamic_module_callback_http_get_headers_size(envoy_filter envoy, enum header_map map) {
  (void)envoy, (void)map;
  return 2;
}

bool envoy_dynamic_module_callback_http_get_headers(envoy_filter envoy, enum header_map map,
                                                    struct pair *pairs) {
  (void)envoy, (void)map;
  pairs[0] = (struct pair){":method", 7, "POST", 4};
  pairs[1] = (struct pair){":path", 5, "/v1/completions", 15};
  return true;
}

bool envoy_dynamic_module_callback_http_get_header(envoy_filter envoy, enum header_map map,
                                                   struct bytes key, struct bytes *value,
                                                   size_t index, size_t *count) {
  (void)envoy, (void)map, (void)index, (void)count;
  bool known = is(key, "content-type");
  *value = known ? (struct bytes){"application/json", 16} : (struct bytes){0};
  return known;
}

bool envoy_dynamic_module_callback_http_set_header(envoy_filter envoy, enum header_map map,
                                                   struct bytes key, struct bytes value) {
  struct stream *stream = envoy;
  if (is(key, "x-server") && is(value, "prefill:8000")) {
    told_server++;
  } else if (is(key, "x-client") && is(value, "")) {
    told_client++;
  } else {
    misread += !is(key, "content-length");
  }
  /* The length of an answer is taken away, and that of a request set. */
  bool answered = is(key, "x-client") || (is(key, "content-length") && value.data == NULL);
  misread += !stream->alive || map != (answered ? RESPONSE_HEADERS : REQUEST_HEADERS);
  return true;
}

size_t envoy_dynamic_module_callback_http_get_body_chunks_size(envoy_filter envoy,
                                                               enum body_kind kind) {
  struct stream *stream = envoy;
  return kind == BUFFERED_REQUEST    ? (stream->body + PIECE - 1) / PIECE
         : kind == RECEIVED_RESPONSE ? sizeof ANSWERED - 1
                                     : 0;
}

bool envoy_dynamic_module_callback_http_get_body_chunks(envoy_filter envoy, enum body_kind kind,
                                                        struct bytes *chunks) {
  struct stream *stream = envoy;
  if (kind == RECEIVED_RESPONSE) {
    for (size_t at = 0; at < sizeof ANSWERED - 1; at++) {
      chunks[at] = (struct bytes){ANSWERED + at, 1};
    }
    return true;
  }
  for (size_t at = 0; at * PIECE < stream->body; at++) {
    size_t rest = stream->body - at * PIECE;
    chunks[at] = (struct bytes){letters, rest < PIECE ? rest : PIECE};
  }
  return kind == BUFFERED_REQUEST;
}

bool envoy_dynamic_module_callback_http_append_body(envoy_filter envoy, enum body_kind kind,
                                                    struct bytes data) {
  struct stream *stream = envoy;
  if (kind == RECEIVED_RESPONSE) {
    restored++;
    misread += !is(data, RESTORED);
    return true;
  }
  stream->body += data.length;
  return true;
}

bool envoy_dynamic_module_callback_http_drain_body(envoy_filter envoy, enum body_kind kind,
                                                   size_t count) {
  struct stream *stream = envoy;
  if (kind == RECEIVED_RESPONSE) {
    misread += count != sizeof ANSWERED - 1;
    return true;
  }
  stream->body -= count;
  return true;
}

void envoy_dynamic_module_callback_http_set_dynamic_metadata_string(envoy_filter envoy,
                                                                    struct bytes space,
                                                                    struct bytes key,
                                                                    struct bytes value) {
  struct stream *stream = envoy;
  (void)space, (void)key;
  stream->routed = is(value, "1.2.3.4");
}

void envoy_dynamic_module_callback_http_send_response(envoy_filter envoy, uint32_t status,
                                                      struct pair *headers, size_t count,
                                                      struct bytes body, struct bytes details) {
  struct stream *stream = envoy;
  (void)headers, (void)count, (void)body, (void)details;
  envoy_dynamic_module_on_http_filter_local_reply(stream, stream->module, status,
                                                  (struct bytes){"", 0}, false);
  envoy_dynamic_module_on_http_filter_response_headers(stream, stream->module, true);
  refused++;
  finish(stream);
}

void envoy_dynamic_module_callback_http_filter_continue_decoding(envoy_filter envoy) {
  struct stream *stream = envoy;
  unsigned what = dice(&stream->worker->seed, 4);
  routed += stream->routed;
  if (what > 0) {
    envoy_dynamic_module_on_http_filter_response_headers(stream, stream->module, false);
    envoy_dynamic_module_on_http_filter_response_body(stream, stream->module, true);
  }
  if (what > 1) {
    finish(stream);
  }
}

const void *envoy_dynamic_module_callback_get_most_specific_route_config(envoy_filter envoy) {
  (void)envoy;
  return config; /* begin() holds the lock, as a request holds its route */
}

bool envoy_dynamic_module_callback_http_filter_get_attribute_string(envoy_filter envoy,
                                                                    enum attribute which,
                                                                    struct bytes *value) {
  (void)envoy, (void)which;
  *value = (struct bytes){"1.2.3.4:80", 10};
  return true;
}

bool envoy_dynamic_module_callback_http_filter_get_attribute_int(envoy_filter envoy,
                                                                 enum attribute which,
                                                                 uint64_t *value) {
  (void)envoy, (void)which;
  *value = 1;
  return true;
}

envoy_span envoy_dynamic_module_callback_http_get_active_span(envoy_filter envoy) {
  struct stream *stream = envoy;
  return stream->turn % 2 ? stream : NULL;
}

bool envoy_dynamic_module_callback_http_span_get_trace_id(envoy_span span, struct bytes *id) {
  struct stream *stream = span;
  *id = (struct bytes){"0af7651916cd43dd8448eb211c80319c", stream->turn % 5 ? 32 : 16};
  return stream->turn % 7 > 0;
}

bool envoy_dynamic_module_callback_http_span_get_span_id(envoy_span span, struct bytes *id) {
  (void)span;
  *id = (struct bytes){"b7ad6b7169203331", 16};
  return true;
}

void envoy_dynamic_module_callback_http_span_set_sampled(envoy_span span, bool sampled) {
  struct stream *stream = span;
  misread += !stream->alive || !sampled;
}

envoy_scheduler envoy_dynamic_module_callback_http_filter_scheduler_new(envoy_filter envoy) {
  struct stream *stream = envoy;
  struct scheduler *scheduler = malloc(sizeof *scheduler);
  scheduler->worker = stream->worker;
  scheduler->event = (struct event){(unsigned)(stream - stream->worker->streams), stream->turn};
  return scheduler;
}

void envoy_dynamic_module_callback_http_filter_scheduler_commit(envoy_scheduler given,
                                                                uint64_t event) {
  struct scheduler *scheduler = given;
  struct worker *worker = scheduler->worker;
  (void)event;
  pthread_mutex_lock(&worker->lock);
  worker->queue[worker->tail++ % QUEUE] = scheduler->event;
  pthread_mutex_unlock(&worker->lock);
}

void envoy_dynamic_module_callback_http_filter_scheduler_delete(envoy_scheduler scheduler) {
  free(scheduler);
}

/* ---- workers ---- */

static void begin(struct worker *worker, struct stream *stream) {
  static const size_t SIZES[] = {0, 10, 1000, 40000, 300000, 1500000};
  stream->turn++;
  stream->alive = true;
  stream->routed = false;
  stream->body = SIZES[dice(&worker->seed, dice(&worker->seed, 8) ? 3 : 6)];
  stream->module = envoy_dynamic_module_on_http_filter_new(NULL, stream);
  begun++;
  pthread_rwlock_rdlock(&config_lock);
  const void *module = stream->module;
  uint32_t turn = stream->turn;
  envoy_dynamic_module_on_http_filter_request_headers(stream, module, stream->body == 0);
  pthread_rwlock_unlock(&config_lock);
  if (stream->body > 0 && stream->alive && stream->turn == turn) {
    if (dice(&worker->seed, 8) == 0) {
      envoy_dynamic_module_on_http_filter_request_trailers(stream, module);
    } else {
      envoy_dynamic_module_on_http_filter_request_body(stream, module, true);
    }
  }
}

static bool next(struct worker *worker, struct event *event) {
  pthread_mutex_lock(&worker->lock);
  bool found = worker->head != worker->tail;
  if (found) {
    *event = worker->queue[worker->head++ % QUEUE];
  }
  pthread_mutex_unlock(&worker->lock);
  return found;
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct event event;
  while (!over) {
    struct stream *stream = &worker->streams[dice(&worker->seed, STREAMS)];
    unsigned what = dice(&worker->seed, 10);
    if (!stream->alive && !calm) {
      begin(worker, stream);
    } else if (what == 0 || calm) {
      finish(stream);
    }
    while (next(worker, &event)) {
      stream = &worker->streams[event.slot];
      if (stream->alive && stream->turn == event.turn) {
        envoy_dynamic_module_on_http_filter_scheduled(stream, stream->module, 0);
      }
    }
    if (what == 1) {
      usleep(200);
    }
  }
  for (size_t at = 0; at < STREAMS; at++) {
    finish(&worker->streams[at]);
  }
  return NULL;
}

/* ---- the picker ---- */

static uint64_t open_ids[OPEN_MAX];
static size_t open_count;
static long wrong;

static void settle(uint64_t id) {
  for (size_t at = 0; at < open_count; at++) {
    if (open_ids[at] == id) {
      open_ids[at] = open_ids[--open_count];
      return;
    }
  }
}

static void put(char **to, const void *data, size_t length) {
  memcpy(*to, data, length);
  *to += length;
}

/* False: hang up. */
static bool reply(int to, uint64_t id, unsigned *seed) {
  static const char BODY[] = "{\"error\": 1}", HEADERS[] = "content-type\0application/json";
  /* What the false Envoy counts, between headers that are none. */
  static const char CLIENT[] = ":status\0" "500\0" "x-bad\0" "a\nb\0" "\0" "\0" "x-client\0" "\0"
                               ":model\0" "\"alias\"";
  static const char *const ROUTES[] = {
      "1.2.3.4\0" "2\0" "4\0" "xyz\0" "x-server\0" "prefill:8000",
      "1.2.3.4\0" "\0" "\0" "\0" "x-server\0" "prefill:8000\0" "\n\0",
  };
  static const uint32_t SIZES[] = {37, 35};
  char frame[200], *end = frame + 16;
  unsigned what = calm ? 1 + dice(seed, 4) : dice(seed, 60);
  uint16_t kind = what % 4 == 0 ? 2 : what % 7 == 0 ? 3 : 1, status = 429;
  if (!calm && what == 0) {
    return send(to, "nonsense nonsense nonsense", 26, MSG_NOSIGNAL) < 0;
  }
  if (!calm && what == 1) {
    return false;
  }
  if (!calm && what < 4) {
    return true; /* never answered */
  }
  const char *fields = kind == 1 ? ROUTES[what % 2] : kind == 2 ? HEADERS : "";
  /* Without anything, with a splice, with headers. */
  uint32_t lengths[] = {7, what % 2 ? 10 : 15, SIZES[what % 2]};
  uint32_t size = kind == 1 ? lengths[dice(seed, 3)] : kind == 2 ? sizeof HEADERS : 0;
  put(&end, &kind, 2);
  put(&end, &status, 2);
  put(&end, &size, 4);
  put(&end, fields, size);
  put(&end, BODY, kind == 2 ? sizeof BODY - 1 : 0);
  put(&end, CLIENT, kind == 1 && dice(seed, 2) ? sizeof CLIENT - 1 : 0);
  uint32_t length = (uint32_t)(end - frame - 16), word = 4;
  memcpy(frame, &length, 4);
  memcpy(frame + 4, &word, 4);
  memcpy(frame + 8, &id, 8);
  size_t total = (size_t)(end - frame);
  if (kind == 1) {
    open_ids[open_count++] = id;
  }
  if (!calm && what == 5) {
    return send(to, frame, total, MSG_NOSIGNAL) > 0 && send(to, frame, total, MSG_NOSIGNAL) > 0;
  }
  return send(to, frame, total, MSG_NOSIGNAL) == (ssize_t)total;
}

static bool read_whole(int from, char *to, size_t length) {
  while (length > 0) {
    struct pollfd ready = {.fd = from, .events = POLLIN};
    while (poll(&ready, 1, 50) == 0) {
      still_open = (long)open_count;
      if (over) {
        return false;
      }
    }
    ssize_t count = read(from, to, length);
    if (count <= 0) {
      return false;
    }
    to += count;
    length -= (size_t)count;
  }
  return true;
}

static void talk(int with, char *payload, unsigned *seed) {
  char head[16];
  uint32_t length;
  uint64_t id;
  open_count = 0;
  connections++;
  if (!read_whole(with, payload, 8) || memcmp(payload, "IWPICK1\n", 8) != 0) {
    return;
  }
  while (read_whole(with, head, 16)) {
    memcpy(&length, head, 4);
    memcpy(&id, head + 8, 8);
    if (length > 4000000 || head[4] < 1 || head[4] > 3) {
      wrong++;
      return;
    }
    if (!read_whole(with, payload, length)) {
      return;
    }
    if (head[4] == 1 ? !reply(with, id, seed) : (settle(id), false)) {
      return;
    }
    if (!calm && dice(seed, 400) == 0) {
      usleep(dice(seed, 30) * 1000);
    }
  }
}

static void *pick(void *argument) {
  int listener = *(int *)argument;
  char *payload = malloc(4000000);
  unsigned seed = 7;
  while (!over) {
    struct pollfd ready = {.fd = listener, .events = POLLIN};
    if (poll(&ready, 1, 50) == 1) {
      int with = accept(listener, NULL, NULL);
      talk(with, payload, &seed);
      close(with);
      still_open = 0; /* the end of a connection tells of all that it knew */
    }
  }
  free(payload);
  return NULL;
}

/* ---- the whole ---- */

static const void *settings(int timeout, int open) {
  char text[300];
  int length = snprintf(text, sizeof text,
                        "pool=ns/p\naddress=unix:/nowhere,unix:%s,unix:/nobody\ntimeout_ms=%d\nfail_open=%d"
                        "\nsampled_ppm=1000000\nparent_decides=1",
                        path, timeout, open);
  return envoy_dynamic_module_on_http_filter_per_route_config_new(
      (struct bytes){"", 0}, (struct bytes){text, (size_t)length});
}

int main(int count, char **arguments) {
  if (count != 3) {
    return 2;
  }
  path = arguments[1];
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  strncpy(name.sun_path, path, sizeof name.sun_path - 1);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&name, sizeof name) || listen(listener, 5)) {
    return 2;
  }
  memset(letters, 'x', sizeof letters);
  config = settings(100, 0);
  pthread_t picker;
  pthread_create(&picker, NULL, pick, &listener);
  for (unsigned at = 0; at < WORKERS; at++) {
    pthread_mutex_init(&workers[at].lock, NULL);
    workers[at].seed = at;
    for (size_t slot = 0; slot < STREAMS; slot++) {
      workers[at].streams[slot].worker = &workers[at];
    }
    pthread_create(&workers[at].thread, NULL, work, &workers[at]);
  }
  for (int round = 0; round <= atoi(arguments[2]) * 20; round++) {
    usleep(50000);
    const void *made = round % 10 == 9 ? NULL : settings(50 + round % 3 * 50, round % 2);
    pthread_rwlock_wrlock(&config_lock);
    const void *before = config;
    config = made;
    pthread_rwlock_unlock(&config_lock);
    if (before != NULL) {
      envoy_dynamic_module_on_http_filter_per_route_config_destroy(before);
    }
  }
  calm = true;
  for (int tries = 0; tries < 200 && (destroyed < begun || still_open > 0); tries++) {
    usleep(50000);
  }
  over = true;
  for (unsigned at = 0; at < WORKERS; at++) {
    pthread_join(workers[at].thread, NULL);
  }
  pthread_join(picker, NULL);
  if (config != NULL) {
    envoy_dynamic_module_on_http_filter_per_route_config_destroy(config);
  }
  usleep(500000); /* the channel's thread frees the channel */
  printf("begun %ld routed %ld refused %ld connections %ld open %ld wrong %ld\n", (long)begun,
         (long)routed, (long)refused, (long)connections, (long)still_open, wrong);
  printf("told servers %ld clients %ld restored %ld misread %ld\n", (long)told_server,
         (long)told_client, (long)restored, (long)misread);
  bool told = told_server > 0 && told_client > 0 && restored > 0 && misread == 0;
  return begun > 100 && routed > 0 && told && still_open == 0 && wrong == 0 ? 0 : 1;
}
