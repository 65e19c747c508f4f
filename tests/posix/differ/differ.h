/* The differential test: one random sequence of operations, on a mount and on a local directory.
 *
 * An operation is a row of numbers, drawn from the seed before anything runs, so that any part of a
 * sequence is a sequence too and a failing one can be made smaller. Executing it gives a text: the
 * result, errno, and what it read. The texts of both sides must be equal.
 */
#ifndef CAIRN_TESTS_POSIX_DIFFER_H
#define CAIRN_TESTS_POSIX_DIFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOTS = 6, TEXT_BYTES = 4000, PATH_BYTES = 600 };

struct op {
	uint8_t kind;
	uint8_t mount; /* which of the two */
	uint8_t user;  /* 0 root, 1 another */
	uint8_t timed; /* the times before and after are compared: changed or not */
	uint32_t path, other; /* numbers of names */
	uint32_t slot, x, y;
};

/* One side's world. */
struct side {
	const char *roots[2]; /* both mounts; twice the same for a local directory */
	int slots[SLOTS];     /* open files, -1 */
	uint8_t slot_mount[SLOTS];
};

extern const int op_kinds;

/* Draws n operations. */
void ops_draw(uint64_t seed, struct op *ops, int n);
/* What the operation would do, for people. */
void op_to_text(const struct op *op, char *text, size_t n);
/* Executes it and tells what came of it. */
void op_run(struct side *side, const struct op *op, char *text, size_t n);
/* Whether it is left out on both sides, since the difference is known: see known_differences. */
bool op_is_known(const struct side *local, const struct op *op);

void path_text(char *text, size_t n, uint32_t number);

#endif
