/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of huge pages (MAP_HUGETLB and kin): what of it differs from other memory. */
#ifndef FERRY_CHECKPOINT_MEM_HUGE_H
#define FERRY_CHECKPOINT_MEM_HUGE_H

#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/track.h"

/* Bytes of a page of an area; 0: of ordinary pages. */
uint64_t huge_bytes(const struct vma *v);
/* smaps says "ht" of the area, and the size of its pages: its flags say so too from now on,
 * and what maps calls a file is anonymous memory. */
void huge_mark(struct vma *v, uint64_t page_bytes);
/* 0, or the size of its pages as a power of two: what `fd` stands on is of huge pages. */
uint32_t huge_shift_of(int fd);

/* --- source ---------------------------------------------------------------------------- */
/* Whether the task's tracker sees writes to the area. */
bool huge_is_watched(const struct task *t, const struct vma *v);
/* A new layout was read and will be sent: what the destination keeps stays noted. */
void huge_keep(struct task *t);
void huge_free(struct task *t);
/* Last round: a run of pages that seem not to be written. Those that are there are noted as
 * such, and those that are to be compared after all are added to t->runs. */
void huge_doubt(struct task *t, const struct page_found *run);
/* Sends those pages of [start, end) of an area that the destination has otherwise. */
int huge_send(struct dump *d, struct task *t, uint64_t start, uint64_t end, struct error *err);
/* Fills `now`, one hash a page, of an object of huge pages: 0 where a page is zero. */
void huge_hash_object(int fd, uint64_t *now, size_t npages);

/* --- destination ------------------------------------------------------------------------- */
/* What a mapping may do while pages are written into it. */
uint32_t huge_prot(const struct vma *v);
/* The last protections. */
int huge_protect(struct task *t, const struct vma *v, struct error *err);
/* An error for the lack of huge pages. `what` needs `bytes`. */
int huge_lacks(int code, uint32_t shift, uint64_t bytes, const char *what, struct error *err);
int huge_lacks_private(struct task *t, const struct vma *v, uint64_t start, uint64_t end,
		       struct error *err);
/* Pages of a private area; run is checked. */
int huge_pages(struct task *t, const struct vma *v, const struct page_run *run, uint16_t flags,
	       const void *data, struct error *err);
/* The same of an object, which has a descriptor. */
int huge_shared_pages(struct shared *s, const struct page_run *run, uint16_t flags,
		      const void *data, struct error *err);
/* The object has another size now, or gets no more pages. */
void huge_shared_unmap(struct shared *s, uint64_t new_size);

#endif
