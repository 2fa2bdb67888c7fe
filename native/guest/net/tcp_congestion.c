/* Which of the two decides how much may be out: BBR on paths through the card, CUBIC elsewhere. */
#include "tcp.h"

void tcp_congestion_start(struct tcp *t) {
    if (t->use_bbr)
        tcp_bbr_start(t);
    else
        tcp_cubic_start(t);
}

/* Called before `recovery` says so. */
void tcp_congestion_lose(struct tcp *t, bool timeout) {
    if (t->use_bbr) {
        tcp_bbr_lose(t, timeout);
        return;
    }
    if (!t->recovery) tcp_cubic_save(t);
    if (!timeout || t->retries <= 1 || t->recovery != RECOVERY_TIMEOUT) tcp_cubic_reduce(t);
    t->cwnd = timeout ? t->mss : t->ssthresh;
}

void tcp_congestion_recovered(struct tcp *t) {
    if (t->use_bbr)
        tcp_bbr_recovered(t);
    else if (t->recovery == RECOVERY_FAST)
        t->cwnd = t->ssthresh;
}

/* Nothing was lost after all. */
void tcp_congestion_undo(struct tcp *t) {
    if (t->use_bbr)
        tcp_bbr_recovered(t);
    else
        tcp_cubic_undo(t);
}
