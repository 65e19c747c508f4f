/* What one file may hold, as far as was acknowledged.
 *
 * Each byte has a list of values in the order of the writes that gave them: those that a read may
 * return now, and older ones that may come back when every server loses its power, because nothing
 * was fsynced since. An acknowledged write leaves one value; a failed one adds one to what may be.
 * A read that saw a value rules out all older ones: reads do not go back. The same for the size,
 * which does not come back: it is metadata. (Size and bytes are held apart: of a failed truncation
 * this allows the new size with the old bytes, for instance.)
 *
 * Belongs to one thread. */
#ifndef CAIRN_TESTS_CHECKER_MODEL_H
#define CAIRN_TESTS_CHECKER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_VALUES_MAX = 24, MODEL_TEXT_BYTES = 512 };
#define MODEL_END UINT64_MAX

struct model;

struct model *model_new(uint32_t file);
void model_free(struct model *m);
uint32_t model_file(const struct model *m);
/* The number of the next write, from 1. */
uint32_t model_next_write(struct model *m);

/* Bytes offset .. offset+acked-1 were written; of those up to offset+len it is not known. */
void model_wrote(struct model *m, uint32_t write, uint64_t offset, size_t acked, size_t len);
void model_truncated(struct model *m, uint64_t size, bool acked);
/* An fsync succeeded: what was acknowledged last is there, and will be. */
void model_synced(struct model *m);
/* It failed, or the client that wrote is gone: a later one, which succeeds, says nothing of what was
 * written before. */
void model_sync_failed(struct model *m);
void model_power_lost(struct model *m);
/* Lists are nearly full: nothing may be written before an fsync, or before a look at the size. */
bool model_crowded(const struct model *m);

/* A read of len bytes at offset gave n bytes. 0, or -1 and what is wrong in `why`. */
int model_read(struct model *m, uint64_t offset, size_t len, const uint8_t *data, size_t n,
	       char *why);
int model_saw_size(struct model *m, uint64_t size, char *why);
/* The largest size there may be; whether it is the only one. */
uint64_t model_size_max(const struct model *m);
bool model_size_known(const struct model *m);
/* The first byte from `offset` on that may be something else than a hole, and the end of that
 * stretch. False when there is none. */
bool model_next_data(const struct model *m, uint64_t offset, uint64_t *ret_from,
		     uint64_t *ret_to);

#endif
