#include "client/gone.h"

void gone_init(struct gone *g)
{
	*g = (struct gone){0};
	pthread_mutex_init(&g->lock, NULL);
}

void gone_release(struct gone *g)
{
	pthread_mutex_destroy(&g->lock);
}

void gone_put(struct gone *g, const struct wire_attr *attr)
{
	if (!attr->inode)
		return;
	pthread_mutex_lock(&g->lock);
	g->attrs[g->next++ % GONE_MAX] = *attr;
	pthread_mutex_unlock(&g->lock);
}

bool gone_get(struct gone *g, uint64_t inode, struct wire_attr *ret)
{
	bool found = false;

	pthread_mutex_lock(&g->lock);
	for (unsigned i = 0; i < GONE_MAX && !found; i++) {
		found = g->attrs[i].inode == inode;
		if (found)
			*ret = g->attrs[i];
	}
	pthread_mutex_unlock(&g->lock);
	return found;
}
