#include "master/hold.h"

#include <stdlib.h>
#include <utlist.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "master/master.h"

enum { KEPT_MAX = 1 << 20, ADOPTING_MAX = 256 };

bool hold_open(const struct master *m)
{
	return !m->hold.on || m->hold.open;
}

static int hold_read(struct master *m, bool *ret)
{
	_cleanup_buf_ struct buf backing = {0};
	struct row_meta meta;
	int r = ns_meta(m->st, &meta, &backing);

	if (r == 0)
		*ret = meta.held;
	return r;
}

int hold_start(struct master *m)
{
	int r = hold_read(m, &m->hold.on);

	if (r == 0 && m->hold.on)
		log_warn("this state was restored: what servers have and it does not know is kept, "
			 "until `cairn hold off`");
	return r;
}

void hold_free(struct master *m)
{
	struct kept *k, *next;

	HASH_ITER(hh, m->hold.kept, k, next) {
		HASH_DEL(m->hold.kept, k);
		free(k);
	}
	m->hold.due = NULL;
}

void hold_count(const struct master *m, uint64_t *ret_replicas, uint64_t *ret_chunks)
{
	const struct kept *k;

	*ret_replicas = 0;
	*ret_chunks = HASH_COUNT(m->hold.kept);
	for (k = m->hold.kept; k; k = k->hh.next)
		*ret_replicas += k->n;
}

/* ---- what is reported ---- */

static void kept_set(struct kept *k, const struct cs *cs, uint32_t version, uint8_t marks)
{
	unsigned i = 0;

	if (version < k->version)
		return; /* of no use beside the newer one */
	if (version > k->version)
		k->n = 0;
	k->version = version;
	while (i < k->n && k->servers[i] != cs->id)
		i++;
	if (i == REPLICAS_MAX)
		return;
	if (i == k->n)
		k->n++;
	k->servers[i] = cs->id;
	k->marks[i] = marks;
}

static struct kept *kept_find(struct master *m, uint64_t chunk)
{
	struct kept *k;

	HASH_FIND(hh, m->hold.kept, &chunk, sizeof(chunk), k);
	if (k || HASH_COUNT(m->hold.kept) >= KEPT_MAX)
		return k;
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->chunk = chunk;
	HASH_ADD(hh, m->hold.kept, chunk, sizeof(k->chunk), k);
	return k;
}

bool hold_report(struct master *m, struct cs *cs, const struct wire_have *have, uint8_t marks,
		 const struct row_chunk *row)
{
	bool member = false, newer, restored;
	struct kept *k;

	if (!m->hold.on)
		return false;
	for (unsigned i = 0; row && i < row->n_members; i++)
		member |= row->members[i].server == cs->id;
	newer = row && have->version > row->version;
	restored = row && (row->flags & CHUNK_RESTORED);
	/* A raise that runs here carries members to its own version. */
	if (row && row->pending_version && (!restored || raise_running(m, have->id)))
		return !member;
	if (row && !newer)
		return !member; /* an old replica: left alone */
	if (restored && (marks & MARK_DAMAGED))
		return true; /* not to be taken over */
	k = kept_find(m, have->id);
	if (!k) {
		m->hold.overflow = true;
		return true;
	}
	kept_set(k, cs, have->version, marks);
	if (restored && !k->adopt) {
		k->adopt = true;
		LL_PREPEND2(m->hold.due, k, next_due);
	}
	return true;
}

/* ---- taking over ---- */

static void kept_forget(struct master *m, struct kept *k)
{
	HASH_DEL(m->hold.kept, k);
	free(k);
}

static struct kept *kept_of(struct master *m, uint64_t chunk)
{
	struct kept *k;
	HASH_FIND(hh, m->hold.kept, &chunk, sizeof(chunk), k);
	return k;
}

struct adoption {
	struct master *m;
	struct cmd_chunk_adopt cmd;
	uint8_t marks[REPLICAS_MAX]; /* of its members */
};

static void adopted(struct master *m, void *arg, struct apply_result *result)
{
	_cleanup_free_ struct adoption *a = arg;
	struct kept *k = kept_of(m, a->cmd.chunk);

	m->hold.adopting--;
	if (!result || !k)
		return;
	if (result->status < 0) {
		/* It was changed meanwhile: what is newer stays where it is. */
		log_warn("chunk %016llx v%u is not taken over: %s",
			 (unsigned long long)a->cmd.chunk, a->cmd.version, result->text);
		k->adopt = k->proposed = false;
		return;
	}
	log_info("chunk %016llx: v%u taken over from %u servers", (unsigned long long)a->cmd.chunk,
		 a->cmd.version, a->cmd.n_members);
	for (unsigned i = 0; i < a->cmd.n_members; i++)
		csreg_mark(&m->servers, a->cmd.chunk, a->cmd.members[i].server, a->marks[i]);
	repair_now(m, a->cmd.chunk);
	kept_forget(m, k);
}

/* Good ones first: the first counts, the others are compared with it. A version says who took part
 * in a change, not who was confirmed: of two replicas of one version one may lack what followed. */
static void adoption_fill(struct adoption *a, const struct kept *k)
{
	for (int clean = 1; clean >= 0; clean--) {
		for (unsigned i = 0; i < k->n; i++) {
			struct cs *cs = csreg_find(&a->m->servers, k->servers[i]);
			unsigned at = a->cmd.n_members;
			if (!cs || !cs->peer || (k->marks[i] == 0) != clean)
				continue;
			a->marks[at] = at > 0 && !k->marks[i] ? MARK_UNCLEAN : k->marks[i];
			a->cmd.members[at].server = cs->id;
			a->cmd.n_members++;
		}
	}
}

static void adopt(struct master *m, struct kept *k)
{
	struct adoption *a = calloc(1, sizeof(*a));

	k->adopt = a != NULL;
	if (!a)
		return;
	a->m = m;
	a->cmd.chunk = k->chunk;
	a->cmd.version = k->version;
	adoption_fill(a, k);
	if (a->cmd.n_members == 0) {
		k->adopt = false; /* those who had it are gone; they will report again */
		free(a);
		return;
	}
	k->proposed = true;
	m->hold.adopting++;
	master_propose(m, CMD_NUMBER_CHUNK_ADOPT, &a->cmd, adopted, a);
}

/* ---- the start ---- */

/* Every server that is coming has come. */
static bool hold_all_here(struct master *m)
{
	struct cs *cs, *next;

	if (clock_ms() - m->servers.started_ms < m->servers.dead_ms ||
	    clock_ms() < m->hold.again_until_ms)
		return false;
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (csreg_expected(&m->servers, cs->id))
			return false;
	}
	return true;
}

/* There was more than can be remembered at once: every server comes back and tells of the rest.
 * What was adopted is not told of again. */
static void hold_ask_again(struct master *m)
{
	struct cs *cs, *next;

	m->hold.overflow = false;
	m->hold.again_until_ms = deadline_in(m->servers.dead_ms);
	HASH_ITER(hh, m->servers.by_id, cs, next) {
		if (cs->peer)
			peer_close(cs->peer, NULL);
	}
}

static void hold_open_now(struct master *m)
{
	m->hold.open = true;
	log_info("all servers that are here have reported; %u chunks are kept that this state does "
		 "not know", HASH_COUNT(m->hold.kept));
	if (raise_resume(m) < 0)
		log_error("reading the pending raises failed");
}

/* ---- the end ---- */

/* What one server has of the next kept chunks becomes garbage. */
static void release_server(struct master *m, const struct cs *cs)
{
	struct cmd_garbage cmd = {.server = cs->id,
				  .grace_s = (uint32_t)(m->o.garbage_grace_ms / 1000)};
	unsigned looked_at = 0;

	for (struct kept *k = m->hold.kept; k && looked_at < CMD_GARBAGE_MAX; k = k->hh.next) {
		looked_at++;
		for (unsigned i = 0; i < k->n; i++)
			if (k->servers[i] == cs->id)
				cmd.have[cmd.n_have++] =
					(struct wire_have){.id = k->chunk, .version = k->version};
	}
	if (cmd.n_have > 0)
		master_propose_quietly(m, CMD_NUMBER_GARBAGE, &cmd);
}

/* Those of chunks that the state knows stay where they are: see replica_stray in rpc_cs.c. */
static bool kept_unknown(struct master *m, const struct kept *k)
{
	_cleanup_buf_ struct buf backing = {0};
	struct key key = key_chunk(k->chunk);
	return state_get(m->st, key_slice(&key), &backing) == 0;
}

/* A part of what was kept, so that the loop is not held up. */
static void hold_release_some(struct master *m)
{
	struct cs *cs, *next;
	struct kept *k, *next_kept;
	unsigned n = 0;

	for (k = m->hold.kept; k && n < CMD_GARBAGE_MAX; k = next_kept) {
		next_kept = k->hh.next;
		if (kept_unknown(m, k))
			n++;
		else
			kept_forget(m, k);
	}
	HASH_ITER(hh, m->servers.by_id, cs, next)
		release_server(m, cs);
	for (n = 0; m->hold.kept && n < CMD_GARBAGE_MAX; n++)
		kept_forget(m, m->hold.kept);
}

void hold_changed(struct master *m)
{
	bool on = m->hold.on;

	if (hold_read(m, &on) < 0 || on == m->hold.on)
		return;
	m->hold.on = on;
	m->hold.open = true;
	m->hold.due = NULL;
	log_warn("hold is %s", on ? "on" : "off: what this state does not know will be deleted");
}

void hold_tick(struct master *m)
{
	if (!m->hold.on) {
		if (m->hold.kept && m->hold.adopting == 0)
			hold_release_some(m);
		return;
	}
	if (!m->hold.open && !hold_all_here(m))
		return;
	while (m->hold.due && m->hold.adopting < ADOPTING_MAX) {
		struct kept *k = m->hold.due;
		m->hold.due = k->next_due;
		k->next_due = NULL;
		adopt(m, k);
	}
	if (m->hold.open || m->hold.due || m->hold.adopting > 0)
		return;
	if (m->hold.overflow)
		hold_ask_again(m);
	else
		hold_open_now(m);
}
