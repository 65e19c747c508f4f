#include "master/ns.h"

#include <sys/stat.h>

#include "common/cleanup.h"
#include "master/acl.h"

int ns_inode(struct state *st, uint64_t inode, struct row_inode *ret, struct buf *backing)
{
	int r = state_get_row_inode(st, key_inode(inode), ret, backing);
	return r < 0 ? r : r ? 0 : ERR_NOENT;
}

void ns_attr(uint64_t inode, const struct row_inode *row, struct wire_attr *ret)
{
	*ret = (struct wire_attr){
		.inode = inode, .mode = row->mode, .nlink = row->nlink, .uid = row->uid,
		.gid = row->gid, .rdev = row->rdev, .size = row->size, .atime = row->atime,
		.mtime = row->mtime, .ctime = row->ctime, .btime = row->btime,
		.change = row->change, .parent = row->parent, .project = row->project,
		.policy = row->policy, .chunk_bits = row->chunk_bits, .bare = row->bare,
	};
	ret->blocks = row->blocks * (BLOCK_BYTES / 512);
}

uint32_t ns_space_blocks(const struct row_file_chunk *ref)
{
	uint32_t n = ref->solid;

	for (uint32_t i = 0; i < ref->map.len; i++)
		n += (uint32_t)__builtin_popcount(ref->map.data[i]);
	return n;
}

int ns_name_check(struct slice name)
{
	if (name.len == 0)
		return ERR_NOENT;
	if (name.len > NAME_BYTES_MAX)
		return ERR_NAMETOOLONG;
	if (memchr(name.data, '/', name.len) || memchr(name.data, '\0', name.len) ||
	    slice_eq(name, SLICE_LIT(".")) || slice_eq(name, SLICE_LIT("..")))
		return ERR_INVAL;
	return 0;
}

uint32_t ns_drop_set_id(uint32_t mode)
{
	if (S_ISDIR(mode))
		return mode;
	/* Set-group-id without execution by the group means something else. */
	return mode & ~(uint32_t)(mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID);
}

int ns_xattr_name_check(struct slice name)
{
	static const char *const prefixes[] = {"user.", "trusted.", "security."};

	if (name.len == 0 || name.len > XATTR_NAME_BYTES_MAX)
		return ERR_RANGE;
	if (memchr(name.data, '\0', name.len))
		return ERR_INVAL;
	if (slice_eq(name, ACL_ACCESS) || slice_eq(name, ACL_DEFAULT))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (slice_starts(name, slice_str(prefixes[i])))
			return name.len > strlen(prefixes[i]) ? 0 : ERR_INVAL;
	return ERR_NOTSUP;
}

int ns_acl(struct state *st, uint64_t inode, struct slice name, struct acl *ret)
{
	_cleanup_buf_ struct buf value = {0};
	struct key key = key_xattr(inode, name);
	int r = state_get(st, key_slice(&key), &value);

	*ret = (struct acl){0};
	if (r <= 0)
		return r;
	r = acl_decode(buf_slice(&value), ret);
	if (r < 0 || ret->n == 0)
		return r == ERR_NOMEM ? r : ERR_CORRUPT; /* it was valid when it was stored */
	return 1;
}

int ns_slot_find(struct state *st, const struct row_meta *meta, uint64_t parent,
		 struct slice name, struct ns_slot *ret)
{
	uint64_t hash;
	int r;

	*ret = (struct ns_slot){.at = -1};
	if (meta->hash_key.len != HASH_KEY_BYTES)
		return ERR_CORRUPT;
	r = schema_name_hash(meta->hash_key.data, name, &hash);
	if (r < 0)
		return r;
	ret->key = key_dentry(parent, hash);
	r = state_get_row_dentries(st, ret->key, &ret->row, &ret->backing);
	if (r < 0) {
		ns_slot_release(ret);
		return r;
	}
	for (int i = 0; i < ret->row.n_entries; i++)
		if (slice_eq(ret->row.entries[i].name, name))
			ret->at = i;
	return 0;
}

void ns_slot_release(struct ns_slot *slot)
{
	buf_release(&slot->backing);
}

int ns_meta(struct state *st, struct row_meta *ret, struct buf *backing)
{
	int r = state_get_row_meta(st, key_meta(), ret, backing);
	return r < 0 ? r : r ? 0 : ERR_NOENT;
}

int ns_dir_empty(struct state *st, uint64_t inode)
{
	struct key prefix = key_prefix(key_dentry(inode, 0), 9);
	struct state_iter *it;
	struct slice key, value;
	int r = state_iter_open(st, key_slice(&prefix), (struct slice){0}, &it);

	if (r < 0)
		return r;
	r = state_iter_next(it, &key, &value);
	state_iter_close(it);
	return r < 0 ? r : r == 0;
}

void ns_chunk(uint64_t chunk, uint64_t index, const struct row_chunk *row, struct wire_chunk *ret)
{
	*ret = (struct wire_chunk){.index = index, .id = chunk, .version = row->version,
				   .flags = row->flags & CHUNK_WRITTEN,
				   .n_replicas = row->n_members,
				   .settled = row->settled};
	for (unsigned i = 0; i < row->n_members; i++) {
		ret->replicas[i].server = row->members[i].server;
		ret->replicas[i].part = row->members[i].part;
	}
}
