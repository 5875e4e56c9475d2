/* SPDX-License-Identifier: Apache-2.0 */
/* What a container takes along beside its state: its clocks, and the end of its log. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "fabric/migrate.h"

#define LOG_TAIL_MAX (8u << 20) /* of a container's log; what is older stays behind */

/* --- clocks ------------------------------------------------------------------------- */

void fabric_clock_offsets(int64_t *mono, int64_t *boot)
{
	CLEANUP_FREE char *text = NULL;
	char name[32];
	long long s, ns;
	int n;

	*mono = *boot = 0;
	if (file_read("/proc/self/timens_offsets", 4096, &text, NULL, NULL) < 0)
		return;
	for (char *p = text; sscanf(p, "%31s %lld %lld%n", name, &s, &ns, &n) == 3; p += n) {
		if (!strcmp(name, "monotonic"))
			*mono = s * 1000000000ll + ns;
		else if (!strcmp(name, "boottime"))
			*boot = s * 1000000000ll + ns;
	}
}

void fabric_clock_read(struct fabric_clock *c)
{
	int64_t mono, boot;
	struct timespec b;

	fabric_clock_offsets(&mono, &boot);
	c->real_ns = clock_real_ns();
	c->mono_ns = clock_mono_ns() - mono;
	clock_gettime(CLOCK_BOOTTIME, &b);
	c->boot_ns = (int64_t)b.tv_sec * 1000000000 + b.tv_nsec - boot;
}

struct container_time_offsets migrate_offsets(const json_t *clocks)
{
	struct fabric_clock here;
	int64_t passed;

	fabric_clock_read(&here);
	passed = here.real_ns - json_int(clocks, "real_ns", here.real_ns);
	if (passed < 0)
		passed = 0; /* the wall clocks differ: time must not go back */
	return (struct container_time_offsets){
		.set = true,
		.mono_ns = json_int(clocks, "mono_ns", 0) + passed - here.mono_ns,
		.boot_ns = json_int(clocks, "boot_ns", 0) + passed - here.boot_ns,
	};
}

/* --- logs --------------------------------------------------------------------------- */

void migrate_log_tail(struct migration *m, json_t *params)
{
	const char *path = json_str(m->live, "LogPath", "");
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	off_t from;
	size_t n;
	bool cut;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= m->log_sent)
		return;
	from = st.st_size - m->log_sent > LOG_TAIL_MAX ? st.st_size - LOG_TAIL_MAX : m->log_sent;
	n = (size_t)(st.st_size - from);
	cut = from > m->log_sent;
	text = mem_zalloc(n + 1);
	if (lseek(fd, from, SEEK_SET) < 0 || fd_read_all(fd, text, n) < 0)
		return;
	/* Whole lines only: a line that was cut at the front is left out. */
	json_set_str(params, "log", cut && strchr(text, '\n') ? strchr(text, '\n') + 1 : text);
	m->log_sent = st.st_size;
}
