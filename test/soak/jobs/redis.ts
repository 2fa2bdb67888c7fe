// redis-server under 50 clients for a minute, kicked at random; then relived ten times, kicked at random too.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Recording } from '../../../lib/index.js';
import { command, root } from '../../helpers/command.js';
import { Random } from '../../helpers/random.js';
import type { RedisRecording } from '../../helpers/redis-child.js';
import { redisServer } from '../../helpers/redis-server.js';
import { replayKicked } from '../../helpers/replays.js';
import type { SoakContext, SoakResult } from '../job.js';

export const name = 'redis under 50 clients';

const SECONDS = 60;
const REPLAYS = 10;

export async function run({ directory, seed, scale, say }: SoakContext): Promise<SoakResult> {
  const random = new Random(seed);
  const log = join(directory, 'redis.log');
  rmSync(directory, { recursive: true, force: true });
  const argv = redisServer(directory);
  const job: RedisRecording = {
    argv,
    log,
    seconds: SECONDS * scale,
    seed: random.between(0, 2 ** 31),
  };
  const child = [process.execPath, '--import=tsx', join(root, 'test/helpers/redis-child.ts')];
  const { status, stdout, stderr } = await command(['unshare', '--net', ...child, JSON.stringify(job)], {
    cwd: root,
  });
  if (status !== 0) throw new Error(`recording ended with ${status}: ${stderr}`);
  const recorded = JSON.parse(stdout.toString());
  say(`recorded ${recorded.requests} requests under ${recorded.kicks} kicks`);
  const { info } = await Recording.open(log);
  const reports = await replayKicked(log, Math.max(2, Math.round(REPLAYS * scale)), random);
  const equal = reports.filter(
    ({ divergence, events, status }) => !divergence && events === info.events && status === recorded.status,
  );
  for (const { divergence, kicks } of reports)
    if (divergence) say(`seed ${kicks.seed}: ${JSON.stringify(divergence)}`);
  const failed = reports.length - equal.length + (recorded.status === 0 ? 0 : 1);
  const digests = equal.reduce((sum, { digests }) => sum + digests.checked, 0);
  const kicked = reports.reduce((sum, { kicked }) => sum + kicked, 0);
  const many = (value: number) => value.toLocaleString('en');
  const text = `One recording of ${Math.round(job.seconds)} s: ${many(recorded.requests)} requests, ${many(info.events)} events, ${many(recorded.frames)} frames sent, ${many(recorded.kicks)} kicks. ${equal.length} of ${reports.length} replays under ${many(kicked)} kicks sent the same frames; ${many(digests)} digests equal.`;
  return { text, failed };
}
