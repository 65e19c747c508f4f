/* Writers and a truncation at the same time, in three sessions of their own: what is in the file
 * when all have ended must be what some order of the operations gives. A write to two chunks counts
 * as two operations, one for each: its parts may come to lie before and after another's.
 *
 *     race_truncate PATH ROUNDS SEED
 *
 * Each round: three threads begin together, each with OPS operations of its own: two write, one
 * truncates, all near the border between two chunks. Then a fourth session reads, and every merge of
 * the three sequences is tried on a model. The exit status is 1 if none explains what was read.
 * SIGTERM ends it after the round that is under way. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cairn.h"

enum {
	CHUNK = 64 << 20, WINDOW = 96 << 10, BASE = CHUNK - WINDOW / 2,
	THREADS = 3, OPS = 2, TRUNCATOR = 2,
};

struct op {
	bool truncate;
	uint32_t from, len; /* in the window; truncate: from is the new size */
	uint8_t fill;
	unsigned delay_us;
};

struct actor {
	struct cairn *fs;
	struct cairn_file *file;
	struct op ops[OPS];
	pthread_t thread;
	int result;
	char why[256];
};

struct model {
	uint32_t size; /* in the window */
	uint8_t bytes[WINDOW];
};

static uint64_t random_state;
static pthread_barrier_t begin;
static volatile sig_atomic_t stop;

static void on_term(int signal_number)
{
	stop = 1;
}

static uint32_t draw(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 20) % n;
}

static struct cairn *session(void)
{
	struct cairn_options o = {.masters = getenv("CAIRN_MASTER"),
				  .credentials = getenv("CAIRN_CREDENTIALS")};
	struct cairn *fs;
	char text[256] = "";

	if (cairn_connect(&o, &fs, text, sizeof(text)) < 0) {
		fprintf(stderr, "connect: %s\n", text);
		exit(2);
	}
	return fs;
}

static struct op draw_op(unsigned thread, uint8_t fill)
{
	struct op op = {.truncate = thread == TRUNCATOR, .fill = fill, .delay_us = draw(3000)};

	if (op.truncate) {
		op.from = draw(WINDOW + 1);
		return op;
	}
	op.from = draw(WINDOW);
	op.len = 1 + draw(WINDOW - op.from);
	return op;
}

static void *act(void *arg)
{
	struct actor *a = arg;
	uint8_t *data = malloc(WINDOW);

	pthread_barrier_wait(&begin);
	for (int i = 0; i < OPS && a->result == 0; i++) {
		const struct op *op = &a->ops[i];
		ssize_t r;
		usleep(op->delay_us);
		memset(data, op->fill, op->len);
		r = op->truncate ? cairn_ftruncate(a->file, BASE + (uint64_t)op->from)
				 : cairn_pwrite(a->file, data, op->len, BASE + (uint64_t)op->from);
		if (r < 0) {
			a->result = (int)r;
			snprintf(a->why, sizeof(a->why), "%s", cairn_error());
		}
	}
	free(data);
	return NULL;
}

/* The bytes of an operation that lie in one chunk; part 1: the second chunk's. False: none do. */
static bool part_of(const struct op *op, unsigned part, uint32_t *ret_from, uint32_t *ret_end)
{
	uint32_t border = WINDOW / 2, end = op->from + op->len;

	*ret_from = part && op->from < border ? border : op->from;
	*ret_end = !part && end > border ? border : end;
	return op->truncate ? part == 0 : *ret_from < *ret_end;
}

static void apply(struct model *m, const struct op *op, uint32_t from, uint32_t end)
{
	if (op->truncate) {
		if (op->from < m->size)
			memset(m->bytes + op->from, 0, m->size - op->from);
		m->size = op->from;
		return;
	}
	memset(m->bytes + from, op->fill, end - from);
	if (end > m->size)
		m->size = end;
}

/* What each actor has done in the order that is being tried. */
struct progress {
	unsigned op;
	unsigned parts; /* of it: a bit for each that was done */
};

static unsigned parts_of(const struct op *op)
{
	uint32_t from, end;
	return part_of(op, 0, &from, &end) + 2 * part_of(op, 1, &from, &end);
}

/* Tries every merge of what is left of the sequences. */
static bool explained(const struct model *before, const struct actor *actors,
		      const struct progress *at, const struct model *seen)
{
	bool any = false;

	for (unsigned i = 0; i < 2 * THREADS; i++) {
		unsigned t = i / 2, part = i % 2;
		const struct op *op = &actors[t].ops[at[t].op];
		struct progress then[THREADS];
		struct model m;
		uint32_t from, end;
		if (at[t].op == OPS || (at[t].parts & 1u << part) ||
		    !part_of(op, part, &from, &end))
			continue;
		any = true;
		m = *before;
		apply(&m, op, from, end);
		memcpy(then, at, sizeof(then));
		then[t].parts |= 1u << part;
		if (then[t].parts == parts_of(op))
			then[t] = (struct progress){at[t].op + 1, 0};
		if (explained(&m, actors, then, seen))
			return true;
	}
	return !any && before->size == seen->size &&
	       memcmp(before->bytes, seen->bytes, WINDOW) == 0;
}

static int look(struct cairn_file *file, struct model *ret)
{
	static uint8_t more[WINDOW + 1];
	struct stat st;
	ssize_t n;
	int r = cairn_fstat(file, &st);

	memset(ret, 0, sizeof(*ret));
	n = r < 0 ? r : cairn_pread(file, more, sizeof(more), BASE);
	if (n < 0 || n != st.st_size - BASE || n > WINDOW) {
		fprintf(stderr, "read: %zd bytes of a file of %lld: %s\n", n,
			(long long)st.st_size, n < 0 ? cairn_error() : "do not agree");
		return -1;
	}
	memcpy(ret->bytes, more, (size_t)n);
	ret->size = (uint32_t)n;
	return 0;
}

static void print_runs(const char *what, const struct model *m)
{
	printf("%s: size %u:", what, m->size);
	for (uint32_t i = 0, from = 0; i < m->size; i++)
		if (i + 1 == m->size || m->bytes[i + 1] != m->bytes[i]) {
			printf(" [%u,%u)=%02x", from, i + 1, m->bytes[i]);
			from = i + 1;
		}
	printf("\n");
}

static void print_ops(const struct actor *actors)
{
	for (unsigned t = 0; t < THREADS; t++)
		for (unsigned i = 0; i < OPS; i++) {
			const struct op *op = &actors[t].ops[i];
			if (op->truncate)
				printf("thread %u: truncate to %u\n", t, op->from);
			else
				printf("thread %u: write [%u,%u)=%02x\n", t, op->from,
				       op->from + op->len, op->fill);
		}
}

/* 0, or 1 when what is there cannot be explained. */
static int round_run(struct actor *actors, struct cairn_file *reader, struct model *state,
		     unsigned number)
{
	struct progress start[THREADS] = {0};
	static struct model seen;

	for (unsigned t = 0; t < THREADS; t++) {
		for (unsigned i = 0; i < OPS; i++)
			actors[t].ops[i] = draw_op(t, (uint8_t)(1 + draw(255)));
		pthread_create(&actors[t].thread, NULL, act, &actors[t]);
	}
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(actors[t].thread, NULL);
	for (unsigned t = 0; t < THREADS; t++)
		if (actors[t].result < 0) {
			printf("round %u: thread %u: %s\n", number, t, actors[t].why);
			return 1;
		}
	if (look(reader, &seen) < 0)
		return 1;
	if (!explained(state, actors, start, &seen)) {
		printf("round %u: no order of the operations explains what was read\n", number);
		print_runs("before", state);
		print_ops(actors);
		print_runs("read", &seen);
		return 1;
	}
	*state = seen;
	return 0;
}

int main(int argc, char **argv)
{
	static struct model state;
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	struct actor actors[THREADS] = {0};
	struct cairn *fs;
	struct cairn_file *reader;
	unsigned rounds, done;
	int failed = 0;

	if (argc != 4 || !getenv("CAIRN_MASTER") || !getenv("CAIRN_CREDENTIALS"))
		return 2;
	sigaction(SIGTERM, &term, NULL);
	rounds = (unsigned)atoi(argv[2]);
	random_state = strtoull(argv[3], NULL, 0) * 0x9e3779b97f4a7c15ULL | 1;
	fs = session();
	pthread_barrier_init(&begin, NULL, THREADS);
	if (cairn_open(fs, argv[1], O_RDWR | O_CREAT, 0644, &reader) < 0 ||
	    cairn_ftruncate(reader, BASE) < 0)
		return 2;
	for (unsigned t = 0; t < THREADS; t++) {
		actors[t].fs = session();
		if (cairn_open(actors[t].fs, argv[1], O_RDWR, 0, &actors[t].file) < 0)
			return 2;
	}
	for (done = 0; done < rounds && !failed && !stop; done++)
		failed = round_run(actors, reader, &state, done);
	printf("rounds %u seed %s\n", done, argv[3]);
	for (unsigned t = 0; t < THREADS; t++)
		cairn_disconnect(actors[t].fs);
	cairn_disconnect(fs);
	pthread_barrier_destroy(&begin);
	return failed;
}
