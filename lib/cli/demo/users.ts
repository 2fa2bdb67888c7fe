import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { dirname } from 'node:path';
import { monotonicUs } from '../../events.js';
import type { CommandLine, Host } from './hosts.js';
import type { Mail } from './mail.js';
import { Transcript } from './transcript.js';

/**
 * One user: an smtp-source of its own, which opens one connection, sends one mail after another over it, never one
 * twice, and ends with an error if that connection breaks or the server answers anything but what it should. It shows
 * each command and each reply (-v); its own counter (-c) would count mails that are sent and not yet accepted.
 */
class User {
  readonly name: string;
  /** Resolves when it has ended, for better or worse. */
  readonly ended: Promise<void>;
  /** The numbers of the mails that were acknowledged with 250, and when, in order. */
  readonly acknowledged: number[] = [];
  readonly answeredUs: number[] = [];
  readonly #child: ChildProcess;
  trouble = '';

  constructor(name: string, mails: number, child: ChildProcess, heard: () => void) {
    this.name = name;
    this.#child = child;
    const transcript = new Transcript((number) => {
      this.acknowledged.push(number);
      this.answeredUs.push(monotonicUs());
      heard();
    });
    child.stderr?.setEncoding('latin1').on('data', (text: string) => transcript.take(text));
    this.ended = once(child, 'close').then(([status, signal]) => {
      const count = this.acknowledged.length;
      if (status !== 0)
        this.trouble = `${name} ended with ${signal ?? `status ${status}`}: ${transcript.last}`;
      else if (count !== mails) this.trouble = `${name} saw ${count} of ${mails} mails acknowledged`;
    });
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

export interface Waits {
  /** The longest time without an answer to anybody, until everybody had one of the new side. */
  nobodyUs: number;
  /** From a user's last answer to its first of the new side: of all users the median, and the longest. */
  medianUs: number;
  longestUs: number;
}

/** Users at one host, all at once. 'answer': more mail was acknowledged. */
export class Users extends EventEmitter<{ answer: [] }> {
  readonly #users: User[];
  /** Of all users, to be sent. */
  readonly mails: number;

  constructor({ prefix }: Host, mail: Mail, server: string, users: number, mailsEach: number) {
    super();
    this.mails = users * mailsEach;
    // setpriv and what follows it must not find postfix's libraries: only the client itself.
    const environment = ['env', `LD_LIBRARY_PATH=${mail.client.libraries}`];
    // Called by a short name, because it begins each line of what it shows.
    const cwd = dirname(mail.client.path);
    this.#users = Array.from({ length: users }, (_, index) => {
      const name = `user${index + 1}@c.example`;
      const client = ['./smtp-source', '-v', '-d', '-N', '-s', '1', '-m', `${mailsEach}`];
      const addresses = ['-f', name, '-t', 'box@a.example', server];
      const [command, ...rest]: CommandLine = [...prefix, ...environment, ...client, ...addresses];
      const child = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], detached: true, cwd });
      return new User(name, mailsEach, child, () => this.emit('answer'));
    });
  }

  get count(): number {
    return this.#users.length;
  }

  get acknowledged(): number {
    return this.#users.reduce((sum, { answeredUs }) => sum + answeredUs.length, 0);
  }

  /** Whether each of them has had an answer. */
  get allServed(): boolean {
    return this.#users.every(({ answeredUs }) => answeredUs.length > 0);
  }

  /** The numbers of the mails of each that were acknowledged, by its address. */
  get acknowledgedTo(): Map<string, number[]> {
    return new Map(this.#users.map(({ name, acknowledged }) => [name, acknowledged]));
  }

  /** What a user would complain about. */
  get troubles(): string[] {
    return this.#users.map(({ trouble }) => trouble).filter(Boolean);
  }

  get ended(): Promise<unknown> {
    return Promise.all(this.#users.map(({ ended }) => ended));
  }

  async kill(): Promise<void> {
    for (const user of this.#users) user.kill();
    await this.ended;
  }

  /** The first answer to anybody at or behind a moment. */
  firstAnswerUs(afterUs: number): number | undefined {
    const times = this.#users.flatMap(({ answeredUs }) => answeredUs.find((us) => us >= afterUs) ?? []);
    return times.length > 0 ? Math.min(...times) : undefined;
  }

  /** How long they waited for the new side, whose first answer to anybody came at `firstUs`; the old one ended before. */
  waits(endedUs: number, firstUs: number): Waits {
    const last = this.#users.map(({ answeredUs }) => answeredUs.findLast((us) => us < firstUs));
    const next = this.#users.map(({ answeredUs }) => answeredUs.find((us) => us >= firstUs));
    const waits = next.flatMap((us, index) => {
      const before = last[index];
      return us !== undefined && before !== undefined ? us - before : [];
    });
    waits.sort((a, b) => a - b);
    const allServedUs = Math.max(...next.map((us) => us ?? 0));
    const times = this.#users.flatMap(({ answeredUs }) => answeredUs).sort((a, b) => a - b);
    const gaps = times.slice(1).map((us, index) => {
      const before = times[index] as number;
      return us > endedUs && before < allServedUs ? us - before : 0;
    });
    return {
      nobodyUs: Math.max(0, ...gaps),
      medianUs: waits[waits.length >> 1] ?? 0,
      longestUs: waits.at(-1) ?? 0,
    };
  }
}
