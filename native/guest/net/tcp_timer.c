/* Time: retransmission (RFC 6298), tail loss probes, zero windows, delayed ACKs, keepalive, farewells. */
#include "tcp.h"

void tcp_arm(struct tcp *t) {
    uint64_t at = min_u64(min_u64(t->resend_at, t->ack_at), t->idle_at);
    deadline_set(&t->timer, min_u64(at, tcp_bbr_wakes_at(t)));
}

static uint64_t backed_off(const struct tcp *t, unsigned times) {
    return min_u64(t->rto << min_u64(times, 10), RTO_MAX);
}

/* RFC 6298, 5: from the last acknowledgement that brought something on, whatever else is heard. */
static uint64_t timeout_at(const struct tcp *t) {
    uint64_t since = t->state < TCP_ESTABLISHED ? t->sent_at : max_u64(t->unacked_since, t->resent_at);
    return since + backed_off(t, t->retries);
}

/* What is next if nothing is heard: a retransmission, or a probe of a window that keeps data back. */
void tcp_arm_resend(struct tcp *t) {
    if (t->una < t->nxt) {
        t->resend_at = timeout_at(t);
        bool probe = t->state >= TCP_ESTABLISHED && !t->recovery && !t->retries && !t->probe_sent && t->srtt;
        if (probe) {
            uint64_t sooner = max_u64(2 * t->srtt, 10 * MS);
            if (t->nxt - t->una <= t->mss) sooner += RTO_MIN; /* its ACK may be delayed */
            t->resend_at = min_u64(t->resend_at, max_u64(t->sent_at, t->heard_at) + sooner);
        }
        t->persisting = false;
    } else if (t->state >= TCP_ESTABLISHED && t->state != TCP_TIME_WAIT &&
               t->nxt < t->send.end + t->fin_queued) {
        if (!t->persisting) {
            t->persisting = true;
            t->resend_at = net_now() + (t->window ? CORK_DELAY : backed_off(t, t->probes));
        }
    } else {
        t->persisting = false;
        t->resend_at = NEVER;
    }
}

uint64_t tcp_idle_time(const struct tcp *t) {
    if (t->state == TCP_TIME_WAIT) return t->idle_at;
    if (t->orphaned && t->state == TCP_FIN_WAIT_2) return t->heard_at + TIME_WAIT_NS;
    const struct socket_options *o = t->socket ? &t->socket->options : NULL;
    if (!o || !o->keep_alive || t->state < TCP_ESTABLISHED) return NEVER;
    if (!t->keep_probes) return t->heard_at + o->keep_idle_s * NS_PER_SECOND;
    /* The next probe's time stands, also when it has come: moved on, it would never be sent. */
    return t->idle_at != NEVER ? t->idle_at : net_now() + o->keep_interval_s * NS_PER_SECOND;
}

/* An empty segment of a number already acknowledged: whoever is there must answer it. */
static void poke(struct tcp *t) { tcp_send_segment(t, t->una - 1, 0, TCP_ACK); }

static void resend_due(struct tcp *t, uint64_t now) {
    uint64_t limit =
        t->socket && t->socket->options.user_timeout_ms ? t->socket->options.user_timeout_ms * MS : NEVER;
    if (t->persisting) {
        if (t->window) {
            t->push_anyway = true;
        } else if (++t->retries > RETRIES_MAX || (limit != NEVER && now - t->heard_at > limit)) {
            tcp_close(t, ETIMEDOUT);
            return;
        } else {
            if (t->probes < 10) t->probes++; /* rarer and rarer while the peer only says that it is full */
            poke(t);
        }
        t->persisting = false;
        tcp_want_output(t);
        return;
    }
    bool synced = t->state >= TCP_ESTABLISHED;
    if (synced && !t->recovery && !t->retries && !t->probe_sent && t->srtt &&
        now < timeout_at(t)) { /* a tail loss probe (RFC 8985, 7) */
        t->probe_sent = true;
        uint64_t data_end = min_u64(t->nxt, t->send.end),
                 start = max_u64(t->una, data_end - min_u64(data_end - t->una, t->mss / 2));
        bool fin = t->nxt > t->send.end;
        if (start <= data_end && tcp_send_segment(t, start, data_end - start, TCP_ACK | (fin ? TCP_FIN : 0)))
            net->counters.retransmits++;
        t->rtt_seq = 0;
        t->sent_at = t->resent_at = now; /* its answer is given the time, too */
        tcp_want_output(t);
        return;
    }
    /* A peer that says again and again that it is full is alive: it took back what it had offered. */
    bool full = synced && !t->orphaned && !t->window && now - t->heard_at < 2 * RTO_MAX;
    if (full && t->retries >= RETRIES_MAX) t->retries--;
    if (++t->retries > (synced ? RETRIES_MAX : SYN_RETRIES) ||
        (limit != NEVER && now - t->unacked_since > limit)) {
        tcp_close(t, ETIMEDOUT);
        return;
    }
    net->counters.timeouts++;
    t->sent_at = t->resent_at = now;
    if (!synced) {
        t->nxt = t->iss; /* the SYN again */
        t->rtt_seq = 0;
        tcp_want_output(t);
        return;
    }
    tcp_lose(t, RECOVERY_TIMEOUT);
}

static void idle_due(struct tcp *t) {
    const struct socket_options *o = t->socket ? &t->socket->options : NULL;
    if (t->state == TCP_TIME_WAIT || (t->orphaned && t->state == TCP_FIN_WAIT_2)) {
        tcp_close(t, 0);
    } else if (o && o->keep_alive) {
        if (t->keep_probes >= o->keep_count) {
            tcp_abort(t, ETIMEDOUT);
            return;
        }
        t->keep_probes++;
        poke(t);
        t->idle_at = net_now() + o->keep_interval_s * NS_PER_SECOND;
    }
}

void tcp_fire(struct deadline *it) {
    struct tcp *t = (struct tcp *)((uint8_t *)it - offsetof(struct tcp, timer));
    uint64_t now = net_now();
    /* An acknowledgement may have come with the very time that makes this due: look again. */
    if (t->state != TCP_CLOSED && now >= t->resend_at) tcp_arm_resend(t);
    if (t->state != TCP_CLOSED && now >= t->resend_at) {
        t->resend_at = NEVER;
        resend_due(t, now);
    }
    if (t->state != TCP_CLOSED && now >= t->ack_at) {
        t->ack_at = NEVER;
        t->ack_now = true;
        tcp_want_output(t);
    }
    if (t->state != TCP_CLOSED && now >= tcp_bbr_wakes_at(t)) {
        t->bbr.waits = false;
        tcp_want_output(t);
    }
    if (t->state != TCP_CLOSED && t->state != TCP_TIME_WAIT) t->idle_at = tcp_idle_time(t);
    if (t->state != TCP_CLOSED && now >= t->idle_at) {
        t->idle_at = t->state == TCP_TIME_WAIT ? t->idle_at : NEVER;
        idle_due(t);
    }
    if (t->state == TCP_CLOSED)
        tcp_release(t);
    else
        tcp_arm(t);
}
