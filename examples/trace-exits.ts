/**
 * Watches what a guest does to its devices, and which pages of memory it writes to, while it runs.
 *
 *   npx tsx examples/trace-exits.ts
 */
import { text } from 'node:stream/consumers';
import { Image, Machine } from 'lockstep';

const script = 'while read -r word; do echo "$word, and again: $word"; done';
const image = await Image.fromProgram({ argv: ['busybox', 'sh', '-c', script] });

await using machine = await Machine.create(image);
await machine.start();
const output = text(machine.stdout);

const accesses = new Map<string, number>();
const pages = new Set<number>();
let dropped = 0;

// Batches come a few times a second; what nobody takes in time is dropped, and counted.
async function watch(): Promise<void> {
  for await (const batch of machine.trace({ dirtyPages: true })) {
    for (const { kind, address, write, sizeBytes } of batch.exits) {
      const name = `${write ? 'write' : 'read '} ${sizeBytes} ${kind} 0x${address.toString(16)}`;
      accesses.set(name, (accesses.get(name) ?? 0) + 1);
    }
    for (const { page } of batch.dirtyPages) pages.add(page);
    dropped += batch.dropped;
  }
}

const watching = watch();
for (const word of ['primary', 'shadow', 'log', 'event']) machine.stdin.write(`${word}\n`);
machine.stdin.end();
await machine.ended;
await watching;

process.stdout.write(await output);
console.table([...accesses].map(([access, times]) => ({ access, times })));
console.log(`${pages.size} pages written, ${dropped} entries dropped, ${machine.stats().exits} exits in all`);
