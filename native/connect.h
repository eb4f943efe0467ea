/* Connects to a picker. */
#ifndef INFERWAY_CONNECT_H
#define INFERWAY_CONNECT_H

/* How long an address may take to accept a connection. */
#define CONNECT_MILLISECONDS 100

/* A connected socket that does not block, to the first of ``addresses`` ("unix:PATH" or "IP:PORT",
 * commas between them) that accepts, with the greeting sent; or -1. */
int connect_first(const char *addresses);

#endif
