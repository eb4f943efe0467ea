#include "connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char GREETING[] = "IWPICK1\n";
static const char UNIX[] = "unix:";
/* A picker whose machine is gone says nothing any more; without these it would be asked for the
 * quarter of an hour that TCP goes on trying. */
#define UNANSWERED_MILLISECONDS 2000
#define SILENT_SECONDS 2

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

/* The size of the address, or 0 if the text is none. */
static socklen_t parse(const char *text, size_t length, struct sockaddr_storage *name) {
  char host[INET6_ADDRSTRLEN];
  const char *colon = memrchr(text, ':', length);
  if (colon == NULL) {
    return 0;
  }
  size_t host_length = (size_t)(colon - text);
  if (host_length > 1 && text[0] == '[' && colon[-1] == ']') {
    text++;
    host_length -= 2;
  }
  if (host_length >= sizeof host) {
    return 0;
  }
  memcpy(host, text, host_length);
  host[host_length] = 0;
  uint16_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
  struct sockaddr_in *four = (struct sockaddr_in *)name;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)name;
  if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = port;
    return sizeof *four;
  }
  if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = port;
    return sizeof *six;
  }
  return 0;
}

static void set(int made, int level, int option, int value) {
  setsockopt(made, level, option, &value, sizeof value);
}

static bool accepted(int made) {
  struct pollfd ready = {.fd = made, .events = POLLOUT};
  int failed = 0;
  socklen_t size = sizeof failed;
  return errno == EINPROGRESS && poll(&ready, 1, CONNECT_MILLISECONDS) == 1 &&
         getsockopt(made, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && failed == 0;
}

static int connect_tcp(const char *text, size_t length) {
  struct sockaddr_storage name = {0};
  socklen_t size = parse(text, length, &name);
  if (size == 0) {
    return -1;
  }
  int made = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) {
    return -1;
  }
  set(made, IPPROTO_TCP, TCP_NODELAY, 1);
  set(made, IPPROTO_TCP, TCP_USER_TIMEOUT, UNANSWERED_MILLISECONDS);
  set(made, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(made, IPPROTO_TCP, TCP_KEEPIDLE, SILENT_SECONDS);
  set(made, IPPROTO_TCP, TCP_KEEPINTVL, 1);
  if (connect(made, (struct sockaddr *)&name, size) == 0 || accepted(made)) {
    return made;
  }
  close(made);
  return -1;
}

int connect_picker(const char *address) {
  size_t length = strlen(address);
  int made = -1;
  if (length > sizeof UNIX - 1 && strncmp(address, UNIX, sizeof UNIX - 1) == 0) {
    made = connect_unix(address + sizeof UNIX - 1, length - (sizeof UNIX - 1));
  } else if (length > 0) {
    made = connect_tcp(address, length);
  }
  /* An empty socket's buffer takes the few bytes whole. */
  if (made >= 0 && send(made, GREETING, sizeof GREETING - 1, MSG_NOSIGNAL) < 0) {
    close(made);
    made = -1;
  }
  return made;
}
