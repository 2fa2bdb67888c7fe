// A program that starts before its image has arrived, while connections, the server and the client are cut at random.
import { mkdirSync, rmSync } from 'node:fs';
import { makePublished } from '../../helpers/published.js';
import { Random } from '../../helpers/random.js';
import { type Cuts, streamWithCuts } from '../../helpers/stream-cuts.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'streams that are cut';

const CUTS = 100;
/** Of one image. */
const ROUND = 10;

interface Tally {
  rounds: number;
  cuts: Omit<Cuts, 'wrong'>;
  wrong: string[];
}

export async function run(context: SoakContext): Promise<SoakResult> {
  const tally = (context.state.tally ?? {
    rounds: 0,
    cuts: { connections: 0, servers: 0, clients: 0 },
    wrong: [],
  }) as Tally;
  const rounds = Math.max(1, Math.round((CUTS * context.scale) / ROUND));
  for (; tally.rounds < rounds; tally.rounds++) {
    const seed = (context.seed + tally.rounds * 7919) >>> 0;
    const random = new Random(seed);
    rmSync(context.directory, { recursive: true, force: true });
    mkdirSync(context.directory, { recursive: true });
    const made = await makePublished(context.directory, random, { files: 30 });
    const { wrong, ...cuts } = await streamWithCuts(made, context.directory, random, ROUND);
    for (const what of ['connections', 'servers', 'clients'] as const) tally.cuts[what] += cuts[what];
    tally.wrong.push(...wrong.map((text) => `seed ${seed}: ${text}`));
    context.state.tally = tally;
    context.save();
    context.say(`${tally.rounds + 1} of ${rounds} images, ${tally.wrong.length} wrong`);
  }
  const { connections, servers, clients } = tally.cuts;
  const text = [
    `${connections + servers + clients} cuts over ${tally.rounds} images: ${connections} of all connections, ${servers} of the server (kill -9), ${clients} of the client (kill -9). After each, the program read all of its files and the image was compared byte by byte: ${tally.wrong.length} failures.`,
    ...tally.wrong.map((wrong) => `- ${wrong}`),
  ].join('\n');
  return { text, failed: tally.wrong.length };
}
