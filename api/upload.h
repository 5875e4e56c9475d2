/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body that is not collected but streamed: a thread runs the route's upload function on
 * the reading end of a pipe, the server writes into the other as the body comes.
 */
#ifndef FERRY_API_UPLOAD_H
#define FERRY_API_UPLOAD_H

#include <stddef.h>

#include "base/error.h"

struct request;
struct upload;

int upload_start(struct request *req, struct upload **out, struct error *err);
/* Blocks while the reader is busy. What comes after the reader gave up is dropped. */
void upload_write(struct upload *u, const char *data, size_t len);
/* Ends the body, waits for the thread, gives its result and sets *u to NULL. */
int upload_finish(struct upload **u, struct error *err);

#endif
