/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify events that wait to be read travel. Two descriptors watch the same files under the
 * same numbers: one is read before the move, the other after it, and both must tell the same,
 * apart from what pairs renames. A second such pair watches a tmpfs. What happens afterwards is
 * heard once, and changing the names of what lies there today has left nothing behind.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "object.h"
/* docker: --tmpfs /scratch */

#define EVENTS 2000
/* The engine reads folders and files of a tmpfs as everybody does, and is heard. */
#define LOOKED (IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE | IN_ISDIR)

struct seen {
	int wd;
	uint32_t mask, cookie;
	char name[256];
};

static size_t take(int fd, struct seen *out)
{
	static char buf[1 << 20] __attribute__((aligned(8)));
	ssize_t n = read(fd, buf, sizeof(buf));
	size_t k = 0;

	CHECK(n > 0);
	for (char *p = buf; p < buf + n; k++) {
		struct inotify_event *e = (void *)p;

		CHECK(k < EVENTS);
		out[k] = (struct seen){ .wd = e->wd, .mask = e->mask, .cookie = e->cookie };
		snprintf(out[k].name, sizeof(out[k].name), "%s", e->len ? e->name : "");
		p += sizeof(*e) + e->len;
	}
	return k;
}

static const char *in(const char *dir, const char *name)
{
	static char path[8][300];
	static int at;

	at = (at + 1) % 8;
	snprintf(path[at], sizeof(path[at]), "%s/%s", dir, name);
	return path[at];
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

struct pair {
	const char *dir;
	int fd[2];
	struct seen before[EVENTS];
	size_t n;
	time_t mtime;
	ino_t kept;
};

static void begin(struct pair *p, const char *dir)
{
	static const char *const watched[] = { "a", "a/sub", "b", "a/file", "gone", "gone-file" };
	struct stat st;
	int wd[6];

	p->dir = dir;
	CHECK(mkdir(in(dir, "a"), 0700) == 0 && mkdir(in(dir, "b"), 0700) == 0);
	CHECK(mkdir(in(dir, "a/sub"), 0700) == 0 && mkdir(in(dir, "gone"), 0700) == 0);
	put(in(dir, "a/file"), "some text");
	put(in(dir, "gone-file"), "x");
	put(in(dir, "outside"), "x");
	for (int i = 0; i < 2; i++) {
		p->fd[i] = inotify_init1(IN_NONBLOCK);
		CHECK(p->fd[i] >= 0);
		for (int k = 0; k < 6; k++) {
			wd[k] = inotify_add_watch(p->fd[i], in(dir, watched[k]),
						  k == 2 ? IN_ALL_EVENTS & ~IN_MOVED_FROM
							 : IN_ALL_EVENTS);
			CHECK(wd[k] == k + 1);
		}
	}
	/* names that stay, change, go, and come again */
	put(in(dir, "a/new"), "one");
	put(in(dir, "a/new"), "two");
	CHECK(chmod(in(dir, "a/new"), 0640) == 0);
	CHECK(rename(in(dir, "a/new"), in(dir, "a/newer")) == 0);
	put(in(dir, "a/new"), "three");
	CHECK(mkdir(in(dir, "a/folder"), 0700) == 0 && rmdir(in(dir, "a/folder")) == 0);
	CHECK(mkdir(in(dir, "a/folder"), 0700) == 0);
	put(in(dir, "a/folder/inside"), "kept");
	CHECK(rename(in(dir, "a/newer"), in(dir, "b/newest")) == 0);
	CHECK(symlink("x", in(dir, "a/link")) == 0 && unlink(in(dir, "a/link")) == 0);
	CHECK(rename(in(dir, "a/sub"), in(dir, "a/sup")) == 0);
	CHECK(chmod(in(dir, "a/sup"), 0750) == 0);
	/* the files themselves */
	put(in(dir, "a/file"), "longer than it was");
	CHECK(stat(in(dir, "a/file"), &st) == 0 && st.st_size == 18);
	close(open(in(dir, "a"), O_RDONLY | O_DIRECTORY));
	/* watches that end, among others that do not */
	put(in(dir, "gone/first"), "1");
	CHECK(rename(in(dir, "gone/first"), in(dir, "gone/second")) == 0);
	CHECK(unlink(in(dir, "gone/second")) == 0);
	close(open(in(dir, "a/file"), O_RDONLY));
	CHECK(unlink(in(dir, "gone-file")) == 0 && rmdir(in(dir, "gone")) == 0);
	CHECK(rename(in(dir, "a/folder"), in(dir, "folder")) == 0);
	p->n = take(p->fd[0], p->before);
	CHECK(p->n > 40);
	CHECK(stat(in(dir, "a"), &st) == 0);
	p->mtime = st.st_mtime;
	CHECK(stat(in(dir, "b/newest"), &st) == 0);
	p->kept = st.st_ino;
}

static void same_list(const char *dir, const char *want)
{
	DIR *d = opendir(dir);
	char have[300] = "";
	struct dirent *e;

	CHECK(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' || strlen(e->d_name) > 2) {
			CHECK(strstr(want, e->d_name), "%s in %s", e->d_name, dir);
			strcat(have, e->d_name);
		}
	CHECK(strlen(have) == strlen(want), "%s: %s", dir, have);
	closedir(d);
}

/* Nothing waits but that. */
static void looked_at(int fd)
{
	static struct seen s[EVENTS];
	size_t n = 0;
	int queued = 0;

	CHECK(ioctl(fd, FIONREAD, &queued) == 0);
	if (queued)
		n = take(fd, s);
	for (size_t i = 0; i < n; i++)
		CHECK(!(s[i].mask & ~LOOKED), "%s: %#x", s[i].name, s[i].mask);
}

static void end(struct pair *p)
{
	char buf[4096] __attribute__((aligned(8)));
	struct inotify_event *e = (void *)buf;
	static struct seen after[EVENTS];
	struct stat st;
	size_t n;

	CHECK(stat(in(p->dir, "a"), &st) == 0 && st.st_mtime == p->mtime);
	looked_at(p->fd[0]);
	n = take(p->fd[1], after);
	for (size_t i = 0; i < n && i < p->n; i++) {
		struct seen *a = &p->before[i], *b = &after[i];

		CHECK(a->wd == b->wd && a->mask == b->mask && strcmp(a->name, b->name) == 0,
		      "event %zu: wd %d mask %#x %s became wd %d mask %#x %s", i, a->wd, a->mask,
		      a->name, b->wd, b->mask, b->name);
		CHECK(!a->cookie == !b->cookie);
		for (size_t k = 0; k < i; k++)
			CHECK((p->before[k].cookie == a->cookie) == (after[k].cookie == b->cookie),
			      "events %zu and %zu", k, i);
	}
	CHECK(n >= p->n, "%zu events became %zu", p->n, n);
	for (size_t i = p->n; i < n; i++)
		CHECK(!(after[i].mask & ~LOOKED), "event %zu: %#x", i, after[i].mask);
	same_list(in(p->dir, "a"), "newsupfile");
	same_list(in(p->dir, "b"), "newest");
	same_list(in(p->dir, "folder"), "inside");
	looked_at(p->fd[0]);
	looked_at(p->fd[1]);
	CHECK(rmdir(in(p->dir, "a/sup")) == 0);
	for (int i = 0; i < 2; i++) {
		CHECK(read(p->fd[i], buf, sizeof(buf)) > 0);
		CHECK(e->wd == 2 && e->mask == IN_DELETE_SELF);
		CHECK(inotify_add_watch(p->fd[i], p->dir, IN_CREATE) == 7);
	}
}

int main(int argc, char **argv)
{
	static struct pair layer, tmpfs;

	object_init(argc, argv);
	CHECK(mkdir("/work", 0700) == 0);
	begin(&layer, "/work");
	begin(&tmpfs, "/scratch");
	object_move();
	end(&layer);
	end(&tmpfs);
	return 0;
}
