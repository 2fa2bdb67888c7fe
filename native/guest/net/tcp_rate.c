/*
 * How fast data arrives at the peer (draft-cheng-iccrg-delivery-rate-estimation): whenever data
 * leaves, what had arrived by then is noted, and when that data arrives, the difference over the
 * time is a sample of the rate. What leaves within a small part of a round trip shares a note.
 */
#include "tcp.h"

static struct send_note *note_at(const struct tcp *t, uint32_t i) {
    return &t->sends->note[(t->sends->first + i) % SENDS_MAX];
}

/* New data, from `nxt` on, is about to leave. */
void tcp_rate_sent(struct tcp *t) {
    uint64_t now = net_now();
    if (t->una == t->nxt) t->first_sent_at = t->delivered_at = now;
    if (!t->sends && !(t->sends = object_alloc(sizeof *t->sends))) return;
    struct sends *all = t->sends;
    if (all->count && (all->count == SENDS_MAX || now - note_at(t, all->count - 1)->at < t->srtt / 24))
        return;
    *note_at(t, all->count++) = (struct send_note){.start = t->nxt,
                                                   .at = now,
                                                   .delivered = t->delivered,
                                                   .delivered_at = t->delivered_at,
                                                   .first_at = t->first_sent_at,
                                                   .app_limited = t->app_limited_until != 0};
}

/* The program gives too little to fill the path: what is measured until that has arrived says nothing. */
void tcp_rate_app_limited(struct tcp *t, uint64_t flight) {
    t->app_limited_until = max_u64(t->delivered + flight, 1);
}

/* `bytes` more have arrived, of what was sent last those just below `high`. False: no sample. */
bool tcp_rate_sample(struct tcp *t, uint64_t bytes, uint64_t high, struct rate_sample *sample) {
    uint64_t now = net_now();
    t->delivered += bytes;
    t->delivered_at = now;
    if (t->app_limited_until && t->delivered > t->app_limited_until) t->app_limited_until = 0;
    if (!t->sends) return false;
    uint32_t i = t->sends->count;
    while (i && note_at(t, i - 1)->start >= high) i--;
    if (!i) return false;
    const struct send_note *note = note_at(t, i - 1);
    *sample = (struct rate_sample){.prior_delivered = note->delivered,
                                   .delivered = t->delivered - note->delivered,
                                   .interval = max_u64(note->at - note->first_at, now - note->delivered_at),
                                   .round_trip = now - note->at,
                                   .app_limited = note->app_limited};
    t->first_sent_at = max_u64(t->first_sent_at, note->at);
    return true;
}

/* Notes of what is acknowledged are of no more use. */
void tcp_rate_forget(struct tcp *t) {
    struct sends *all = t->sends;
    if (!all) return;
    if (t->una == t->nxt) {
        object_free(all, sizeof *all);
        t->sends = NULL;
        return;
    }
    for (; all->count > 1 && note_at(t, 1)->start <= t->una; all->count--)
        all->first = (all->first + 1) % SENDS_MAX;
}
