/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of ferry-shim, one per started container, on run_dir/containers/ID/shim.sock.
 *
 * Everything is a frame: 8 bytes of header, then the payload:
 *
 *     byte 0: kind   bytes 1-3: 0   bytes 4-7: payload length, big-endian   payload
 *     kind 0 stdin   to the shim; an empty one closes stdin
 *          1 stdout  from the shim
 *          2 stderr  from the shim (a terminal's output is all stdout)
 *          3 control a JSON object, both ways
 *
 * Kinds 1 and 2 are byte for byte Docker's multiplexed stream ("application/vnd.docker.
 * multiplexed-stream"); who forwards to a Docker client drops kind 3, and strips the headers
 * for a terminal.
 *
 * A client sends one control frame and gets one back, {"ok":true,…} or {"ok":false,"code":
 * errno,"error":"…"}:
 *   {"op":"info"}                     → {"pid","start","stdio":[link…]}
 *   {"op":"attach","proc":ID,"stdin":b,"stdout":b,"stderr":b}
 *        proc "" is the container, else an exec. Then the connection carries its frames. With
 *        a descriptor attached to the first byte (SCM_RIGHTS), that one is the client and
 *        this connection stays for more requests.
 *   {"op":"exec","proc":ID,"process":PATH,"tty":b,"stdin":b,"attach":b,"stdout":b,"stderr":b}
 *        runs `ferry-oci exec --process PATH`; → {"pid"}; with attach, then as for attach.
 *   {"op":"resize","proc":ID,"rows":n,"cols":n}
 *   {"op":"exec-info","proc":ID}      → {"running","pid","exit_code"}
 *   {"op":"wait"}                     → answered when the container ended: {"exit_code"}
 *
 * At the end of a process its clients get all output, then a control frame
 * {"exit_code":n}, then EOF. A client that reads nothing for a minute while the container
 * waits for it is dropped; exec clients never are.
 *
 * Files: state_dir/containers/ID/ID-json.log (Docker's json-file format), exit.json
 * {"exit_code","signal","oom","finished_at"}, written and synced before anybody is told.
 */
#ifndef FERRY_CONTAINER_SHIM_H
#define FERRY_CONTAINER_SHIM_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#define SHIM_STDIN     0
#define SHIM_STDOUT    1
#define SHIM_STDERR    2
#define SHIM_CONTROL   3
#define SHIM_HEADER    8
#define SHIM_FRAME_MAX (1 << 20) /* larger payloads are refused */

static inline void shim_header(unsigned char h[SHIM_HEADER], int kind, uint32_t len)
{
	uint32_t be = htonl(len);

	memset(h, 0, SHIM_HEADER);
	h[0] = (unsigned char)kind;
	memcpy(h + 4, &be, 4);
}

static inline uint32_t shim_length(const unsigned char h[SHIM_HEADER])
{
	uint32_t be;

	memcpy(&be, h + 4, 4);
	return ntohl(be);
}

#endif
