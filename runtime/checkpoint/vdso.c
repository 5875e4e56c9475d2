/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs rely on in the vdso, the page of code that the kernel maps into each: they
 * look its functions up once and keep the addresses. The destination's kernel maps its own
 * vdso, at the old address; the functions must lie where they lay. Its bytes are not
 * compared: the kernel patches them for the processor.
 */
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include "runtime/checkpoint/core.h"

/* FNV-1a. */
static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211ull;
	return h;
}

uint64_t vdso_hash(void)
{
	const uint8_t *base = (const uint8_t *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)(const void *)base;
	const Elf64_Shdr *sections;
	uint64_t h = 14695981039346656037ull;

	/* The kernel's own file: it is whole, and its section headers are mapped. */
	if (!base || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	sections = (const Elf64_Shdr *)(const void *)(base + head->e_shoff);
	for (size_t i = 0; i < head->e_shnum; i++) {
		const Elf64_Shdr *s = &sections[i];
		const char *names;

		if (s->sh_type != SHT_DYNSYM || s->sh_link >= head->e_shnum)
			continue;
		names = (const char *)base + sections[s->sh_link].sh_offset;
		for (size_t k = 0; k < s->sh_size / sizeof(Elf64_Sym); k++) {
			const Elf64_Sym *sym =
				(const Elf64_Sym *)(const void *)(base + s->sh_offset) + k;

			h = mix(h, names + sym->st_name, strlen(names + sym->st_name) + 1);
			h = mix(h, &sym->st_value, sizeof(sym->st_value));
			h = mix(h, &sym->st_size, sizeof(sym->st_size));
		}
	}
	return h;
}

int vdso_check(const Ck__Hello *m, const char *kernel, struct error *err)
{
	if (!m->has_vdso_hash || m->vdso_hash == vdso_hash())
		return 0;
	return error_set(err, EOPNOTSUPP,
			 "the functions in the vdso of this kernel (%s) lie elsewhere than in the "
			 "source's (%s); run the same kernel on both hosts",
			 kernel, m->kernel ? m->kernel : "unknown");
}
