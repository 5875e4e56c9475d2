/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait in a listener's accept queue. */
#include <stdlib.h>

#include "runtime/checkpoint/sock_tcp.h"

int tcp_pending_dump(struct dump *d, struct ofd *o, Cks__Tcp *m, struct error *err)
{
	(void)d;
	(void)o;
	(void)m;
	(void)err;
	return 0;
}

void tcp_pending_free(Cks__Tcp *m)
{
	(void)m;
}

int tcp_pending_restore(struct restore *r, const Cks__Tcp *m, int fd, struct error *err)
{
	(void)r;
	(void)m;
	(void)fd;
	(void)err;
	return 0;
}
