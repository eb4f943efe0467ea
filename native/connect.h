/* Connects to a picker. */
#ifndef INFERWAY_CONNECT_H
#define INFERWAY_CONNECT_H

/* How long an address may take to accept a connection. */
#define CONNECT_MILLISECONDS 100

/* A connected socket that does not block, to "unix:PATH" or "IP:PORT", with the greeting sent; or -1.
 */
int connect_picker(const char *address);

#endif
