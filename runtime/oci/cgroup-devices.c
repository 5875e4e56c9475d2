/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2 has no device controller: a BPF program on the group decides. The program is
 * generated from the rules, the last matching rule first, as the v1 list would decide:
 *
 *	r2 = type, r3 = access, r4 = major, r5 = minor       (struct bpf_cgroup_dev_ctx)
 *	for each rule from the last: mismatch → next rule; else return allow
 *	return 0
 */
#include <linux/bpf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/oci/cgroup.h"

struct prog {
	struct bpf_insn *insn;
	size_t n;
};

static void emit(struct prog *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	p->insn = mem_grow(p->insn, p->n + 1, sizeof(*p->insn));
	p->insn[p->n++] = (struct bpf_insn){
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm
	};
}

#define LOAD(p, dst, off)  emit(p, BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, off, 0)
#define JNE(p, reg, imm)   emit(p, BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, imm)
#define MOV(p, reg, imm)   emit(p, BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, imm)
#define MOVR(p, dst, src)  emit(p, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define ALU(p, op, reg, v) emit(p, BPF_ALU | (op) | BPF_K, reg, 0, 0, v)
#define EXIT(p)		   emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static void rule(struct prog *p, const struct spec_device_rule *d)
{
	size_t start = p->n;
	int32_t mask = (d->mknod ? BPF_DEVCG_ACC_MKNOD : 0) | (d->read ? BPF_DEVCG_ACC_READ : 0) |
		       (d->write ? BPF_DEVCG_ACC_WRITE : 0);
	bool wild = d->type == 'a';

	if (!wild)
		JNE(p, BPF_REG_2, d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (!wild && mask != 7 && d->allow) {
		/* allow: every bit asked for must be among the rule's */
		MOVR(p, BPF_REG_6, BPF_REG_3);
		ALU(p, BPF_AND, BPF_REG_6, ~mask & 7);
		JNE(p, BPF_REG_6, 0);
	} else if (!wild && mask != 7) {
		/* deny: one bit in common is enough; skip where there is none */
		MOVR(p, BPF_REG_6, BPF_REG_3);
		ALU(p, BPF_AND, BPF_REG_6, mask);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 0, 0);
	}
	if (!wild && d->major >= 0)
		JNE(p, BPF_REG_4, (int32_t)d->major);
	if (!wild && d->minor >= 0)
		JNE(p, BPF_REG_5, (int32_t)d->minor);
	MOV(p, BPF_REG_0, d->allow);
	EXIT(p);
	/* Every jump of this rule goes behind it. */
	for (size_t i = start; i < p->n; i++) {
		uint8_t c = p->insn[i].code;

		if (c == (BPF_JMP | BPF_JNE | BPF_K) || c == (BPF_JMP | BPF_JEQ | BPF_K))
			p->insn[i].off = (int16_t)(p->n - i - 1);
	}
}

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

int cgroup_devices_bpf(const char *dir, const struct spec_device_rule *rules, size_t n,
		       struct error *err)
{
	CLEANUP_CLOSE int group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_CLOSE int fd = -1;
	struct prog p = { 0 };
	union bpf_attr attr;
	bool decided = false;

	if (group < 0)
		return error_sys(err, errno, "opening control group %s", dir);
	LOAD(&p, BPF_REG_2, 0);
	ALU(&p, BPF_AND, BPF_REG_2, 0xffff);
	LOAD(&p, BPF_REG_3, 0);
	ALU(&p, BPF_RSH, BPF_REG_3, 16);
	LOAD(&p, BPF_REG_4, 4);
	LOAD(&p, BPF_REG_5, 8);
	/* What lies before the last rule for everything can never decide. */
	for (size_t i = n; i-- > 0 && !decided;) {
		rule(&p, &rules[i]);
		decided = rules[i].type == 'a';
	}
	if (!decided) {
		MOV(&p, BPF_REG_0, 0);
		EXIT(&p);
	}
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uintptr_t)p.insn;
	attr.insn_cnt = (uint32_t)p.n;
	attr.license = (uintptr_t) "Apache-2.0";
	fd = bpf(BPF_PROG_LOAD, &attr);
	free(p.insn);
	if (fd < 0)
		return error_sys(err, errno, "loading the device filter");
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)group;
	attr.attach_bpf_fd = (uint32_t)fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	if (bpf(BPF_PROG_ATTACH, &attr) < 0)
		return error_sys(err, errno, "attaching the device filter to %s", dir);
	return 0;
}
