/* master/lease.c: rights, recalls, sessions that come and go. Times are made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka.h needs the four above first */
#include <cmocka.h>

#include "common/wire.h"
#include "master/lease.h"

enum { LEASE_MS = 5000, QUARANTINE_MS = 60000, A = 1, B = 2, C = 3, FILE_1 = 100, FILE_2 = 101 };

static struct lease_table l;

static void attach(uint64_t session, int64_t now)
{
	struct lease_session *s = lease_session_find(&l, session);

	lease_list_end(&l, s, now);
	lease_link(&l, s, true);
}

static int set_up(void **state)
{
	lease_init(&l, &(struct lease_options){LEASE_MS, QUARANTINE_MS, 1000}, 0);
	for (uint64_t s = A; s <= C; s++) {
		lease_session_add(&l, s, true, false, 0);
		attach(s, 0);
	}
	return 0;
}

static int tear_down(void **state)
{
	lease_free(&l);
	return 0;
}

/* The one batch that a session is sent, all answered with `flags`. Returns how many it asked. */
static unsigned answer(uint64_t session, uint8_t flags)
{
	struct lease_session *s = lease_session_find(&l, session);
	unsigned n = lease_batch(&l, s);
	uint8_t all[LEASES_PER_MESSAGE_MAX];

	for (unsigned i = 0; i < n; i++)
		all[i] = flags;
	lease_answered(&l, s, all, n);
	return n;
}

static void test_readers_share(void **state)
{
	assert_true(lease_read(&l, A, FILE_1, 1));
	assert_true(lease_read(&l, B, FILE_1, 1));
	assert_true(lease_read(&l, A, FILE_1, 2)); /* again: the same right */
	assert_int_equal(l.count, 2);
	assert_false(lease_read(&l, 0, FILE_1, 2));
	assert_false(lease_read(&l, 99, FILE_1, 2));
	assert_true(lease_blocked(&l, FILE_1, A));
	assert_false(lease_blocked(&l, FILE_2, A));
}

static void test_a_change_waits_for_the_recall(void **state)
{
	lease_read(&l, A, FILE_1, 1);
	lease_read(&l, B, FILE_1, 1);
	lease_busy(&l, FILE_1, false);
	assert_true(lease_recall(&l, FILE_1, A));
	assert_true(l.queued);
	/* Nobody gets it anew meanwhile, and it is asked for once. */
	assert_false(lease_read(&l, B, FILE_1, 2));
	assert_false(lease_read(&l, C, FILE_1, 2));
	assert_true(lease_recall(&l, FILE_1, A));
	assert_int_equal(lease_batch(&l, lease_session_find(&l, A)), 0); /* its own stays */
	assert_int_equal(answer(B, 0), 1);
	assert_true(l.changed);
	assert_false(lease_recall(&l, FILE_1, A));
	assert_true(lease_has(&l, A, FILE_1, LEASE_R));
	assert_false(lease_read(&l, B, FILE_1, 3)); /* still busy */
	lease_idle(&l, FILE_1, false);
	assert_true(lease_read(&l, B, FILE_1, 3));
}

/* Writers on several mounts, whose WROTEs overlap all the time, do not keep others from opening the
 * file: only what may take its last name does. */
static void test_an_open_waits_for_names_only(void **state)
{
	lease_busy(&l, FILE_1, false);
	assert_false(lease_is_naming(&l, FILE_1));
	lease_busy(&l, FILE_1, true); /* an unlink */
	assert_true(lease_is_naming(&l, FILE_1));
	lease_idle(&l, FILE_1, false);
	lease_busy(&l, FILE_1, false);
	assert_true(lease_is_naming(&l, FILE_1));
	l.changed = false;
	lease_idle(&l, FILE_1, true);
	assert_true(l.changed);
	assert_false(lease_is_naming(&l, FILE_1));
	assert_false(lease_read(&l, B, FILE_1, 1)); /* but what it knows of it may not be kept */
	lease_idle(&l, FILE_1, false);
	assert_true(lease_read(&l, B, FILE_1, 1));
}

/* As the fault point master.lease.recall does it: the master goes on as if there were nobody. */
static void test_a_recall_that_is_left_out(void **state)
{
	lease_read(&l, A, FILE_1, 1);
	lease_read(&l, B, FILE_1, 1);
	lease_recall_left_out(&l, FILE_1, A);
	assert_false(lease_blocked(&l, FILE_1, A));
	lease_write(&l, A, FILE_1);
	assert_true(lease_has(&l, A, FILE_1, LEASE_W));
	assert_false(lease_has(&l, B, FILE_1, LEASE_R));
	lease_recall_left_out(&l, FILE_2, A);
}

/* The session that changes an inode keeps R, but a reader of the change waits until it is recalled. */
static void test_a_reader_waits_for_who_is_behind(void **state)
{
	lease_changes(&l, A, FILE_1); /* without R it has nothing that could be old */
	assert_false(lease_behind(&l, FILE_1, B));
	lease_read(&l, A, FILE_1, 1);
	lease_read(&l, B, FILE_2, 1);
	lease_changes(&l, A, FILE_1);
	assert_true(lease_read(&l, A, FILE_1, 2)); /* more of the same: what it had stays */
	assert_false(lease_behind(&l, FILE_1, A));
	assert_false(lease_behind(&l, FILE_2, A));
	assert_false(l.queued); /* nobody has looked */
	assert_false(lease_read(&l, B, FILE_1, 2)); /* named in a listing: it is not waited for */
	assert_true(lease_behind(&l, FILE_1, B));
	assert_true(lease_behind(&l, FILE_1, 0)); /* one without a session too */
	assert_int_equal(answer(A, 0), 1);
	assert_true(l.changed);
	assert_false(lease_behind(&l, FILE_1, B));
	assert_true(lease_read(&l, A, FILE_1, 3)); /* got after the change */
	assert_false(lease_behind(&l, FILE_1, B));
}

static void test_who_is_behind_is_waited_for_no_longer_than_its_lease(void **state)
{
	lease_read(&l, A, FILE_1, 1);
	lease_changes(&l, A, FILE_1);
	assert_true(lease_behind(&l, FILE_1, B));
	for (int64_t now = 0; now <= LEASE_MS; now += 500)
		lease_tick(&l, now);
	assert_false(lease_behind(&l, FILE_1, B));
}

/* Not while a recall of it is unanswered, even if nobody waits for it any more. */
static void test_no_grant_over_a_recall(void **state)
{
	lease_read(&l, B, FILE_1, 1);
	lease_busy(&l, FILE_1, false);
	lease_recall(&l, FILE_1, A);
	lease_idle(&l, FILE_1, false); /* the request was given up */
	assert_false(lease_read(&l, B, FILE_1, 2));
	assert_int_equal(answer(B, 0), 1);
	assert_true(lease_read(&l, B, FILE_1, 3));
}

static void test_writer_keeps_readers_out(void **state)
{
	lease_read(&l, B, FILE_1, 1);
	assert_true(lease_recall(&l, FILE_1, A));
	answer(B, 0);
	lease_write(&l, A, FILE_1);
	lease_write(&l, C, FILE_1); /* writers share */
	assert_false(lease_read(&l, B, FILE_1, 1000));
	assert_false(lease_read(&l, A, FILE_1, 1000)); /* not the only writer */
	/* Both were asked whether they still write. */
	assert_int_equal(answer(A, RECALLED_WRITING), 1);
	assert_int_equal(answer(C, 0), 1);
	assert_true(lease_read(&l, A, FILE_1, 1001)); /* the only one now */
	assert_false(lease_read(&l, B, FILE_1, 1002));
	assert_int_equal(answer(A, 0), 0); /* asked a moment ago */
	assert_false(lease_read(&l, B, FILE_1, 2000));
	assert_int_equal(answer(A, 0), 1);
	assert_true(lease_read(&l, B, FILE_1, 2001));
}

/* The client gives W up and asks for it anew; the request overtakes the answer. */
static void test_asked_again_before_it_was_given_up(void **state)
{
	lease_write(&l, A, FILE_1);
	assert_false(lease_read(&l, B, FILE_1, 1000));
	assert_int_equal(lease_batch(&l, lease_session_find(&l, A)), 1);
	lease_write(&l, A, FILE_1);
	lease_answered(&l, lease_session_find(&l, A), (uint8_t[]){0}, 1);
	assert_true(lease_has(&l, A, FILE_1, LEASE_W));
	assert_false(lease_read(&l, B, FILE_1, 2000));
	assert_int_equal(answer(A, 0), 1);
	assert_true(lease_read(&l, B, FILE_1, 2001));
}

/* A sole writer holds writes back; whoever asks waits until it has flushed. */
static void test_buffering_keeps_everybody_out(void **state)
{
	assert_false(lease_buffer(&l, A, FILE_1, 1)); /* without W */
	lease_write(&l, A, FILE_1);
	assert_true(lease_buffer(&l, A, FILE_1, 1));
	assert_true(lease_read(&l, A, FILE_1, 1)); /* its own */
	assert_false(lease_read(&l, B, FILE_1, 1));
	assert_true(lease_is_buffered(&l, FILE_1, B));
	assert_true(lease_is_buffered(&l, FILE_1, 0)); /* who has no session waits too */
	assert_false(lease_is_buffered(&l, FILE_1, A));
	assert_true(lease_blocked(&l, FILE_1, B)); /* so do changes */
	assert_true(lease_recall_buffer(&l, FILE_1, B));
	assert_int_equal(answer(A, RECALLED_FLUSHING | RECALLED_WRITING), 1);
	assert_true(lease_is_buffered(&l, FILE_1, B));
	/* It is not asked again, and not granted anew, before it has returned it. */
	assert_true(lease_recall_buffer(&l, FILE_1, B));
	assert_int_equal(answer(A, 0), 0);
	assert_false(lease_buffer(&l, A, FILE_1, 2));
	l.changed = false;
	lease_returned(&l, A, FILE_1);
	assert_true(l.changed); /* those who wait are looked at */
	assert_false(lease_is_buffered(&l, FILE_1, B));
	assert_true(lease_has(&l, A, FILE_1, LEASE_W));
	assert_true(lease_buffer(&l, A, FILE_1, 3));
}

static void test_buffering_that_holds_nothing_is_given_up_at_once(void **state)
{
	lease_write(&l, A, FILE_1);
	assert_true(lease_buffer(&l, A, FILE_1, 1));
	assert_true(lease_recall(&l, FILE_1, B));
	assert_int_equal(answer(A, 0), 1);
	assert_false(lease_recall(&l, FILE_1, B));
	/* Only with nobody else writing, and no change on its way. */
	lease_write(&l, B, FILE_1);
	assert_false(lease_buffer(&l, A, FILE_1, 500));
	assert_int_equal(answer(B, 0), 1); /* which was asked to stop */
	lease_busy(&l, FILE_1, false);
	assert_false(lease_buffer(&l, A, FILE_1, 501));
	lease_idle(&l, FILE_1, false);
	assert_true(lease_buffer(&l, A, FILE_1, 502));
}

static void test_buffering_ends_with_the_lease(void **state)
{
	struct lease_session *s = lease_session_find(&l, A);

	lease_write(&l, A, FILE_1);
	lease_write(&l, A, FILE_2);
	assert_true(lease_buffer(&l, A, FILE_1, 1));
	assert_true(lease_buffer(&l, A, FILE_2, 1));
	for (int64_t now = 500; now <= LEASE_MS; now += 500)
		lease_tick(&l, now);
	assert_false(lease_is_buffered(&l, FILE_1, B));
	assert_false(lease_buffer(&l, A, FILE_1, LEASE_MS + 2));
	/* It comes back, and lists what it still holds; of one of them another client writes now. */
	lease_write(&l, B, FILE_2);
	lease_list_begin(s);
	lease_list(&l, s, FILE_1, LEASE_W | LEASE_B);
	lease_list(&l, s, FILE_2, LEASE_W | LEASE_B);
	lease_list_end(&l, s, LEASE_MS + 10);
	assert_true(lease_is_buffered(&l, FILE_1, B));
	assert_false(lease_is_buffered(&l, FILE_2, B));
	lease_returned(&l, A, FILE_1);
	assert_false(lease_is_buffered(&l, FILE_1, B));
}

/* A link that breaks between a recall's answer and the return: asked again on the next one. */
static void test_buffering_is_recalled_again_on_a_new_link(void **state)
{
	struct lease_session *s = lease_session_find(&l, A);

	lease_write(&l, A, FILE_1);
	assert_true(lease_buffer(&l, A, FILE_1, 1));
	lease_recall_buffer(&l, FILE_1, B);
	assert_int_equal(answer(A, RECALLED_FLUSHING), 1);
	lease_link(&l, s, false);
	lease_link(&l, s, true);
	assert_int_equal(answer(A, 0), 1);
	assert_false(lease_is_buffered(&l, FILE_1, B));
}

static void test_open_is_told_by_the_answer(void **state)
{
	uint64_t holders[4];

	lease_read(&l, A, FILE_1, 1);
	lease_read(&l, B, FILE_1, 1);
	lease_opened(&l, C, FILE_1);
	lease_recall(&l, FILE_1, C);
	answer(A, RECALLED_OPEN);
	answer(B, 0);
	assert_int_equal(lease_holders(&l, FILE_1, C, holders, 4), 1);
	assert_int_equal(holders[0], A);
	assert_int_equal(lease_holders(&l, FILE_1, B, holders, 4), 2);
	assert_int_equal(lease_holders(&l, FILE_1, B, holders, 1), 1);
	lease_closed(&l, A, FILE_1);
	assert_int_equal(lease_holders(&l, FILE_1, C, holders, 4), 0);
}

static void test_unanswered_recall_ends_with_the_lease(void **state)
{
	struct lease_session *b = lease_session_find(&l, B);
	uint64_t holders[4];

	lease_read(&l, B, FILE_1, 1);
	lease_write(&l, B, FILE_2);
	assert_true(lease_recall(&l, FILE_1, A));
	assert_int_equal(lease_batch(&l, b), 1);
	for (int64_t now = 100; now < LEASE_MS; now += 100) {
		lease_tick(&l, now);
		assert_true(lease_blocked(&l, FILE_1, A));
		lease_renew(&l, lease_session_find(&l, A), now);
	}
	l.changed = false;
	lease_tick(&l, LEASE_MS);
	assert_true(l.changed);
	assert_false(lease_blocked(&l, FILE_1, A));
	/* It may have the file open, it may still be sending data to the other one. */
	assert_int_equal(lease_holders(&l, FILE_1, A, holders, 4), 1);
	assert_false(lease_read(&l, A, FILE_2, LEASE_MS + 1));
	assert_false(lease_read(&l, A, FILE_2, LEASE_MS + QUARANTINE_MS - 1));
	/* What it says later comes too late, until it begins anew. */
	assert_false(lease_renew(&l, b, LEASE_MS + 1));
	assert_false(lease_read(&l, B, FILE_1, LEASE_MS + 1));
	lease_answered(&l, b, (uint8_t[]){0}, 1);
	lease_list(&l, b, FILE_1, LEASE_O);
	attach(B, LEASE_MS + 2);
	assert_true(lease_read(&l, B, FILE_1, LEASE_MS + 3));
	assert_int_equal(lease_holders(&l, FILE_1, A, holders, 4), 1);
}

static void test_quarantine_ends(void **state)
{
	lease_write(&l, B, FILE_1);
	lease_session_end(&l, B, false, 10);
	for (int64_t now = 100; now < QUARANTINE_MS; now += 100) {
		lease_tick(&l, now);
		lease_renew(&l, lease_session_find(&l, A), now);
		if (now == 20000)
			assert_false(lease_read(&l, A, FILE_1, now));
	}
	lease_tick(&l, QUARANTINE_MS + 10);
	lease_renew(&l, lease_session_find(&l, A), QUARANTINE_MS + 10);
	assert_true(lease_read(&l, A, FILE_1, QUARANTINE_MS + 10));
}

static void test_clean_end_needs_no_quarantine(void **state)
{
	lease_write(&l, B, FILE_1);
	lease_session_end(&l, B, true, 10);
	assert_true(lease_read(&l, A, FILE_1, 11));
	assert_int_equal(l.links, 2);
}

static void test_new_link_gets_the_recalls_again(void **state)
{
	struct lease_session *b = lease_session_find(&l, B);

	lease_read(&l, B, FILE_1, 1);
	lease_read(&l, B, FILE_2, 1);
	lease_recall(&l, FILE_1, A);
	assert_int_equal(lease_batch(&l, b), 1);
	lease_recall(&l, FILE_2, A);
	assert_int_equal(lease_batch(&l, b), 0); /* one batch at a time */
	lease_link(&l, b, false);
	assert_int_equal(l.links, 2);
	assert_false(lease_read(&l, B, 102, 2)); /* it could not be recalled now */
	assert_int_equal(lease_batch(&l, b), 0);
	lease_link(&l, b, true);
	assert_true(lease_renew(&l, b, 3));
	assert_int_equal(answer(B, 0), 2);
	assert_false(lease_blocked(&l, FILE_1, A));
	assert_false(lease_blocked(&l, FILE_2, A));
}

/* Pings of a session that answers no recall do not keep its lease. */
static void test_pings_alone_are_not_enough(void **state)
{
	struct lease_session *b = lease_session_find(&l, B);
	int64_t now, renewed = 0;

	lease_read(&l, B, FILE_1, 1);
	lease_recall(&l, FILE_1, A);
	assert_int_equal(lease_batch(&l, b), 1);
	for (now = 100; lease_blocked(&l, FILE_1, A) && now < 10 * LEASE_MS; now += 100) {
		if (lease_renew(&l, b, now))
			renewed = now;
		lease_tick(&l, now);
	}
	/* Not before what it was told last has ended, and not long after. */
	assert_true(now >= renewed + LEASE_MS);
	assert_true(now <= 2 * LEASE_MS + 500);
	attach(B, now);
	assert_true(lease_renew(&l, b, now + 1));
}

/* Requests of other connections overtake the list: what they were granted stays, though it is not named. */
static void test_granted_while_it_lists(void **state)
{
	struct lease_session *b = lease_session_find(&l, B);

	lease_opened(&l, B, FILE_2);
	for (int64_t now = 0; now <= LEASE_MS; now += 100)
		lease_tick(&l, now);
	assert_false(lease_renew(&l, b, LEASE_MS + 1));
	lease_list_begin(b);
	lease_opened(&l, B, FILE_1);
	lease_write(&l, B, FILE_1);
	attach(B, LEASE_MS + 2);
	assert_true(lease_has(&l, B, FILE_1, LEASE_O));
	assert_true(lease_has(&l, B, FILE_1, LEASE_W));
	assert_false(lease_has(&l, B, FILE_2, LEASE_O));
	/* The next list tells all. */
	lease_list_begin(b);
	attach(B, LEASE_MS + 3);
	assert_false(lease_has(&l, B, FILE_1, LEASE_O));
}

static void test_restart_waits_for_all(void **state)
{
	tear_down(NULL);
	lease_init(&l, &(struct lease_options){LEASE_MS, QUARANTINE_MS, 1000}, 0);
	lease_session_add(&l, A, true, true, 0);
	lease_session_add(&l, B, true, true, 0);
	lease_session_add(&l, C, false, true, 0); /* has no link: is not waited for */
	assert_false(lease_open(&l));
	lease_list(&l, lease_session_find(&l, A), FILE_1, LEASE_W);
	attach(A, 10);
	assert_false(lease_open(&l));
	assert_false(lease_read(&l, A, FILE_2, 11));
	attach(B, 20);
	assert_true(lease_open(&l));
	/* C may be writing: nothing is cached until it has said good-bye, or for long. */
	assert_false(lease_read(&l, A, FILE_2, 21));
	lease_session_end(&l, C, true, 30);
	assert_true(lease_read(&l, A, FILE_2, 31));
	assert_false(lease_read(&l, B, FILE_1, 31)); /* A writes */
}

static void test_restart_without_some(void **state)
{
	tear_down(NULL);
	lease_init(&l, &(struct lease_options){LEASE_MS, QUARANTINE_MS, 1000}, 0);
	lease_session_add(&l, A, true, true, 0);
	lease_session_add(&l, B, true, true, 0);
	attach(A, 10);
	for (int64_t now = 100; now < LEASE_MS; now += 100)
		lease_tick(&l, now);
	assert_false(lease_open(&l));
	lease_renew(&l, lease_session_find(&l, A), LEASE_MS - 1);
	lease_tick(&l, LEASE_MS);
	assert_true(lease_open(&l));
	assert_false(lease_read(&l, A, FILE_1, LEASE_MS + 1));
	/* It comes after all: its writes are known now. */
	lease_list(&l, lease_session_find(&l, B), FILE_2, LEASE_W);
	attach(B, LEASE_MS + 2);
	assert_true(lease_read(&l, A, FILE_1, LEASE_MS + 3));
	assert_false(lease_read(&l, A, FILE_2, LEASE_MS + 3));
}

/* A process that was stopped has not looked at what its clients sent meanwhile. */
static void test_stopped_master_ends_no_lease(void **state)
{
	lease_read(&l, B, FILE_1, 1);
	lease_tick(&l, 100);
	lease_tick(&l, 20000);
	assert_true(lease_has(&l, B, FILE_1, LEASE_R));
	assert_true(lease_renew(&l, lease_session_find(&l, B), 20001));
}

static void test_full_table_recalls_the_oldest(void **state)
{
	l.o.max = 10;
	for (uint64_t i = 0; i < 10; i++)
		assert_true(lease_read(&l, A, 200 + i, 1));
	assert_true(lease_read(&l, A, 200, 1)); /* used again: the youngest now */
	assert_true(lease_read(&l, A, 300, 1));
	assert_int_equal(answer(A, 0), 1);
	assert_int_equal(l.count, 10);
	assert_false(lease_has(&l, A, 201, LEASE_R));
	assert_true(lease_has(&l, A, 200, LEASE_R));
}

/* ---- at random: what clients believe, against what the master allows ---- */

enum { SESSIONS = 4, FILES = 5, STEPS = 20000, VERSIONS = 64 };

struct client {
	bool knows[FILES];
	int64_t until_ms;
	bool writes[FILES];
};

static struct client clients[SESSIONS + 1];
static uint64_t draw_state;

static unsigned draw(unsigned below)
{
	draw_state ^= draw_state << 13;
	draw_state ^= draw_state >> 7;
	draw_state ^= draw_state << 17;
	return (unsigned)(draw_state % below);
}

static void believes_step(int64_t now)
{
	uint64_t s = 1 + draw(SESSIONS), f = draw(FILES);
	struct lease_session *ls = lease_session_find(&l, s);
	struct client *c = &clients[s];
	uint8_t flags[LEASES_PER_MESSAGE_MAX] = {0};
	unsigned n;

	switch (draw(8)) {
	case 0: case 1:
		if (now < c->until_ms && lease_read(&l, s, f, now))
			c->knows[f] = true;
		break;
	case 2: /* a change, proposed and applied at once when nobody is in the way */
		if (!lease_recall(&l, f, s)) {
			for (unsigned o = 1; o <= SESSIONS; o++)
				assert_false(o != s && clients[o].knows[f] &&
					     now < clients[o].until_ms);
		}
		break;
	case 3:
		if (!lease_recall(&l, f, s)) {
			lease_write(&l, s, f);
			c->writes[f] = true;
		}
		break;
	case 4: case 5: /* a recall comes and is answered */
		n = lease_batch(&l, ls);
		for (unsigned i = 0; i < n; i++) {
			uint64_t file = ls->batch[i];
			if (ls->batch_what[i] & RECALL_READ)
				c->knows[file] = false;
			if ((ls->batch_what[i] & RECALL_WRITE) && draw(2))
				c->writes[file] = false;
			flags[i] = c->writes[file] ? RECALLED_WRITING : 0;
		}
		lease_answered(&l, ls, flags, n);
		break;
	case 6: /* a ping, sent some time ago; or an attach, when it was too late */
		if (lease_renew(&l, ls, now)) {
			c->until_ms = now - draw(50) + LEASE_MS;
		} else {
			*c = (struct client){0};
			attach(s, now);
			c->until_ms = now - draw(50) + LEASE_MS;
		}
		break;
	case 7:
		lease_link(&l, ls, draw(4) != 0);
		break;
	}
}

static void test_random_histories(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		int64_t now = 0;
		tear_down(NULL);
		draw_state = seed * 0x9e3779b97f4a7c15ull;
		memset(clients, 0, sizeof(clients));
		lease_init(&l, &(struct lease_options){LEASE_MS, QUARANTINE_MS, 12}, 0);
		for (uint64_t s = 1; s <= SESSIONS; s++)
			lease_session_add(&l, s, true, false, 0);
		for (unsigned step = 0; step < STEPS; step++) {
			now += draw(seed % 2 ? 20 : 900);
			if (draw(4) == 0)
				lease_tick(&l, now);
			believes_step(now);
			/* Invariant 1, for what clients believe. */
			for (unsigned f = 0; f < FILES; f++) {
				unsigned readers = 0, writer = 0;
				for (unsigned s = 1; s <= SESSIONS; s++) {
					bool knows = clients[s].knows[f] &&
						     now < clients[s].until_ms;
					readers += knows;
					if (lease_has(&l, s, f, LEASE_W))
						writer = s;
				}
				if (writer && readers)
					assert_true(readers == 1 && clients[writer].knows[f]);
			}
		}
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_readers_share),
		TEST(test_a_change_waits_for_the_recall),
		TEST(test_an_open_waits_for_names_only),
		TEST(test_a_recall_that_is_left_out),
		TEST(test_a_reader_waits_for_who_is_behind),
		TEST(test_who_is_behind_is_waited_for_no_longer_than_its_lease),
		TEST(test_no_grant_over_a_recall),
		TEST(test_writer_keeps_readers_out),
		TEST(test_asked_again_before_it_was_given_up),
		TEST(test_buffering_keeps_everybody_out),
		TEST(test_buffering_that_holds_nothing_is_given_up_at_once),
		TEST(test_buffering_ends_with_the_lease),
		TEST(test_buffering_is_recalled_again_on_a_new_link),
		TEST(test_open_is_told_by_the_answer),
		TEST(test_unanswered_recall_ends_with_the_lease),
		TEST(test_quarantine_ends),
		TEST(test_clean_end_needs_no_quarantine),
		TEST(test_new_link_gets_the_recalls_again),
		TEST(test_pings_alone_are_not_enough),
		TEST(test_granted_while_it_lists),
		TEST(test_restart_waits_for_all),
		TEST(test_restart_without_some),
		TEST(test_stopped_master_ends_no_lease),
		TEST(test_full_table_recalls_the_oldest),
		TEST(test_random_histories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
