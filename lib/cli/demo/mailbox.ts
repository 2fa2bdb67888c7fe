/** What is in the mailbox, against what was acknowledged. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Message {
  from: string;
  /** smtp-source -N puts it before the recipient's address; each mail of a user has another. */
  number: number;
  /** Address and port of the connection it came over. */
  peer: string;
}

function parseMessage(text: string): Message | undefined {
  const head = text.split('\n\n', 1)[0] as string;
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(head)?.[1];
  const [from, to, peer] = ['X-MailFrom', 'X-RcptTo', 'X-Peer'].map(field);
  const number = /^(\d+)box@/.exec(to ?? '')?.[1];
  if (from === undefined || number === undefined || peer === undefined) return undefined;
  return { from, number: Number(number), peer };
}

export interface Verdict {
  messages: number;
  /** Those that are there beside the acknowledged ones, twice, not at all, or cannot be told. */
  wrong: string[];
}

/**
 * Every acknowledged mail of every user, by its number, is there exactly once, nothing else is, and each user's came over
 * one connection.
 */
export function judgeMailbox(directory: string, acknowledged: Map<string, number[]>): Verdict {
  const wrong: string[] = [];
  const byUser = new Map<string, Message[]>([...acknowledged.keys()].map((name) => [name, []]));
  const files = readdirSync(join(directory, 'new'));
  for (const file of files) {
    const message = parseMessage(readFileSync(join(directory, 'new', file), 'latin1'));
    const list = message && byUser.get(message.from);
    if (message && list) list.push(message);
    else wrong.push(`${file} in the mailbox is no user's mail`);
  }
  const unfinished = readdirSync(join(directory, 'tmp')).length;
  if (unfinished > 0) wrong.push(`${unfinished} mails in the mailbox are unfinished`);
  for (const [user, messages] of byUser) {
    const numbers = new Map<number, number>();
    for (const { number } of messages) numbers.set(number, (numbers.get(number) ?? 0) + 1);
    for (const number of acknowledged.get(user) ?? []) {
      const times = numbers.get(number) ?? 0;
      numbers.delete(number);
      if (times !== 1) wrong.push(`mail ${number} of ${user} was acknowledged, and is there ${times} times`);
    }
    for (const number of numbers.keys()) wrong.push(`mail ${number} of ${user} is there unacknowledged`);
    const peers = new Set(messages.map(({ peer }) => peer));
    if (peers.size > 1) wrong.push(`${user} came over ${peers.size} connections`);
  }
  return { messages: files.length, wrong };
}
