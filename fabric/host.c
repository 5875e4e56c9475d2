/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host documents: what a host is, listing, finding, changing. host.h is the contract; leases,
 * heartbeat and the leader's watch are in host_heartbeat.c.
 */
#include "fabric/host.h"

#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"

static int check_name(const char *name, struct error *err)
{
	if (!str_is_name(name) || strlen(name) > 63)
		return error_set(err, ENOENT, "there is no host \"%.80s\"", name);
	return 0;
}

/* --- facts --------------------------------------------------------------------------------- */

int host_boot_id(char **id, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	int r = file_read("/proc/sys/kernel/random/boot_id", 64, &text, NULL, err);

	if (r < 0)
		return r;
	*id = str_format("%.36s", text);
	return 0;
}

/*
 * Which vector state this kernel switches for a task, and how large it is: a task can go
 * only where both are the same (Intel SDM volume 1, 13.2: CPUID leaf 0DH, XGETBV).
 */
static void add_xstate(json_t *facts)
{
#if defined(__x86_64__)
	unsigned eax, ebx, ecx, edx, low, high;
	char mask[24];

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE) ||
	    !__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx))
		return;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	snprintf(mask, sizeof(mask), "0x%llx", (unsigned long long)high << 32 | low);
	json_set_str(facts, "xsave_mask", mask);
	json_set_int(facts, "xstate_size", ebx);
#else
	(void)facts;
#endif
}

json_t *host_facts(void)
{
	json_t *j = json_object();
	CLEANUP_FREE char *boot = NULL;
	struct sysinfo si;
	struct utsname u;

	if (host_boot_id(&boot, NULL) == 0)
		json_set_str(j, "boot_id", boot);
	if (uname(&u) == 0) {
		json_set_str(j, "kernel", u.release);
		json_set_str(j, "arch", u.machine);
	}
	json_set_int(j, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
	if (sysinfo(&si) == 0)
		json_set_int(j, "memory_bytes", (int64_t)((uint64_t)si.totalram * si.mem_unit));
	add_xstate(j);
	return j;
}

/* --- documents -------------------------------------------------------------------------------- */

static int add_alive(struct store *s, json_t *host, struct error *err)
{
	CLEANUP_FREE char *lease = str_format("host.%s", json_str(host, "name", ""));
	struct error why = { 0 };
	int r = store_lease_get(s, lease, NULL, NULL, &why);

	if (r < 0 && r != -ENOENT) {
		if (err)
			*err = why;
		return r;
	}
	json_set_bool(host, "alive", r == 0);
	return 0;
}

int host_list(struct store *s, json_t **array, struct error *err)
{
	CLEANUP_JSON json_t *list = NULL;
	json_t *host;
	size_t i;
	int r = store_list_values(s, "hosts/", &list, err);

	if (r < 0)
		return r;
	json_array_foreach (list, i, host) {
		r = add_alive(s, host, err);
		if (r < 0)
			return r;
	}
	*array = TAKE_PTR(list);
	return 0;
}

static int get(struct store *s, const char *name, json_t **host, struct error *err)
{
	CLEANUP_FREE char *key = str_format("hosts/%s", name);
	int r = check_name(name, err);

	if (r < 0)
		return r;
	r = store_get(s, key, host, NULL, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT,
				 "there is no host %s in the cluster (`ferry host ls`)", name);
	return r;
}

int host_get(struct store *s, const char *name, json_t **host, struct error *err)
{
	CLEANUP_JSON json_t *j = NULL;
	int r = get(s, name, &j, err);

	if (r == 0)
		r = add_alive(s, j, err);
	if (r < 0)
		return r;
	*host = TAKE_PTR(j);
	return 0;
}

int host_resolve(void *store, const char *name, char **address, uint16_t *port, struct error *err)
{
	CLEANUP_JSON json_t *host = NULL;
	const char *where = NULL;
	int64_t number = 0;
	int r = get(store, name, &host, err);

	if (r == 0)
		r = json_want_str(host, "address", true, &where, err);
	if (r == 0)
		r = json_want_int(host, "port", true, 1, 65535, &number, err);
	if (r < 0)
		return r;
	*address = str_dup(where);
	*port = (uint16_t)number;
	return 0;
}

static int set_availability(void *ctx, json_t *doc, struct error *err)
{
	(void)err;
	if (!strcmp(json_str(doc, "availability", ""), ctx))
		return 1;
	json_set_str(doc, "availability", ctx);
	return 0;
}

int host_set_availability(struct store *s, const char *name, const char *availability,
			  struct error *err)
{
	CLEANUP_FREE char *key = str_format("hosts/%s", name);
	int r = get(s, name, NULL, err);

	if (r < 0)
		return r;
	if (strcmp(availability, "active") != 0 && strcmp(availability, "drain") != 0 &&
	    strcmp(availability, "pause") != 0)
		return error_set(err, EINVAL,
				 "\"%s\" is no availability of a host: active, drain or "
				 "pause",
				 availability);
	return store_update(s, key, set_availability, (void *)(uintptr_t)availability, NULL, err);
}

int host_remove(struct store *s, const char *name, struct error *err)
{
	CLEANUP_FREE char *key = str_format("hosts/%s", name);
	CLEANUP_FREE char *member = str_format("members/%s", name);
	CLEANUP_JSON json_t *host = NULL;
	struct error none;
	int r = host_get(s, name, &host, err);

	if (r < 0)
		return r;
	if (json_bool(host, "alive", false))
		return error_set(err, EBUSY, "host %s is up; stop ferryd there first", name);
	if (!strcmp(json_str(host, "state", ""), "lost"))
		return error_set(err, EBUSY,
				 "host %s is being fenced and its containers taken over; "
				 "try again when it is down",
				 name);
	r = store_delete(s, key, STORE_ANY, err);
	if (r == 0)
		store_delete(s, member, STORE_ANY, &none);
	return r;
}
