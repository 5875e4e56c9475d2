/* SPDX-License-Identifier: Apache-2.0 */
/* ferryd's configuration: /etc/ferry/ferry.json and the command line over it. */
#ifndef FERRY_API_CONFIG_H
#define FERRY_API_CONFIG_H

#include <jansson.h>

#include "fabric/fabric.h"

struct config {
	struct fabric_config fabric; /* its strings belong to the fields below */
	char *file, *run_dir, *state_dir, *bin_dir, *host, *socket;
	const char **insecure_registries, **registry_mirrors; /* NULL-terminated */
	json_t *json; /* the file; NULL where there is none */
};

enum config_action { CONFIG_RUN, CONFIG_EXIT /* --help, --version: done */ };

/* Reads options and file. -EINVAL with one sentence for what is wrong. */
int config_read(struct config *c, int argc, char **argv, enum config_action *action,
		struct error *err);
void config_free(struct config *c);

#endif
