/** What the hosts of the unplug demo do at this moment, as lines for a terminal or one line for a file. */

import type { SideProcess } from '../../control/side-process.js';
import { bytes } from '../report.js';
import type { Host } from './hosts.js';
import type { Users } from './users.js';

/** Of a side of the pair, and the host it is on. */
export interface SideOnHost {
  host: Host;
  side: SideProcess;
}

const WIDTHS = [6, 12, 26, 10, 14];
const BARS = '▁▂▃▄▅▆▇█';
const BARS_SHOWN = 30;

function row(...cells: string[]): string {
  return `  ${cells.map((cell, index) => cell.padEnd(WIDTHS[index] ?? 0)).join('')}`.trimEnd();
}

/** How fast something grows that only grows. */
class Rate {
  #last = 0;
  #lastMs = performance.now();

  perSecond(total: number): number {
    const now = performance.now();
    const rate = ((total - this.#last) * 1000) / Math.max(1, now - this.#lastMs);
    this.#last = total;
    this.#lastMs = now;
    return Math.max(0, Math.round(rate));
  }
}

function roleOf({ side, host }: SideOnHost, unplugged: string | undefined): string {
  if (side.exited !== undefined)
    return host.name === unplugged ? 'unplugged, killed' : `ended, ${side.exited}`;
  const { live, protected: isProtected } = side.status;
  if (!live) return `${side.name}, standing by`;
  return isProtected ? `${side.name}, live, protected` : `${side.name}, live, alone`;
}

export class Panel {
  readonly #sides: SideOnHost[];
  readonly #users: Host;
  readonly #logRates = new Map<SideProcess, Rate>();
  readonly #mailRate = new Rate();
  readonly #history: number[] = [];
  unplugged: string | undefined;

  constructor(sides: SideOnHost[], users: Host) {
    this.#sides = sides;
    this.#users = users;
    for (const { side } of sides) {
      const rate = new Rate();
      rate.perSecond(Number(side.status.logFileBytes ?? 0));
      this.#logRates.set(side, rate);
    }
  }

  /** How it stands now, for a terminal. */
  lines({ count, acknowledged }: Users): string[] {
    const perSecond = this.#mailRate.perSecond(acknowledged);
    this.#history.push(perSecond);
    const shown = this.#history.slice(-BARS_SHOWN);
    const most = Math.max(1, ...shown);
    const bars = shown.map((rate) => BARS[Math.ceil((rate / most) * (BARS.length - 1))]).join('');
    return [
      row('host', 'address', 'role', 'event', 'lag', 'log'),
      ...this.#sides.map((one) => this.#row(one)),
      row(
        this.#users.name,
        this.#users.address,
        `${count} users`,
        '',
        '',
        `${acknowledged} mails, ${perSecond}/s`,
      ),
      `  ${bars}`,
    ];
  }

  /** The same in one line, for a file. */
  line({ acknowledged }: Users): string {
    const perSecond = this.#mailRate.perSecond(acknowledged);
    const sides = this.#sides.map((one) => {
      const { role, lag, rate } = this.#look(one);
      const running = one.side.exited === undefined ? `, log ${bytes(rate)}/s` : '';
      return `${one.host.name} ${role}${lag && `, lag ${lag}`}${running}`;
    });
    return `  ${acknowledged} mails, ${perSecond}/s | ${sides.join(' | ')}`;
  }

  #row(one: SideOnHost): string {
    const { role, event, lag, logged, rate } = this.#look(one);
    const running = one.side.exited === undefined ? `, ${bytes(rate)}/s` : '';
    return row(one.host.name, one.host.address, role, `${event}`, lag || '-', `${bytes(logged)}${running}`);
  }

  #look(one: SideOnHost) {
    const { status, exited } = one.side;
    const [event, executed, logged] = [status.lsn, status.lsnExecuted, status.logFileBytes].map((value) =>
      Number(value ?? 0),
    ) as [number, number, number];
    const rate = this.#logRates.get(one.side)?.perSecond(logged) ?? 0;
    const mirrored = exited === undefined && status.live && status.protected;
    const lag = mirrored ? `${Math.max(0, event - executed)} events` : '';
    return { role: roleOf(one, this.unplugged), event, lag, logged, rate };
  }
}
