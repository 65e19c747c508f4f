/* Compares the replicas of every chunk of every file, as they lie on the disks.
 *
 *     replicas ADDR=DIR[,DIR...]...
 *
 * For each chunkserver its address and its disks. Nobody may be writing. Each member that the
 * master names must have the chunk at the very version, every block must match its checksum, and
 * all members must be the same. Prints "files N chunks N replicas N missing N damaged N differing N
 * strangers N" (strangers: chunk files that no file has at that place) and what is wrong; the exit
 * status is 0 when nothing is missing, damaged or differing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "chunkserver/chunk_file.h"
#include "client/cairn.h"
#include "common/cluster.h"
#include "common/log.h"

enum { SERVERS_MAX = 64, PATH_ROOM = 1024 };

static struct {
	char *addr;
	char *dirs[DISKS_MAX];
	unsigned n_dirs;
} servers[SERVERS_MAX];
static unsigned n_servers;

static struct cairn *fs;
static unsigned long files, chunks, replicas, missing, damaged, differing, on_disk;

static void add_server(char *arg)
{
	char *dirs = strchr(arg, '=');

	if (!dirs || n_servers == SERVERS_MAX)
		return;
	*dirs++ = '\0';
	servers[n_servers].addr = arg;
	for (char *dir = strtok(dirs, ","); dir; dir = strtok(NULL, ","))
		servers[n_servers].dirs[servers[n_servers].n_dirs++] = dir;
	n_servers++;
}

/* Opens a member's chunk file. */
static int open_replica(const char *addr, uint64_t id, uint32_t version, struct chunk_file *ret,
			struct err *err)
{
	char name[FORMAT_NAME_BYTES + 8], path[PATH_ROOM];
	int r = err_set(err, ERR_NO_CHUNK, "not on any disk of %s", addr);

	format_name_put(name, id, version);
	for (unsigned i = 0; i < n_servers; i++) {
		for (unsigned d = 0; strcmp(servers[i].addr, addr) == 0 && d < servers[i].n_dirs; d++) {
			snprintf(path, sizeof(path), "%s/chunks/%s", servers[i].dirs[d], name);
			r = chunk_file_open(&io_real, path, id, ret, err);
			if (r != ERR_NOENT)
				return r;
		}
	}
	return r;
}

struct content {
	uint64_t length;
	uint32_t digest;
};

/* False: told and counted. */
static bool look_at(const char *path, const struct cairn_chunk_info *chunk, unsigned member,
		    struct content *ret)
{
	const char *addr = chunk->replicas[member].addr;
	struct chunk_file f;
	struct err err = {0};
	uint32_t bad = 0;
	int r = open_replica(addr, chunk->id, chunk->version, &f, &err);

	if (r == 0) {
		r = chunk_file_verify(&f, &bad, &err);
		if (r == 0)
			r = chunk_file_length(&f, &ret->length, &err);
		if (r == 0)
			r = chunk_file_digest(&f, &ret->digest, &err);
		chunk_file_close(&f);
	}
	replicas++;
	if (r == 0 && bad == 0)
		return true;
	if (r == ERR_NOENT || r == ERR_NO_CHUNK)
		missing++;
	else
		damaged++;
	printf("%s: chunk %016" PRIx64 " v%" PRIu32 " on %s: %" PRIu32 " bad blocks: %s\n", path,
	       chunk->id, chunk->version, addr, bad, err_message(&err));
	return false;
}

static int on_chunk(void *arg, const struct cairn_chunk_info *chunk)
{
	struct content first = {0}, other = {0};
	const char *path = arg;
	bool have_first = false;

	if (!chunk->id || !chunk->written)
		return 0;
	chunks++;
	for (unsigned i = 0; i < chunk->n_replicas; i++) {
		if (!look_at(path, chunk, i, have_first ? &other : &first))
			continue;
		if (have_first && (first.length != other.length || first.digest != other.digest)) {
			differing++;
			printf("%s: chunk %016" PRIx64 " v%" PRIu32 " is not the same on %s and "
			       "%s: %" PRIu64 " and %" PRIu64 " bytes\n", path, chunk->id,
			       chunk->version, chunk->replicas[0].addr, chunk->replicas[i].addr,
			       first.length, other.length);
		}
		have_first = true;
	}
	return 0;
}

/* ---- the walk ---- */

struct dir {
	const char *path;
	int r;
};

static int walk(const char *path, uint64_t inode);

static int on_entry(void *arg, const char *name, uint64_t cookie, const struct cairn_attr *attr)
{
	struct dir *d = arg;
	char path[PATH_ROOM];

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", d->path, name);
	if (S_ISDIR(attr->mode)) {
		d->r = walk(path, attr->inode);
	} else if (S_ISREG(attr->mode)) {
		files++;
		d->r = cairn_chunks(fs, attr->inode, on_chunk, path);
	}
	if (d->r < 0)
		fprintf(stderr, "replicas: %s: %s\n", path, cairn_error());
	return d->r < 0;
}

static int walk(const char *path, uint64_t inode)
{
	struct dir d = {path, 0};
	int r = cairn_readdir(fs, NULL, inode, 0, on_entry, &d);
	return r < 0 ? r : d.r;
}

static int count_name(void *arg, const char *name)
{
	uint64_t chunk;
	uint32_t version;
	on_disk += format_name_get(name, &chunk, &version);
	return 0;
}

static void count_files(void)
{
	char path[PATH_ROOM];

	for (unsigned i = 0; i < n_servers; i++)
		for (unsigned d = 0; d < servers[i].n_dirs; d++)
			for (unsigned sub = 0; sub < 256; sub++) {
				snprintf(path, sizeof(path), "%s/chunks/%02x", servers[i].dirs[d],
					 sub);
				io_real.list(&io_real, path, count_name, NULL);
			}
}

int main(int argc, char **argv)
{
	struct cairn_options o = {.name = "replicas"};
	struct cluster cluster;
	struct err err = {0};
	char why[256] = "";
	int r;

	log_setup("replicas", LOG_WARN);
	for (int i = 1; i < argc; i++)
		add_server(argv[i]);
	if (n_servers == 0 || cluster_find("replicas", NULL, NULL, &cluster, &err) < 0) {
		fprintf(stderr, "usage: replicas ADDR=DIR[,DIR...]...: %s\n", err.text);
		return 2;
	}
	o.masters = cluster.masters;
	o.credentials = cluster.credentials;
	r = cairn_connect(&o, &fs, why, sizeof(why));
	cluster_release(&cluster);
	if (r < 0) {
		fprintf(stderr, "replicas: %s\n", why);
		return 2;
	}
	r = walk("", CAIRN_ROOT);
	cairn_disconnect(fs);
	count_files();
	printf("files %lu chunks %lu replicas %lu missing %lu damaged %lu differing %lu "
	       "strangers %ld\n", files, chunks, replicas, missing, damaged, differing,
	       (long)on_disk - (long)(replicas - missing));
	return r < 0 ? 2 : missing + damaged + differing > 0;
}
