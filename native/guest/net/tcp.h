/*
 * One TCP connection. Sequence numbers are 64-bit inside and never wrap: their low 32 bits are
 * what the wire carries, and sequence_near() finds the whole number again. A byte's sequence
 * number is also its position in the send or receive buffer.
 */
#ifndef LOCKSTEP_GUEST_NET_TCP_H
#define LOCKSTEP_GUEST_NET_TCP_H

#include "stack.h"

/* Nothing is looked up through a table at run time: the kernel is one piece. */
#pragma GCC visibility push(hidden)

enum tcp_state { /* in this order: comparisons are used */
                 TCP_CLOSED,
                 TCP_SYN_SENT,
                 TCP_SYN_RECEIVED, /* simultaneous open only; a listener's handshakes are struct tcp_request
                                    */
                 TCP_ESTABLISHED,
                 TCP_CLOSE_WAIT,
                 TCP_FIN_WAIT_1,
                 TCP_FIN_WAIT_2,
                 TCP_CLOSING,
                 TCP_LAST_ACK,
                 TCP_TIME_WAIT
};
enum tcp_recovery { RECOVERY_NONE, RECOVERY_FAST, RECOVERY_TIMEOUT };

struct segment { /* one that arrived */
    struct endpoint from, to;
    uint32_t sequence, acknowledgement, window;
    uint64_t start; /* of the data; the sequence number near what is expected */
    const uint8_t *data;
    size_t bytes;
    uint8_t flags;
    bool has_timestamp, sack_permitted;
    int8_t scale; /* -1: none */
    uint16_t max_segment;
    uint32_t ts_value, ts_echo;
    unsigned sacks;
    uint32_t sack[4][2];
};

#define RESENT_MAX 85u /* a struct resent is 2 KiB */
struct resent_range {
    uint64_t start, end, edge; /* edge: what was sent new from here on was sent after it */
};
struct resent {
    uint64_t count;
    struct resent_range range[RESENT_MAX]; /* sorted, disjoint */
};

#define SENDS_MAX 42u /* a struct sends is 2 KiB */
struct send_note {    /* of data that left together, and how it stood then */
    uint64_t start, at, delivered, delivered_at, first_at;
    bool app_limited;
};
struct sends {
    uint32_t first, count;
    struct send_note note[SENDS_MAX];
};
struct rate_sample {
    uint64_t prior_delivered, delivered, interval, round_trip;
    bool app_limited;
};

enum bbr_mode { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_BANDWIDTH, BBR_PROBE_ROUND_TRIP }; /* compared */
#define BBR_ROUNDS 10u
#define BBR_PHASES 8u
struct bbr {
    uint8_t mode, phase, flat_rounds;
    bool filled, conserve, was_idle, probed_round, waits;
    uint32_t round, prior_cwnd;
    uint64_t most[BBR_ROUNDS]; /* bandwidth, of each of the last round trips */
    uint64_t filled_at, round_ends, round_trip, round_trip_at, phase_since, probe_ends;
    uint64_t pace, next_at; /* bytes a second; when the next segment is due */
};

struct tcp {
    struct tcp *hash_next;
    struct tcp *output_next, *queue_next, **queue_link; /* accept queue, or TIME_WAIT, or orphans */
    struct socket *socket;                              /* NULL: not accepted yet, or already closed */
    struct tcp_listener *listener;                      /* until it is accepted */
    struct deadline timer;
    struct endpoint local, remote;
    uint8_t state, recovery, send_scale, receive_scale, retries, probes,
        reorder; /* reorder: duplicate ACKs */
    bool in_output, ack_now, fin_queued, fin_received, sack_ok, timestamps_ok, nagle_off, corked;
    bool push_anyway, probe_sent, cwnd_limited, receive_shut, user_receive, persisting, orphaned;
    uint8_t unacked_segments, keep_probes, dup_segments;

    /* sending */
    struct buffer send;
    uint64_t iss, una, nxt, recover, small_end;
    uint64_t window_seq, window_ack; /* of the segment that set the window last */
    uint32_t window, max_window, mss, cwnd, ssthresh;
    uint32_t cubic_top, cubic_top_ms, cubic_prior, cubic_reno;
    uint64_t cubic_since; /* ns; 0: the next ACK begins a curve */
    uint32_t undo_cwnd, undo_ssthresh, undo_top, first_rexmit_ts, ts_offset;
    bool undo_possible;
    struct ranges *sacked;
    struct resent *resent;                       /* of what is lost */
    uint64_t rtt_seq, rtt_at, srtt, rttvar, rto; /* ns */
    struct sends *sends;                         /* while something is out */
    uint64_t delivered, delivered_at, first_sent_at, app_limited_until;
    bool use_bbr;
    struct bbr bbr;

    /* receiving */
    struct buffer receive; /* its end is what we expect next, but for a FIN */
    struct ranges *early;  /* arrived out of order */
    uint64_t rcv_nxt, rcv_edge, last_ack_sent, latest_early;
    uint64_t duplicate_start, duplicate_end; /* to report as D-SACK */
    uint32_t receive_limit, ts_recent;
    uint64_t ts_recent_at, tuned_at, tuned_from;

    /* times; NEVER when not set */
    uint64_t resend_at, ack_at, idle_at, heard_at, sent_at, resent_at, challenge_at, unacked_since;
};

struct tcp_request { /* a SYN that was answered */
    struct tcp_request *next, **link;
    struct tcp_listener *listener;
    struct deadline timer;
    struct endpoint local, remote;
    uint32_t iss, irs, ts_recent, window;
    uint16_t max_segment;
    int8_t scale;
    uint8_t tries;
    bool sack, timestamps;
};
struct tcp_listener {
    struct tcp_listener *next;
    struct socket *socket;
    struct tcp *first, **last; /* established, waiting for accept */
    uint32_t queued, backlog;
};

static inline uint64_t sequence_near(uint64_t reference, uint32_t sequence) {
    return reference + (uint64_t)(int64_t)(int32_t)(sequence - (uint32_t)reference);
}

#define TCP_MSS_MIN 88u
#define TCP_MSS_DEFAULT 536u
#define RTO_MIN (200 * MS)
#define RTO_MAX (60000 * MS)
#define ACK_DELAY (40 * MS)
#define CORK_DELAY (200 * MS)
#define TIME_WAIT_NS (60000 * MS)
#define RETRIES_MAX 15u
#define SYN_RETRIES 6u
#define TIME_WAITS_MAX 2048u
#define ORPHANS_MAX 512u
#define ORPHAN_PAGES_MAX 2048u /* of what peers hold that do not answer */
#define WAITING_MAX 4096u      /* established, not accepted, of all listeners */
#define RECEIVE_SCALE 8u
#define RECEIVE_FIRST 65535u
#define RECEIVE_MAX (6u << 20)
#define SEND_FIRST (256u << 10)
#define SEND_MAX (4u << 20)
#define CWND_MAX (64u << 20)

/* tcp.c */
struct tcp *tcp_new(struct endpoint local, struct endpoint remote, const struct socket_options *options);
struct tcp *tcp_find(struct endpoint local, struct endpoint remote);
void tcp_enter(struct tcp *t); /* into the table */
void tcp_close(struct tcp *t,
               int error); /* the connection is over; the struct too unless a socket holds it */
void tcp_release(struct tcp *t);
void tcp_abort(struct tcp *t, int error); /* with a RST */
void tcp_time_wait(struct tcp *t);
void tcp_changed(struct tcp *t);
void tcp_want_output(struct tcp *t);
void tcp_orphan(struct tcp *t);
void tcp_queue_add(struct tcp *t, struct tcp ***end);
void tcp_queue_remove(struct tcp *t, struct tcp ***end);
uint32_t tcp_timestamp(const struct tcp *t);
uint32_t tcp_initial_sequence(struct endpoint local, struct endpoint remote);
uint16_t tcp_mss_for(uint32_t ip);
/* tcp_input.c, tcp_ack.c, tcp_receive.c */
void tcp_segment(struct tcp *t, struct segment *s);
void tcp_negotiate(struct tcp *t, const struct segment *s);
bool tcp_ack(struct tcp *t, struct segment *s); /* false: the segment must not be used */
void tcp_rtt(struct tcp *t, uint64_t rtt);
void tcp_data(struct tcp *t, struct segment *s);
/* tcp_output.c, tcp_send.c, tcp_loss.c */
bool tcp_output(struct tcp *t); /* false: no room in the transmit queue */
bool tcp_send_segment(struct tcp *t, uint64_t at, size_t bytes, uint8_t flags);
void tcp_send_reset(const struct segment *s);
bool tcp_send_syn_ack(const struct tcp_request *r);
void tcp_update_edge(struct tcp *t);
uint64_t tcp_lost_edge(const struct tcp *t);
uint64_t tcp_in_flight(const struct tcp *t); /* RFC 6675's pipe */
bool tcp_hole(const struct tcp *t, uint64_t *start, uint64_t *end);
bool tcp_note_resent(struct tcp *t, uint64_t start, uint64_t end);
void tcp_forget_resent(struct tcp *t);
void tcp_resent_arrived(struct tcp *t, uint64_t start, uint64_t end);
void tcp_lose_resent(struct tcp *t);
bool tcp_is_lost(const struct tcp *t);
void tcp_lose(struct tcp *t, enum tcp_recovery how);
/* tcp_congestion.c: one of the two below */
void tcp_congestion_start(struct tcp *t);
void tcp_congestion_lose(struct tcp *t, bool timeout);
void tcp_congestion_recovered(struct tcp *t);
void tcp_congestion_undo(struct tcp *t);
/* tcp_bbr.c, tcp_rate.c */
void tcp_bbr_start(struct tcp *t);
void tcp_bbr_ack(struct tcp *t, uint64_t arrived, uint64_t high, bool is_first, uint64_t before,
                 uint64_t flight);
void tcp_bbr_lose(struct tcp *t, bool timeout);
void tcp_bbr_recovered(struct tcp *t);
void tcp_bbr_woken(struct tcp *t);
bool tcp_bbr_may_send(struct tcp *t);
void tcp_bbr_sent(struct tcp *t, uint64_t bytes);
uint64_t tcp_bbr_wakes_at(const struct tcp *t); /* NEVER: it does not wait */
void tcp_rate_sent(struct tcp *t);
void tcp_rate_app_limited(struct tcp *t, uint64_t flight);
bool tcp_rate_sample(struct tcp *t, uint64_t bytes, uint64_t high, struct rate_sample *sample);
void tcp_rate_forget(struct tcp *t);
/* tcp_cubic.c */
void tcp_cubic_start(struct tcp *t);
void tcp_cubic_grow(struct tcp *t, uint64_t acked);
void tcp_cubic_reduce(struct tcp *t); /* sets ssthresh, not cwnd */
void tcp_cubic_save(struct tcp *t);
void tcp_cubic_undo(struct tcp *t);
/* tcp_timer.c */
void tcp_fire(struct deadline *it);
void tcp_arm(struct tcp *t);
void tcp_arm_resend(struct tcp *t);
uint64_t tcp_idle_time(const struct tcp *t);
/* tcp_listen.c */
struct tcp_listener *tcp_listener_for(struct endpoint local);
void tcp_listener_close(struct tcp_listener *l);
bool tcp_listener_input(struct segment *s); /* true: it was for a listener or a handshake */
void tcp_accept_remove(struct tcp *t);

#pragma GCC visibility pop

#endif
