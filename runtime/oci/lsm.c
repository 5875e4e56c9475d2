/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Labels of Linux security modules. AppArmor's profile is set for execve; SELinux's labels
 * are refused where SELinux is there, and mean nothing where it is not. lsm in launch.h.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/report.h"

static bool has_apparmor(void)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	return file_read("/sys/module/apparmor/parameters/enabled", 16, &text, &len, NULL) == 0 &&
	       text[0] == 'Y';
}

int lsm_check(const struct spec *s, struct error *err)
{
	const char *label = s->process.selinux ? s->process.selinux : s->mount_label;

	if (label && access("/sys/fs/selinux/enforce", F_OK) == 0)
		return error_set(err, EOPNOTSUPP,
				 "SELinux label \"%s\": labels are not supported; leave them out",
				 label);
	if (label)
		report_warn("this host has no SELinux: label \"%s\" means nothing", label);
	if (s->process.apparmor && !has_apparmor())
		report_warn("this host has no AppArmor: profile \"%s\" means nothing",
			    s->process.apparmor);
	return 0;
}

int lsm_apply(const struct spec_process *p, struct error *err)
{
	CLEANUP_FREE char *text = NULL;

	if (!p->apparmor || !has_apparmor())
		return 0;
	text = str_format("exec %s", p->apparmor);
	/* With several modules each has a folder of its own (Linux 5.8). */
	if (file_write_str("/proc/self/attr/apparmor/exec", text, NULL) == 0)
		return 0;
	return file_write_str("/proc/self/attr/exec", text, err) < 0
		       ? error_wrap(err, "AppArmor profile %s", p->apparmor)
		       : 0;
}
