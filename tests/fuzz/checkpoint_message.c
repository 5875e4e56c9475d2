/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: one message, of the type that the first byte names. What passes check.h goes on
 * to the decoders that can do without a container: sockets are really made, in an empty network
 * namespace, and trees laid onto an empty file system. Without the right to make those (not
 * root) only the checks run.
 *
 *   1 … 32   a frame of that type
 *   64       a TCP socket        65  UDP, ICMP, raw         66  a frame of a tree
 *   67 …     bodies of the other objects: unpacked only
 */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/objects.pb-c.h"
#include "runtime/checkpoint/sock_inet.h"
#include "runtime/checkpoint/sock_tcp.h"
#include "runtime/checkpoint/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool alone;    /* in namespaces of our own */
static int root = -1; /* of an empty file system */
static char place[] = "/tmp/fckpt-fuzz-XXXXXX";

static void clean(void)
{
	umount2(place, MNT_DETACH);
	rmdir(place);
}

static void isolate(void)
{
	struct ifreq q = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int s;

	if (!mkdtemp(place))
		return;
	alone = unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 &&
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		mount("fuzz", place, "tmpfs", 0, "size=16m") == 0;
	atexit(clean);
	if (!alone)
		return;
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ioctl(s, SIOCSIFFLAGS, &q);
	close(s);
	root = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void a_frame(uint16_t type, const uint8_t *data, size_t size)
{
	/* pages: the flags come first */
	uint16_t flags = type == FRAME_PAGES && size ? data[0] : 0;
	size_t skip = type == FRAME_PAGES && size;
	struct frame f = {
		type, flags, (uint32_t)(size - skip), (uint8_t *)(uintptr_t)data + skip, 0, 0, NULL
	};
	struct error err = { 0 };
	int r = check_frame(&f, &err);

	if (r != 0 && (r != -EBADMSG || err.code != EBADMSG || !err.msg[0]))
		abort();
}

static void a_tcp_socket(const uint8_t *data, size_t size)
{
	struct error err = { 0 };
	int fd = -1;

	if (tcp_restore(NULL, 1, data, size, &fd, &err) < 0) {
		if (fd >= 0 || !err.code)
			abort();
		return;
	}
	tcp_finish(NULL, 1, fd, &err);
	close(fd);
}

static void an_inet_socket(const uint8_t *data, size_t size)
{
	Cks__Inet *m = check_unpack(&cks__inet__descriptor, data, size);
	struct error err = { 0 };
	/* a datagram that does not arrive is waited for too long for this */
	bool quick = m && !m->n_queue;
	int fd = -1;

	if (m)
		cks__inet__free_unpacked(m, NULL);
	if (!quick || inet_restore(NULL, 1, data, size, &fd, &err) < 0)
		return;
	inet_late(NULL, 1, data, size, fd, &err);
	inet_finish(NULL, 1, fd, &err);
	close(fd);
}

static void a_tree(const uint8_t *data, size_t size)
{
	struct error err = { 0 };

	tree_dest_apply(root, data, size, &err);
	close(root);
	/* the next one begins with an empty one again */
	umount2(place, MNT_DETACH);
	if (mount("fuzz", place, "tmpfs", 0, "size=16m") < 0)
		abort();
	root = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static const ProtobufCMessageDescriptor *const objects[] = {
	&cko__file__descriptor,	    &cko__pipe__descriptor,	&cko__tty__descriptor,
	&cko__sessions__descriptor, &cko__memfd__descriptor,	&cko__epoll__descriptor,
	&cko__eventfd__descriptor,  &cko__signalfd__descriptor, &cko__timerfd__descriptor,
	&cko__inotify__descriptor,  &cko__pidfd__descriptor,	&cko__unix__descriptor,
	&cko__content__descriptor,  &cko__external__descriptor, &cks__netlink__descriptor,
	&cks__packet__descriptor,   &cks__spill__descriptor,	&ck__lane__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	size_t kind;

	if (!begun)
		isolate();
	begun = true;
	if (!size)
		return 0;
	kind = *data++;
	size--;
	if (kind < 64) {
		a_frame((uint16_t)kind, data, size);
	} else if (kind == 64 && alone) {
		a_tcp_socket(data, size);
	} else if (kind == 65 && alone) {
		an_inet_socket(data, size);
	} else if (kind == 66 && alone) {
		a_tree(data, size);
	} else if (kind >= 67 && kind - 67 < sizeof(objects) / sizeof(objects[0])) {
		ProtobufCMessage *m = check_unpack(objects[kind - 67], data, size);

		if (m && protobuf_c_message_get_packed_size(m) > size * 2 + 1024)
			abort(); /* it came out of nothing */
		protobuf_c_message_free_unpacked(m, NULL);
	}
	return 0;
}
