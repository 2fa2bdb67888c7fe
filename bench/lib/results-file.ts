/** bench/RESULTS.md: rewritten by every run but for the soak's section. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { Row } from './case.js';
import type { HostFacts } from './host.js';
import { markdownTable, summaryLine } from './report.js';

const BEGIN = '<!-- soak -->';
const END = '<!-- /soak -->';

/** The soak's section with its marks; empty ones where there is none. */
function soakSection(path: string): string {
  const before = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const begin = before.indexOf(BEGIN);
  const end = before.indexOf(END, begin);
  return begin >= 0 && end >= 0 ? before.slice(begin, end + END.length) : `${BEGIN}\n${END}`;
}

export function writeResults(
  path: string,
  run: { command: string; host: HostFacts; rows: Row[]; notes: string[]; minutes: number },
): void {
  const { command, host, rows, notes, minutes } = run;
  const soak = soakSection(path);
  writeFileSync(
    path,
    `# Results

Written by \`${command}\` on ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC, in ${minutes.toFixed(1)} minutes.

- CPU: ${host.cpu}, ${host.cores} cores
- Kernel: ${host.kernel}; Node ${host.node}
- KVM: ${host.kvm}

## Benches

Every value is a median with [least-most]; a ratio is taken round by round, and its median is judged.

${markdownTable(rows)}

${summaryLine(rows)}.

### Notes

${notes.map((note) => `- ${note}`).join('\n')}

${soak}
`,
  );
}
