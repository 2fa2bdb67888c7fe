import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Random } from './random.js';

/** A deterministic program that nobody here wrote, fed line by line; what it puts out is known from the host. */
export interface PairLoad {
  name: string;
  argv: string[];
  /** Lines of output for each line of input; 0: it reads nothing. */
  answers: number;
  /** Lines of input. */
  lines: number;
  /** Bytes of a long line, at most. */
  longest: number;
}

/** What is written at once, and what to wait for before the next: answers, nothing, or so many milliseconds. */
export interface Piece {
  text: string;
  lines: number;
  after: 'answers' | 'nothing' | number;
}

/** Stands in every answer of the ledger, so that a test can find it in guest memory. */
export const MARKER = 'Zq7xLedger';

const LEDGER = `{ total += length($1) * 7 + $2; seen[$2 % 11] += NR
  printf "%d ${MARKER} %s %d %d %.4f\\n", NR, substr($1, 1, 12), total, seen[$2 % 11], total / NR
  fflush() }`;
const FLOOD = `{ for (i = 0; i < 150; i++) { h = (h * 31 + length($0) + i) % 1000003; print NR, i, h } fflush() }`;
const SH = `while read -r a b; do n=$((n + \${#a} * 3 + b)); echo "$n \${a%"\${a#????}"} $b"; done`;
const BASH = `declare -A seen
while read -r a b; do ((n += \${#a} + b, seen[x$((b % 7))] += 1)); printf '%s %d %d\\n' "\${a:0:9}" $n \${seen[x$((b % 7))]}; done`;

export const LEDGER_LOAD: PairLoad = {
  name: 'awk',
  argv: ['/bin/busybox', 'awk', LEDGER],
  answers: 1,
  lines: 60,
  longest: 6000,
};
const SH_LOAD: PairLoad = {
  name: 'sh',
  argv: ['/bin/busybox', 'sh', '-c', SH],
  answers: 1,
  lines: 60,
  longest: 2000,
};
const BASH_LOAD: PairLoad = {
  name: 'bash',
  argv: ['/bin/bash-static', '--norc', '-c', BASH],
  answers: 1,
  lines: 60,
  longest: 2000,
};
export const FLOOD_LOAD: PairLoad = {
  name: 'awk-flood',
  argv: ['/bin/busybox', 'awk', FLOOD],
  answers: 150,
  lines: 60,
  longest: 300,
};
export const SEQ_LOAD: PairLoad = {
  name: 'seq',
  argv: ['/bin/busybox', 'seq', '1', '200000'],
  answers: 0,
  lines: 0,
  longest: 0,
};
/** Those that answer every line with one. */
export const TALKS: readonly PairLoad[] = [LEDGER_LOAD, SH_LOAD, BASH_LOAD];
export const LOADS: readonly PairLoad[] = [...TALKS, FLOOD_LOAD, SEQ_LOAD];

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

function line(random: Random, longest: number): string {
  const length = random.next() < 0.05 ? random.between(200, longest) : random.between(1, 20);
  let word = '';
  for (let i = 0; i < length; i++) word += LETTERS[random.between(0, 25)];
  return `${word} ${random.between(0, 999)}\n`;
}

/** Single lines with a wait for the answer, pauses, and bursts without waiting. */
export function makePieces(load: PairLoad, random: Random): Piece[] {
  const pieces: Piece[] = [];
  for (let made = 0; made < load.lines; ) {
    const kind = random.next();
    const lines = Math.min(kind < 0.7 ? 1 : random.between(2, 8), load.lines - made);
    let text = '';
    for (let i = 0; i < lines; i++) text += line(random, load.longest);
    pieces.push({
      text,
      lines,
      after: kind < 0.5 ? 'answers' : kind < 0.7 ? random.between(1, 4) : 'nothing',
    });
    made += lines;
  }
  return pieces;
}

/** The same program on the host with the same input. */
export async function onHost(argv: string[], input: string): Promise<{ stdout: Buffer; status: number }> {
  const child = spawn(argv[0] as string, argv.slice(1), {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: '/usr/bin:/bin' },
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  return { stdout: Buffer.concat(chunks), status: status ?? -1 };
}
