/** A program whose memory is what it knows: it remembers each line, and answers with the one before. */
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Image, type Machine } from '../../lib/index.js';

export const AWK = '{ seen[NR] = $0; print NR, seen[NR - 1], $0; fflush() }';

export const awkImage = () => Image.fromProgram({ argv: ['busybox', 'awk', AWK] });

/** Reads on until so many lines have come. */
export function lines(stream: Readable): (count: number) => Promise<string[]> {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return async (count) => {
    while (text.split('\n').length <= count) await sleep(2);
    return text.split('\n').slice(0, count);
  };
}

/** Says a line, and hears the answer. */
export function talk(machine: Machine): (line: string) => Promise<string> {
  const read = lines(machine.stdout);
  let said = 0;
  return async (line) => {
    machine.stdin.write(`${line}\n`);
    const all = await read(++said);
    return all[said - 1] as string;
  };
}
