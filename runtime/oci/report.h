/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where ferry-oci's warnings and its final error go: the file of --log in the format of
 * --log-format, else stderr. While a container is made, stderr may be the container's own,
 * so nothing else is ever printed.
 */
#ifndef FERRY_OCI_REPORT_H
#define FERRY_OCI_REPORT_H

#include <stdbool.h>

#include "base/error.h"

/* path NULL: stderr. 0 or -errno. */
int report_open(const char *path, bool json, struct error *err);
void report_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void report_error(const struct error *err);

#endif
