#include "chunkserver/link_priv.h"

#include <stdlib.h>
#include <utlist.h>

#include "chunkserver/pull.h"
#include "chunkserver/raise.h"
#include "common/log.h"

static int do_delete(struct link *l, const struct wire_chunk_delete *req, uint64_t came,
		     struct err *err)
{
	struct cursor list = cursor_slice(req->have), item;
	int r;

	while ((r = wire_list_next(&list, &item)) == 1) {
		struct wire_have have;
		r = wire_have_get(&item, &have);
		if (r == 0)
			r = store_delete(l->store, have.id, have.version, came, err);
		if (r < 0)
			break;
	}
	return r;
}

static int run_command(struct link *l, const struct item *cmd, struct buf *out, struct err *err)
{
	struct cursor c = cursor_slice(buf_slice(&cmd->bytes));
	union {
		struct wire_chunk_raise raise;
		struct wire_chunk_pull pull;
		struct wire_chunk_delete delete;
		struct wire_chunk_check check;
	} req;
	struct wire_chunk_state state = {0};
	struct wire_empty empty;
	int r;

	switch (cmd->h.op) {
	case OP_CHUNK_RAISE:
		r = wire_chunk_raise_get(&c, &req.raise);
		if (r == 0)
			r = raise_chunk(l->store, l->o.cred, &req.raise, &state, err);
		break;
	case OP_CHUNK_PULL:
		r = wire_chunk_pull_get(&c, &req.pull);
		if (r == 0)
			r = pull_chunk(l->store, l->o.cred, &req.pull, cmd->came, &state, err);
		break;
	case OP_CHUNK_CHECK:
		r = wire_chunk_check_get(&c, &req.check);
		if (r == 0)
			r = store_check(l->store, req.check.chunk, req.check.version, &state, err);
		break;
	case OP_CHUNK_DELETE:
		r = wire_chunk_delete_get(&c, &req.delete);
		if (r == 0)
			r = do_delete(l, &req.delete, cmd->came, err);
		return r < 0 ? r : wire_put_reply(out, cmd->h.op, cmd->h.id, 0, &empty, 0);
	default:
		return err_set(err, ERR_PROTOCOL, "not a command of the master");
	}
	return r < 0 ? r : wire_put_reply(out, cmd->h.op, cmd->h.id, cmd->h.trace, &state, 0);
}

static bool is_slow(uint16_t op)
{
	return op == OP_CHUNK_PULL || op == OP_CHUNK_DELETE;
}

static uint64_t *running_slot(struct link *l, uint64_t id)
{
	unsigned i = 0;

	while (i < LINK_SLOW_MAX - 1 && l->running[i] != id)
		i++;
	return &l->running[i];
}

/* The next command that may be begun, or NULL. Called with the lock. */
static struct item *command_take(struct link *l)
{
	struct item *cmd = link_queue_take(&l->commands);

	if (!cmd && l->slow_running < LINK_SLOW_MAX)
		cmd = link_queue_take(&l->slow);
	if (cmd && is_slow(cmd->h.op)) {
		l->slow_running++;
		*running_slot(l, 0) = cmd->h.id;
	}
	return cmd;
}

void *link_worker(void *arg)
{
	struct link *l = arg;

	pthread_mutex_lock(&l->lock);
	for (;;) {
		struct item *cmd = NULL, *answer;
		struct err err = {0};
		uint64_t generation, id;
		bool slow;
		int r;
		while (!l->stopping && (cmd = command_take(l)) == NULL)
			pthread_cond_wait(&l->work, &l->lock);
		if (!cmd)
			break;
		slow = is_slow(cmd->h.op);
		id = cmd->h.id;
		generation = l->generation;
		pthread_mutex_unlock(&l->lock);
		answer = calloc(1, sizeof(*answer));
		r = answer ? run_command(l, cmd, &answer->bytes, &err) : ERR_NOMEM;
		if (r < 0 && answer) {
			if (r != ERR_BUSY)
				log_info("%s: %s", wire_op_name(cmd->h.op),
					 err.text[0] ? err.text : err_text(r));
			buf_clear(&answer->bytes);
			wire_put_failure(&answer->bytes, cmd->h.op, cmd->h.id, cmd->h.trace, r,
					 err.text[0] ? err.text : err_text(r), 0);
		}
		link_item_free(cmd);
		pthread_mutex_lock(&l->lock);
		l->slow_running -= slow;
		if (slow)
			*running_slot(l, id) = 0;
		if (l->up && generation == l->generation)
			link_queue_add(&l->out, answer);
		else
			link_item_free(answer);
		link_wake(l);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

void link_take_command(struct link *l, const struct wire_header *h, const struct buf *fields)
{
	struct item *i = calloc(1, sizeof(*i));

	if (i) {
		i->h = *h;
		i->came = store_moment(l->store); /* not under the lock: the store's comes first */
		buf_append_slice(&i->bytes, buf_slice(fields));
	}
	pthread_mutex_lock(&l->lock);
	link_queue_add(is_slow(h->op) ? &l->slow : &l->commands, i);
	pthread_cond_signal(&l->work);
	pthread_mutex_unlock(&l->lock);
}

void link_working(struct link *l, struct wire_cs_heartbeat *ret)
{
	struct item *i;

	if (l->slow.n > WORKING_MAX - LINK_SLOW_MAX)
		return; /* too much to be told */
	for (unsigned k = 0; k < LINK_SLOW_MAX; k++)
		if (l->running[k])
			ret->working[ret->n_working++] = l->running[k];
	DL_FOREACH(l->slow.items, i)
		ret->working[ret->n_working++] = i->h.id;
	ret->tells = 1;
}
