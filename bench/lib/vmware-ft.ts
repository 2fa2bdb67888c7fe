/**
 * What VMware published of its fault tolerance, which works in the same way: Scales, Nelson, Venkitachalam, "The Design
 * of a Practical System for Fault-Tolerant Virtual Machines", ACM SIGOPS Operating Systems Review 44(4), 2010. Two
 * servers of eight 2.8 GHz Xeons, a log over 10 Gbit/s Ethernet, one virtual CPU. Other machines and other programs: for the order
 * of magnitude, not for a ratio.
 */
import type { Row } from './case.js';

const SOURCE = 'VMware FT (Scales, Nelson, Venkitachalam, SIGOPS OSR 44(4), 2010)';

const published = (what: string, unit: 'x' | 'Mbit/s', value: number): Row => ({
  budget: 'VMware FT, published in 2010',
  what,
  peer: { unit, value },
});

/** Its table 1: with fault tolerance against without, and the bandwidth of the log. */
export const vmwareRows: Row[] = (
  [
    ['SPECjbb2005', 0.98, 1.5],
    ['kernel compile', 0.95, 3],
    ['Oracle Swingbench', 0.99, 12],
    ['MS-SQL DVD Store', 0.94, 18],
  ] as const
).flatMap(([program, share, log]) => [
  published(`${program}: performance, FT / not FT`, 'x', share),
  published(`${program}: bandwidth of the log`, 'Mbit/s', log),
]);

export const vmwareFailover = `${SOURCE} gives no distribution of failover times. Its backup is usually less than 100 ms behind, and the primary is slowed down when it is more than a second behind, which bounds its catch-up; detection is a timeout on heartbeats and on the log's traffic.`;

export const vmwareLatency = `${SOURCE} gives no added latency, but the throughput it leaves: receiving at 1 Gbit/s, 940 Mbit/s without FT and 604 with a log over 1 Gbit/s (860 over 10); sending, 855 (935).`;

export const vmwareReprotect = `${SOURCE}: for a new backup the primary usually stands still for less than a second, and redundancy is restored within minutes, a placement by the cluster included.`;
