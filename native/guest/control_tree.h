/* A directory with all that is below it, as one answer to a control request (LS_CONTROL_TREE). */
#ifndef LOCKSTEP_GUEST_CONTROL_TREE_H
#define LOCKSTEP_GUEST_CONTROL_TREE_H

#include "file.h"

/* 0, or -ENAMETOOLONG: too deep. Nothing may change between the two. */
long tree_measure(struct inode *top, uint64_t *bytes);
void tree_send(struct inode *top);

#endif
