/* The journal of one disk: the names of the chunks that may have unsynced bytes (format.h).
 *
 * Appends from many threads are committed together: one fdatasync admits all that wait. The
 * journal is begun anew by writing its successor beside it and renaming, so that at every moment
 * one complete journal has the name. */
#ifndef CAIRN_CHUNKSERVER_JOURNAL_H
#define CAIRN_CHUNKSERVER_JOURNAL_H

#include "chunkserver/format.h"
#include "common/io.h"

struct journal;

/* The chunks that were open when the last process stopped; none after a clean stop. Lossy are all
 * of them when the page cache's life was another one then. */
struct journal_names {
	struct journal_record *items; /* heap */
	size_t n;
};

/* Reads what DIR/journal names into ret_names (freed by the caller). The journal accepts
 * appends only after the first journal_begin. dir is copied. */
int journal_open(const struct io *io, const char *dir, struct journal **ret,
		 struct journal_names *ret_names, struct err *err);
void journal_free(struct journal *j);

/* Names a chunk: durable when it returns 0. Any thread. On failure nothing may be written to the
 * chunk. chunk_bits: what it takes to make a file anew that a power loss took with its name. */
int journal_append(struct journal *j, uint64_t chunk, uint32_t version, uint8_t chunk_bits,
		   struct err *err);

/* What journal_begin keeps: called once, while no append is in progress. Fills *ret (heap). */
typedef int (*journal_keep_fn)(void *arg, struct journal_names *ret);

/* Begins the journal anew with the names that `keep` returns; with `clean` and no name left, it
 * says that the stop was clean. On failure before the rename the old journal, which names more,
 * stays in use. After a failure of the directory's sync nothing can be appended any more. */
int journal_begin(struct journal *j, journal_keep_fn keep, void *arg, bool clean,
		  struct err *err);

#endif
