#include "master/cmd.h"

#include <assert.h>
#include <stdlib.h>

CMD_RECORDS(RECORD_DEFINE)
CMD_RECORDS(RECORD_UNTYPED)

struct cmd_row {
	uint16_t number;
	const char *name;
	struct record_codec codec;
};

#define CMD_X_ROW(number, NAME, record, reply) {number, #NAME, RECORD_CODEC(record)},
static const struct cmd_row cmd_rows[] = {CMD_TABLE(CMD_X_ROW)};

static const struct cmd_row *cmd_find(uint16_t number)
{
	for (size_t i = 0; i < sizeof(cmd_rows) / sizeof(cmd_rows[0]); i++)
		if (cmd_rows[i].number == number)
			return &cmd_rows[i];
	return NULL;
}

const char *cmd_name(uint16_t number)
{
	const struct cmd_row *row = cmd_find(number);
	return row ? row->name : "?";
}

int cmd_put(struct buf *b, uint16_t number, struct when time, const void *m)
{
	static const uint8_t zeros[8];
	const struct cmd_row *row = cmd_find(number);
	struct cmd_head head = {.time = time};
	size_t start = b->len, mark;

	assert(row);
	buf_le16(b, number);
	mark = record_open_nested(b);
	cmd_head_put(b, &head);
	record_close_nested(b, mark);
	mark = record_open_nested(b);
	row->codec.put(b, m);
	record_close_nested(b, mark);
	buf_append(b, zeros, (8 - (b->len - start) % 8) % 8);
	if (buf_status(b) < 0)
		return ERR_NOMEM;
	return b->len - start > COMMAND_BYTES_MAX ? ERR_LIMIT : 0;
}

int cmd_get(struct slice entry, uint16_t *ret_number, struct cmd_head *ret_head,
	    struct cursor *ret_body, struct err *err)
{
	struct cursor c = cursor_slice(entry), head;
	const uint8_t *p = cursor_take(&c, 2);

	if (!p || record_get_nested(&c, &head) < 0 || cmd_head_get(&head, ret_head) < 0 ||
	    record_get_nested(&c, ret_body) < 0)
		return err_set(err, ERR_CORRUPT, "log entry of %u bytes does not decode",
			       entry.len);
	*ret_number = get_le16(p);
	return 0;
}

void cmd_text(struct buf *b, struct slice entry)
{
	struct cmd_head head;
	struct cursor body;
	const struct cmd_row *row;
	uint16_t number;
	void *m;

	if (cmd_get(entry, &number, &head, &body, NULL) < 0) {
		buf_printf(b, "(does not decode)");
		return;
	}
	buf_printf(b, "%s", cmd_name(number));
	cmd_head_text(b, &head);
	row = cmd_find(number);
	m = row ? malloc(row->codec.bytes) : NULL;
	if (m && row->codec.get(&body, m) == 0)
		row->codec.text(b, m);
	else
		buf_printf(b, " (does not decode)");
	free(m);
}
