/** A bridge in a network namespace of this process's own, to which the sides of a machine are joined. */
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** Of the machine. */
export const ADDRESS = '10.0.2.15';
/** How `--net` names the bridge. */
export const NET = 'bridge:plug';

export function makeBridge(): void {
  for (const line of ['link add plug type bridge', 'address add 10.0.2.2/24 dev plug', 'link set plug up'])
    execFileSync('ip', line.split(' '));
}

/** Until redis-server answers, for a minute at most. */
export async function waitForRedis(address = ADDRESS): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      execFileSync('redis-cli', ['-h', address, 'ping'], { stdio: 'pipe', timeout: 5000 });
      return;
    } catch (error) {
      if (tries === 600) throw error;
      await sleep(100);
    }
  }
}
