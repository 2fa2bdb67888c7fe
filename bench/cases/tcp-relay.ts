/** The guest kernel's TCP on a bad path, against the host's: nginx and curl, through the same relay with the same seed. */
import { randomFillSync } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Carried, Vices } from '../../test/helpers/bad-cable.js';
import { transferBothWays } from '../../test/helpers/transfers.js';
import type { Case, Row } from '../lib/case.js';
import { inTurn, ratios, summarise } from '../lib/measure.js';

/** Of each direction; so there and back it is 50 ms and more. */
const PATH = { loss: 0.01, duplicate: 0.005, reorder: 0.01, delayMs: 25, reorderMs: 25 };

const share = ({ lost, frames }: Carried): string => `${((lost / frames) * 100).toFixed(2)}%`;

export const tcpRelay: Case = {
  name: 'tcp-relay',
  about: "TCP through a relay that loses, reorders, duplicates and delays, against the host's stack",
  minutes: 12,
  run: async ({ pairs, quick, directory, progress, timer }) => {
    const bytes = (quick ? 1 : 100) << 20;
    const file = join(directory, 'tcp-relay');
    writeFileSync(file, randomFillSync(Buffer.alloc(bytes)));
    const uploads: Record<string, number[]> = { machine: [], host: [] };
    const lost = new Set<string>();
    const arm = (kind: 'machine' | 'host') => async () => {
      const here = join(directory, 'tcp-relay.run');
      mkdirSync(here);
      // Every round has its seed, the same for both.
      const vices: Vices = { ...PATH, seed: 1 + (uploads[kind]?.length ?? 0) };
      const job = { kind, vices, file, bytes, directory: here, log: join(here, 'log') };
      const { intact, downloadS, uploadS, carried } = await transferBothWays(job);
      rmSync(here, { recursive: true });
      if (!intact) throw new Error(`a file arrived damaged (${kind}, seed ${vices.seed})`);
      uploads[kind]?.push(uploadS);
      for (const way of carried) lost.add(share(way));
      return downloadS;
    };
    const downloads = await inTurn(
      { machine: arm('machine'), host: arm('host') },
      {
        rounds: pairs,
        timeUp: timer(1),
        progress: (done, of) => progress(`tcp-relay: transfer ${done} of ${of}`),
      },
    );
    rmSync(file);
    const row = (what: string, ours: number[], peer: number[]): Row => ({
      budget: "machine / host's stack, bad path",
      what: `nginx and curl, ${what} of ${bytes >> 20} MiB while the same goes the other way`,
      ours: { unit: 's', value: summarise(ours) },
      peer: { unit: 's', value: summarise(peer) },
      ratio: summarise(ratios(ours, peer)),
      limit: 2,
    });
    const control = readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'latin1').trim();
    return {
      rows: [
        row('download', downloads.machine, downloads.host),
        row('upload', uploads.machine as number[], uploads.host as number[]),
      ],
      notes: [
        `The bad path: ${PATH.loss * 100}% lost (really ${[...lost].sort().join(', ')}), ${PATH.duplicate * 100}% twice, ${PATH.reorder * 100}% up to ${PATH.reorderMs} ms late, ${PATH.delayMs} ms each way. All files arrived intact. The host's stack uses ${control}.`,
      ],
    };
  },
};
